"""Off-policy estimates on a real A/B test: each policy's click rate from the other's log, against its measured rate.

    python benchmarks/open_bandit.py FOLDER

FOLDER holds `random_men`, `bts_men`, `random_women` and `bts_women` as `.csv.gz` (timestamp, item_id, position, click,
propensity) of the Open Bandit Dataset, a fashion shop's test of a uniform policy and Thompson sampling (Saito et al.,
arXiv 2008.07146). A row is one item shown in one of three slots, weighted by the log's own propensities. The other
policy is known by the frequency of items by slot in its own log, without its clicks.
"""

from __future__ import annotations

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from jaxtyping import Float64
from machine import environment, write_result

from mmse.experiment.off_policy import Value, WeightedLog, estimate, mean_of

FOLDS, PRIOR = 5, 200.0
POLICIES = ("random", "bts")


def main() -> None:
    """Estimates, measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows = [
        evaluate_policy(folder, campaign, log, target)
        for campaign in ("men", "women")
        for log, target in permutations(POLICIES)
    ]
    write_result("open_bandit", {"where": environment(), "real": True, "estimates": rows})


def evaluate_policy(folder: Path, campaign: str, log: str, target: str) -> dict[str, object]:
    """The click rate of `target` measured in its own log, and estimated from the other policy's log."""
    log_table, target_table = read_log(folder, campaign, log), read_log(folder, campaign, target)
    estimates = estimate(build_slots(log_table, target_table))
    click_rate = mean_of(target_table["click"].to_numpy().astype(np.float64))
    naive = mean_of(log_table["click"].to_numpy().astype(np.float64))
    return {
        "campaign": campaign,
        "log": log,
        "policy": target,
        "measured": per_thousand(click_rate),
        "log_itself": per_thousand(naive),
        "ips": per_thousand(estimates.ips),
        "snips": per_thousand(estimates.snips),
        "dr": per_thousand(estimates.dr),
        "sample": round(estimates.sample),
        "mean_weight": round(estimates.mean_weight.estimate, 3),
        "refusal": estimates.refusal,
    }


def per_thousand(value: Value) -> list[float]:
    """Estimate and interval, in clicks per 1,000 shown."""
    return [round(1000 * number, 2) for number in (value.estimate, value.interval.low, value.interval.high)]


def read_log(folder: Path, campaign: str, policy: str) -> pa.Table:
    """The log of a policy."""
    return csv.read_csv(folder / f"{policy}_{campaign}.csv.gz")


def build_slots(log_table: pa.Table, target_table: pa.Table) -> WeightedLog:
    """Slots in which each shown item is a request, and the target policy shows items by its own frequencies."""
    item, slot = integers(log_table, "item_id"), integers(log_table, "position") - 1
    click = log_table["click"].to_numpy().astype(np.float64)
    shape = (slot.max() + 1, max(item.max(), integers(target_table, "item_id").max()) + 1)
    slot_shares = np.zeros(shape)
    np.add.at(slot_shares, (integers(target_table, "position") - 1, integers(target_table, "item_id")), 1)
    slot_shares /= slot_shares.sum(axis=1, keepdims=True)
    fold = np.arange(len(click)) % FOLDS
    rates = np.stack([click_rates(item[fold != f], click[fold != f], shape[1]) for f in range(FOLDS)])
    weight = slot_shares[slot, item] / log_table["propensity"].to_numpy()
    ones_column = np.ones(len(click))
    return WeightedLog(
        np.arange(len(click)),
        click,
        weight,
        ones_column,
        rates[fold, item],
        ones_column,
        (slot_shares[slot] * rates[fold]).sum(axis=1),
    )


def integers(table: pa.Table, column: str) -> np.ndarray:
    """A column of whole numbers."""
    return np.asarray(table[column].to_numpy(), np.int64)


def click_rates(item: np.ndarray, click: np.ndarray, n: int) -> Float64[np.ndarray, " items"]:
    """Each item's click rate, shrunk towards the mean rate."""
    clicks, counts = np.bincount(item, click, n), np.bincount(item, minlength=n)
    return np.asarray((clicks + PRIOR * click.mean()) / (counts + PRIOR))


if __name__ == "__main__":
    main()
