"""The hot paths do no more work than what was accepted: `make accept-work` accepts what they do now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hot_paths.count_work import ACCEPTED
from mmse.shop import Shop

TOLERANCE = 0.05
FOLDERS = os.pathsep.join(str(folder) for folder in (ACCEPTED.parents[2] / "src", ACCEPTED.parents[1]))


def test_the_hot_paths_do_the_work_that_was_accepted(small_shop: Shop, small_run: Path, tmp_path: Path) -> None:
    # In a process of its own: there nothing checks types.
    command = [sys.executable, str(ACCEPTED.with_name("count_work.py")), str(small_shop.base / "shop.toml")]
    environment = os.environ | {"PYTHONPATH": FOLDERS, "PYTHONHASHSEED": "0"}
    done = subprocess.run([*command, str(small_run)], env=environment, capture_output=True, text=True, check=True)
    counted, accepted = json.loads(done.stdout), json.loads(ACCEPTED.read_text("utf-8"))
    assert counted.keys() == accepted.keys()
    differences = {
        f"{path}: {name}": f"{accepted[path].get(name)} → {number}"
        for path, work in counted.items()
        for name, number in work.items()
        if number != pytest.approx(accepted[path].get(name, 0), rel=TOLERANCE)
    }
    assert not differences, "more or less work than was accepted; if that is meant: make accept-work"
