"""Where a live catalogue keeps its files in a run folder, who may write them, and what a killed one left behind.

    run/live/
      lock            held by the one writer
      journal-G       the edits since base G
      base-G/         run folders and edits folded into one; generation 0 is the run itself
      scratch-…/      a process's own copy of the words, gone when it ends

The generation in force is that of the newest journal; whatever else is there is a leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO

from mmse import artifact
from mmse.errors import ArtifactError, UsageError

KINDS = ("groups", "model", "vectors", "index")
_JOURNAL = re.compile(r"journal-(\d+)")


def live(run: Path) -> Path:
    """The folder of the live catalogue of `run`."""
    return run / "live"


def journal(run: Path, generation: int) -> Path:
    """The journal of a generation."""
    return live(run) / f"journal-{generation}"


def base(run: Path, generation: int) -> Path:
    """The base of a generation that compaction made."""
    return live(run) / f"base-{generation}"


def newest(run: Path) -> int | None:
    """The generation in force; None where no edit was ever made."""
    if not live(run).is_dir():
        return None
    found = [_JOURNAL.fullmatch(path.name) for path in live(run).iterdir()]
    return max((int(match[1]) for match in found if match), default=None)


def origin(run: Path) -> str:
    """The fingerprint of the stage folders that a live catalogue stands on; raises `ArtifactError` where one lacks."""
    made = {kind: artifact.read_manifest(run / kind, kind) for kind in KINDS}
    for kind, manifest in made.items():
        for name in KINDS:
            if name in manifest.inputs and manifest.inputs[name] != made[name].fingerprint:
                raise ArtifactError(
                    f"{run / kind} was not made from {run / name} as it is now: rows and scores would mean nothing.",
                    "Run the stages from there on again: mmse run.",
                )
    return "-".join(made[kind].fingerprint[:16] for kind in KINDS)


def lock(run: Path) -> IO[str]:
    """The one writer's lock, held until it is closed; raises `UsageError` where another holds it."""
    with artifact.writable(live(run)):
        live(run).mkdir(parents=True, exist_ok=True)
        file = (live(run) / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise UsageError(
            f"{run} is open for writing already, by process {holder}.",
            "Send the edits to that one, or end it first: a catalogue has one writer at a time.",
        ) from None
    with artifact.writable(live(run)):
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def sweep(run: Path, generation: int | None) -> None:
    """Removes what is not of `generation`, drafts, and scratch folders of ended processes; for the writer alone."""
    kept = set() if generation is None else {journal(run, generation).name, base(run, generation).name}
    for path in live(run).iterdir():
        old = re.fullmatch(r"(journal|base)-\d+", path.name) and path.name not in kept
        draft = re.match(r"\.(journal|base)-\d+\.(writing|former)", path.name)
        if old or draft or (path.name.startswith("scratch-") and _abandoned(path)):
            with contextlib.suppress(OSError):  # what cannot be removed harms nobody
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def scratch(run: Path) -> tuple[Path, IO[str]]:
    """A new folder of this process's own, in the run where that may be written; and what says that it is in use."""
    while True:
        try:
            live(run).mkdir(exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=live(run)))
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="mmse-"))
        held = (folder / "held").open("w", encoding="utf-8")
        fcntl.flock(held, fcntl.LOCK_EX)
        if (folder / "held").exists():
            return folder, held
        held.close()  # a writer swept it away before it was locked


def sync_folder(folder: Path) -> None:
    """Makes what was renamed or removed in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _abandoned(folder: Path) -> bool:
    """Whether nobody holds a scratch folder; one that is only being made has no such file yet, and is left alone."""
    try:
        with (folder / "held").open("r+", encoding="utf-8") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
