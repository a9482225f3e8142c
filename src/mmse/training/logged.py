"""What the log says was wanted: requests of a split, and the items that each of them clicked or ordered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64

from mmse.mining.history import History
from mmse.records import Stage
from mmse.training.groups import SHARD, read_shard

_EMPTY = SHARD.empty_table()


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


def read_logged(groups: Path, split: str, limit: int, *, clicked_only: bool = True) -> Logged:
    """Up to `limit` requests of `split`: a random sample, fixed by their hash.

    With `clicked_only`, requests that clicked or ordered nothing are passed over.
    """
    requests, pairs, n = [_EMPTY], [_EMPTY.append_column("request", pa.array([], pa.int64()))], 0
    for path in sorted((groups / split).glob("*.parquet")):
        table, starts = read_shard(path)
        owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(table))))
        positive = table["stage"].to_numpy() >= Stage.CLICKED
        taken = np.unique(owner[positive]) if clicked_only else np.arange(len(starts))
        place = np.searchsorted(taken, owner[positive])
        within = place < limit - n
        requests.append(table.take(pa.array(starts[taken[: limit - n]])))
        rows = table.filter(pa.array(positive)).filter(pa.array(within))
        pairs.append(rows.append_column("request", pa.array(place[within] + n)))
        n += min(len(taken), limit - n)
    whole, taken_rows = (pa.concat_tables(t, promote_options="permissive") for t in (requests, pairs))
    users = whole["user_id"].to_pylist()
    times = whole["timestamp"].cast(pa.int64()).to_numpy()
    return Logged(
        request_ids=whole["request_id"].to_pylist(),
        queries=whole["query"].to_pylist(),
        users=users,
        history=History.open(groups).before(users, times).item_rows,
        request=taken_rows["request"].to_numpy(),
        item_rows=taken_rows["item_row"].to_numpy(),
        stages=taken_rows["stage"].to_numpy().astype(np.int64),
        explored=taken_rows["explored"].to_numpy(zero_copy_only=False),
    )
