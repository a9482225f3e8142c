"""A copy of a step's folder: links where the disk allows it, copies where it does not, without the files left out.

What is there is checked as in the folder itself; the manifest keeps its fingerprint and names what is left out. In the
same way files of a folder are rewritten without the rows of a person: the folder stays what it was to the folders that
were made from it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mmse.core import artifact, drafts
from mmse.core.artifact import MANIFEST, Manifest
from mmse.core.drafts import sync


def copy_folder(source: Path, target: Path, kind: str, leave_out: Collection[str] = ()) -> Manifest:
    """Copies the folder `source` to `target`, which must not exist, without the files in `leave_out`.

    Gives the manifest of the copy. Raises `ArtifactError` where `source` is not a whole folder of `kind` or has a link
    among its files, and `FileNotFoundError` where a file of it goes away meanwhile. What was written is synced.
    """
    manifest = artifact.read_manifest(source, kind)
    left_out = sorted(set(leave_out) & manifest.files.keys() | set(manifest.left_out))
    target.mkdir()
    for name in (name for name in manifest.files if name not in left_out):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        link_file(artifact.own_file(source, name), target / name)
    if left_out:
        content = json.loads((source / MANIFEST).read_text("utf-8")) | {"left_out": left_out}
        _write_manifest(target, content)
    else:
        link_file(artifact.own_file(source, MANIFEST), target / MANIFEST)
    _sync_folders(target)
    return artifact.verify(target, kind, content=True)


def rewrite_files(
    folder: Path,
    kind: str,
    writers: Mapping[str, Callable[[Path], None]],
    change_counts: Callable[[Path, dict[str, Any]], dict[str, Any]] = lambda _, counts: counts,
) -> Manifest:
    """Lets each of `writers` write the file of its name anew; all or none.

    `change_counts` gives the counts of the manifest, from the folder with the new files and the former counts.

    The fingerprint stays, since it says what the folder was made from; the manifest also names the files as they were.
    Gives the manifest. Raises `OutputError` where the disk refuses; the folder is unchanged then.
    """
    manifest = artifact.read_manifest(folder, kind)
    assert writers.keys() <= manifest.files.keys() - set(manifest.left_out), writers
    with artifact.explain_os_errors(folder):
        draft, lock = drafts.make_draft(folder)
    try:
        with artifact.explain_os_errors(folder):
            for name in (name for name in manifest.files if name not in manifest.left_out):
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                if name in writers:
                    writers[name](draft / name)
                    sync(draft / name)
                else:
                    link_file(artifact.own_file(folder, name), draft / name)
            content = json.loads((folder / MANIFEST).read_text("utf-8"))
            records = {name: artifact.file_record(draft / name) for name in writers}
            former_records = {name: manifest.files[name] for name in writers}
            content["files"] |= records
            content["former_files"] = former_records | content.get("former_files", {})
            content["counts"] = change_counts(draft, content["counts"])
            _write_manifest(draft, content)
            _sync_folders(draft)
            drafts.replace_folder(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        drafts.release(lock)
    return artifact.read_manifest(folder, kind)


def _write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    artifact.write_file(folder / MANIFEST, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _sync_folders(target: Path) -> None:
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        sync(folder)


def link_file(source: Path, target: Path) -> None:
    """A hard link to a file, or a copy where the disk has none."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
