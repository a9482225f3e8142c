"""Post-fusion: a query and an item are compared view by view, and the similarities are fused afterwards.

METHOD (our reading of MMSE's post-fusion strategy):

    s(q,u,i) = Σ_v w_v(q,u) · ⟨f_v(q,u), g_v(i)⟩        w ≥ 0, Σ_v w_v = 1

The gates `w` depend on the query side alone, so `s` is one inner product of `[w_1 f_1 … w_V f_V]` and
`[g_1 … g_V]`, and any maximum-inner-product index serves it exactly.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def fuse_query(
    views: Float[Tensor, "n views dim"], gates: Float[Tensor, "n views"]
) -> Float[Tensor, "n views_times_dim"]:
    """The query's vector for the inner product: its views side by side, each multiplied by its gate."""
    return (views * gates.unsqueeze(-1)).flatten(1)


def fuse_item(views: Float[Tensor, "n views dim"]) -> Float[Tensor, "n views_times_dim"]:
    """The item's vector for the inner product: its views side by side."""
    return views.flatten(1)
