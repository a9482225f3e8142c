"""The optimizer of memories: that of a dense Adam without momentum, at the cost of the rows that a batch touches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmse.training.optimizer import RowAdam


def test_a_step_is_that_of_adam_without_momentum() -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(50, 4, generator=generator)
    sparse_table, dense_table = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    rows, dense = RowAdam([sparse_table]), torch.optim.Adam([dense_table], betas=(0.0, 0.999))
    for step in range(200):
        ids = torch.randint(0, 50, (7,), generator=generator)
        weights = torch.randn(7, 4, generator=generator)
        rate = 0.01 * (1 + step % 3)
        for optimizer, table, is_sparse in ((rows, sparse_table, True), (dense, dense_table, False)):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            (F.embedding(ids, table, sparse=is_sparse) * weights).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        torch.testing.assert_close(sparse_table, dense_table)
    assert not torch.equal(sparse_table, start)


def test_rows_without_a_gradient_stay_as_they_are() -> None:
    table = nn.Parameter(torch.zeros(10, 2))
    optimizer = RowAdam([table])
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    for _ in range(3):
        optimizer.zero_grad()
        F.embedding(torch.tensor([2, 2, 5]), table, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert (table != 0).any(dim=1).nonzero().flatten().tolist() == [2, 5]
