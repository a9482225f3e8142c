"""The processes of a server: a parent that listens and replaces workers that die, and workers that answer."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import Interfaces

from mmse.catalogue import transfer
from mmse.core.errors import UsageError
from mmse.core.run_folder import SEARCH, RunFolder
from mmse.core.scratch import MEMORY
from mmse.serving.config import METRICS_FOLDER, ServeConfig
from mmse.serving.versions.site import Site

if TYPE_CHECKING:
    from mmse.serving.middleware.asgi import ASGIApp

_GRACE_S = 10
_CONNECTIONS = 2_048
_START_FILE = "started"
"""An empty file: a worker could load what the site serves."""


def serve(config: ServeConfig) -> bool:
    """Serves until SIGINT or SIGTERM, and answers the requests that came in before it.

    A worker that dies is replaced. Where the first worker cannot load what it is to serve, the server ends, and this
    gives false.
    """
    # In memory where that can be: the library writes through a memory map, which on a full disk kills the process.
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mmse-metrics-", dir=parent) as folder:
        os.environ[METRICS_FOLDER] = folder
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        server = Granian(
            "mmse.serving",
            address=config.host,
            port=config.port,
            interface=Interfaces.ASGI,
            workers=config.workers,
            websockets=False,
            backlog=_CONNECTIONS,
            backpressure=_CONNECTIONS,
            log_access=False,
            log_enabled=False,
            respawn_failed_workers=True,
            workers_kill_timeout=_GRACE_S,
        )
        server.serve(target_loader=partial(_worker, config, Path(folder) / _START_FILE), wrap_loader=False)
        return (Path(folder) / _START_FILE).exists()


def _worker(config: ServeConfig, started_file: Path) -> ASGIApp:
    """The application of one worker process; libraries that would take all cores are held to one thread."""
    import faiss
    import torch

    from mmse.serving.app import create

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)

    def report_start(success: bool) -> None:
        if success:
            started_file.touch()
        elif not started_file.exists():
            os.kill(os.getppid(), signal.SIGTERM)

    return create(config, report_start)


def check(config: ServeConfig) -> None:
    """Raises where it could not serve, before a process starts: `ArtifactError`, or `UsageError` for the port."""
    for version in Site.open(config.path).state().versions:
        RunFolder(version.run).verify(SEARCH)
        transfer.pending_edits(version.run)  # raises where they belong to step folders that were made again
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {config.host}:{config.port}: {error.strerror}.", "Choose another --port or --host."
        ) from error
