"""Where a live catalogue keeps its files in a run folder, who may write them, and what a killed one left behind.

    run/live/
      lock, queue       held by who writes into the journal, one commit at a time (`mmse.core.locks`)
      folding           held by who folds edits into a new base
      journal-G         the edits since base G
      base-G/           run folders and edits folded into one; generation 0 is the run itself
      scratch-…/        a process's own copy of the words, gone when it ends

The generation in force is that of the newest journal; whatever else is there is a leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from mmse.core import artifact, locks
from mmse.core.errors import ArtifactError

KINDS = ("dataset", "model", "vectors", "index")
FOLDING = "folding"
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
    """The generation in force; None where no edit was ever made. Asked all the time: strings are quicker than paths."""
    try:
        return _newest(os.listdir(f"{run}/live"))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return None


def size(run: Path, generation: int) -> int:
    """How many bytes the journal of a generation has; quick as well."""
    return os.stat(f"{run}/live/journal-{generation}").st_size  # noqa: PTH116


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


def make(run: Path) -> None:
    """Makes the folder of the live catalogue; raises `OutputError` where that may not be written."""
    with artifact.writable(live(run)):
        live(run).mkdir(parents=True, exist_ok=True)


def turn(run: Path) -> AbstractContextManager[None]:
    """The right to write into the journal: one at a time, over all processes."""
    return locks.turn(live(run))


def folding(run: Path) -> AbstractContextManager[bool]:
    """The right to fold, to begin another generation and to sweep; false where another has it."""
    return locks.if_free(live(run) / FOLDING)


def sweep(run: Path) -> None:
    """Removes what is of no use to anybody: former generations, drafts, scratch folders of ended processes.

    For who has the right to fold. Processes that have a former base open go on with it: its files are only unlinked.
    """
    names = [path.name for path in live(run).iterdir()]
    number = _newest(names)
    kept = set() if number is None else {journal(run, number).name, base(run, number).name}
    for name in names:
        old = re.fullmatch(r"(journal|base)-\d+", name) and name not in kept
        if old or re.match(r"\.base-\d+\.(writing|former)", name) or _former_draft(name, number):
            _remove(live(run) / name)
        elif name.startswith("scratch-"):
            _remove_abandoned(live(run) / name)


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


def _newest(names: Iterable[str]) -> int | None:
    found = map(_JOURNAL.fullmatch, names)
    return max((int(match[1]) for match in found if match), default=None)


def _former_draft(name: str, number: int | None) -> bool:
    """Whether this is a journal's draft that nobody writes: the next one's may be under way."""
    match = re.fullmatch(r"\.journal-(\d+)\.writing", name)
    return match is not None and number is not None and int(match[1]) <= number


def _remove_abandoned(folder: Path) -> None:
    """Removes a scratch folder that nobody holds; one that is only being made has no such file yet, and is left."""
    with contextlib.suppress(OSError), (folder / "held").open("r+", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what cannot be removed harms nobody
        shutil.rmtree(path) if path.is_dir() else path.unlink()
