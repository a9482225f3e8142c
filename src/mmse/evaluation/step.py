"""The report step: an evaluation as a folder with its rows (`report.json`) and one page for people."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mmse import __version__
from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values
from mmse.core.errors import ArtifactError
from mmse.core.extras import EXTRAS, is_installed
from mmse.core.progress import Progress
from mmse.core.run_folder import DATASET, MODEL, REPORT, RunFolder
from mmse.evaluation.filter_quality import FilterQuality
from mmse.evaluation.offline import EvaluateConfig, Evaluation, evaluate_log
from mmse.evaluation.reliability import Reliability, ThresholdCurve
from mmse.evaluation.report import render_report
from mmse.evaluation.report.query_path import query_path_context
from mmse.evaluation.rows import read_rows, write_rows
from mmse.evaluation.shortfall import Shortfall
from mmse.evaluation.truth import ShopperTruth

_KEYS: dict[str, tuple[str, Any]] = {
    "ours": ("subject", str),
    "warnings": ("warnings", list[str]),
    "agreement": ("agreement", list[dict[str, str | int | float]]),
    "shortfall": ("shortfall", Shortfall),
    "filters": ("filters", list[FilterQuality]),
    "reliability": ("reliability", list[Reliability]),
    "kept": ("threshold_curve", ThresholdCurve | None),
    "facts": ("facts", dict[str, Any]),
}
"""The keys of `report.json` besides rows and differences: the field of `Evaluation` that each has, and its type."""

ROWS = "report.json"
PAGE = "report.html"

log = logging.getLogger(__name__)


def report_config(config: EvaluateConfig) -> dict[str, Any]:
    """What a report depends on besides its inputs: the config, and whether the page can be drawn (`mmse[report]`)."""
    return plain_values(config) | {"page": is_installed("report")}


def evaluate_run(
    run: Path, config: EvaluateConfig, *, inputs: Mapping[str, str], truth: ShopperTruth | None, progress: Progress
) -> Manifest:
    """Evaluates `run` on its test window into its report folder; with `truth` also against a simulated shop's truth."""
    evaluation = evaluate_log(run, config, truth, progress)
    return write_report(run, RunFolder(run).report, evaluation, report_config(config), inputs)


def write_report(
    run: Path, folder: Path, evaluation: Evaluation, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> Manifest:
    """Writes `report.json` and, where `mmse[report]` is installed, `report.html` of `evaluation` into `folder`."""
    values = {key: getattr(evaluation, field) for key, (field, _) in _KEYS.items()}
    with artifact.write_folder(folder, kind=REPORT, config=config, inputs=inputs) as draft:
        write_rows(draft.folder / ROWS, evaluation.rows, evaluation.differences, **values)
        query_path = query_path_context(evaluation, filters_tried=bool(config.get("filter_requests")))
        if is_installed("report"):
            context, page = _context(RunFolder(run), evaluation), draft.folder / PAGE
            render_report(evaluation.rows, evaluation.differences, context, page, query_path)
        else:
            log.warning("%s is left out: it needs %s", folder / PAGE, EXTRAS["report"].command)
        draft.counts |= {"rows": len(evaluation.rows)} | evaluation.facts
    return artifact.read_manifest(folder, REPORT)


def read_report(folder: Path) -> Evaluation:
    """The evaluation in a report folder; raises `ArtifactError` if there is none."""
    artifact.verify(folder, REPORT)
    rows, differences = read_rows(folder / ROWS)
    content = msgspec.json.decode((folder / ROWS).read_bytes())
    try:
        fields = {field: msgspec.convert(content[key], type=kind) for key, (field, kind) in _KEYS.items()}
    except (KeyError, msgspec.ValidationError) as error:
        raise ArtifactError(f"{folder / ROWS} is no evaluation of this mmse: {error}.", "Evaluate again.") from error
    return Evaluation(rows=rows, differences=differences, **fields)


def _context(run: RunFolder, evaluation: Evaluation) -> dict[str, Any]:
    """What the page shows of the run besides its numbers, from the manifests of its folders."""
    facts: dict[str, str | int | float] = {}
    if run.has(DATASET):
        counts = run.manifest(DATASET).counts
        facts["items"] = counts["items"]
        facts |= {f"{split} requests": n for split, n in counts["requests"].items()}
    if run.has(MODEL):
        model = run.manifest(MODEL)
        facts |= {"model": model.fingerprint[:12], "seed": model.config["seed"], "trained on": model.counts["device"]}
    separate = ("simulated", "probability", "probability learned on")  # the page shows them elsewhere
    facts |= {name: value for name, value in evaluation.facts.items() if name not in separate}
    facts |= {"mmse": __version__, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    training = run.model / "training.json"
    return {
        "shop": run.path.resolve().parent.name,
        "subject": evaluation.subject,
        "simulated": bool(evaluation.facts.get("simulated")),
        "facts": facts,
        "warnings": evaluation.warnings,
        "training": json.loads(training.read_text("utf-8")) if training.is_file() else [],
        "ann": evaluation.agreement,
        "command": f"mmse evaluate {run.path.name}",
    }
