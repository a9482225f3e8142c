"""The requests of one shard of `dataset/`, encoded: what a model needs of them, as flat arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int8, Int32, Int64

from mmse.core.errors import ArtifactError
from mmse.dataset.history import History
from mmse.model.encoder import Encoder
from mmse.schema.stages import Stage
from mmse.text.tokenizer import Bags

SHARD = pa.schema(
    {
        "request_id": pa.string(),
        "query": pa.string(),
        "user_id": pa.string(),
        "timestamp": pa.timestamp("us"),
        "item_row": pa.int32(),
        "stage": pa.int8(),
        "examination": pa.float32(),
        "explored": pa.bool_(),
    }
)
"""The columns of a shard that are read here."""


@dataclass(frozen=True)
class Requests:
    """Some requests of one period. Rows of request `r` are `offsets[r]:offsets[r+1]`.

    `query[r]` is the place of the request's query in `texts` and `memory`; `history` holds item
    rows, -1 for none. `snapshot` says which item statistics come from before these requests. `examination` is 1 where
    an item was retrieved only: it corrects for what was passed over unseen, and such an item was not passed over.
    """

    snapshot: int
    texts: Bags
    memory: Int64[np.ndarray, " distinct"]
    query: Int32[np.ndarray, " n"]
    user: Int64[np.ndarray, " n"]
    history: Int32[np.ndarray, "n length"]
    offsets: Int64[np.ndarray, " n_plus_1"]
    item_rows: Int32[np.ndarray, " rows"]
    stages: Int8[np.ndarray, " rows"]
    examination: Float32[np.ndarray, " rows"]
    explored: Bool[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.query)

    @property
    def nbytes(self) -> int:
        """What the arrays hold in memory, in bytes, near enough for a bound."""
        return self.item_rows.nbytes * 3 + self.history.nbytes + self.texts.grains.nbytes + 64 * len(self)


def read_shard(path: Path, lowest: Stage = Stage.UNCLICKED) -> tuple[pa.Table, Int64[np.ndarray, " requests"]]:
    """The rows of one Parquet shard of stage `lowest` and above, and where each request starts.

    `lowest` is at most `UNCLICKED`, so that no request is left without rows. Raises `ArtifactError` naming the file.
    """
    try:
        table = pq.read_table(path, columns=SHARD.names, partitioning=None).cast(SHARD)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"Cannot read {path}: {error}.", "Run `mmse mine` again.") from error
    kept = pc.greater_equal(table["stage"], int(lowest))
    table = table if pc.all(kept).as_py() else table.filter(kept)
    return table, _starts(table)


def with_later(table: pa.Table, later: pa.Table) -> tuple[pa.Table, Int64[np.ndarray, " requests"]]:
    """`read_shard`'s rows and those that `later` (`request_id, item_row`) adds to their requests, as clicks.

    A row that says of the same item that it was retrieved only gives way.
    """
    starts = _starts(table)
    place = pc.index_in(later["request_id"].combine_chunks(), table["request_id"].take(pa.array(starts)))
    later, request = later.filter(pc.is_valid(place)), place.drop_null().to_numpy().astype(np.int64)
    n = len(later)
    said = {
        "item_row": later["item_row"],
        "stage": pa.array(np.full(n, Stage.CLICKED, np.int8)),
        "examination": pa.nulls(n, pa.float32()),
        "explored": pa.array(np.zeros(n, np.bool_)),
    }
    asked = table.take(pa.array(starts[request]))
    more = pa.table([said.get(name, asked[name]) for name in SHARD.names], schema=SHARD)
    owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(table))))
    taken = np.isin(owner << 32 | table["item_row"].to_numpy(), request << 32 | later["item_row"].to_numpy())
    kept = ~taken | (table["stage"].to_numpy() > Stage.RETRIEVED)
    whole = pa.concat_tables([table.filter(pa.array(kept)), more])
    whole = whole.take(pa.array(np.argsort(np.append(owner[kept], request), kind="stable")))
    return whole, _starts(whole)


def _starts(table: pa.Table) -> Int64[np.ndarray, " requests"]:
    ids = table["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return np.flatnonzero(np.diff(ids, prepend=-1))


def read_requests(
    path: Path,
    snapshot: int,
    encoder: Encoder,
    history: History,
    *,
    lowest: Stage = Stage.UNCLICKED,
    later: pa.Table | None = None,
) -> Requests:
    """The requests of one Parquet shard, encoded, with their rows of stage `lowest` and above.

    `later` are positives of theirs from elsewhere, as for `with_later`. Raises `ArtifactError` naming the file.
    """
    table, starts = read_shard(path, lowest)
    if later is not None:
        table, starts = with_later(table, later)
    first = table.take(pa.array(starts))
    queries = first["query"].combine_chunks().dictionary_encode()
    texts = queries.dictionary.to_pylist()
    users = first["user_id"].combine_chunks().dictionary_encode()
    buckets = np.array([0, *map(encoder.user_bucket, users.dictionary.to_pylist())], np.int64)
    return Requests(
        snapshot=snapshot,
        texts=encoder.tokenizer.encode(texts),
        memory=np.array([encoder.query_bucket(t) for t in texts], np.int64),
        query=queries.indices.to_numpy().astype(np.int32),
        user=buckets[1 + users.indices.fill_null(-1).to_numpy()],
        history=history.before(first["user_id"].to_pylist(), first["timestamp"].cast(pa.int64()).to_numpy()).item_rows,
        offsets=np.append(starts, len(table)).astype(np.int64),
        item_rows=table["item_row"].to_numpy(),
        stages=table["stage"].to_numpy(),
        examination=table["examination"].fill_null(1).to_numpy(),
        explored=table["explored"].to_numpy(zero_copy_only=False),
    )


def period_of(shard: Path) -> int:
    """The training period of a shard, which is also its snapshot: `train/period=03/…` is 3."""
    found = re.fullmatch(r"period=(\d+)", shard.parent.name)
    if not found:
        raise ArtifactError(f"{shard} is not in a period=NN folder.", "Run `mmse mine` again.")
    return int(found[1])
