"""The targets of validation and evaluation: logged requests of a split, and the items each clicked or ordered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int32, Int64

from mmse.dataset.folder import DatasetFolder
from mmse.dataset.history import History
from mmse.schema.stages import Stage
from mmse.text.hashing import bucket
from mmse.training.encoded_requests import SHARD, read_shard

_PAIRS = SHARD.empty_table()
_REQUESTS = _PAIRS.append_column("drawn", pa.array([], pa.int64()))


@dataclass(frozen=True)
class LoggedRequests:
    """`n` requests, and what they clicked or ordered. In pair `p`, request `request[p]` took item `item_rows[p]`.

    `history` holds the item rows that the shopper had taken before the request, -1 for none; `explored` says whether
    the pair's slot was filled at random.
    """

    request_ids: list[str]
    queries: list[str]
    users: list[str | None]
    history: Int32[np.ndarray, "n length"]
    request: Int64[np.ndarray, " pairs"]
    item_rows: Int32[np.ndarray, " pairs"]
    stages: Int64[np.ndarray, " pairs"]
    explored: Bool[np.ndarray, " pairs"]

    def __len__(self) -> int:
        return len(self.queries)


def read_logged_requests(dataset: Path, split: str, limit: int, *, clicked_only: bool = True) -> LoggedRequests:
    """Up to `limit` requests of `split`: a random sample in random order, both determined by the hash of their ids.

    With `clicked_only`, requests without a click or an order are left out.
    """
    requests, pairs = [_REQUESTS], [_PAIRS]
    for path in DatasetFolder(dataset).row_files(split):
        table, starts = read_shard(path)
        owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(table))))
        positive = table["stage"].to_numpy() >= Stage.CLICKED
        request_index = np.unique(owner[positive]) if clicked_only else np.arange(len(starts))
        request_rows = table.take(pa.array(starts[request_index]))
        sample_keys = pa.array(
            [bucket(request_id, 2**62) for request_id in request_rows["request_id"].to_pylist()], pa.int64()
        )
        requests.append(request_rows.append_column("drawn", sample_keys).sort_by("drawn").slice(0, limit))
        pairs.append(table.filter(pa.array(positive)))
    sample = pa.concat_tables(requests).sort_by("drawn").slice(0, limit)
    pair_request = pc.index_in(pa.concat_tables(pairs)["request_id"], sample["request_id"].combine_chunks())
    taken_rows = pa.concat_tables(pairs).append_column("request", pair_request).filter(pc.is_valid(pair_request))
    users = sample["user_id"].to_pylist()
    times = sample["timestamp"].cast(pa.int64()).to_numpy()
    return LoggedRequests(
        request_ids=sample["request_id"].to_pylist(),
        queries=sample["query"].to_pylist(),
        users=users,
        history=History.open(dataset).look_up(users, times).item_rows,
        request=taken_rows["request"].to_numpy().astype(np.int64),
        item_rows=taken_rows["item_row"].to_numpy(),
        stages=taken_rows["stage"].to_numpy().astype(np.int64),
        explored=taken_rows["explored"].to_numpy(zero_copy_only=False),
    )


@dataclass(frozen=True)
class ShownSlots:
    """The slots of some requests' pages. Slot `s` showed item `item_rows[s]` to the request with index `request[s]`.

    Items that were retrieved and not shown have no slot.
    """

    request: Int64[np.ndarray, " slots"]
    item_rows: Int32[np.ndarray, " slots"]
    stages: Int64[np.ndarray, " slots"]
    examination: Float32[np.ndarray, " slots"]
    explored: Bool[np.ndarray, " slots"]


def read_slots(dataset: Path, split: str, requests: LoggedRequests) -> ShownSlots:
    """Every slot of `requests`, which were read from the same `split`."""
    request_ids = pa.array(requests.request_ids, pa.string())
    slots = [SHARD.empty_table().append_column("request", pa.array([], pa.int32()))]
    for path in DatasetFolder(dataset).row_files(split):
        table, _ = read_shard(path)
        slot_request = pc.index_in(table["request_id"], request_ids)
        slots.append(table.append_column("request", slot_request).filter(pc.is_valid(slot_request)))
    table = pa.concat_tables(slots)
    return ShownSlots(
        request=table["request"].to_numpy().astype(np.int64),
        item_rows=table["item_row"].to_numpy(),
        stages=table["stage"].to_numpy().astype(np.int64),
        examination=table["examination"].to_numpy(),
        explored=table["explored"].to_numpy(zero_copy_only=False),
    )
