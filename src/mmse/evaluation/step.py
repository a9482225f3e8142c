"""The report stage: an evaluation as a folder with its rows (`report.json`) and one page for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mmse import __version__
from mmse.core import artifact
from mmse.core.artifact import MANIFEST, Manifest
from mmse.core.config import plain
from mmse.core.errors import ArtifactError
from mmse.evaluation.filter_quality import Filtered
from mmse.evaluation.metric_values import Progress
from mmse.evaluation.offline import EvaluateConfig, Evaluation, evaluate_log
from mmse.evaluation.reliability import Kept, Reliability
from mmse.evaluation.report import render_report
from mmse.evaluation.report.query_path import served_context
from mmse.evaluation.rows import read_rows, write_rows
from mmse.evaluation.shortfall import Shortfall

_BESIDE_ROWS: dict[str, Any] = {
    "ours": str,
    "warnings": list[str],
    "agreement": list[dict[str, str | int | float]],
    "shortfall": Shortfall,
    "filters": list[Filtered],
    "reliability": list[Reliability],
    "kept": Kept | None,
    "facts": dict[str, Any],
}
"""What stands in the file beside rows and differences, and what it is."""

ROWS = "report.json"
PAGE = "report.html"


def evaluate_run(
    run: Path, config: EvaluateConfig, *, inputs: Mapping[str, str], truth: Path | None, progress: Progress | None
) -> Manifest:
    """Evaluates `run` on its test window into the folder `run/report`."""
    return write_report(run, run / "report", evaluate_log(run, config, truth, progress), plain(config), inputs)


def write_report(
    run: Path, out: Path, evaluation: Evaluation, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> Manifest:
    """Writes `report.json` and `report.html` of `evaluation` into the stage folder `out`."""
    about = {name: getattr(evaluation, name) for name in _BESIDE_ROWS}
    with artifact.writing(out, kind="report", config=config, inputs=inputs) as draft:
        write_rows(draft.folder / ROWS, evaluation.rows, evaluation.differences, **about)
        path = served_context(evaluation, filters_tried=bool(config.get("filter_requests")))
        context, page = _context(run, evaluation), draft.folder / PAGE
        render_report(evaluation.rows, evaluation.differences, context, page, path)
        draft.counts |= {"rows": len(evaluation.rows)} | evaluation.facts
    return artifact.read_manifest(out, "report")


def read_report(folder: Path) -> Evaluation:
    """The evaluation in a report folder; raises `ArtifactError` where there is none."""
    artifact.verify(folder, "report")
    rows, differences = read_rows(folder / ROWS)
    said = msgspec.json.decode((folder / ROWS).read_bytes())
    try:
        beside = {name: msgspec.convert(said[name], type=kind) for name, kind in _BESIDE_ROWS.items()}
    except (KeyError, msgspec.ValidationError) as error:
        raise ArtifactError(f"{folder / ROWS} is no evaluation of this mmse: {error}.", "Evaluate again.") from error
    return Evaluation(rows=rows, differences=differences, **beside)


def _context(run: Path, evaluation: Evaluation) -> dict[str, Any]:
    """What the page says of the run besides its numbers, from the manifests of its stages."""
    stages = {kind: _manifest(run / kind, kind) for kind in ("dataset", "model", "vectors", "index")}
    mined, trained = stages["dataset"], stages["model"]
    facts: dict[str, str | int | float] = {}
    if mined:
        facts["items"] = mined.counts["items"]
        facts |= {f"{split} requests": n for split, n in mined.counts["requests"].items()}
    if trained:
        facts |= {
            "model": trained.fingerprint[:12],
            "seed": trained.config["seed"],
            "trained on": trained.counts["device"],
        }
    said_elsewhere = ("simulated", "probability", "probability learned on")
    facts |= {name: value for name, value in evaluation.facts.items() if name not in said_elsewhere}
    facts |= {"mmse": __version__, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    training = run / "model" / "training.json"
    return {
        "shop": run.resolve().parent.name,
        "ours": evaluation.ours,
        "simulated": bool(evaluation.facts.get("simulated")),
        "facts": facts,
        "warnings": evaluation.warnings,
        "training": json.loads(training.read_text("utf-8")) if training.is_file() else [],
        "ann": evaluation.agreement,
        "command": f"mmse evaluate {run.name}",
    }


def _manifest(folder: Path, kind: str) -> Manifest | None:
    return artifact.read_manifest(folder, kind) if (folder / MANIFEST).is_file() else None
