"""The machine and the versions behind a grid's numbers, and the commit where mmse runs from a checkout."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from mmse import __version__


def facts() -> dict[str, str | int]:
    """The facts that go with every number."""
    values: dict[str, str | int] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "Python": platform.python_version(),
        "torch": version("torch"),
        "mmse": __version__,
    }
    if commit := _commit(Path(__file__).parents[2]):
        values["commit"] = commit
    return values


def _commit(folder: Path) -> str | None:
    """The commit of the checkout that tracks `folder`, with a note if there are changes; None outside a checkout."""
    try:
        head = _git(folder, "log", "-1", "--format=%h", "--", ".")
        return head and head + (" with changes" if _git(folder, "status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]  # the git on the user's path
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
    return process.stdout.strip()
