"""An old search log, prepared for off-policy estimates of new pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int64

from mmse.core import artifact
from mmse.core.errors import MmseError, TableError, UsageError
from mmse.core.run_folder import DATASET, RunFolder
from mmse.dataset.folder import DatasetFolder
from mmse.experiment.exposure_table import describe_scope, read_exposures
from mmse.experiment.off_policy import Value, WeightedLog, mean_of
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel, Search
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.merging import merge_rows
from mmse.sources.tables import EventsConfig, literal

Reward = Literal["clicks", "orders"]
FOLDS = 5
_BATCH = 64
_PRIOR_LOOKS = 20.0
"""The weight of an item's rate in the rate of a pair of query and item, and of the overall rate in an item's."""
_COLUMNS = (
    "request_id",
    "item_id",
    "timestamp",
    "position",
    "clicked",
    "ordered",
    "explored",
    "propensity",
    "query",
    "user_id",
)


@dataclass(frozen=True)
class SearchLog:
    """The requests of a log with propensities, and by shown item: request, item, slot from 0, actions and propensity.

    `item_ids` names the items by number; `queries` and `users` are by request.
    """

    request_ids: list[str]
    queries: list[str]
    users: list[str | None]
    item_ids: list[str]
    request: Int64[np.ndarray, " n"]
    item: Int64[np.ndarray, " n"]
    slot: Int64[np.ndarray, " n"]
    clicked: Bool[np.ndarray, " n"]
    ordered: Bool[np.ndarray, " n"]
    explored: Bool[np.ndarray, " n"]
    propensity: Float64[np.ndarray, " n"]

    def rewards(self, reward: Reward) -> Bool[np.ndarray, " n"]:
        """Whether each shown item earned the reward."""
        return self.clicked if reward == "clicks" else self.ordered

    def value(self, reward: Reward) -> Value:
        """What a request of the log earned, with explored slots."""
        return mean_of(np.bincount(self.request, self.rewards(reward), len(self.queries)))


def read_log(
    config: EventsConfig, base: Path, *, experiment: str | None = None, arm: str | None = None, limit: int | None = None
) -> SearchLog:
    """The log of an exposure table, or of an `experiment` or `arm` in it, up to the first `limit` requests.

    Raises `TableError` if it cannot be read, or has no propensities or wrong ones; `UsageError` if nothing is left.
    """
    with open_session(memory_limit="2GB", threads=None) as session:
        exposures = read_exposures(session, config, base, needs=["explored", "propensity"], experiment=experiment)
        condition = "true" if experiment is None else "arm IS NOT NULL"
        condition += "" if arm is None else f" AND arm = {literal(arm)}"
        session.run(f"""
            CREATE TABLE selection AS
            SELECT * FROM exposures WHERE request_id IN (SELECT request_id FROM exposures WHERE {condition})""")
        _require_propensities(session, exposures.table.source)
        rows = session.arrow(f"FROM ({merge_rows('selection', _COLUMNS)}) ORDER BY timestamp, request_id, position")
    if not rows.num_rows:
        scope = describe_scope(experiment, arm)
        raise UsageError(
            f"{exposures.table.source} has no request{scope} that showed something.", "Check --experiment and --arm."
        )
    requests, request = _number(rows["request_id"].to_pylist())
    n_requests = min(limit or len(requests), len(requests))
    rows, request = rows.filter(pa.array(request < n_requests)), request[request < n_requests]
    items, item = _number(rows["item_id"].to_pylist())
    by_request = rows.take(np.unique(request, return_index=True)[1])

    def column(name: str, type_: type) -> np.ndarray:
        return np.asarray(rows[name].to_numpy(zero_copy_only=False)).astype(type_)

    return SearchLog(
        requests[:n_requests],
        by_request["query"].to_pylist(),
        by_request["user_id"].to_pylist(),
        items,
        request,
        item,
        column("position", np.int64) - 1,
        column("clicked", bool),
        column("ordered", bool),
        column("explored", bool),
        column("propensity", np.float64),
    )


def _require_propensities(session: Session, source: str) -> None:
    ((n_missing, n_wrong, n_shown),) = session.run("""
        SELECT count_if(propensity IS NULL), count_if(propensity <= 0 OR propensity > 1), count(*)
          FROM selection WHERE position IS NOT NULL""")
    if n_wrong:
        raise TableError(
            f"{n_wrong} of {n_shown} shown items of {source} have a propensity that is no chance (above 0, at most 1).",
            "Log the chance that the item had to stand at its position, before it was drawn.",
        )
    if n_missing:
        raise TableError(
            f"{n_missing} of {n_shown} shown items of {source} have no propensity.",
            "Give the part of the log that has them (--experiment, --arm): an arm that explores logs them.",
        )


def read_looks(run: Path, page: int) -> Float64[np.ndarray, " page"]:
    """The chance that each slot of a page is looked at, as `mmse mine` estimated it from the log of `run`.

    That of the first slot is 1. Raises `UsageError` if the log had fewer slots than `page`.
    """
    dataset = RunFolder(run).dataset
    artifact.verify(dataset, DATASET)
    table = pq.read_table(DatasetFolder(dataset).examination)
    looks: Float64[np.ndarray, " page"] = table["examination"].to_numpy().astype(np.float64)
    if len(looks) < page:
        raise UsageError(
            f"The log of {run} had {len(looks)} slots a page, so it does not show how further slots are looked at.",
            f"Ask for --k {len(looks)} or fewer.",
        )
    return looks[:page]


def new_pages(retriever: Retriever, log: SearchLog, k: int, channel: Channel) -> list[list[str]]:
    """The page of `k` items, by item id, that `retriever` has for each request of the log; empty without hits."""
    pages: list[list[str]] = []
    for start in range(0, len(log.queries), _BATCH):
        stop = start + _BATCH
        searches = [
            Search(query, k, user, channel=channel, explain=False)
            for query, user in zip(log.queries[start:stop], log.users[start:stop], strict=True)
        ]
        for answer in retriever.answers(searches):
            if isinstance(answer, MmseError):
                raise answer
            pages.append([hit.item_id for hit in answer.hits])
    return pages


def weigh_log(
    log: SearchLog, pages: Sequence[Sequence[str]], looks: Float64[np.ndarray, " page"], reward: Reward
) -> WeightedLog:
    """The log weighted for new `pages` (item ids by request, first slot first); `looks` are chances of a look by slot.

    An item that the log drew at random could have stood in any slot, a ranked item only in its own.
    """
    n, page = len(log.request_ids), len(looks)
    number = {item_id: i for i, item_id in enumerate(log.item_ids)}
    new_look: Mapping[tuple[int, int], float] = {
        (request, number[item_id]): float(looks[slot])
        for request, items in enumerate(pages)
        for slot, item_id in enumerate(items[:page])
        if item_id in number
    }
    on_page = log.slot < page
    request, item, slot = log.request[on_page], log.item[on_page], log.slot[on_page]
    look = looks[slot]
    new_looks = np.array([new_look.get(pair, 0.0) for pair in zip(request.tolist(), item.tolist(), strict=True)])
    expected_looks = log.propensity[on_page] * np.where(log.explored[on_page], looks.sum(), look)
    rewards = log.rewards(reward)[on_page].astype(np.float64)
    model = _RewardModel(log.queries, request, item, rewards, look)
    page_looks = np.array([looks[: min(len(items), page)].sum() for items in pages], np.float64)
    page_prediction = np.zeros(n)
    for row, items in enumerate(pages):
        rates = [model.rate(row, number.get(item_id, -1)) for item_id in items[:page]]
        page_prediction[row] = float(np.dot(rates, looks[: len(rates)])) if rates else 0.0
    prediction = np.array([model.rate(r, i) for r, i in zip(request.tolist(), item.tolist(), strict=True)])
    return WeightedLog(request, rewards, new_looks / expected_looks, look, prediction, page_looks, page_prediction)


class _RewardModel:
    """The reward per look of an item for a query, shrunk to the item's rate, and that to the overall rate.

    Cross-fitted: the rates for a request come from the requests of other folds.
    """

    def __init__(
        self,
        queries: Sequence[str],
        request: Int64[np.ndarray, " n"],
        item: Int64[np.ndarray, " n"],
        rewards: Float64[np.ndarray, " n"],
        looks: Float64[np.ndarray, " n"],
    ) -> None:
        _, self._query = _number(queries)
        self._n_items = int(item.max()) + 1 if len(item) else 1
        fold, pair = request % FOLDS, self._query[request] * self._n_items + item
        self._overall = [float(rewards[fold != f].sum() / max(looks[fold != f].sum(), 1e-9)) for f in range(FOLDS)]
        self._items = [self._sums(item, rewards, looks, fold != f) for f in range(FOLDS)]
        self._pairs = [self._sums(pair, rewards, looks, fold != f) for f in range(FOLDS)]

    def rate(self, request: int, item: int) -> float:
        """The expected reward per look of an item in a request; -1 is an item that the log does not have."""
        fold = request % FOLDS
        rate = self._overall[fold]
        pair = int(self._query[request]) * self._n_items + item
        for sums, key in ((self._items[fold], item), (self._pairs[fold], pair)):
            reward, look = sums.get(key, (0.0, 0.0)) if item >= 0 else (0.0, 0.0)
            rate = (reward + _PRIOR_LOOKS * rate) / (look + _PRIOR_LOOKS)
        return rate

    @staticmethod
    def _sums(
        keys: Int64[np.ndarray, " n"],
        rewards: Float64[np.ndarray, " n"],
        looks: Float64[np.ndarray, " n"],
        mask: Bool[np.ndarray, " n"],
    ) -> dict[int, tuple[float, float]]:
        """The sums of rewards and of looks by key, over the rows in `mask`."""
        distinct, index = np.unique(keys[mask], return_inverse=True)
        sums = (np.bincount(index, values[mask], len(distinct)).tolist() for values in (rewards, looks))
        return dict(zip(distinct.tolist(), zip(*sums, strict=True), strict=True))


def _number(names: Sequence[str]) -> tuple[list[str], Int64[np.ndarray, " n"]]:
    """The distinct names in order of first appearance, and the number of each name."""
    numbers: dict[str, int] = {}
    indices = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    return list(numbers), indices
