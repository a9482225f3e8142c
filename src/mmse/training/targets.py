"""What the log says was wanted: requests of a split, and the items that each of them clicked or ordered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int32, Int64

from mmse.dataset.folder import shard_files
from mmse.dataset.history import History
from mmse.schema.stages import Stage
from mmse.text.tokenizer import bucket
from mmse.training.encoded_requests import SHARD, read_shard

_PAIRS = SHARD.empty_table()
_REQUESTS = _PAIRS.append_column("drawn", pa.array([], pa.int64()))


@dataclass(frozen=True)
class Logged:
    """`n` requests, and what they clicked or ordered. Pair `p` says that request `request[p]` took `item_rows[p]`.

    `history` holds the item rows a shopper had taken before the request, -1 for none; `explored` says whether
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


def read_logged(dataset: Path, split: str, limit: int, *, clicked_only: bool = True) -> Logged:
    """Up to `limit` requests of `split`: a random sample in random order, both fixed by the hash of their ids.

    With `clicked_only`, requests that clicked or ordered nothing are passed over.
    """
    requests, pairs = [_REQUESTS], [_PAIRS]
    for path in shard_files(dataset, split):
        table, starts = read_shard(path)
        owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(table))))
        positive = table["stage"].to_numpy() >= Stage.CLICKED
        asked = np.unique(owner[positive]) if clicked_only else np.arange(len(starts))
        first = table.take(pa.array(starts[asked]))
        drawn = pa.array([bucket(request_id, 2**62) for request_id in first["request_id"].to_pylist()], pa.int64())
        requests.append(first.append_column("drawn", drawn).sort_by("drawn").slice(0, limit))
        pairs.append(table.filter(pa.array(positive)))
    whole = pa.concat_tables(requests).sort_by("drawn").slice(0, limit)
    place = pc.index_in(pa.concat_tables(pairs)["request_id"], whole["request_id"].combine_chunks())
    taken_rows = pa.concat_tables(pairs).append_column("request", place).filter(pc.is_valid(place))
    users = whole["user_id"].to_pylist()
    times = whole["timestamp"].cast(pa.int64()).to_numpy()
    return Logged(
        request_ids=whole["request_id"].to_pylist(),
        queries=whole["query"].to_pylist(),
        users=users,
        history=History.open(dataset).before(users, times).item_rows,
        request=taken_rows["request"].to_numpy().astype(np.int64),
        item_rows=taken_rows["item_row"].to_numpy(),
        stages=taken_rows["stage"].to_numpy().astype(np.int64),
        explored=taken_rows["explored"].to_numpy(zero_copy_only=False),
    )


@dataclass(frozen=True)
class Shown:
    """The slots that some requests were shown. Slot `s` showed `item_rows[s]` to the request at place `request[s]`.

    What was retrieved only had no slot.
    """

    request: Int64[np.ndarray, " slots"]
    item_rows: Int32[np.ndarray, " slots"]
    stages: Int64[np.ndarray, " slots"]
    examination: Float32[np.ndarray, " slots"]
    explored: Bool[np.ndarray, " slots"]


def read_shown(dataset: Path, split: str, logged: Logged) -> Shown:
    """Every slot of the requests of `logged`, which were read from the same `split`."""
    wanted = pa.array(logged.request_ids, pa.string())
    slots = [SHARD.empty_table().append_column("request", pa.array([], pa.int32()))]
    for path in shard_files(dataset, split):
        table, _ = read_shard(path)
        place = pc.index_in(table["request_id"], wanted)
        slots.append(table.append_column("request", place).filter(pc.is_valid(place)))
    whole = pa.concat_tables(slots)
    return Shown(
        request=whole["request"].to_numpy().astype(np.int64),
        item_rows=whole["item_row"].to_numpy(),
        stages=whole["stage"].to_numpy().astype(np.int64),
        examination=whole["examination"].to_numpy(),
        explored=whole["explored"].to_numpy(zero_copy_only=False),
    )
