"""Whatever a process is killed at, every acknowledged edit is there afterwards, and no half of a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from catalogue import kill_script
from catalogue.live_runs import copy_run
from catalogue.reference_model import DERIVED_COLUMNS, Items, apply_edits, check_snapshot, read_items
from mmse.catalogue import Edit, LiveCatalogue
from mmse.catalogue.edits import id_of
from mmse.model.encoder import Encoder

SCRIPT = Path(kill_script.__file__)
FOLDERS = os.pathsep.join(str(folder) for folder in (SCRIPT.parents[2] / "src", SCRIPT.parents[1]))
ENVIRONMENT = os.environ | {"PYTHONPATH": FOLDERS, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_killed_at_kinds_of_file_operations(exact_run: Path, tmp_path: Path, encoder: Encoder) -> None:
    command = [sys.executable, str(SCRIPT), "points", str(exact_run), str(tmp_path)]
    process = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    reports = [json.loads(line) for line in process.stdout.splitlines()]
    operations = " | ".join(report["operation"] for report in reports)
    for kind in kill_script.KINDS:
        assert kind in operations, operations
    calls = kill_script.scripted_calls()
    start = read_items(exact_run)
    states: list[Items] = [start]
    for call in calls:
        states.append(apply_edits(states[-1], call, list(start["i00000000"])))
    for report in reports:
        with LiveCatalogue.open(Path(report["left"]), writable=True, encoder=encoder) as catalogue:
            version, n_calls = catalogue.snapshot().version, report["acknowledged"]
            assert version in (n_calls, n_calls + 1), report
            assert version == report["version"], "a catalogue that was open meanwhile sees the same"
            check_snapshot(catalogue.snapshot(), states[version], kill_script.WORDS[:1], deleted_ids=["n1", "n2", "n3"])
            for call in calls[version:]:
                catalogue.apply(call)
            assert _read_contents(catalogue) == states[-1]
        with LiveCatalogue.open(Path(report["run"]), encoder=encoder) as catalogue:
            assert catalogue.snapshot().version == len(calls)
            assert _read_contents(catalogue) == states[-1], report


@pytest.mark.parametrize("kills", [2])
def test_killed_again_and_again_while_busy(ivf_run: Path, tmp_path: Path, encoder: Encoder, kills: int) -> None:
    run = copy_run(ivf_run, tmp_path / "run")
    command = [sys.executable, str(SCRIPT), "busy", str(run), str(kills)]
    items, counts = read_items(run), [0] * kill_script.WORKERS
    columns = list(items["i00000000"])
    folds = 0
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for _ in range(kills):
            call_counts = json.loads(process.stdout.readline())["acknowledged"]
            with LiveCatalogue.open(run, writable=True, encoder=encoder, config=kill_script.MANUAL) as catalogue:
                snapshot = catalogue.snapshot()
                folds = max(folds, catalogue._generation.number)
                contents = _read_contents(catalogue)
                for worker, count in enumerate(call_counts):
                    calls = kill_script.worker_calls(worker, counts[worker], count - counts[worker])
                    for call in calls:
                        items = apply_edits(items, call, columns)
                    (interrupted_call,) = kill_script.worker_calls(worker, count, 1)
                    if not _agrees(contents, items, interrupted_call):
                        items = apply_edits(items, interrupted_call, columns)
                        assert _agrees(contents, items, interrupted_call), "the interrupted call is there in part"
                        count += 1
                    counts[worker] = count
                check_snapshot(snapshot, items, kill_script.WORDS[:1])
                assert snapshot.version == sum(counts)
            process.stdin.write(f"on\n{json.dumps(counts)}\n")
    assert process.returncode == 0
    assert folds >= 1, "some were killed while edits were folded"


def _read_contents(catalogue: LiveCatalogue) -> dict[str, dict[str, object]]:
    snapshot = catalogue.snapshot()
    mask = snapshot.mask()
    items = snapshot.items(np.arange(snapshot.n_rows) if mask is None else np.flatnonzero(mask))
    return {
        item["item_id"]: {name: value for name, value in item.items() if name not in DERIVED_COLUMNS} for item in items
    }


def _agrees(contents: dict[str, dict[str, object]], items: Items, call: list[Edit]) -> bool:
    """Whether the items that `call` edits are as `items` has them."""
    return all(contents.get(id_of(edit)) == items.get(id_of(edit)) for edit in call)
