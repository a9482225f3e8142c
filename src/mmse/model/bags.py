"""Sums of embedding rows whose backward pass is a sum of rows, too.

PyTorch's own dense backward of `embedding_bag` takes three quarters of a training step on a CPU. The gradient of a
table row is the sum of the output gradients of the bags that contain it. So the bags are transposed once (a counting
sort), and the backward pass is another `embedding_bag`, over the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int32
from scipy import sparse
from torch import Tensor

from mmse.text.tokenizer import Bags


@dataclass(frozen=True)
class BagIndex:
    """Bags as tensors: the table rows that each of `n` bags sums and, for training, the bags that contain each row."""

    rows: Int[Tensor, " total"]
    offsets: Int[Tensor, " n_plus_1"]
    owners: Int[Tensor, " total"] | None = None
    owner_offsets: Int[Tensor, " table_plus_1"] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_bags(cls, bags: Bags, n_rows: int | None = None) -> BagIndex:
        """The index of `bags` over a table. With `n_rows`, that table's length, it can be used for training."""
        rows, offsets = torch.from_numpy(bags.grains), torch.from_numpy(bags.offsets.astype(np.int32))
        if n_rows is None:
            return cls(rows, offsets)
        entries = np.ones(len(bags.grains), np.int8)
        by_row = sparse.csr_matrix((entries, bags.grains, bags.offsets), shape=(len(bags), n_rows)).tocsc()
        return cls(rows, offsets, *(torch.from_numpy(a.astype(np.int32)) for a in (by_row.indices, by_row.indptr)))

    def to(self, device: torch.device) -> BagIndex:
        """The same index on `device`."""
        tensors = (t if t is None else t.to(device) for t in (self.rows, self.offsets, self.owners, self.owner_offsets))
        return BagIndex(*tensors)  # type: ignore[arg-type]


def bags_of_ids(ids: Int32[np.ndarray, "n width"]) -> Bags:
    """One bag per row of `ids`, without its zeros (0 means "none")."""
    present = ids > 0
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(present.sum(axis=1), out=offsets[1:])
    return Bags(offsets, ids[present])


def clear_bags(bags: Bags, is_cleared: Bool[np.ndarray, " n"]) -> Bags:
    """The same bags, of which those of the mask are empty."""
    lengths = np.diff(bags.offsets)
    offsets = np.zeros_like(bags.offsets)
    np.cumsum(np.where(is_cleared, 0, lengths), out=offsets[1:])
    return Bags(offsets, bags.grains[np.repeat(~is_cleared, lengths)])


def thin_bags(bags: Bags, is_kept: Bool[np.ndarray, " total"]) -> Bags:
    """The same bags with those of their grains that the mask keeps."""
    kept_before = np.concatenate([[0], np.cumsum(is_kept)]).astype(np.int64)
    return Bags(kept_before[bags.offsets], bags.grains[is_kept])


def sum_bags(table: Float[Tensor, "rows dim"], bags: BagIndex) -> Float[Tensor, "n dim"]:
    """For each bag the sum of its rows of `table`; zero for an empty bag."""
    sums: Tensor = _SumBags.apply(table, bags)  # type: ignore[no-untyped-call]
    return sums


class _SumBags(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, bags: BagIndex) -> Tensor:  # noqa: ANN401
        ctx.bags = bags
        return F.embedding_bag(bags.rows, table, bags.offsets, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        bags = ctx.bags
        assert bags.owners is not None, "bags for training are made with BagIndex.from_bags(bags, n_rows)"
        gradient = gradients[0].contiguous()
        return (F.embedding_bag(bags.owners, gradient, bags.owner_offsets, mode="sum", include_last_offset=True), None)
