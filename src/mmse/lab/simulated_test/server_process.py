"""`mmse serve` in a process of its own, on loopback."""

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

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Server:
    """A running server: its address, the token for writes, and its process group."""

    url: str
    token: str
    process_group: int


class ServerStartError(MmseError):
    """The server's process ended, or did not answer in time."""

    exit_code = 1


@contextlib.contextmanager
def run_server(site: Path, *options: str, workers: int = 1) -> Iterator[Server]:
    """Serves `site` within the `with` block; `options` are passed to `mmse serve`. Raises `ServerStartError`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    log = site / "serve.log"
    command = [sys.executable, "-m", "mmse", "serve", str(site), "--port", str(port), "--workers", str(workers)]
    command += ["--requests-per-s", "0", "--no-access-log", *options]
    with log.open("wb") as log_file:
        process = subprocess.Popen(  # noqa: S603
            command, stderr=log_file, env=os.environ | {"MMSE_TOKEN": token}, start_new_session=True
        )
    try:
        _wait_until_ready(process, url, log)
        yield Server(url, token, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    with httpx.Client(timeout=5) as http:  # one for all: to make one loads all certificates
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if http.get(f"{url}/v1/health/ready").is_success:
                    return
            time.sleep(0.1)
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    reason = lines[-1] if lines else "its log is empty"
    raise ServerStartError(f"The server does not answer: {reason}", f"Its log is {log}.")
