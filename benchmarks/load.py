"""Load for a server: one caller who waits for each answer, many who do, and many who do not wait.

Plain HTTP/1.1 over kept connections, as light as Python can be, since it shares the machine with what it measures.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

CONNECTIONS = 800
"""So many are open at once; a request that finds none free waits, and is late."""


@dataclass
class Seen:
    """What came back: status and seconds of each answer, and of failed ones why.

    `late` is by how many seconds each request was sent after it was due: the generator's own delay.
    """

    status: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def of(self, status: int) -> np.ndarray:
        """Milliseconds of the answers with `status`."""
        return np.array([s for s, code in zip(self.seconds, self.status, strict=True) if code == status]) * 1000

    def said(self, over_s: float) -> dict[str, object]:
        """The counts and the latencies of what was answered."""
        served = self.of(200)
        found: dict[str, object] = {
            "answered": len(self.status),
            "by_status": {str(status): n for status, n in sorted(Counter(self.status).items())},
            "failures": dict(self.failures),
            "served_per_s": round(len(served) / over_s, 1),
        }
        if self.late:
            found["generator_late_p99_ms"] = round(float(np.percentile(self.late, 99)) * 1000, 1)
        return found | percentiles(served)


def percentiles(ms: np.ndarray) -> dict[str, float]:
    """p50, p95, p99 and the worst of milliseconds."""
    if len(ms) == 0:
        return {}
    p50, p95, p99 = np.percentile(ms, [50, 95, 99])
    return {"p50_ms": round(p50, 3), "p95_ms": round(p95, 3), "p99_ms": round(p99, 3), "max_ms": round(ms.max(), 3)}


def request(body: dict[str, object], path: str = "/v1/search") -> bytes:
    """A POST of `body`."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


def alone(port: int, requests: Sequence[bytes]) -> Seen:
    """One caller: each request is sent when the one before is answered."""
    seen = Seen()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for content in requests:
            start = time.perf_counter()
            connection.sendall(content)
            data = b""
            while not _whole(data):
                data += connection.recv(1 << 18)
            seen.seconds.append(time.perf_counter() - start)
            seen.status.append(int(data[9:12]))
    return seen


def together(port: int, requests: Sequence[bytes], *, callers: int, seconds: float, keep: bool = False) -> Seen:
    """`callers` who each send the next request when theirs is answered."""
    return asyncio.run(_closed(port, requests, callers, seconds, keep))


def steady(port: int, requests: Sequence[bytes], *, per_s: float, seconds: float, patience_s: float = 5.0) -> Seen:
    """`per_s` requests a second, whatever comes back; those without an answer after `patience_s` have failed.

    Seconds count from when a request is sent.
    """
    return asyncio.run(_open(port, requests, per_s, seconds, patience_s))


def now_and_then(port: int, requests: Sequence[bytes], *, every_s: float, seconds: float) -> Seen:
    """One caller who asks every `every_s`: for a process of its own, to see what others see while it is busy."""
    return asyncio.run(_open(port, requests, 1 / every_s, seconds, 30.0))


async def _closed(port: int, requests: Sequence[bytes], callers: int, seconds: float, keep: bool) -> Seen:
    seen = Seen()
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        line, place = await _connected(port), number * 7919
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                status, body = await line.ask(requests[place % len(requests)])
            except (ConnectionError, OSError) as error:
                seen.failures[type(error).__name__] += 1
                line = await _connected(port)
                continue
            seen.status.append(status)
            seen.seconds.append(time.perf_counter() - start)
            if keep:
                seen.bodies.append(body)
                seen.at.append(time.time())
            place += 1
        line.close()

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return seen


async def _open(port: int, requests: Sequence[bytes], per_s: float, seconds: float, patience_s: float) -> Seen:
    seen, idle, under_way = Seen(), list[_Line](), set[asyncio.Task[None]]()
    room = asyncio.Semaphore(CONNECTIONS)

    async def one(content: bytes, due: float) -> None:
        line: _Line | None = None
        try:
            async with room, asyncio.timeout(patience_s):
                while idle and line is None:  # a server may close a connection that is not in use
                    line = idle.pop()
                    line = None if line.closed else line
                line = line or await _connected(port)
                sent = time.perf_counter()
                status, _ = await line.ask(content)
            seen.status.append(status)
            seen.seconds.append(time.perf_counter() - sent)
            seen.late.append(sent - due)
            idle.append(line)
        except (TimeoutError, ConnectionError, OSError) as error:
            seen.failures[type(error).__name__] += 1
            if line is not None:
                line.close()

    start = time.perf_counter()
    begun = 0
    while (now := time.perf_counter() - start) < seconds:
        while begun < now * per_s:
            due = start + begun / per_s
            task = asyncio.create_task(one(requests[begun % len(requests)], due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            begun += 1
        await asyncio.sleep(0.001)
    if under_way:
        await asyncio.wait(under_way)
    for line in idle:
        line.close()
    return seen


class _Line(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._answer is not None and not self._answer.done() and _whole(self._data):
            head, _, body = self._data.partition(b"\r\n\r\n")
            self._answer.set_result((int(head[9:12]), body))
            self._data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    @property
    def closed(self) -> bool:
        """Whether the other side closed it."""
        return self._transport is None or self._transport.is_closing()

    async def ask(self, content: bytes) -> tuple[int, bytes]:
        """The status and body of the answer to `content`."""
        assert self._transport is not None
        if self.closed:
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _connected(port: int) -> _Line:
    _, line = await asyncio.get_running_loop().create_connection(_Line, "127.0.0.1", port)
    return line


def _whole(data: bytes) -> bool:
    """Whether `data` is a whole answer, which says its length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return len(data) >= end + 4 + length
