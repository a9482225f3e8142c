"""Batches: the requests and items that a step compares; they depend on seed, epoch and position alone.

All requests of a batch come from one period. So every item in it, also a random one, is described by what the log
knew of it before that period.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64
from torch import Tensor

from mmse.model.conversion import Conversion
from mmse.model.inputs import (
    ItemFeatures,
    ItemInputs,
    QueryInputs,
    Sizes,
    hide_ids,
    item_numbers,
    make_item_inputs,
    make_query_inputs,
)
from mmse.model.recipes import Recipe, StageWeights
from mmse.schema.stages import Stage
from mmse.training.encoded_requests import EncodedRequests
from mmse.training.shards import Shards

MAX_CLICKED = 4
"""How many clicked items of a request are taken before its unclicked ones."""

MAX_RETRIEVED = 2
"""How many items of a request that were retrieved and not shown are taken at most, where the group has room."""

HIDDEN_WORDS = 0.5
"""The share of the items' words that is hidden where requests were made of these words, so that an item is found by
what its other words have to do with them, and not by the same words alone."""

WINDOW_SHARDS = 8
"""How many shards are open at once; their batches are shuffled together."""


@dataclass(frozen=True)
class Dropout:
    """How often something is hidden from the towers in training, so that they learn to do without it; shares, 0 to 1.

    Of items that have a vector, either the vector is hidden (`vector`) or all but that and the numbers (`listing`).
    Of the share `slips` of the queries the right spelling is hidden, and with it what the whole query is remembered by.
    """

    item_id: float = 0.4
    query: float = 0.5
    user: float = 0.5
    vector: float = 0.2
    listing: float = 0.1
    slips: float = 0.0

    def hide_senses(self, features: ItemFeatures, rng: np.random.Generator) -> ItemFeatures:
        """`features` with some vectors hidden, and some listings of items that have a vector."""
        has_vector = features.has_vector
        if has_vector is None:
            return features
        chance = rng.random(len(features))
        is_bare = has_vector & (chance >= self.vector) & (chance < self.vector + self.listing)
        return features.hide_vectors(chance < self.vector).hide_listing(is_bare)


@dataclass(frozen=True)
class Batch:
    """The requests of one step, and the distinct items of those requests and of the pool; see `model.objectives`.

    `columns` are the indices in `items` of each request's own items, `negatives` the indices of the pool's items.
    """

    queries: QueryInputs
    items: ItemInputs
    columns: Int[Tensor, "requests group"]
    stages: Int[Tensor, "requests group"]
    weights: Float[Tensor, "requests group"]
    examination: Float[Tensor, "requests group"]
    negatives: Int[Tensor, " negatives"]
    correction: Float[Tensor, " negatives"]
    exclusions: Bool[Tensor, "requests negatives"]

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
            self.exclusions.to(device),
        )


@dataclass(frozen=True)
class Group:
    """The sampled rows of some requests; padding has stage 0 and item row -1."""

    item_rows: Int32[np.ndarray, "requests group"]
    stages: Int64[np.ndarray, "requests group"]
    examination: Float32[np.ndarray, "requests group"]
    explored: Bool[np.ndarray, "requests group"]

    def weights(self, stage_weights: StageWeights) -> Float32[np.ndarray, "requests group"]:
        """α of each item; 0 for an unclicked item in a slot that was filled at random, since nobody chose it."""
        alpha = np.array(stage_weights.by_stage, np.float32)
        was_chosen = ~self.explored | (self.stages > Stage.UNCLICKED)
        weights: Float32[np.ndarray, "requests group"] = alpha[self.stages] * was_chosen
        return weights


def sample_group(
    requests: EncodedRequests,
    request_rows: Int64[np.ndarray, " n"],
    size: int,
    rng: np.random.Generator,
    stage_map: Sequence[Stage] = tuple(Stage),
) -> Group:
    """Up to `size` rows of each request of `request_rows`.

    Rows are taken in this order: all orders, all carts, up to `MAX_CLICKED` clicks, unclicked ones at random, the
    other clicks, and up to `MAX_RETRIEVED` that were not shown. `stage_map` has the stage that each stage counts as;
    the group holds these, and rows that count as random are left out.
    """
    starts, lengths = requests.offsets[request_rows], np.diff(requests.offsets)[request_rows]
    slot = np.arange(max(size, int(lengths.max(initial=0))))
    is_row = slot < lengths[:, None]
    rows = np.where(is_row, starts[:, None] + slot, 0)
    stages = np.where(is_row, np.array(stage_map)[requests.stages[rows]], Stage.RANDOM)
    key = stages + rng.random(stages.shape)
    key[_mask_excess(MAX_CLICKED, stages == Stage.CLICKED, key)] -= Stage.CLICKED - Stage.RETRIEVED
    if Stage.RETRIEVED in stage_map:
        stages[_mask_excess(MAX_RETRIEVED, stages == Stage.RETRIEVED, key)] = Stage.RANDOM
        key[stages == Stage.RETRIEVED] -= Stage.RETRIEVED  # below the other clicks, above the padding
    key[stages == Stage.RANDOM] = -1
    order = np.argsort(-key, axis=1)[:, :size]
    rows, stages = np.take_along_axis(rows, order, 1), np.take_along_axis(stages, order, 1)
    is_padding = stages == Stage.RANDOM
    return Group(
        np.where(is_padding, -1, requests.item_rows[rows]).astype(np.int32),
        stages.astype(np.int64),
        np.where(is_padding, 0, requests.examination[rows]).astype(np.float32),
        requests.explored[rows],
    )


def _mask_excess(
    limit: int, candidates: Bool[np.ndarray, "requests group"], key: Float[np.ndarray, "requests group"]
) -> Bool[np.ndarray, "requests group"]:
    """Which `candidates` of each row come after the `limit` candidates with the highest keys."""
    nth = np.argsort(np.argsort(np.where(candidates, -key, 0), axis=1), axis=1)
    return candidates & (nth >= limit)


class Batches:
    """All batches of an epoch, in an order that depends on the seed and the epoch alone.

    `draws` is, for every item, how often a request brings it into a batch on average; `Batch.correction` is computed
    from it. With `conversion`, items that were clicked or better are weighted by their expected orders after a click.
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
        conversion: Conversion | None = None,
    ) -> None:
        self.shards, self.features, self.sizes, self.recipe = shards, features, sizes, recipe
        self.batch_requests, self.group_size, self.dropout, self.seed = batch_requests, group_size, dropout, seed
        self.conversion = conversion
        self.draws = np.zeros(len(features))
        rng = np.random.default_rng([seed, 0])
        for requests, usable in shards.read_all_usable():
            group = sample_group(requests, usable, group_size, rng, recipe.stage_map)
            item_rows = group.item_rows[group.stages >= self._lowest_in_batch]
            self.draws += np.bincount(item_rows, minlength=len(features))
        self.draws /= max(shards.n_requests, 1)

    def __len__(self) -> int:
        return sum(self._n_batches(n) for n in self.shards.usable_counts)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from position `start` on."""
        order = np.random.default_rng([self.seed, 1, epoch])
        shards = order.permutation(len(self.shards))
        position = 0
        for window in np.array_split(shards, max(1, -(-len(shards) // WINDOW_SHARDS))):
            parts = []
            for shard in map(int, window):
                request_rows = order.permutation(self.shards.usable_counts[shard])
                n_batches = self._n_batches(len(request_rows))
                parts += [(shard, part) for part in np.array_split(request_rows, n_batches)] if n_batches else []
            for i in order.permutation(len(parts)):
                if position >= start:
                    rng = np.random.default_rng([self.seed, 2, epoch, position])
                    requests, usable = self.shards.read_usable(parts[i][0])
                    yield self.make_batch(requests, usable[parts[i][1]], rng)
                position += 1

    def make_batch(
        self, requests: EncodedRequests, request_rows: Int64[np.ndarray, " n"], rng: np.random.Generator
    ) -> Batch:
        """The batch of the requests at `request_rows`; `rng` draws group rows, random items and dropout."""
        group = sample_group(requests, request_rows, self.group_size, rng, self.recipe.stage_map)
        random_items = rng.integers(0, len(self.features), self.recipe.n_random)
        present = group.item_rows >= 0
        pool, pool_index = np.unique(np.concatenate([group.item_rows[present], random_items]), return_inverse=True)
        columns = np.zeros(group.item_rows.shape, np.int64)
        columns[present] = pool_index[: present.sum()]
        query_of = requests.query[request_rows] if self.recipe.mask_reached else np.arange(len(request_rows))
        copies, expected_copies = self._count_draws(pool, columns, group.stages, pool_index[present.sum() :])
        negatives = np.flatnonzero(copies)
        return Batch(
            queries=self._make_queries(requests, request_rows, rng),
            items=self._make_items(requests, pool, rng),
            columns=torch.from_numpy(columns),
            stages=torch.from_numpy(group.stages),
            weights=torch.from_numpy(self._make_weights(requests.snapshot, group)),
            examination=torch.from_numpy(group.examination),
            negatives=torch.from_numpy(negatives),
            correction=torch.from_numpy(
                pool_correction(copies[negatives], expected_copies[negatives], logq=self.recipe.logq)
            ),
            exclusions=torch.from_numpy(mask_reached(query_of, columns, present, len(pool))[:, negatives]),
        )

    def _make_queries(
        self, requests: EncodedRequests, request_rows: Int64[np.ndarray, " n"], rng: np.random.Generator
    ) -> QueryInputs:
        query = requests.query[request_rows]
        text, memory = query.astype(np.int64), requests.memory[query]
        if self.dropout.slips and len(requests.texts) > len(requests.memory):
            is_slip = rng.random(len(query)) < self.dropout.slips
            text, memory = text + is_slip * len(requests.memory), np.where(is_slip, np.int64(0), memory)
        return make_query_inputs(
            requests.texts.take(text),
            hide_ids(memory, self.dropout.query, rng),
            hide_ids(requests.user[request_rows], self.dropout.user, rng),
            self.features.look_up_history(requests.history[request_rows]),
            self.sizes,
        )

    def _make_items(
        self, requests: EncodedRequests, pool: Int64[np.ndarray, " pool"], rng: np.random.Generator
    ) -> ItemInputs:
        features = self.dropout.hide_senses(self.features.take(pool), rng)
        if requests.from_catalogue:
            features = features.hide_words(HIDDEN_WORDS, rng)
        inputs = make_item_inputs(features, self.shards.statistics(requests.snapshot)[pool], self.sizes)
        return inputs.hide_memories(self.dropout.item_id, rng)

    def _make_weights(self, snapshot: int, group: Group) -> Float32[np.ndarray, "requests group"]:
        by_stage = self.recipe.stage_weights
        weights = group.weights(by_stage)
        if self.conversion is not None:
            clicked = group.stages >= Stage.CLICKED
            numbers = item_numbers(self.features, self.shards.statistics(snapshot), group.item_rows[clicked])
            chance = self.conversion.predict(numbers)
            weights[clicked] = by_stage.clicked + (by_stage.ordered - by_stage.clicked) * chance
        return weights

    def _count_draws(
        self,
        pool: Int64[np.ndarray, " pool"],
        columns: Int64[np.ndarray, "requests group"],
        stages: Int64[np.ndarray, "requests group"],
        random_columns: Int64[np.ndarray, " random"],
    ) -> tuple[Float64[np.ndarray, " pool"], Float64[np.ndarray, " pool"]]:
        """How often each item was drawn as a negative, and the expected number."""
        copies = np.bincount(random_columns, minlength=len(pool)).astype(np.float64)
        expected_copies = np.full(len(pool), self.recipe.n_random / len(self.features))
        if self.recipe.in_batch != "none":
            copies += np.bincount(columns[stages >= self._lowest_in_batch], minlength=len(pool))
            expected_copies += self.draws[pool] * len(columns)
        return copies, expected_copies

    def _n_batches(self, n_requests: int) -> int:
        return max(1, round(n_requests / self.batch_requests)) if n_requests else 0

    @property
    def _lowest_in_batch(self) -> Stage:
        return Stage.CLICKED if self.recipe.in_batch == "clicked" else Stage.UNCLICKED


def pool_correction(
    copies: Float[np.ndarray, " pool"], expected_copies: Float[np.ndarray, " pool"], *, logq: bool
) -> Float32[np.ndarray, " pool"]:
    """The term added to the logit of each pool item: log copies − log expected copies, or log copies without `logq`."""
    correction: Float32[np.ndarray, " pool"] = np.log(copies / expected_copies if logq else copies).astype(np.float32)
    return correction


def mask_reached(
    query: Int[np.ndarray, " requests"],
    columns: Int64[np.ndarray, "requests group"],
    present: Bool[np.ndarray, "requests group"],
    n_pool: int,
) -> Bool[np.ndarray, "requests pool"]:
    """Which pool items each request's query has anywhere in the batch; `present` is False in padding."""
    distinct, owner = np.unique(query, return_inverse=True)
    is_reached = np.zeros((len(distinct), n_pool), bool)
    is_reached[np.broadcast_to(owner[:, None], columns.shape)[present], columns[present]] = True
    by_request: Bool[np.ndarray, "requests pool"] = is_reached[owner]
    return by_request
