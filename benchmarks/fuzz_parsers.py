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
import os
import shutil
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris
from machine import environment, write_result

SLOWEST_S, MOST_MB, LONGEST = 20, 2048, 4096
REPORT_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--executions", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="targets, with commas")
    options = parser.parse_args()
    facts = environment()
    with atheris.instrument_imports(include=["mmse"]):
        import fuzz_targets
    logging.disable()
    folder = fuzz_targets.make_folder()
    names = options.only.split(",") if options.only else list(fuzz_targets.build_targets(folder))
    shutil.rmtree(folder)
    share = Share(options.seconds / len(names), options.executions // len(names), options.seed)
    rows = {name: run_target(name, share) for name in names}
    total = sum(row["executions"] for row in rows.values())
    write_result("fuzz_parsers", facts | vars(options) | {"executions": total, "targets": rows})


@dataclass(frozen=True)
class Share:
    """What one target gets."""

    seconds: float
    executions: int
    seed: int


def run_target(name: str, share: Share) -> dict[str, Any]:
    """A target in a process of its own: what it reports, and how it ended where that is not well."""
    from fuzz_targets import make_folder

    folder = make_folder()
    pid = os.fork()
    if not pid:
        with (folder / "output").open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        fuzz(name, folder, share)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    report = folder / "report.json"
    row: dict[str, Any] = json.loads(report.read_text("utf-8")) if report.is_file() else {"executions": 0}
    if code:
        row["end"] = f"exit code {code}: {(folder / 'output').read_text('utf-8', 'replace')[-1500:]}"
    shutil.rmtree(folder)
    print(f"{name}: {row['executions']:,} executions, {len(row.get('failures', []))} kinds of failures", flush=True)
    return row


def fuzz(name: str, folder: Path, share: Share) -> None:
    """Executes one target until its share is used up; then the process ends."""
    from fuzz_targets import ADMISSIBLE, build_targets

    from mmse.core.errors import MmseError

    target = build_targets(folder)[name]
    corpus = folder / "corpus"
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
        if time.monotonic() - report_s > REPORT_S or report["executions"] == share.executions:
            report_s = time.monotonic()
            content = report | {"seconds": round(report_s - start_s, 1), "failures": list(failures.values())}
            (folder / "report.json").write_text(json.dumps(content), "utf-8")

    arguments = [f"-runs={share.executions}", f"-max_total_time={max(round(share.seconds), 1)}"]
    arguments += [f"-seed={share.seed}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MB}", f"-max_len={LONGEST}"]
    atheris.Setup([sys.argv[0], *arguments, f"-artifact_prefix={folder}/", str(corpus)], execute)
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
