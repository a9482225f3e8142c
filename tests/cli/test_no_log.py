"""A shop without a log: its catalogue is searched and served, and what that shows is the log of the next run."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.called import Call
from mining import toy
from mmse.core.artifact import read_manifest
from mmse.core.errors import ArtifactError, TableError, UsageError
from mmse.core.run_folder import DATASET, MODEL, RunFolder
from mmse.dataset.contract import check_dataset
from mmse.dataset.serving_data import read_item_counts, read_popular_queries
from mmse.pipeline import Listener, evaluate, make, run
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import parse_filter
from mmse.schema.search import Search
from mmse.serving.config import ServeConfig
from mmse.serving.versions.publish import publish
from serving.conftest import TOKEN, WRITER, worker

BRANDS, COLOURS, NOUNS = ("Acme", "Bolt", "Cedar"), ("red", "blue", "green", "black"), ("drill", "lamp", "kettle")
TOML = """[items]
source = "items.csv"
[train]
dim = 16
epochs = 3
query_buckets = 64
user_buckets = 64
vocab_size = 300
[train.objective]
n_random = 32
[map]
items = 20
"""
EVENTS = '[events]\nsource = "site/events"\n'


def catalogue() -> list[toy.Row]:
    """36 items: each brand, colour and noun once."""
    return [
        {
            "item_id": f"{brand}-{colour}-{noun}",
            "title": f"{brand} {noun} in {colour} steel",
            "brand": brand,
            "category": f"Home > {noun}s",
            "price": 10.0 + number,
        }
        for number, (brand, colour, noun) in enumerate(product(BRANDS, COLOURS, NOUNS))
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop with items alone, and its finished run."""
    folder = tmp_path_factory.mktemp("bare")
    toy.write_csv(folder / "items.csv", catalogue())
    (folder / "shop.toml").write_text(TOML)
    run(folder / "shop.toml")
    return folder


def write_items(folder: Path, items: list[toy.Row]) -> Path:
    """A shop.toml for `items` alone."""
    toy.write_csv(folder / "items.csv", items)
    (folder / "shop.toml").write_text(TOML)
    return folder / "shop.toml"


def test_the_dataset_keeps_the_contract_and_nothing_was_asked(base: Path) -> None:
    dataset, serving = base / "run" / "dataset", base / "run" / "serving"
    assert check_dataset(dataset) == []
    counts = read_manifest(dataset, DATASET).counts
    assert counts["requests"] == {"train": 0, "valid": 0, "test": 0}
    assert counts["items"] == 36
    assert counts["requests_from"] == "catalogue"
    assert counts["lessons"][0] == "No log: the model is adapted to the catalogue's own words; nothing is measured."
    assert not read_item_counts(serving, "end").any()
    assert read_popular_queries(serving) == {}


def test_training_says_where_its_requests_are_from(base: Path) -> None:
    counts = read_manifest(base / "run" / "model", MODEL).counts
    assert counts["requests_from"] == {"log": 0, "catalogue": 20_000}
    assert counts["requests"] == 20_000
    assert counts["validation_recall@100"] is None


def test_nothing_is_learned_that_only_shoppers_teach(base: Path) -> None:
    ranking = Retriever.open(base / "run").ranking
    assert not ranking.calibration.is_learned
    assert (ranking.fusion.new_query, ranking.fusion.known_query, ranking.fusion.decay) == (1.5, 0.5, 1.0)
    assert ranking.query_counts.counts(["acme drill", "drills"]).tolist() == [0, 0]


def test_words_filters_and_vectors_find(base: Path) -> None:
    retriever = Retriever.open(base / "run")
    hits = retriever.search("bolt kettle", 4)
    assert [hit.item_id.split("-")[::2] for hit in hits] == [["Bolt", "kettle"]] * 4
    assert all(hit.probability is None for hit in hits)
    filtered = retriever.answer(Search("lamp", 12, filter=parse_filter({"brand": "Cedar"}, retriever.kinds))).hits
    assert {hit.item["brand"] for hit in filtered} == {"Cedar"}
    assert filtered[0].item_id.endswith("lamp")
    nearest = retriever.answer(Search("kettles", 12, channel="vector")).hits
    assert sum(hit.item_id.endswith("kettle") for hit in nearest) >= 10, "of 12 kettles among 36 items"


def test_nothing_is_reported_and_no_baseline_is_trained(base: Path) -> None:
    folders = RunFolder(base / "run")
    assert not folders.report.exists()
    assert not folders.baselines.exists()
    skipped: dict[str, str] = {}
    run(base / "shop.toml", listener=Listener(step=lambda name, why, runs: skipped.update({name: why})))
    assert skipped.pop("report") == "no log: nothing is measured"
    assert set(skipped.values()) == {"up to date: same inputs, same config"}
    with pytest.raises(ArtifactError, match="no test request"):
        evaluate(base / "shop.toml")


def test_the_same_catalogue_gives_the_same_model(base: Path, tmp_path: Path) -> None:
    write_items(tmp_path, catalogue())
    for kind in (DATASET, MODEL):
        make(kind, tmp_path / "shop.toml")
    files = [read_manifest(folder / "run" / "model", MODEL).files for folder in (base, tmp_path)]
    assert files[0]["towers.safetensors"] == files[1]["towers.safetensors"]


