"""The files of a live catalogue in a run folder, who may write them, and the removal of what killed processes leave.

    run/live/
      lock, queue       held by whoever writes into the log of edits, one commit at a time (`mmse.core.locks`)
      folding           held by whoever folds edits into a new base
      journal-G         the log of the edits made on base G (`mmse.catalogue.wal`)
      base-G/           step folders and edits folded into one; generation 0 is the run itself
      scratch-…/        a process's own copy of the lexical index, removed when the process ends

The generation in force is the one of the newest log. Everything else is a leftover.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from mmse.core import artifact, locks
from mmse.core.errors import ArtifactError
from mmse.core.run_folder import DATASET, INDEX, MODEL, SERVING, VECTORS, RunFolder, require_lineage
from mmse.core.scratch import make_owned_folder, remove_abandoned, scratch_parents

KINDS = (MODEL, VECTORS, INDEX, SERVING)
"""The folders of a run that its catalogue is made of; all of them stem from one dataset."""

FOLD_LOCK = "folding"
LIVE_FOLDER = "live"
_WAL_NAME = re.compile(r"journal-(\d+)")


def live_folder(run: Path) -> Path:
    """The folder of the live catalogue of `run`."""
    return RunFolder(run).edits


def wal_file(run: Path, generation: int) -> Path:
    """The log of edits of a generation."""
    return live_folder(run) / f"journal-{generation}"


def base_folder(run: Path, generation: int) -> Path:
    """The base of a generation that compaction made."""
    return live_folder(run) / f"base-{generation}"


def newest_generation(run: Path) -> int | None:
    """The generation in force, None where no edit was ever made. Called often; strings are faster than paths."""
    try:
        return _max_generation(os.listdir(f"{run}/live"))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return None


def wal_size(run: Path, generation: int) -> int:
    """The size of a generation's log in bytes. Called often, as `newest_generation`."""
    return os.stat(f"{run}/live/journal-{generation}").st_size  # noqa: PTH116


def read_origin(run: Path, *, any_schema: bool = False) -> str:
    """The fingerprints of the dataset, the model, the vectors and the index that a live catalogue stands on.

    With `any_schema` also of folders that this mmse cannot open. Raises `ArtifactError` where a folder is missing or
    does not fit the others.
    """
    manifests = {kind: artifact.read_manifest(run / kind, kind, any_schema=any_schema) for kind in KINDS}
    require_lineage(manifests, run)
    fingerprints = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
    fingerprints[DATASET] = manifests[INDEX].inputs[DATASET]
    return "-".join(fingerprints[kind][:16] for kind in (DATASET, MODEL, VECTORS, INDEX))


def require_own_live_folder(run: Path) -> None:
    """Raises `ArtifactError` where the folder of the live catalogue is a link: whoever made the run chose where to."""
    if (folder := live_folder(run)).is_symlink():
        raise ArtifactError(
            f"{folder} is a link to {folder.resolve()}: expected a folder in {run} itself.",
            "Put the folder itself there; to keep it on another disk, put the whole run there.",
        )


def make_live_folder(run: Path) -> None:
    """Makes the folder of the live catalogue; raises `OutputError` where that is not allowed."""
    require_own_live_folder(run)
    with artifact.explain_os_errors(live_folder(run)):
        live_folder(run).mkdir(parents=True, exist_ok=True)


def take_turn(run: Path) -> AbstractContextManager[None]:
    """The right to write into the log: one writer at a time, over all processes."""
    return locks.take_turn(live_folder(run))


def try_fold_lock(run: Path) -> AbstractContextManager[bool]:
    """The right to fold, to begin another generation and to sweep; false where another process has it."""
    return locks.try_lock(live_folder(run) / FOLD_LOCK)


def sweep(run: Path) -> None:
    """Removes what nobody needs any more: former generations, drafts, working folders of processes that have ended.

    The caller has the right to fold. Processes that have a former base open go on with it: its files are only unlinked.
    """
    names = [path.name for path in live_folder(run).iterdir()]
    number = _max_generation(names)
    in_force = set() if number is None else {wal_file(run, number).name, base_folder(run, number).name}
    for name in names:
        is_former = re.fullmatch(r"(journal|base)-\d+", name) and name not in in_force
        if is_former or re.match(r"\.base-\d+\.(writing|former)", name) or _is_former_draft(name, number):
            _remove(live_folder(run) / name)
        elif name.startswith("scratch-"):
            remove_abandoned(live_folder(run) / name)


def working_parents(run: Path) -> list[Path]:
    """Where a process may have its working folder, the better place first: the run, other disks, the memory.

    A search must not need room on the disk of the run.
    """
    return [live_folder(run), *scratch_parents()]


def make_working_folder(parent: Path) -> tuple[Path, IO[str]]:
    """A new folder of this process in `parent`, and the open file whose lock says that it is in use."""
    if parent.name != LIVE_FOLDER:
        return make_owned_folder(parent, "mmse-words-")
    parent.mkdir(exist_ok=True)
    return make_owned_folder(parent, "scratch-")


def _max_generation(names: Iterable[str]) -> int | None:
    matches = map(_WAL_NAME.fullmatch, names)
    return max((int(match[1]) for match in matches if match), default=None)


def _is_former_draft(name: str, number: int | None) -> bool:
    """Whether `name` is the draft of a log that nobody writes; the draft of the next log may be being written."""
    match = re.fullmatch(r"\.journal-(\d+)\.writing", name)
    return match is not None and number is not None and int(match[1]) <= number


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a leftover does no harm
        shutil.rmtree(path) if path.is_dir() else path.unlink()
