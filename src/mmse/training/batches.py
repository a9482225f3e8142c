"""Batches: which requests and items a step compares, known by seed, epoch and position alone.

The requests of a batch come from one period, so that every item in it, the random ones included, is described by
what the log knew of it before that period.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64
from torch import Tensor

from mmse.model.conversion import Conversion
from mmse.model.features import ItemFeatures, shopper_ids
from mmse.model.inputs import ItemInputs, QueryInputs, Sizes, item_inputs, item_numbers, query_inputs
from mmse.model.recipes import Recipe, StageWeights
from mmse.schema.stages import Stage
from mmse.training.encoded_requests import Requests
from mmse.training.shards import Shards

MAX_CLICKED = 4
"""At most so many clicked items of a request come before its unclicked ones are considered."""

MAX_RETRIEVED = 2
"""At most so many items of a request that were retrieved and not shown, and only where there is room for them."""

WINDOW = 8
"""So many shards are open at once; their batches are shuffled together."""


@dataclass(frozen=True)
class Dropout:
    """The share of training cases in which a memory is hidden, so that the rest learns to do without it."""

    item_id: float = 0.4
    query: float = 0.5
    user: float = 0.5


@dataclass(frozen=True)
class Batch:
    """One step's requests and the distinct items they bring or are compared with; see `model.objectives`.

    `columns` are the places in `items` of each request's own items, `negatives` those of what all are compared with.
    """

    queries: QueryInputs
    items: ItemInputs
    columns: Int[Tensor, "requests group"]
    stages: Int[Tensor, "requests group"]
    weights: Float[Tensor, "requests group"]
    examination: Float[Tensor, "requests group"]
    negatives: Int[Tensor, " negatives"]
    correction: Float[Tensor, " negatives"]
    reached: Bool[Tensor, "requests negatives"]

    def __len__(self) -> int:
        return len(self.columns)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        if device.type == "cpu":
            return self
        return Batch(
            self.queries.to(device),
            self.items.to(device),
            self.columns.to(device),
            self.stages.to(device),
            self.weights.to(device),
            self.examination.to(device),
            self.negatives.to(device),
            self.correction.to(device),
            self.reached.to(device),
        )


@dataclass(frozen=True)
class Group:
    """The sampled rows of some requests; padded places have stage 0 and item row -1."""

    item_rows: Int32[np.ndarray, "requests group"]
    stages: Int64[np.ndarray, "requests group"]
    examination: Float32[np.ndarray, "requests group"]
    explored: Bool[np.ndarray, "requests group"]

    def weights(self, of: StageWeights) -> Float32[np.ndarray, "requests group"]:
        """α of each item. An unclicked item in a slot filled at random was chosen by nobody: it weighs nothing."""
        alpha = np.array(of.by_stage, np.float32)
        chosen = ~self.explored | (self.stages > Stage.UNCLICKED)
        weights: Float32[np.ndarray, "requests group"] = alpha[self.stages] * chosen
        return weights


def sample_group(
    requests: Requests,
    chosen: Int64[np.ndarray, " n"],
    size: int,
    rng: np.random.Generator,
    read_as: Sequence[Stage] = tuple(Stage),
) -> Group:
    """For each chosen request `size` of its rows.

    All orders, all carts, up to `MAX_CLICKED` clicks, then unclicked at random, the other clicks, and up to
    `MAX_RETRIEVED` that were not shown. `read_as` says what each stage counts as, here and from here on; what counts as
    random is left out.
    """
    starts, lengths = requests.offsets[chosen], np.diff(requests.offsets)[chosen]
    inside = np.arange(max(size, int(lengths.max(initial=0))))
    real = inside < lengths[:, None]
    rows = np.where(real, starts[:, None] + inside, 0)
    stages = np.where(real, np.array(read_as)[requests.stages[rows]], Stage.RANDOM)
    key = stages + rng.random(stages.shape)
    key[_beyond(MAX_CLICKED, stages == Stage.CLICKED, key)] -= Stage.CLICKED - Stage.RETRIEVED
    if Stage.RETRIEVED in read_as:
        stages[_beyond(MAX_RETRIEVED, stages == Stage.RETRIEVED, key)] = Stage.RANDOM
        key[stages == Stage.RETRIEVED] -= Stage.RETRIEVED  # below the other clicks, above the padding
    key[stages == Stage.RANDOM] = -1
    order = np.argsort(-key, axis=1)[:, :size]
    rows, stages = np.take_along_axis(rows, order, 1), np.take_along_axis(stages, order, 1)
    padded = stages == Stage.RANDOM
    return Group(
        np.where(padded, -1, requests.item_rows[rows]).astype(np.int32),
        stages.astype(np.int64),
        np.where(padded, 0, requests.examination[rows]).astype(np.float32),
        requests.explored[rows],
    )


def _beyond(
    most: int, chosen: Bool[np.ndarray, "requests group"], key: Float[np.ndarray, "requests group"]
) -> Bool[np.ndarray, "requests group"]:
    """Which of the `chosen` places of a row come after its `most` ones of highest key."""
    nth = np.argsort(np.argsort(np.where(chosen, -key, 0), axis=1), axis=1)
    return chosen & (nth >= most)


class Batches:
    """All batches of an epoch, in an order that depends on nothing but the seed and the epoch.

    `draws` is, for every item, how often one request brings it into a batch; with it `Batch.correction` is −log
    of the expected number of copies in the pool. With `worth`, what was clicked or better weighs as much as a click on
    it is worth in orders.
    """

    def __init__(
        self,
        shards: Shards,
        features: ItemFeatures,
        sizes: Sizes,
        recipe: Recipe,
        *,
        batch_requests: int,
        group_size: int,
        dropout: Dropout,
        seed: int,
        worth: Conversion | None = None,
    ) -> None:
        self.shards, self.features, self.sizes, self.recipe = shards, features, sizes, recipe
        self.batch_requests, self.group_size, self.dropout, self.seed = batch_requests, group_size, dropout, seed
        self.worth = worth
        self.draws = np.zeros(len(features))
        rng = np.random.default_rng([seed, 0])
        for requests, usable in shards.all_usable():
            group = sample_group(requests, usable, group_size, rng, recipe.read_as)
            counted = group.item_rows[group.stages >= self._lowest_in_batch]
            self.draws += np.bincount(counted, minlength=len(features))
        self.draws /= max(shards.n_requests, 1)

    def __len__(self) -> int:
        return sum(self._batches_of(n) for n in self.shards.usable_counts)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from position `start` on."""
        order = np.random.default_rng([self.seed, 1, epoch])
        shards = order.permutation(len(self.shards))
        position = 0
        for window in np.array_split(shards, max(1, -(-len(shards) // WINDOW))):
            parts = []
            for shard in map(int, window):
                shuffled = order.permutation(self.shards.usable_counts[shard])
                n_batches = self._batches_of(len(shuffled))
                parts += [(shard, part) for part in np.array_split(shuffled, n_batches)] if n_batches else []
            for i in order.permutation(len(parts)):
                if position >= start:
                    rng = np.random.default_rng([self.seed, 2, epoch, position])
                    requests, usable = self.shards.usable(parts[i][0])
                    yield self.batch(requests, usable[parts[i][1]], rng)
                position += 1

    def batch(self, requests: Requests, chosen: Int64[np.ndarray, " n"], rng: np.random.Generator) -> Batch:
        """The batch of the `chosen` requests; `rng` draws group rows, random items and dropout."""
        group = sample_group(requests, chosen, self.group_size, rng, self.recipe.read_as)
        random = rng.integers(0, len(self.features), self.recipe.n_random)
        present = group.item_rows >= 0
        pool, places = np.unique(np.concatenate([group.item_rows[present], random]), return_inverse=True)
        columns = np.zeros(group.item_rows.shape, np.int64)
        columns[present] = places[: present.sum()]
        asker = requests.query[chosen] if self.recipe.mask_reached else np.arange(len(chosen))
        copies, expected = self._draws(pool, columns, group.stages, places[present.sum() :])
        negatives = np.flatnonzero(copies)
        return Batch(
            queries=self._queries(requests, chosen, rng),
            items=self._items(requests.snapshot, pool, rng),
            columns=torch.from_numpy(columns),
            stages=torch.from_numpy(group.stages),
            weights=torch.from_numpy(self._weights(requests.snapshot, group)),
            examination=torch.from_numpy(group.examination),
            negatives=torch.from_numpy(negatives),
            correction=torch.from_numpy(pool_correction(copies[negatives], expected[negatives], logq=self.recipe.logq)),
            reached=torch.from_numpy(reached_by(asker, columns, present, len(pool))[:, negatives]),
        )

    def _queries(self, requests: Requests, chosen: Int64[np.ndarray, " n"], rng: np.random.Generator) -> QueryInputs:
        query = requests.query[chosen]
        return query_inputs(
            requests.texts.take(query),
            _dropped(requests.memory[query], self.dropout.query, rng),
            _dropped(requests.user[chosen], self.dropout.user, rng),
            shopper_ids(self.features.shopper, requests.history[chosen]),
            self.sizes,
        )

    def _items(self, snapshot: int, pool: Int64[np.ndarray, " pool"], rng: np.random.Generator) -> ItemInputs:
        inputs = item_inputs(self.features, self.shards.statistics(snapshot), pool, self.sizes)
        kept = torch.from_numpy(_dropped(inputs.item_ids.numpy(), self.dropout.item_id, rng))
        return ItemInputs(inputs.text, inputs.identity, kept, inputs.shopper, inputs.numbers)

    def _weights(self, snapshot: int, group: Group) -> Float32[np.ndarray, "requests group"]:
        by_stage = self.recipe.stage_weights
        weights = group.weights(by_stage)
        if self.worth is not None:
            clicked = group.stages >= Stage.CLICKED
            numbers = item_numbers(self.features, self.shards.statistics(snapshot), group.item_rows[clicked])
            chance = self.worth.chance(numbers)
            weights[clicked] = by_stage.clicked + (by_stage.ordered - by_stage.clicked) * chance
        return weights

    def _draws(
        self,
        pool: Int64[np.ndarray, " pool"],
        columns: Int64[np.ndarray, "requests group"],
        stages: Int64[np.ndarray, "requests group"],
        random_places: Int64[np.ndarray, " random"],
    ) -> tuple[Float64[np.ndarray, " pool"], Float64[np.ndarray, " pool"]]:
        """How often each item was drawn as a negative, and how often that was to be expected."""
        copies = np.bincount(random_places, minlength=len(pool)).astype(np.float64)
        expected = np.full(len(pool), self.recipe.n_random / len(self.features))
        if self.recipe.in_batch != "none":
            copies += np.bincount(columns[stages >= self._lowest_in_batch], minlength=len(pool))
            expected += self.draws[pool] * len(columns)
        return copies, expected

    def _batches_of(self, n_requests: int) -> int:
        return max(1, round(n_requests / self.batch_requests)) if n_requests else 0

    @property
    def _lowest_in_batch(self) -> Stage:
        return Stage.CLICKED if self.recipe.in_batch == "clicked" else Stage.UNCLICKED


def pool_correction(
    copies: Float[np.ndarray, " pool"], expected: Float[np.ndarray, " pool"], *, logq: bool
) -> Float32[np.ndarray, " pool"]:
    """What is added to the logit of a pool entry that was drawn `copies` times, where `expected` were to be expected.

    log copies − log expected, or log copies alone without `logq`.
    """
    correction: Float32[np.ndarray, " pool"] = np.log(copies / expected if logq else copies).astype(np.float32)
    return correction


def reached_by(
    query: Int[np.ndarray, " requests"],
    columns: Int64[np.ndarray, "requests group"],
    present: Bool[np.ndarray, "requests group"],
    n_pool: int,
) -> Bool[np.ndarray, "requests pool"]:
    """Which pool entries the query of each request has anywhere in the batch; `present` is False where padded."""
    distinct, owner = np.unique(query, return_inverse=True)
    reached = np.zeros((len(distinct), n_pool), bool)
    reached[np.broadcast_to(owner[:, None], columns.shape)[present], columns[present]] = True
    by_request: Bool[np.ndarray, "requests pool"] = reached[owner]
    return by_request


def _dropped(ids: Int64[np.ndarray, " n"], share: float, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    hidden: Bool[np.ndarray, " n"] = rng.random(len(ids)) < share
    return np.where(hidden, np.int64(0), ids)
