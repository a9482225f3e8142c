"""The map of a version as the page draws it."""

from __future__ import annotations

from mmse.core.errors import UsageError
from mmse.map.projection import CatalogueMap
from mmse.schema.http import MapAnswer, MapPoint, MapRegion
from mmse.schema.value_sets import first_value
from mmse.serving.failures import RequestError
from mmse.serving.model_pool import LoadedVersion

MAX_CATEGORIES = 12
_OTHER_CATEGORY = "other"


def draw_map(version: LoadedVersion) -> MapAnswer:
    """The items on the map that still exist; raises `RequestError` where the version has no map."""
    catalogue_map, snapshot = _require_map(version), version.retriever.snapshot()
    alive = snapshot.alive(catalogue_map.rows)
    table = snapshot.table(catalogue_map.rows[alive])
    ids, titles = table["item_id"].to_pylist(), table["title"].to_pylist()
    categories = table["category"].to_pylist() if "category" in table.column_names else ids
    top_categories = [_top_category(first_value(category)) for category in categories]
    names = _commonest_names(top_categories)
    numbers = {name: number for number, name in enumerate(names)}
    xy = catalogue_map.xy[alive].round(4)
    return MapAnswer(
        version=version.name,
        item_id=ids,
        title=titles,
        x=xy[:, 0].tolist(),
        y=xy[:, 1].tolist(),
        category=[numbers.get(name, len(names) - 1) for name in top_categories],
        categories=names,
        regions=[MapRegion(name=r.name, x=r.x, y=r.y, weight=r.weight, level=r.level) for r in catalogue_map.regions],
    )


def locate_query(version: LoadedVersion, query: str) -> MapPoint:
    """Where `query` lies; raises `RequestError` where the version has no map, `UsageError` for an empty query."""
    catalogue_map = _require_map(version)
    if not query.strip():
        raise UsageError("The query is empty.", "Give at least one word.")
    point = catalogue_map.locate(
        version.retriever.query_vectors([query])[0], version.retriever.snapshot().vectors(catalogue_map.rows)
    )
    return MapPoint(version=version.name, query=query, x=point.x, y=point.y, share=point.share, spread=point.spread)


def _require_map(version: LoadedVersion) -> CatalogueMap:
    if version.catalogue_map is None:
        raise RequestError(
            "not_found", f"Version {version.name} has no map.", "Make one with `mmse map shop.toml`, and publish again."
        )
    return version.catalogue_map


def _top_category(category: str | None) -> str:
    return category.split(">")[0].strip() or _OTHER_CATEGORY if category else _OTHER_CATEGORY


def _commonest_names(names: list[str]) -> list[str]:
    """The `MAX_CATEGORIES` most frequent of `names`, and last the name for the rest."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    by_count = sorted((name for name in counts if name != _OTHER_CATEGORY), key=lambda name: -counts[name])
    return [*by_count[:MAX_CATEGORIES], _OTHER_CATEGORY]
