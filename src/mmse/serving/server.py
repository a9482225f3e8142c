"""The processes of a server: a parent that listens and replaces workers that die, and workers that answer."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from mmse.core import locks
from mmse.core.errors import ArtifactError, OutputError, UsageError
from mmse.core.run_folder import SEARCH, RunFolder
from mmse.core.scratch import MEMORY
from mmse.schema.user_ids import UserSalt
from mmse.serving.config import METRICS_FOLDER, ServeConfig
from mmse.serving.middleware import rates
from mmse.serving.tokens import read_tokens
from mmse.serving.versions.content import inspect_content
from mmse.serving.versions.site import SiteState
from mmse.serving.versions.withdrawal import open_site, open_whole

if TYPE_CHECKING:
    from mmse.serving.middleware.asgi import ASGIApp

log = logging.getLogger(__name__)

_GRACE_S = 10
_CONNECTIONS = 16_384
"""How many connections a worker holds, idle ones too; it accepts no more until some have ended."""
_IDLE_S = 75
"""How long a connection may be silent: longer than proxies keep theirs, so that they close first."""
_SPARE_FILES = 512
_PARENT_LOOK_S = 1.0
_METRICS_PREFIX = "mmse-metrics-"
_LEFT_AFTER_S = 60.0
_BACKLOG = 2_048
_START_FILE = "started"
"""An empty file: a worker could load what the site serves."""


def serve(config: ServeConfig) -> bool:
    """Serves until SIGINT or SIGTERM, and answers the requests that came in before it.

    A worker that dies is replaced. Where the first worker cannot load what it is to serve, the server ends, and this
    gives false.
    """
    # In memory where that can be: the library writes through a memory map, which on a full disk kills the process.
    parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    remove_left_folders(parent)
    with (
        tempfile.TemporaryDirectory(prefix=_METRICS_PREFIX, dir=parent) as folder,
        locks.lock(Path(folder) / locks.LOCK),
    ):
        os.environ[METRICS_FOLDER] = folder
        rates.create_table(Path(folder))
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        server = Granian(
            "mmse.serving",
            address=config.host,
            port=config.port,
            interface=Interfaces.ASGI,
            workers=config.workers,
            websockets=False,
            http=HTTPModes.http1,  # with "auto" a connection that sends nothing is never closed
            http1_settings=HTTP1Settings(header_read_timeout=_IDLE_S * 1000),
            backlog=_BACKLOG,
            backpressure=_allow_connections(),
            log_access=False,
            log_enabled=False,
            respawn_failed_workers=True,
            workers_kill_timeout=_GRACE_S,
        )
        loader = partial(_worker, config, Path(folder) / _START_FILE, os.getpid())
        server.serve(target_loader=loader, wrap_loader=False)
        return (Path(folder) / _START_FILE).exists()


def remove_left_folders(parent: Path) -> None:
    """Removes the folders of metrics in `parent` that servers of this user left behind when they were killed."""
    for folder in parent.glob(f"{_METRICS_PREFIX}*"):
        with contextlib.suppress(OSError, OutputError):  # another server was quicker
            stat = folder.lstat()
            is_old = time.time() - stat.st_mtime > _LEFT_AFTER_S
            if folder.is_symlink() or stat.st_uid != os.getuid() or not is_old or not (folder / locks.LOCK).is_file():
                continue
            with locks.try_lock(folder / locks.LOCK) as is_left:
                if is_left:
                    shutil.rmtree(folder)


def _allow_connections() -> int:
    """How many connections a worker may hold, after this process has asked for as many open files as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _CONNECTIONS if soft == resource.RLIM_INFINITY else max(min(_CONNECTIONS, soft - _SPARE_FILES), soft // 2)


def _worker(config: ServeConfig, started_file: Path, parent_pid: int) -> ASGIApp:
    """The application of one worker process; libraries that would take all cores are held to one thread."""
    import faiss
    import torch

    from mmse.serving.app import create

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)

    threading.Thread(target=_end_with_parent, args=(parent_pid,), name="mmse-parent", daemon=True).start()

    def report_start(success: bool) -> None:
        if success:
            started_file.touch()
        elif not started_file.exists():
            os.kill(os.getppid(), signal.SIGTERM)

    return create(config, report_start)


def _end_with_parent(parent_pid: int) -> None:
    """Ends this worker once its parent is gone: nobody would replace or end it, and it would hold the port."""
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_LOOK_S)
    log.critical("The parent process %d is gone; this worker ends.", parent_pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def check(config: ServeConfig) -> None:
    """Raises where it could not serve, before a process starts.

    That is `ArtifactError` for a version that nothing replaces, or for any that is damaged if the config asks to look;
    and `UsageError` for the port, the tokens or the salt.
    """
    site = open_site(config.path)
    if config.verify:
        _require_whole(site.state())
    else:
        open_whole(site, _verify_sizes)
    if config.token_file:
        read_tokens(config.token_file)
    if config.user_salt_file:
        UserSalt.read(config.user_salt_file)
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {config.host}:{config.port}: {error.strerror}.", "Choose another --port or --host."
        ) from error


def _verify_sizes(state: SiteState) -> None:
    for version in state.versions:
        RunFolder(version.run).verify(SEARCH)


def _require_whole(state: SiteState) -> None:
    """Raises `ArtifactError` where a file of a version is not what was written."""
    _verify_sizes(state)
    for version in state.versions:
        for part in inspect_content(version.run):
            if part.problem:
                cure = f"Serve another version (`mmse versions rollback`), or restore that file. {part.cure}"
                raise ArtifactError(f"Version {version.name}: {part.problem}", cure)
