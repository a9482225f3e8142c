"""A run to edit: the small shop's stage folders, linked, under an index of a given kind."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmse.index import IndexConfig
from mmse.index.step import index_catalogue

STAGES = ("dataset", "model", "vectors", "index")
BOOSTS = {"title": 1.0}


def make_run(stages: Path, out: Path, kind: str) -> Path:
    """A run folder in `out` whose index is of `kind`; its other stage folders are those of `stages`."""
    out.mkdir()
    for name in STAGES[:-1]:
        (out / name).symlink_to((stages / name).resolve())
    index_catalogue(out / "dataset", out / "model", out / "vectors", out / "index", IndexConfig(kind=kind))
    return out


def copy_run(run: Path, out: Path) -> Path:
    """Another run folder over the same stage folders, with the same edits."""
    out.mkdir()
    for name in STAGES:
        (out / name).symlink_to((run / name).resolve())
    if (run / "live").exists():
        shutil.copytree(run / "live", out / "live")
    return out