@pytest.fixture(scope="module")
def site(base: Path) -> Path:
    """A site of the run, after 120 searches whose first item of the colour asked for was clicked."""
    publish(base / "site", base / "run")
    with worker(ServeConfig(base / "site", token=TOKEN, log_exposures=True)) as client:
        for number in range(120):
            query = f"{COLOURS[number % 4]} {NOUNS[number % 3]}"
            answer = client.post("/v1/search", json={"query": query, "k": 10, "user_id": f"u{number % 7}"}).json()
            item_id = answer["hits"][number % 2]["item_id"]
            click = {"type": "click", "request_id": answer["request_id"], "item_id": item_id}
            assert client.post("/v1/events", json={"events": [click]}, headers=WRITER).status_code == 202
    return base / "site"


def test_the_next_run_learns_from_what_was_served(base: Path, site: Path) -> None:
    (base / "learned.toml").write_text(EVENTS + TOML)
    manifests = run(base / "learned.toml", base / "learned")
    clicked = manifests[DATASET].counts["stages"]["train"]["clicked"]
    assert manifests[MODEL].counts["requests_from"] == {"log": clicked, "catalogue": 20_000}, "one click for each"
    assert sum(manifests[DATASET].counts["requests"].values()) == 120
    queries = pq.read_table(base / "learned" / "dataset" / "queries.parquet")
    assert "red drill" in queries["query"].to_pylist()
    assert publish(site, base / "learned"), "the site takes the next version beside the first"


def test_an_events_section_without_a_log_says_what_to_do(base: Path, tmp_path: Path) -> None:
    write_items(tmp_path, catalogue())
    toml = tmp_path / "shop.toml"
    toml.write_text('[events]\nsource = "events/*.parquet"\n' + TOML)
    with pytest.raises(TableError, match="No file for the events table") as caught:
        run(toml)
    assert "A shop that has no log yet leaves [events] out." in caught.value.cure
    toml.write_text('[events]\nsource = "events.csv"\n' + TOML)
    (tmp_path / "events.csv").write_text("")
    with pytest.raises(TableError, match="is empty") as caught:
        run(toml)
    assert "leaves [events] out" in caught.value.cure
    (tmp_path / "events.csv").write_text("request_id,timestamp,query,item_id,position,clicked,ordered\n")
    with pytest.raises(TableError, match="has no rows") as caught:
        run(toml)
    assert "leaves [events] out" in caught.value.cure


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([{"item_id": "1", "title": "Drill"}], id="one item of one word"),
        pytest.param([{"item_id": 1, "title": "Drill"}, {"item_id": 2, "title": "!!!"}], id="a title without a word"),
    ],
)
def test_a_small_or_bare_catalogue_is_searched(items: list[toy.Row], tmp_path: Path) -> None:
    run(write_items(tmp_path, items))
    assert Retriever.open(tmp_path / "run").search("drill", 1)[0].title.startswith("Drill")


def test_items_that_nothing_can_be_made_of_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No title of the items table has a word"):
        run(write_items(tmp_path, [{"item_id": 1, "title": "!!!"}]))
    (tmp_path / "items.csv").write_text("item_id,title\n")
    with pytest.raises(TableError, match="The items table has no rows"):
        run(tmp_path / "shop.toml")
    (tmp_path / "shop.toml").write_text("[mine]\n")
    with pytest.raises(UsageError, match=r"no section \[items\]"):
        run(tmp_path / "shop.toml")


def test_init_doctor_and_mine_take_items_alone(call: Call, tmp_path: Path) -> None:
    toy.write_csv(tmp_path / "products.csv", catalogue())
    proposed = call("init", tmp_path)
    assert proposed.code == 0
    assert "the items alone are enough to begin" in proposed.out
    examined = call("doctor", tmp_path / "shop.toml")
    assert examined.code == 0
    assert "shop.toml has no [events]" in examined.out
    assert "No log: the model is adapted to the catalogue's own words; nothing is measured." in examined.out
    mined = call("mine", tmp_path / "shop.toml")
    assert mined.code == 0
    assert "No log: the model is adapted" in mined.out


def test_a_run_after_edits_ends_well_and_says_that_they_wait(call: Call, tmp_path: Path) -> None:
    toml, folder = write_items(tmp_path, catalogue()), tmp_path / "run"
    toml.write_text(TOML.replace("epochs = 3", "epochs = 1"))
    assert call("run", toml).code == 0
    assert call("items", "set", folder, "Acme-red-drill", "price=1.5").code == 0
    write_items(tmp_path, catalogue()[:-1])
    toml.write_text(TOML.replace("epochs = 3", "epochs = 1"))
    again = call("run", toml)
    assert (again.code, again.err.count("error")) == (0, 0)
    assert "1 edited item of before this run" in again.out
    assert "No log: the model is adapted to the catalogue's own words" in again.out
    assert call("items", "carry-over", folder).code == 0
    assert "edited item of before" not in call("run", toml).out
