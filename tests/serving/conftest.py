"""A small site to serve: in this process for most tests, by real worker processes for the others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from mmse.serving.app import create
from mmse.serving.config import ServeConfig
from mmse.serving.versions.publish import publish

TOKEN = "a-token-of-tests-only"
WRITER = {"authorization": f"Bearer {TOKEN}"}
NEW_CONNECTIONS = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=5)
"""Opens a connection for each request, so that any worker answers it; `httpx.get` loads all certificates each time."""


@pytest.fixture
def site(small_run: Path, tmp_path: Path) -> Path:
    """A site of one version, of the small shop."""
    publish(tmp_path / "site", small_run)
    return tmp_path / "site"


@pytest.fixture(scope="module")
def service(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    """A worker in this process, for tests that change nothing that it serves."""
    folder = tmp_path_factory.mktemp("service") / "site"
    publish(folder, small_run)
    with worker(ServeConfig(folder, token=TOKEN)) as client:
        yield client


@pytest.fixture
def own_service(site: Path) -> Iterator[TestClient[Any]]:
    """A worker that serves the site, in this process; writes need `WRITER`."""
    with worker(ServeConfig(site, token=TOKEN)) as client:
        yield client


def worker(config: ServeConfig) -> TestClient[Any]:
    """A worker in this process, once it is entered."""
    app: Any = create(config)
    return TestClient(app)


@pytest.fixture(scope="session")
def server_url(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two worker processes that serve a site with two arms, `live` and `other`; writes need `TOKEN`."""
    folder = tmp_path_factory.mktemp("served")
    for arm in ("live", "other"):
        publish(folder / "site", small_run, arm=arm)
    with RunningServer(folder / "site", workers=2) as url:
        yield url


class RunningServer:
    """`mmse serve` of a site as a user starts it; gives its address."""

    def __init__(self, site: Path, *options: str, workers: int = 1) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(Path(sys.executable).with_name("mmse")), "serve", str(site), "--port", str(self.port)]
        self._command = [*command, "--workers", str(workers), *options]
        self._log = site.parent / f"serve-{self.port}.log"

    def __enter__(self) -> str:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stderr=log, env=os.environ | {"MMSE_TOKEN": TOKEN})
        deadline_s = time.monotonic() + 60
        try:
            while not _answers(self.url):
                assert self.process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline_s, self._log.read_text()
                time.sleep(0.05)
        except BaseException:
            self.process.kill()
            raise
        return self.url

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text()


def _answers(url: str) -> bool:
    try:
        return NEW_CONNECTIONS.get(f"{url}/v1/health/ready").status_code == 200
    except httpx.TransportError:
        return False
