"""A server of Milvus Lite in another process, which is started, killed and started again by tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_TIMEOUT_S = 60.0


class MilvusProcess:
    """A server at `uri` whose data lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
        self.uri, self._folder = f"http://127.0.0.1:{self._port}", folder
        options = f'{{ uri = "{self.uri}", nprobe = 65536, timeout_s = 1 }}'
        self.section = f'[index]\nstore = "milvus"\noptions = {options}\n'
        self.start()

    def start(self) -> None:
        """Starts the process and waits until it listens."""
        options = ["--data-dir", str(self._folder), "--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "milvus_lite", "server", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._listens():
            assert self._process.poll() is None, "the server of Milvus Lite ended"
            assert time.monotonic() < deadline, "the server of Milvus Lite does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0


@contextlib.contextmanager
def start_milvus() -> Iterator[MilvusProcess]:
    """A running server with an empty folder."""
    with tempfile.TemporaryDirectory(prefix="mmse-milvus-") as folder:
        process = MilvusProcess(Path(folder))
        try:
            yield process
        finally:
            process.kill()
