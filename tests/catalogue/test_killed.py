"""Whatever a process is killed at, every acknowledged edit is there afterwards, and no half of a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from catalogue import killed
from catalogue.live_shop import copy_run
from catalogue.plain_model import Items, applied, check, read_items
from mmse.catalogue import Catalogue, Edit, LiveConfig
from mmse.catalogue.edits import id_of
from mmse.model.encoder import Encoder

SCRIPT = Path(killed.__file__)
FOLDERS = os.pathsep.join(str(folder) for folder in (SCRIPT.parents[2] / "src", SCRIPT.parents[1]))
ENVIRONMENT = os.environ | {"PYTHONPATH": FOLDERS, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_killed_at_every_kind_of_file_operation(exact_run: Path, tmp_path: Path, encoder: Encoder) -> None:
    command = [sys.executable, str(SCRIPT), "points", str(exact_run), str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    operations = " | ".join(report["operation"] for report in reports)
    for kind in ("write journal-N", "fsync journal-N", "rename .journal-N", "rename .base-N", "unlink journal-N"):
        assert kind in operations, operations
    calls = killed.scripted()
    start = read_items(exact_run)
    states: list[Items] = [start]
    for call in calls:
        states.append(applied(states[-1], call, list(start["i00000000"])))
    for report in reports:
        with Catalogue.open(Path(report["left"]), writable=True, encoder=encoder) as catalogue:
            version, acknowledged = catalogue.snapshot().version, report["acknowledged"]
            assert version in (acknowledged, acknowledged + 1), report
            assert version == report["seen"], "who had it open meanwhile sees the same"
            check(catalogue.snapshot(), states[version], killed.WORDS[:1], gone=["n1", "n2", "n3"])
            for call in calls[version:]:
                catalogue.apply(call)
            held = {one["item_id"]: one for one in _plain(catalogue)}
            assert held == states[-1]
        with Catalogue.open(Path(report["run"]), encoder=encoder) as catalogue:
            assert catalogue.snapshot().version == len(calls)
            assert {one["item_id"]: one for one in _plain(catalogue)} == states[-1], report


@pytest.mark.parametrize("kills", [6])
def test_killed_again_and_again_while_busy(ivf_run: Path, tmp_path: Path, encoder: Encoder, kills: int) -> None:
    run = copy_run(ivf_run, tmp_path / "run")
    command = [sys.executable, str(SCRIPT), "busy", str(run), str(kills)]
    items, done = read_items(run), [0] * killed.WORKERS
    columns = list(items["i00000000"])
    folds = 0
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for _ in range(kills):
            acknowledged = json.loads(process.stdout.readline())["acknowledged"]
            with Catalogue.open(run, writable=True, encoder=encoder, config=LiveConfig(automatic=False)) as catalogue:
                now = catalogue.snapshot()
                folds = max(folds, catalogue._generation.number)
                held = {one["item_id"]: one for one in _plain(catalogue)}
                for worker, reached in enumerate(acknowledged):
                    calls = killed.busy_script(worker, done[worker], reached - done[worker])
                    for call in calls:
                        items = applied(items, call, columns)
                    (unheard,) = killed.busy_script(worker, reached, 1)
                    if not _has(held, items, unheard):
                        items = applied(items, unheard, columns)
                        assert _has(held, items, unheard), "neither without the call under way, nor with all of it"
                        reached += 1
                    done[worker] = reached
                check(now, items, killed.WORDS[:1])
                assert now.version == sum(done)
            process.stdin.write(f"on\n{json.dumps(done)}\n")
    assert process.returncode == 0
    assert folds >= 2, "some were killed while edits were folded"


def _plain(catalogue: Catalogue) -> list[dict[str, object]]:
    now = catalogue.snapshot()
    mask = now.mask()
    found = now.items(np.arange(now.n_rows) if mask is None else np.flatnonzero(mask))
    return [{name: value for name, value in item.items() if name not in ("item_row", "first_seen")} for item in found]


def _has(held: dict[object, dict[str, object]], items: Items, call: list[Edit]) -> bool:
    """Whether the items that `call` is about are as `items` has them."""
    return all(held.get(id_of(edit)) == items.get(id_of(edit)) for edit in call)
