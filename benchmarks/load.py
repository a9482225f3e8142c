"""Load for a server: one caller who waits for each answer, many such callers, and requests at a fixed rate.

Plain HTTP/1.1 over persistent connections, as light as possible, because it shares the machine with the server.
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
"""The most open connections; a request waits for a free one, and is then late."""


@dataclass
class Responses:
    """The responses: status and seconds of each answer, and the failures by error.

    `delays` are the seconds from a request's due time to its sending: the generator's own delay.
    """

    status: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def milliseconds(self, status: int) -> np.ndarray:
        """Milliseconds of the answers with `status`."""
        return np.array([s for s, code in zip(self.seconds, self.status, strict=True) if code == status]) * 1000

    def summary(self, over_s: float) -> dict[str, object]:
        """The counts and the latencies of the answers."""
        ms = self.milliseconds(200)
        values: dict[str, object] = {
            "answered": len(self.status),
            "by_status": {str(status): n for status, n in sorted(Counter(self.status).items())},
            "failures": dict(self.failures),
            "served_per_s": round(len(ms) / over_s, 1),
        }
        if self.delays:
            values["generator_late_p99_ms"] = round(float(np.percentile(self.delays, 99)) * 1000, 1)
        return values | percentiles(ms)


def percentiles(ms: np.ndarray) -> dict[str, float]:
    """p50, p95, p99 and the maximum of milliseconds."""
    if len(ms) == 0:
        return {}
    p50, p95, p99 = np.percentile(ms, [50, 95, 99])
    return {"p50_ms": round(p50, 3), "p95_ms": round(p95, 3), "p99_ms": round(p99, 3), "max_ms": round(ms.max(), 3)}


def request(body: dict[str, object], path: str = "/v1/search") -> bytes:
    """A POST of `body`."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


def send_one_by_one(port: int, requests: Sequence[bytes]) -> Responses:
    """One caller: each request is sent after the answer to the previous one."""
    responses = Responses()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for content in requests:
            start = time.perf_counter()
            connection.sendall(content)
            data = b""
            while not _is_complete(data):
                data += connection.recv(1 << 18)
            responses.seconds.append(time.perf_counter() - start)
            responses.status.append(int(data[9:12]))
    return responses


def send_parallel(
    port: int, requests: Sequence[bytes], *, callers: int, seconds: float, keep: bool = False
) -> Responses:
    """`callers` who each send the next request after the answer to their last."""
    return asyncio.run(_run_callers(port, requests, callers, seconds, keep))


def send_each(port: int, requests: Sequence[bytes], *, callers: int) -> tuple[Responses, float]:
    """Each request once, in their order, by `callers` at a time; also the seconds that all of them took."""
    start = time.perf_counter()
    responses = asyncio.run(_run_each(port, requests, callers))
    return responses, time.perf_counter() - start


def send_at_rate(
    port: int, requests: Sequence[bytes], *, per_s: float, seconds: float, patience_s: float = 5.0
) -> Responses:
    """`per_s` requests a second, whatever the answers; those without an answer after `patience_s` have failed.

    Seconds count from when a request is sent.
    """
    return asyncio.run(_run_at_rate(port, requests, per_s, seconds, patience_s))


def send_occasionally(port: int, requests: Sequence[bytes], *, every_s: float, seconds: float) -> Responses:
    """A request every `every_s`: for a process of its own, to measure other callers' latency while a load runs."""
    return asyncio.run(_run_at_rate(port, requests, 1 / every_s, seconds, 30.0))


async def _run_callers(port: int, requests: Sequence[bytes], callers: int, seconds: float, keep: bool) -> Responses:
    responses = Responses()
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        connection, index = await _connect(port), number * 7919
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                status, body = await connection.ask(requests[index % len(requests)])
            except (ConnectionError, OSError) as error:
                responses.failures[type(error).__name__] += 1
                connection = await _connect(port)
                continue
            responses.status.append(status)
            responses.seconds.append(time.perf_counter() - start)
            if keep:
                responses.bodies.append(body)
                responses.times.append(time.time())
            index += 1
        connection.close()

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return responses


async def _run_each(port: int, requests: Sequence[bytes], callers: int) -> Responses:
    responses, unsent = Responses(), iter(requests)

    async def caller() -> None:
        connection = await _connect(port)
        for content in unsent:
            start = time.perf_counter()
            status, _ = await connection.ask(content)
            responses.status.append(status)
            responses.seconds.append(time.perf_counter() - start)
        connection.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return responses


async def _run_at_rate(
    port: int, requests: Sequence[bytes], per_s: float, seconds: float, patience_s: float
) -> Responses:
    responses, idle, tasks = Responses(), list[_Connection](), set[asyncio.Task[None]]()
    semaphore = asyncio.Semaphore(CONNECTIONS)

    async def send(content: bytes, due: float) -> None:
        connection: _Connection | None = None
        try:
            async with semaphore, asyncio.timeout(patience_s):
                while idle and connection is None:  # a server may close a connection that is not in use
                    connection = idle.pop()
                    connection = None if connection.closed else connection
                connection = connection or await _connect(port)
                send_time = time.perf_counter()
                status, _ = await connection.ask(content)
            responses.status.append(status)
            responses.seconds.append(time.perf_counter() - send_time)
            responses.delays.append(send_time - due)
            idle.append(connection)
        except (TimeoutError, ConnectionError, OSError) as error:
            responses.failures[type(error).__name__] += 1
            if connection is not None:
                connection.close()

    start = time.perf_counter()
    n_sent = 0
    while (elapsed_s := time.perf_counter() - start) < seconds:
        while n_sent < elapsed_s * per_s:
            due = start + n_sent / per_s
            task = asyncio.create_task(send(requests[n_sent % len(requests)], due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            n_sent += 1
        await asyncio.sleep(0.001)
    if tasks:
        await asyncio.wait(tasks)
    for connection in idle:
        connection.close()
    return responses


class _Connection(asyncio.Protocol):
    """One persistent connection, one request at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._answer is not None and not self._answer.done() and _is_complete(self._data):
            head, _, body = self._data.partition(b"\r\n\r\n")
            self._answer.set_result((int(head[9:12]), body))
            self._data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    @property
    def closed(self) -> bool:
        """Whether the server closed it."""
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


async def _connect(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


def _is_complete(data: bytes) -> bool:
    """Whether `data` is a complete answer, by its content-length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return len(data) >= end + 4 + length
