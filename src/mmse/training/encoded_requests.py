"""The requests of one shard of `dataset/` in the form that a model needs: flat arrays."""

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
from mmse.dataset.folder import ROWS_SCHEMA
from mmse.dataset.history import History
from mmse.model.encoder import Encoder
from mmse.schema.stages import Stage
from mmse.text.slips import add_slip
from mmse.text.tokenizer import Bags

SHARD = pa.schema([field for field in ROWS_SCHEMA if field.name != "position"])
"""The columns of a shard that training reads."""


@dataclass(frozen=True)
class EncodedRequests:
    """Some requests of one period. The rows of request `r` are `offsets[r]:offsets[r+1]`.

    `query[r]` is the index of the request's query in `texts` and `memory`; `history` holds item rows, -1 for none.
    Where `texts` has twice as many texts as `memory`, the second half has each query once more, with a slip in it.
    `snapshot` names the item statistics from before these requests. `examination` is 1 for an item that was retrieved
    and not shown: it corrects for shown items that nobody looked at, and this item was not shown. Requests
    `from_catalogue` were made (`catalogue_requests`), and nobody asked them.
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
    from_catalogue: bool = False

    def __len__(self) -> int:
        return len(self.query)

    @property
    def nbytes(self) -> int:
        """About how many bytes the arrays take in memory."""
        return self.item_rows.nbytes * 3 + self.history.nbytes + self.texts.grains.nbytes + 64 * len(self)


def read_shard(path: Path, lowest: Stage = Stage.UNCLICKED) -> tuple[pa.Table, Int64[np.ndarray, " requests"]]:
    """The rows of a Parquet shard that have stage `lowest` or above, and the index of each request's first row.

    `lowest` is at most `UNCLICKED`, so that no request is left without rows. Raises `ArtifactError` naming the file.
    """
    try:
        table = pq.read_table(path, columns=SHARD.names, partitioning=None).cast(SHARD)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"Cannot read {path}: {error}.", "Run `mmse mine` again.") from error
    is_kept = pc.greater_equal(table["stage"], int(lowest))
    table = table if pc.all(is_kept).as_py() else table.filter(is_kept)
    return table, _request_starts(table)


def add_positives(table: pa.Table, positives: pa.Table) -> tuple[pa.Table, Int64[np.ndarray, " requests"]]:
    """The rows of `read_shard`, and `positives` (`request_id, item_row`) added to their requests as clicks.

    A positive replaces a row of the same item that was retrieved and not shown.
    """
    starts = _request_starts(table)
    request_index = pc.index_in(positives["request_id"].combine_chunks(), table["request_id"].take(pa.array(starts)))
    positives, request = (
        positives.filter(pc.is_valid(request_index)),
        request_index.drop_null().to_numpy().astype(np.int64),
    )
    n = len(positives)
    columns = {
        "item_row": positives["item_row"],
        "stage": pa.array(np.full(n, Stage.CLICKED, np.int8)),
        "examination": pa.nulls(n, pa.float32()),
        "explored": pa.array(np.zeros(n, np.bool_)),
    }
    request_rows = table.take(pa.array(starts[request]))
    added_rows = pa.table([columns.get(name, request_rows[name]) for name in SHARD.names], schema=SHARD)
    owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(table))))
    has_positive = np.isin(owner << 32 | table["item_row"].to_numpy(), request << 32 | positives["item_row"].to_numpy())
    is_kept = ~has_positive | (table["stage"].to_numpy() > Stage.RETRIEVED)
    combined_rows = pa.concat_tables([table.filter(pa.array(is_kept)), added_rows])
    combined_rows = combined_rows.take(pa.array(np.argsort(np.append(owner[is_kept], request), kind="stable")))
    return combined_rows, _request_starts(combined_rows)


def _request_starts(table: pa.Table) -> Int64[np.ndarray, " requests"]:
    ids = table["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return np.flatnonzero(np.diff(ids, prepend=-1))


def read_requests(
    path: Path,
    snapshot: int,
    encoder: Encoder,
    history: History,
    *,
    lowest: Stage = Stage.UNCLICKED,
    positives: pa.Table | None = None,
    slips: np.random.Generator | None = None,
) -> EncodedRequests:
    """The requests of one Parquet shard, encoded, with their rows of stage `lowest` and above.

    `positives` are added as in `add_positives`, `slips` draws as in `encode_requests`. Raises `ArtifactError` naming
    the file.
    """
    table, starts = read_shard(path, lowest)
    if positives is not None:
        table, starts = add_positives(table, positives)
    return encode_requests(table, starts, snapshot, encoder, history, slips)


def encode_requests(
    table: pa.Table,
    starts: Int64[np.ndarray, " requests"],
    snapshot: int,
    encoder: Encoder,
    history: History,
    slips: np.random.Generator | None = None,
) -> EncodedRequests:
    """The requests of `table`, rows in the form of `SHARD`; `starts` are the indices of each request's first row.

    With `slips`, which draws them, each query is encoded once more with a slip of the fingers in it.
    """
    request_rows = table.take(pa.array(starts))
    queries = request_rows["query"].combine_chunks().dictionary_encode()
    texts = queries.dictionary.to_pylist()
    users = request_rows["user_id"].combine_chunks().dictionary_encode()
    buckets = np.array([0, *map(encoder.user_bucket, users.dictionary.to_pylist())], np.int64)
    return EncodedRequests(
        snapshot=snapshot,
        texts=encoder.tokenizer.encode(texts + [add_slip(text, slips) for text in texts if slips is not None]),
        memory=np.array([encoder.query_bucket(t) for t in texts], np.int64),
        query=queries.indices.to_numpy().astype(np.int32),
        user=buckets[1 + users.indices.fill_null(-1).to_numpy()],
        history=history.look_up(
            request_rows["user_id"].to_pylist(), request_rows["timestamp"].cast(pa.int64()).to_numpy()
        ).item_rows,
        offsets=np.append(starts, len(table)).astype(np.int64),
        item_rows=table["item_row"].to_numpy(),
        stages=table["stage"].to_numpy(),
        examination=table["examination"].fill_null(1).to_numpy(),
        explored=table["explored"].to_numpy(zero_copy_only=False),
    )


def read_period(shard: Path) -> int:
    """The training period of a shard, which is also its snapshot: 3 for `train/period=03/…`."""
    match = re.fullmatch(r"period=(\d+)", shard.parent.name)
    if not match:
        raise ArtifactError(f"{shard} is not in a period=NN folder.", "Run `mmse mine` again.")
    return int(match[1])
