"""Off-policy estimates on a real A/B test: each policy's click rate from the other's log, against what was measured.

    python benchmarks/open_bandit.py FOLDER

FOLDER holds `random_men`, `bts_men`, `random_women` and `bts_women` as `.csv.gz` (timestamp, item_id, position, click,
propensity) of the Open Bandit Dataset, a fashion shop's test of a uniform policy and Thompson sampling (Saito et al.,
arXiv 2008.07146). A row is one item shown in one of three slots. The log's own propensities weigh it; what the other
policy shows is the frequency of items by slot in that policy's log, of which the clicks are not looked at.
"""

from __future__ import annotations

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from jaxtyping import Float64
from machine import keep, where

from mmse.experiment.off_policy import Slots, Value, estimate, mean_of

FOLDS, PRIOR = 5, 200.0
POLICIES = ("random", "bts")


def main() -> None:
    """Estimates, measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows = [
        one(folder, campaign, log, target) for campaign in ("men", "women") for log, target in permutations(POLICIES)
    ]
    keep("open_bandit", {"where": where(), "real": True, "estimates": rows})


def one(folder: Path, campaign: str, log: str, target: str) -> dict[str, object]:
    """The click rate of `target` as its own log has it, and as the log of the other policy lets it be known."""
    logged, other = read(folder, campaign, log), read(folder, campaign, target)
    made = estimate(slots(logged, other))
    measured = mean_of(other["click"].to_numpy().astype(np.float64))
    naive = mean_of(logged["click"].to_numpy().astype(np.float64))
    return {
        "campaign": campaign,
        "log": log,
        "policy": target,
        "measured": said(measured),
        "log_itself": said(naive),
        "ips": said(made.ips),
        "snips": said(made.snips),
        "dr": said(made.dr),
        "sample": round(made.sample),
        "mean_weight": round(made.mean_weight.estimate, 3),
        "refusal": made.refusal,
    }


def said(value: Value) -> list[float]:
    """Estimate and interval, in clicks per 1,000 shown."""
    return [round(1000 * number, 2) for number in (value.estimate, value.interval.low, value.interval.high)]


def read(folder: Path, campaign: str, policy: str) -> pa.Table:
    """The log of a policy."""
    return csv.read_csv(folder / f"{policy}_{campaign}.csv.gz")


def slots(logged: pa.Table, other: pa.Table) -> Slots:
    """Each shown item is a request of one slot, in which the other policy would show items by its own frequencies."""
    item, place = numbers(logged, "item_id"), numbers(logged, "position") - 1
    click = logged["click"].to_numpy().astype(np.float64)
    shape = (place.max() + 1, max(item.max(), numbers(other, "item_id").max()) + 1)
    shows = np.zeros(shape)
    np.add.at(shows, (numbers(other, "position") - 1, numbers(other, "item_id")), 1)
    shows /= shows.sum(axis=1, keepdims=True)
    fold = np.arange(len(click)) % FOLDS
    rates = np.stack([rate(item[fold != f], click[fold != f], shape[1]) for f in range(FOLDS)])
    weight = shows[place, item] / logged["propensity"].to_numpy()
    every = np.ones(len(click))
    return Slots(
        np.arange(len(click)), click, weight, every, rates[fold, item], every, (shows[place] * rates[fold]).sum(axis=1)
    )


def numbers(table: pa.Table, column: str) -> np.ndarray:
    """A column of whole numbers."""
    return np.asarray(table[column].to_numpy(), np.int64)


def rate(item: np.ndarray, click: np.ndarray, n: int) -> Float64[np.ndarray, " items"]:
    """Each item's click rate, shrunk to that of all."""
    clicks, shown = np.bincount(item, click, n), np.bincount(item, minlength=n)
    return np.asarray((clicks + PRIOR * click.mean()) / (shown + PRIOR))


if __name__ == "__main__":
    main()
