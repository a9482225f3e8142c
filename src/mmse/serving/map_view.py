"""The map of a served version as the page draws it."""

from __future__ import annotations

from mmse.core.errors import UsageError
from mmse.map.projection import Atlas
from mmse.schema.http import MapAnswer, MapPlace, Region
from mmse.serving.failures import Refused
from mmse.serving.model_pool import Served

MOST_CATEGORIES = 12
OTHER = "other"


def drawn(served: Served) -> MapAnswer:
    """The drawn items, those that are still there; raises `Refused` where the version has no map."""
    atlas, now = _atlas(served), served.retriever.snapshot()
    there = now.alive(atlas.rows)
    table = now.table(atlas.rows[there])
    ids, titles = table["item_id"].to_pylist(), table["title"].to_pylist()
    tops = [_top(value) for value in (table["category"].to_pylist() if "category" in table.column_names else ids)]
    names = _commonest(tops)
    numbers = {name: place for place, name in enumerate(names)}
    places = atlas.places[there].round(4)
    return MapAnswer(
        version=served.name,
        item_id=ids,
        title=titles,
        x=places[:, 0].tolist(),
        y=places[:, 1].tolist(),
        category=[numbers.get(top, len(names) - 1) for top in tops],
        categories=names,
        regions=[Region(name=r.name, x=r.x, y=r.y, weight=r.weight, level=r.level) for r in atlas.regions],
    )


def place(served: Served, query: str) -> MapPlace:
    """Where `query` belongs; raises `Refused` where the version has no map, `UsageError` for an empty query."""
    atlas = _atlas(served)
    if not query.strip():
        raise UsageError("The query is empty.", "Give at least one word.")
    found = atlas.place(served.retriever.query_vectors([query])[0], served.retriever.snapshot().vectors(atlas.rows))
    return MapPlace(version=served.name, query=query, x=found.x, y=found.y, share=found.share, spread=found.spread)


def _atlas(served: Served) -> Atlas:
    if served.atlas is None:
        raise Refused(
            "not_found", f"Version {served.name} has no map.", "Make one with `mmse map shop.toml`, and publish again."
        )
    return served.atlas


def _top(category: object) -> str:
    return str(category).split(">")[0].strip() or OTHER if category else OTHER


def _commonest(tops: list[str]) -> list[str]:
    """The names of most of `tops`, and `OTHER` for the rest, last."""
    counts: dict[str, int] = {}
    for top in tops:
        counts[top] = counts.get(top, 0) + 1
    named = sorted((name for name in counts if name != OTHER), key=lambda name: -counts[name])
    return [*named[:MOST_CATEGORIES], OTHER]
