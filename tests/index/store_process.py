"""The process behind `duckdb_store`: started, killed and started again by tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SERVER = Path(__file__).parent / "duckdb_server.py"
STORE = "index.duckdb_store:DuckDBStore"


class StoreProcess:
    """A server whose database lies in `folder`; it ends with the test process, whatever way that ends."""

    def __init__(self, folder: Path) -> None:
        self.address, self._database = str(folder / "socket"), str(folder / "database")
        self.section = f'[index]\nstore = "{STORE}"\noptions = {{ address = "{self.address}" }}\n'
        self.start()

    def start(self) -> None:
        """Starts the process and waits until it listens."""
        command = [sys.executable, str(SERVER), self.address, self._database]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def start_store() -> Iterator[StoreProcess]:
    """A running server. Its folder has a short path, as a socket must."""
    with tempfile.TemporaryDirectory(prefix="mmse-store-") as folder:
        process = StoreProcess(Path(folder))
        try:
            yield process
        finally:
            process.kill()
