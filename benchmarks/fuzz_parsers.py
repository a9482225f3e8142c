"""What comes from anybody through its parsers, guided by coverage: an answer or one of our errors, nothing else.

    python benchmarks/fuzz_parsers.py [--seconds 1200] [--executions 10000000] [--seed 1] [--only "rules,tokens"]

Each target of `fuzz_targets.py` has a process of its own, in which Atheris (`pip install atheris`) mutates its seeds
for an equal share of the time and at most an equal share of the executions. A failure is any exception beside our own
errors, a property that does not hold, an execution of more than 20 seconds, or more than 2 GB. Writes
benchmarks/results/fuzz_parsers.json: the executions that were reached, and each kind of failure with its first input.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from machine import environment, write_result

SLOWEST_S, MOST_MB, LONGEST = 20, 2048, 4096
REPORT_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--executions", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="targets, with commas")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target:
        fuzz(options)
        return
    result: dict[str, object] = environment() | {"seed": options.seed, "seconds": options.seconds}
    names = list_names(options)
    rows = [run_target(name, options) for name in names]
    result |= {"executions": sum(row["executions"] for row in rows), "targets": dict(zip(names, rows, strict=True))}
    write_result("fuzz_parsers", result)


def list_names(options: argparse.Namespace) -> list[str]:
    from fuzz_targets import build_targets, make_folder

    folder = make_folder()
    names = list(build_targets(folder))
    shutil.rmtree(folder)
    chosen = options.only.split(",") if options.only else names
    options.seconds, options.executions = options.seconds / len(chosen), options.executions // len(chosen)
    return chosen


def run_target(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A target in a process of its own: what it reports, and how it ended where that is not well."""
    from fuzz_targets import make_folder

    folder = make_folder()
    command = [sys.executable, __file__, "--target", name, "--folder", str(folder)]
    for option in ("seconds", "executions", "seed"):
        command += [f"--{option}", str(getattr(options, option))]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    report = folder / "report.json"
    row: dict[str, Any] = json.loads(report.read_text("utf-8")) if report.is_file() else {"executions": 0}
    if process.returncode:
        row["end"] = f"exit code {process.returncode}: {process.stderr[-1500:]}"
    shutil.rmtree(folder)
    print(f"{name}: {row['executions']:,} executions, {len(row.get('failures', []))} kinds of failures", flush=True)
    return row


def fuzz(options: argparse.Namespace) -> None:
    """Executes one target until its share is used up."""
    import atheris

    logging.disable()
    with atheris.instrument_imports(include=["mmse"]):
        from fuzz_targets import ADMISSIBLE, build_targets

        from mmse.core.errors import MmseError
    target = build_targets(options.folder)[options.target]
    corpus = options.folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    report, failures, start_s = {"executions": 0, "answers": 0, "refusals": 0}, dict[str, Any](), time.monotonic()
    report_s = start_s

    def execute(data: bytes) -> None:
        nonlocal report_s
        report["executions"] += 1
        try:
            target.run(data)
            report["answers"] += 1
        except (MmseError, *ADMISSIBLE):
            report["refusals"] += 1
        except Exception as error:  # the next execution may find another
            note_failure(failures, error, data)
        if time.monotonic() - report_s > REPORT_S or report["executions"] == options.executions:
            report_s = time.monotonic()
            content = report | {"seconds": round(report_s - start_s, 1), "failures": list(failures.values())}
            (options.folder / "report.json").write_text(json.dumps(content), "utf-8")

    arguments = [f"-runs={options.executions}", f"-max_total_time={max(round(options.seconds), 1)}"]
    arguments += [f"-seed={options.seed}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MB}", f"-max_len={LONGEST}"]
    atheris.Setup([sys.argv[0], *arguments, f"-artifact_prefix={options.folder}/", str(corpus)], execute)
    atheris.Fuzz()


def note_failure(failures: dict[str, Any], error: Exception, data: bytes) -> None:
    """Counts a failure by its kind and the line that raised it; the first input of each is kept."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    key = f"{type(error).__name__} {Path(frame.filename).name}:{frame.lineno}"
    if key not in failures:
        lines = [f"{Path(part.filename).name}:{part.lineno}" for part in traceback.extract_tb(error.__traceback__)[-4:]]
        text = base64.b64encode(data).decode()
        failures[key] = {"kind": key, "error": str(error)[:300], "at": lines, "input_base64": text, "times": 0}
    failures[key]["times"] += 1


if __name__ == "__main__":
    main()
