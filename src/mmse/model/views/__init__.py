"""The views: one file each, with all that is known of it, and the table that everything else goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmse.model.views.conversion import ConversionView
from mmse.model.views.identity import IdentityView
from mmse.model.views.shopper import ShopperView
from mmse.model.views.text import TextView
from mmse.model.views.vectors import VectorView
from mmse.model.views.view import View

VIEWS: Mapping[str, View] = {view.name: view for view in (TextView(), IdentityView(), ShopperView())}
"""The views that gates weigh, by name, in their usual order in a fused vector."""

NUMBER_VIEWS: Mapping[str, ConversionView] = {view.name: view for view in (ConversionView(),)}
"""The views of one number, which come last in a fused vector."""


def vector_views(columns: Sequence[str]) -> tuple[VectorView, ...]:
    """The views of vectors that the shop brings in `columns`; each is called as its column, or by another free name."""
    return tuple(VectorView(name, f"{name} vector" if name in _OTHER_PARTS else name) for name in columns)


_OTHER_PARTS = {*VIEWS, *NUMBER_VIEWS, "words", "together"}
"""What else an explanation has parts of."""
