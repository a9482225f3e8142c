"""One flipped bit, or a cut, in every file of a run and of a site; each must be found, or change nothing.

Where `mmse verify` says nothing, all that can be read of the damaged folders is compared with what it was: answers of
every arm, edits in them, rules, experiments, the log of events, the records of cycles.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from faults import bases, children, judges

from mmse.core.errors import MmseError
from mmse.cycle.record import read_records
from mmse.serving import experiments
from mmse.serving.events.export import export_table
from mmse.serving.versions.site_file import EVENTS, read_site
from mmse.shop import shop_of

STATE = ("serving.json", "experiments.json", "rules", "events", "cycles", "shop.json")
LOCKS = ("cycle.html", "lock", "queue", "publishing", "folding", "held", "seal", ".lock")
"""Files without content, or whose content says only that it is another one; and the page of a cycle, for people."""


def damage_all(base: Path, work: Path, seed: int, n_flips: int, name: str) -> list[dict[str, Any]]:
    """A row for a cut and for a flipped bit of each file of `run` or `rich`: how many trials had which outcome.

    Files that say what is in force, and the log of events, have no manifest; they are tried six times as often.
    """
    rng, rows = random.Random(f"{seed} damage {name}"), []
    label, contents = {"run": ("a run", run_contents), "rich": ("a site", site_contents)}[name]
    source, target = base / name, work / name
    shutil.rmtree(target, ignore_errors=True)
    bases.link_tree(source, target)
    expected = children.call(partial(contents, source))
    for kind in ("cut", "flip"):
        counts, faults = Counter[str](), list[str]()
        for file in files_of(source):
            n = (n_flips if kind == "flip" else 1) * (6 if file.parts[0] in STATE else 1)
            for _ in range(n):
                where = spoil(target / file, kind, rng)
                outcome = inspect(target, contents, expected)
                (target / file).unlink()
                os.link(source / file, target / file)
                counts[outcome.split(":")[0]] += 1
                if outcome.startswith(("silently", "raw")):
                    faults.append(f"{file} {where}: {outcome}")
                    print(faults[-1], flush=True)
        fault = "one bit of a file" if kind == "flip" else "a file cut"
        rows.append({"fault": f"{fault}: {label}", "trials": counts.total(), **counts, "faults": faults})
    return rows


def files_of(source: Path) -> list[Path]:
    """The files of a folder that have content; of a site's versions those of the newest, of which others are links."""
    newest = max((path.name for path in source.glob("versions/[0-9]*")), default="")
    files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file() and path.stat().st_size]
    files = [file for file in files if file.parts[0] != "versions" or file.parts[1] == newest]
    return [file for file in files if file.name not in LOCKS and "rules" not in file.parts[2:3]]


def spoil(file: Path, kind: str, rng: random.Random) -> str:
    """Flips a bit of a file, or cuts it; gives where."""
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    file.unlink()  # it is a link to that of the base
    if kind == "flip":
        bit = rng.randrange(8)
        content[at] ^= 1 << bit
        file.write_bytes(content)
        return f"bit {bit} of byte {at} of {len(content)}"
    file.write_bytes(content[:at])
    return f"cut at byte {at} of {len(content)}"


def inspect(target: Path, contents: Callable[[Path], Any], expected: Any) -> str:  # noqa: ANN401
    """The outcome of a trial."""
    try:
        outcome, actual = children.call(partial(_read, target, contents))
    except children.ChildFailure as failure:
        return f"raw failure: {str(failure)[-300:]}"
    if outcome:
        return outcome
    return "changed nothing" if actual == expected else "silently wrong"


def run_contents(run: Path) -> Any:  # noqa: ANN401
    """What can be read of a run, and the shop that it names."""
    return judges.answers(run), shop_of(run).path


def site_contents(site: Path) -> Any:  # noqa: ANN401
    """What can be read of a site."""
    table = site.with_name("events.parquet")
    export_table(site / EVENTS, table)
    records = read_records(site), experiments.read_experiments(site), read_site(site)
    return judges.site_answers(site), records, pq.read_table(table).to_pylist()


def _read(target: Path, contents: Callable[[Path], Any]) -> tuple[str, Any]:
    """How damage was found, or "" and what can be read."""
    try:
        if judges.damages(target):
            return "found by verify", None
    except MmseError:
        return "found by verify", None
    try:
        return "", contents(target)
    except MmseError:
        return "refused when read", None
