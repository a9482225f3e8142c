"""Variants of one product: a search shows the best of them, facets count the product, and the others are named."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmse.catalogue import Change, Delete, Upsert
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import parse_filter
from mmse.schema.search import Answer, Search
from mmse.serving.experiment_arms import interleave_answers

N_PRODUCTS, N_SIZES = 60, 20
QUERY = "zebra lamp"


def lamp(product: int, size: int) -> dict[str, Any]:
    """A size of a lamp; sizes of one product have two brands and a price each."""
    return {
        "item_id": f"lamp{product}-{size}",
        "title": f"Zebra lamp size {size}",
        "item_group": f"ZL.{product:04}",
        "brand": "Acme" if size % 2 else "Bolt",
        "price": float(size),
    }


@pytest.fixture(scope="module")
def retriever(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """The small run, to which edits have added lamps in many sizes."""
    copy = tmp_path_factory.mktemp("groups") / "run"
    shutil.copytree(small_run, copy)
    editor = Retriever.open(copy, writable=True)
    assert editor.catalogue is not None
    editor.catalogue.apply([Upsert(lamp(product, size)) for product in range(N_PRODUCTS) for size in range(N_SIZES)])
    editor.catalogue.close()
    return Retriever.open(copy)


def search(retriever: Retriever, filter_json: dict[str, Any], **options: Any) -> Answer:
    condition = parse_filter(filter_json, retriever.kinds) if filter_json else None
    fields: dict[str, Any] = {"query": QUERY, "k": N_PRODUCTS, "filter": condition}
    return retriever.answer(Search(**fields | options))


@pytest.mark.parametrize("channel", ["hybrid", "vector", "lexical", "rrf"])
def test_a_product_is_one_hit_however_many_variants_it_has(retriever: Retriever, channel: Any) -> None:
    hits = search(retriever, {}, channel=channel).hits
    assert len(hits) == N_PRODUCTS
    groups = [hit.item.get("item_group", hit.item_id) for hit in hits]
    assert max(Counter(groups).values()) == 1
    lamps = [hit for hit in hits if hit.item_id.startswith("lamp")]
    if channel != "vector":
        assert len(lamps) == N_PRODUCTS, "the words lead to lamps alone: as many as there are"
    for hit in lamps:
        assert hit.item_id not in hit.variants
        assert {item.split("-")[0] for item in hit.variants} <= {hit.item_id.split("-")[0]}


def test_every_variant_on_request(retriever: Retriever) -> None:
    hits = search(retriever, {"price": {"to": 2}, "brand": "Bolt"}, all_variants=True, k=1_000).hits
    lamps = {hit.item_id for hit in hits if hit.item_id.startswith("lamp")}
    assert lamps == {f"lamp{product}-{size}" for product in range(N_PRODUCTS) for size in (0, 2)}
    assert not any(hit.variants for hit in hits)


def test_the_best_variant_that_the_filter_lets_through(retriever: Retriever) -> None:
    answer = search(retriever, {"brand": "Acme", "price": {"from": 5, "to": 9}}, channel="lexical", k=1_000)
    assert len(answer.hits) == N_PRODUCTS
    for hit in answer.hits:
        product = hit.item_id.split("-")[0]
        assert {hit.item_id, *hit.variants} == {f"{product}-{size}" for size in (5, 7, 9)}


def test_facets_count_products_and_a_filter_finds_as_many(retriever: Retriever) -> None:
    answer = search(retriever, {}, channel="lexical", facets=("brand", "price"))
    assert {answer.facets["brand"].counts[name] for name in ("Acme", "Bolt")} == {N_PRODUCTS}
    assert len(search(retriever, {"brand": "Acme"}, channel="lexical", k=1_000).hits) == N_PRODUCTS
    sizes = search(retriever, {"price": {"from": 0, "to": 19}}, channel="lexical", facets=("price",))
    assert sizes.facets["price"].bins == (N_PRODUCTS,) * 10
    variants = search(retriever, {}, channel="lexical", facets=("brand",), all_variants=True, k=1_000)
    assert sum(variants.facets["brand"].counts.values()) > 2 * N_PRODUCTS


def test_pages_go_on_without_a_product_twice(retriever: Retriever) -> None:
    pages = [search(retriever, {}, k=15, offset=offset).hits for offset in range(0, 150, 15)]
    hits = [hit for page in pages for hit in page]
    assert [hit.rank for hit in hits] == list(range(1, 151))
    assert max(Counter(str(hit.item.get("item_group", hit.item_id)) for hit in hits).values()) == 1
    assert [hit.item_id for hit in hits] == [hit.item_id for hit in search(retriever, {}, k=150).hits]


def test_a_sorted_search_shows_a_product_once(retriever: Retriever) -> None:
    hits = search(retriever, {}, sort="price", k=1_000).hits
    assert max(Counter(str(hit.item.get("item_group", hit.item_id)) for hit in hits).values()) == 1


def test_the_number_of_the_product_finds_it(retriever: Retriever) -> None:
    answer = search(retriever, {}, query="zl0007")
    hit = answer.hits[0]
    assert answer.notes == (), "the code was found, though no title has it"
    assert {hit.item_id, *hit.variants} == {f"lamp7-{size}" for size in range(N_SIZES)}


def test_a_pin_takes_the_place_of_its_product(small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    editor = Retriever.open(tmp_path / "run", writable=True)
    assert editor.catalogue is not None
    assert editor.rulebook is not None
    ids = [hit.item_id for hit in editor.search(QUERY, 10)]
    editor.catalogue.apply([Change(item, {"item_group": "g"}) for item in ids[:5]])
    assert [hit.item_id for hit in editor.search(QUERY, 6)] == [ids[0], *ids[5:]]
    editor.rulebook.publish(f'[[pin]]\nname = "p"\nquery = "{QUERY}"\nitems = ["{ids[3]}"]\nplace = 2\n')
    hits = Retriever.open(tmp_path / "run").search(QUERY, 6)
    assert [hit.item_id for hit in hits] == [ids[5], ids[3], *ids[6:]]
    assert hits[1].variants == (ids[0], ids[1], ids[2], ids[4])
    editor.catalogue.apply([Delete(item) for item in ids[:5]])
    assert not any(hit.variants for hit in editor.search(QUERY, 6))


def test_two_rankings_in_one_list_show_a_product_once(retriever: Retriever) -> None:
    a = search(retriever, {"brand": "Acme"}, channel="lexical", k=20)
    b = search(retriever, {"brand": "Bolt"}, channel="lexical", k=20)
    hits = interleave_answers(a, b, 30, "team_draft", "seed").answer.hits
    assert max(Counter(hit.item["item_group"] for hit in hits).values()) == 1
