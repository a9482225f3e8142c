"""A copy of a step's folder: links where the disk allows it, copies where it does not, without the files left out.

What is there is checked as in the folder itself; the manifest keeps its fingerprint and names what is left out.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from mmse.core import artifact
from mmse.core.artifact import MANIFEST, Manifest


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
        artifact.write_file(target / MANIFEST, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    else:
        link_file(artifact.own_file(source, MANIFEST), target / MANIFEST)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        artifact.sync(folder)
    return artifact.verify(target, kind, content=True)


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
