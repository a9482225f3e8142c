"""Runs to edit: the small shop's step folders, linked, with an index of a given kind."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmse.index import IndexConfig
from mmse.index.step import index_catalogue

STEP_FOLDERS = ("dataset", "serving", "model", "vectors", "index")
BOOSTS = {"title": 1.0}


def make_run(source: Path, target: Path, kind: str) -> Path:
    """A run folder `target` whose index is of `kind`; its other step folders are those of `source`."""
    target.mkdir()
    for name in STEP_FOLDERS[:-1]:
        (target / name).symlink_to((source / name).resolve())
    index_catalogue(target / "dataset", target / "model", target / "vectors", target / "index", IndexConfig(kind=kind))
    return target


def copy_run(run: Path, target: Path) -> Path:
    """Another run folder over the same step folders, with the same edits."""
    target.mkdir()
    for name in STEP_FOLDERS:
        (target / name).symlink_to((run / name).resolve())
    if (run / "live").exists():
        shutil.copytree(run / "live", target / "live")
    return target
