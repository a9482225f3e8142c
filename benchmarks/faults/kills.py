"""`kill -9` at random moments of `mmse run`, `mmse versions publish` and `mmse cycle`; then the same command again.

    python benchmarks/faults/kills.py WORK [--trials 30] [--seed 1]

A small simulated shop. Each trial starts from the same folders, changes something (a day more of the log), starts the
command and kills its whole process group after a random part of the time that it takes. Counted are the trials after
which, before anything else is done, something is damaged (`mmse verify`) or what is served does not answer; then those
after which the same command does not end well, leaves something damaged, or leaves litter. Zero of each is right.
Writes benchmarks/results/faults_kills.json.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.append(str(Path(__file__).parents[1]))

from machine import environment, write_result

from mmse.core import artifact
from mmse.core.errors import MmseError
from mmse.core.run_folder import INPUTS
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.retrieval.retriever import Retriever
from mmse.serving.versions.site import Site
from mmse.serving.versions.verification import verify_path

SHOP = SimulatorConfig(seed=3, n_items=400, n_requests=1_500, n_shoppers=120)
TRAIN = """
[train]
dim = 16
epochs = 2
vocab_size = 1000
catalogue_below = 0
checkpoint_steps = 4
[train.objective]
n_random = 64
[evaluate]
requests = 100
filter_requests = 0
draws = 20
[baselines]
recipes = []
"""


@dataclass(frozen=True)
class Target:
    """A command to kill: its arguments below a trial's folder, and what must be sound at any moment."""

    name: str
    arguments: tuple[str, ...]
    sound: tuple[str, ...]


TARGETS = (
    Target("run", ("run", "shop/shop.toml", "--out", "run"), ("run",)),
    Target("publish", ("versions", "publish", "site", "run"), ("site",)),
    Target("cycle", ("cycle", "site", "shop/shop.toml"), ("site",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    base = options.work / "base"
    if not base.exists():
        make_base(base)
    rows = [campaign(target, base, options.work / "trial", options.trials, options.seed) for target in TARGETS]
    facts = {"seed": options.seed, "trials_of_each": options.trials, "rows": rows}
    write_result("faults_kills", environment() | facts)


def make_base(base: Path) -> None:
    """A shop, its run, and a site with one version and the run of its cycle."""
    draft = base.with_name("base.writing")
    shutil.rmtree(draft, ignore_errors=True)
    simulate(SHOP, draft / "shop")
    toml = draft / "shop" / "shop.toml"
    toml.write_text(toml.read_text("utf-8").split("[truth]")[0] + TRAIN, "utf-8")
    for arguments in (TARGETS[0].arguments, TARGETS[2].arguments):
        mmse(draft, arguments).wait()
    draft.rename(base)


def campaign(target: Target, base: Path, trial: Path, n: int, seed: int) -> dict[str, object]:
    """`n` trials of a target."""
    rng, counts = random.Random(f"{seed} {target.name}"), Counter[str]()
    start = time.monotonic()
    prepare(base, trial)
    mmse(trial, target.arguments).wait()
    seconds = time.monotonic() - start
    for number in range(n):
        prepare(base, trial)
        process = mmse(trial, target.arguments)
        time.sleep(rng.uniform(0.0, seconds))
        counts["killed while it ran"] += process.poll() is None
        kill(process)
        counts["damaged by the kill"] += not all(is_sound(trial / name) for name in target.sound)
        counts["the command again failed"] += mmse(trial, target.arguments).wait() != 0
        counts["damaged in the end"] += not all(is_sound(trial / name) for name in target.sound)
        counts["litter in the end"] += bool(litter(trial))
        print(target.name, number, dict(counts), litter(trial), flush=True)
    return {"command": target.name, "trials": n, "seconds": round(seconds, 1), **counts}


def prepare(base: Path, trial: Path) -> None:
    """A trial's folders: those of the base, with a day more of the log."""
    shutil.rmtree(trial, ignore_errors=True)
    shutil.copytree(base, trial, symlinks=True)
    events = pq.read_table(trial / "shop" / "events")
    last = pc.max(events["timestamp"])
    newest = events.filter(
        pc.greater(events["timestamp"], pc.subtract(last, pa.scalar(86_400_000_000, pa.duration("us"))))
    )
    later = pc.add(newest["timestamp"], pa.scalar(86_400_000_000, pa.duration("us")))
    newest = newest.set_column(
        newest.column_names.index("timestamp"), "timestamp", later.cast(newest["timestamp"].type)
    )
    ids = pc.binary_join_element_wise(newest["request_id"], "later", "-")
    newest = newest.set_column(newest.column_names.index("request_id"), "request_id", ids)
    pq.write_table(newest, trial / "shop" / "events" / "later.parquet")


def mmse(folder: Path, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """The command, started in `folder` as a process group of its own; what it says goes into a log beside."""
    with (folder.parent / "commands.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mmse", *arguments], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all of its group at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_sound(path: Path) -> bool:
    """Whether every part is whole, and what is served answers. A run may lack folders that are to be made."""
    try:
        if path.name == "run":
            for kind in (kind for kind in INPUTS if (path / kind).is_dir()):
                artifact.verify(path / kind, kind, content=True)
            return True
        run = Site.open(path).state().live.run
        return not any(part.problem for part in verify_path(path)) and bool(Retriever.open(run).search("mug", 5))
    except MmseError as error:
        print(path, error.cause, flush=True)
        return False


def litter(trial: Path) -> list[str]:
    """Hidden drafts that nobody will look for."""
    return [str(path.relative_to(trial)) for path in trial.rglob(".*.writing*")]


if __name__ == "__main__":
    main()
