"""`mmse serve` as a shop runs it: a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from mmse.core.errors import MmseError

_READY_S = 120.0
_END_S = 30.0


@dataclass(frozen=True)
class Server:
    """A server that answers: its address, the token for writes, and its process group."""

    url: str
    token: str
    group: int


class NotServing(MmseError):
    """The server's process ended, or did not answer in time."""

    exit_code = 1


@contextlib.contextmanager
def serving(site: Path, *options: str, workers: int = 1) -> Iterator[Server]:
    """Serves `site` for as long as it is entered; `options` are more of `mmse serve`. Raises `NotServing`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    log = site / "serve.log"
    command = [sys.executable, "-m", "mmse", "serve", str(site), "--port", str(port), "--workers", str(workers)]
    command += ["--requests-per-s", "0", "--no-access-log", *options]
    with log.open("wb") as written:
        process = subprocess.Popen(  # noqa: S603
            command, stderr=written, env=os.environ | {"MMSE_TOKEN": token}, start_new_session=True
        )
    try:
        _wait(process, url, log)
        yield Server(url, token, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v1/health/ready", timeout=5).is_success:
                return
        time.sleep(0.1)
    said = log.read_text("utf-8", "replace").strip().splitlines()
    why = said[-1] if said else "it said nothing"
    raise NotServing(f"The server does not answer: {why}", f"Its log is {log}.")
