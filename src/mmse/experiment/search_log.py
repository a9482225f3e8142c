"""An old search log made ready for off-policy estimates of new pages."""

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
from mmse.experiment.exposure_table import read_table
from mmse.experiment.off_policy import Slots, Value, mean_of
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel, Search
from mmse.sources.duckdb_session import Session, session
from mmse.sources.tables import EventsConfig, literal

Reward = Literal["clicks", "orders"]
FOLDS = 5
_AT_ONCE = 64
_PRIOR = 20.0
"""Looks that a pair of query and item borrows from its item, and an item from all, in the reward model."""


@dataclass(frozen=True)
class SearchLog:
    """Requests of a log that has chances, and by shown item: request, item, slot from 0, what was done, and the chance.

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

    def done(self, reward: Reward) -> Bool[np.ndarray, " n"]:
        """Whether each shown item earned the reward."""
        return self.clicked if reward == "clicks" else self.ordered

    def value(self, reward: Reward) -> Value:
        """What a request of the log earned, what it explored included."""
        return mean_of(np.bincount(self.request, self.done(reward), len(self.queries)))


def read_log(
    config: EventsConfig, base: Path, *, experiment: str | None = None, arm: str | None = None, most: int | None = None
) -> SearchLog:
    """The log of an exposure table, or of an `experiment` or `arm` in it, the first `most` requests.

    Raises `TableError` where it cannot be read, has no chances, or wrong ones; `UsageError` where nothing is left.
    """
    with session(memory_limit="2GB", threads=None) as opened:
        told = read_table(opened, config, base, needs=["explored", "propensity"], experiment=experiment)
        kept = "true" if experiment is None else "arm IS NOT NULL"
        kept += "" if arm is None else f" AND arm = {literal(arm)}"
        opened.run(f"""
            CREATE TABLE kept AS
            SELECT * FROM told WHERE request_id IN (SELECT request_id FROM told WHERE {kept})""")
        _require_chances(opened, told.table.source)
        rows = opened.arrow("""
            SELECT request_id, item_id, min(position) AS position,
                   bool_or(clicked OR coalesce(carted, false) OR ordered) AS clicked, bool_or(ordered) AS ordered,
                   bool_or(coalesce(explored, false)) AS explored,
                   any_value(propensity) AS propensity, any_value(query) AS query, any_value(user_id) AS user_id,
                   min(timestamp) AS moment
              FROM kept GROUP BY request_id, item_id HAVING count(position) > 0
             ORDER BY moment, request_id, position""")
    if not rows.num_rows:
        which = "".join(f" of {what} '{name}'" for what, name in (("experiment", experiment), ("arm", arm)) if name)
        raise UsageError(
            f"{told.table.source} has no request{which} that showed something.", "Check --experiment and --arm."
        )
    requests, request = _numbered(rows["request_id"].to_pylist())
    most = min(most or len(requests), len(requests))
    rows, request = rows.filter(pa.array(request < most)), request[request < most]
    items, item = _numbered(rows["item_id"].to_pylist())
    first = rows.take(np.unique(request, return_index=True)[1])

    def column(name: str, type_: type) -> np.ndarray:
        return np.asarray(rows[name].to_numpy(zero_copy_only=False)).astype(type_)

    return SearchLog(
        requests[:most],
        first["query"].to_pylist(),
        first["user_id"].to_pylist(),
        items,
        request,
        item,
        column("position", np.int64) - 1,
        column("clicked", bool),
        column("ordered", bool),
        column("explored", bool),
        column("propensity", np.float64),
    )


def _require_chances(opened: Session, source: str) -> None:
    ((without, wrong, shown),) = opened.run("""
        SELECT count_if(propensity IS NULL), count_if(propensity <= 0 OR propensity > 1), count(*)
          FROM kept WHERE position IS NOT NULL""")
    if wrong:
        raise TableError(
            f"{wrong} of {shown} shown items of {source} have a propensity that is no chance (above 0, at most 1).",
            "Log the chance that the item had to stand at its position, before it was drawn.",
        )
    if without:
        raise TableError(
            f"{without} of {shown} shown items of {source} have no propensity.",
            "Give the part of the log that has them (--experiment, --arm): an arm that explores logs them.",
        )


def read_looks(run: Path, page: int) -> Float64[np.ndarray, " page"]:
    """The chance that each slot of a page is looked at, the first being 1, as `mmse mine` found it in the log of `run`.

    Raises `UsageError` where its log had fewer slots.
    """
    artifact.verify(run / "dataset", "dataset")
    table = pq.read_table(run / "dataset" / "examination.parquet")
    looks: Float64[np.ndarray, " page"] = table["examination"].to_numpy().astype(np.float64)
    if len(looks) < page:
        raise UsageError(
            f"The log of {run} had {len(looks)} slots a page, and nobody knows how the next ones are looked at.",
            f"Ask for --k {len(looks)} or fewer.",
        )
    return looks[:page]


def new_pages(retriever: Retriever, log: SearchLog, k: int, channel: Channel) -> list[list[str]]:
    """The page of `k` items that `retriever` has for each request of the log, by item id; empty where it finds none."""
    pages: list[list[str]] = []
    for start in range(0, len(log.queries), _AT_ONCE):
        stop = start + _AT_ONCE
        some = [
            Search(query, k, user, channel=channel, explain=False)
            for query, user in zip(log.queries[start:stop], log.users[start:stop], strict=True)
        ]
        for answer in retriever.answers(some):
            if isinstance(answer, MmseError):
                raise answer
            pages.append([hit.item_id for hit in answer.hits])
    return pages


def slots_of(
    log: SearchLog, pages: Sequence[Sequence[str]], looks: Float64[np.ndarray, " page"], reward: Reward
) -> Slots:
    """The log held against new `pages` (item ids, first slot first, by request); `looks` are chances of a look by slot.

    An item that the log drew at random could have stood in any slot, one that it ranked in its own alone.
    """
    n, page = len(log.request_ids), len(looks)
    number = {item_id: place for place, item_id in enumerate(log.item_ids)}
    new: Mapping[tuple[int, int], float] = {
        (request, number[item_id]): float(looks[slot])
        for request, items in enumerate(pages)
        for slot, item_id in enumerate(items[:page])
        if item_id in number
    }
    inside = log.slot < page
    request, item, slot = log.request[inside], log.item[inside], log.slot[inside]
    look = looks[slot]
    shown = np.array([new.get(pair, 0.0) for pair in zip(request.tolist(), item.tolist(), strict=True)])
    could = log.propensity[inside] * np.where(log.explored[inside], looks.sum(), look)
    done = log.done(reward)[inside].astype(np.float64)
    model = _Model(log.queries, request, item, done, look)
    whole = np.array([looks[: min(len(items), page)].sum() for items in pages], np.float64)
    promised = np.zeros(n)
    for number_, items in enumerate(pages):
        expected = [model.of(number_, number.get(item_id, -1)) for item_id in items[:page]]
        promised[number_] = float(np.dot(expected, looks[: len(expected)])) if expected else 0.0
    predicts = np.array([model.of(r, i) for r, i in zip(request.tolist(), item.tolist(), strict=True)])
    return Slots(request, done, shown / could, look, predicts, whole, promised)


class _Model:
    """What whoever looks does with an item for a query: its rate over looks, shrunk to the item's and that to all's.

    Cross-fitted: what is expected of a request is learned from the requests of other folds.
    """

    def __init__(
        self,
        queries: Sequence[str],
        request: Int64[np.ndarray, " n"],
        item: Int64[np.ndarray, " n"],
        done: Float64[np.ndarray, " n"],
        look: Float64[np.ndarray, " n"],
    ) -> None:
        _, self._query = _numbered(queries)
        self._n_items = int(item.max()) + 1 if len(item) else 1
        fold, pair = request % FOLDS, self._query[request] * self._n_items + item
        self._overall = [float(done[fold != f].sum() / max(look[fold != f].sum(), 1e-9)) for f in range(FOLDS)]
        self._items = [self._sums(item, done, look, fold != f) for f in range(FOLDS)]
        self._pairs = [self._sums(pair, done, look, fold != f) for f in range(FOLDS)]

    def of(self, request: int, item: int) -> float:
        """The rate that is expected of an item in a request."""
        fold = request % FOLDS
        rate = self._overall[fold]
        pair = int(self._query[request]) * self._n_items + item
        for sums, key in ((self._items[fold], item), (self._pairs[fold], pair)):
            done, look = sums.get(key, (0.0, 0.0)) if item >= 0 else (0.0, 0.0)
            rate = (done + _PRIOR * rate) / (look + _PRIOR)
        return rate

    @staticmethod
    def _sums(
        keys: Int64[np.ndarray, " n"],
        done: Float64[np.ndarray, " n"],
        look: Float64[np.ndarray, " n"],
        kept: Bool[np.ndarray, " n"],
    ) -> dict[int, tuple[float, float]]:
        found, place = np.unique(keys[kept], return_inverse=True)
        sums = (np.bincount(place, values[kept], len(found)).tolist() for values in (done, look))
        return dict(zip(found.tolist(), zip(*sums, strict=True), strict=True))


def _numbered(names: Sequence[str]) -> tuple[list[str], Int64[np.ndarray, " n"]]:
    """Different names in order of their first place, and the number of each."""
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    return list(numbers), places
