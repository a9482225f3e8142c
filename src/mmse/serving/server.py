"""The server's processes: one that listens and keeps the others alive, and workers that answer."""

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

from mmse.core import artifact
from mmse.core.errors import UsageError
from mmse.serving.config import METRICS_FOLDER, ServeConfig
from mmse.serving.versions.site import Site

if TYPE_CHECKING:
    from mmse.serving.middleware import Gate

_GRACE_S = 10
_CONNECTIONS = 2_048
_OPENED = "opened"
"""A file that says that a worker could open what is served."""


def serve(config: ServeConfig) -> bool:
    """Serves until it is told to end (SIGINT, SIGTERM), and answers what has come in before that.

    A worker that dies is replaced; but where the first cannot even open what it is to serve, it ends, and gives false.
    """
    with tempfile.TemporaryDirectory(prefix="mmse-metrics-") as folder:
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
        server.serve(target_loader=partial(_worker, config, Path(folder) / _OPENED), wrap_loader=False)
        return (Path(folder) / _OPENED).exists()


def _worker(config: ServeConfig, opened: Path) -> Gate:
    """The application of one worker process, with one thread for each library that would take all cores."""
    import faiss
    import torch

    from mmse.serving.app import create

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)

    def told(able: bool) -> None:
        if able:
            opened.touch()
        elif not opened.exists():
            os.kill(os.getppid(), signal.SIGTERM)

    return create(config, told)


def check(config: ServeConfig) -> None:
    """Raises where it could not serve, before any process is started: `ArtifactError`, or `UsageError` for the port."""
    for edition in Site.open(config.path).state().arms.values():
        for kind in ("dataset", "model", "vectors", "index", "ranking"):
            artifact.verify(edition.run / kind, kind)
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {config.host}:{config.port}: {error.strerror}.", "Choose another --port or --host."
        ) from error
