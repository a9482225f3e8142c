"""What a site publishes of the log: read back from every byte of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.core.run_folder import DATASET, INDEX, MAP, MODEL, RANKING, SEARCH, SERVING, VECTORS, RunFolder
from mmse.dataset.history import LENGTH
from mmse.lab.simulator.simulate import simulate
from mmse.pipeline import make
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.serving.config import ServeConfig
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from mmse.shop import read_shop
from serving.conftest import worker
from shop import SMALL, TRAIN

POPULAR, RARE = "popular zqpop query", "secret zqrare query"
UNIQUE = " zqx"
"""The end of every other query, before a number that no second request has."""
DOMAIN = "@shop.example"
"""The end of every user id."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose log has `POPULAR` of 20 shoppers, `RARE` of 19 shoppers 500 times, and queries nobody asked twice."""
    folder = tmp_path_factory.mktemp("marked")
    simulate(SMALL, folder / "shop")
    for file in (folder / "shop" / "events").glob("*.parquet"):
        pq.write_table(mark(pq.read_table(file)), file)
    toml = folder / "shop" / "shop.toml"
    toml.write_text(toml.read_text("utf-8") + TRAIN, "utf-8")
    shop = read_shop(toml)
    shop = replace(shop, train=replace(shop.train, epochs=1), mine=replace(shop.mine, test_share=0.0))
    for kind in (DATASET, SERVING, MODEL, VECTORS, INDEX, RANKING, MAP):
        make(kind, shop, folder / "run")
    return folder / "run"


def mark(events: pa.Table) -> pa.Table:
    """The same events by shoppers and with queries that can be told from all other text."""
    requests = {request: number for number, request in enumerate(dict.fromkeys(events["request_id"].to_pylist()))}
    queries, users = [], []
    for request, query in zip(events["request_id"].to_pylist(), events["query"].to_pylist(), strict=True):
        number = requests[request]
        if number < 500:
            queries.append(RARE)
            users.append(f"rare-{number % 19}{DOMAIN}")
        elif number < 700:
            queries.append(POPULAR)
            users.append(f"popular-{number % 20}{DOMAIN}")
        else:
            queries.append(f"{query}{UNIQUE}{number}")
            users.append(f"other-{number % 150}{DOMAIN}")
    for name, values in (("query", queries), ("user_id", users)):
        events = events.set_column(events.column_names.index(name), name, pa.array(values, pa.string()))
    return events


def contents(site: Path) -> Iterator[tuple[str, str | None, bytes]]:
    """Every file of a site as name, column and content: a Parquet file by column, another one whole."""
    for path in sorted(path for path in site.rglob("*") if path.is_file()):
        name = path.relative_to(site).as_posix()
        yield name, None, path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for column in table.column_names:
                yield name, column, "\n".join(map(str, table[column].to_pylist())).encode()


def files_with(site: Path, text: str) -> set[str]:
    """The files of a site that hold `text`, be it in UTF-8 or in NumPy's UTF-32."""
    needles = (text.encode(), text.encode("utf-32-le"))
    return {name for name, _, content in contents(site) if any(needle in content for needle in needles)}


@pytest.mark.parametrize("histories", [True, False])
def test_nothing_of_the_log_is_published_but_what_serving_needs(run: Path, tmp_path: Path, histories: bool) -> None:
    site = tmp_path / "site"
    assert publish(site, run, histories=histories) == "0001"
    version = site / "versions" / "0001"
    assert {path.name for path in version.iterdir()} - {"live"} == {*SEARCH, MAP, "rules", "version.json"}
    with_histories = {"versions/0001/serving/interactions.parquet"} if histories else set()
    assert {name for name, column, _ in contents(site) if column == "user_id"} == with_histories
    assert files_with(site, DOMAIN) == with_histories
    assert files_with(site, RARE) == files_with(site, UNIQUE) == set()
    assert all(files_with(run, text) for text in (RARE, UNIQUE)), "which the log has"
    assert files_with(site, POPULAR) == {"versions/0001/serving/popular_queries.parquet"}
    assert not list(site.rglob("queries.npy")), "nor the vectors of what shoppers asked"
    assert str(run.parent) not in (version / "version.json").read_text("utf-8")
    assert (run / "vectors" / "queries.npy").exists(), "the run itself stays whole"
    assert (run / "serving" / "interactions.parquet").exists()


@pytest.mark.parametrize("histories", [True, False])
def test_what_is_published_is_whole_and_searched(run: Path, tmp_path: Path, histories: bool) -> None:
    publish(tmp_path / "site", run, histories=histories)
    version = Site.open(tmp_path / "site").state().live
    RunFolder(version.run).verify((*SEARCH, MAP), content=True)
    retriever = Retriever.open(version.run)
    shopper = pq.read_table(run / "serving" / "interactions.parquet")["user_id"][0].as_py()
    recent = retriever.history.look_up([shopper], np.array([np.iinfo(np.int64).max])).item_rows
    assert (recent >= 0).any() == histories
    assert recent.shape == (1, LENGTH)
    if histories:
        assert retriever.search("tent", 5, shopper) == Retriever.open(run).search("tent", 5, shopper)
    own = retriever.answer(Search("tent", 5, None, history=("i00000001", "i00000002"))).hits
    assert len(own) == 5, "a search may send its own history"
    publish(tmp_path / "again", version.run, histories=False)
    assert files_with(tmp_path / "again", DOMAIN) == set(), "a version published once more may be left without"


def test_a_client_sees_no_query_of_fewer_than_twenty_shoppers(run: Path, tmp_path: Path) -> None:
    publish(tmp_path / "site", run)
    with worker(ServeConfig(tmp_path / "site")) as client:
        assert client.get("/v1/catalogue").json()["examples"] == [POPULAR]
        for path in ("/v1/versions", "/v1/map", "/v1/health", "/v1/experiments", "/metrics", "/openapi.json", "/"):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert all(text not in answer.text for text in (RARE, UNIQUE, DOMAIN)), path
