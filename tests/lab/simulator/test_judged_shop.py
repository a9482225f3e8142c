from __future__ import annotations

import gzip
import tomllib
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from mmse.core.artifact import read_manifest
from mmse.core.errors import TableError
from mmse.lab.simulator.judged_shop import JudgedConfig, simulate_judged
from mmse.lab.simulator.truth import Truth

NOUNS = ("lamp", "chair", "drill", "tent", "mug", "rug", "desk", "fan")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """80 items (ids with leading zeros), 8 queries with ten judged items each, graded 1 to 4, in two splits."""
    items, judgements = tmp_path / "items.csv", tmp_path / "judgements.csv"
    rows = [f"{n:04d},{NOUNS[n % 8]} no {n},{10 + n},paint {n % 3}" for n in range(80)]
    items.write_text("\n".join(["item_id,title,weight_kg,finish", *rows]) + "\n")
    judgement_rows = [
        f"{noun},{n:04d},{1 + (n // 8) % 4},{'dev' if noun in ('rug', 'fan') else 'train'}"
        for offset, noun in enumerate(NOUNS)
        for n in range(offset, 80, 8)
    ]
    judgements.write_text("\n".join(["query,item_id,relevance,split", *judgement_rows]) + "\n")
    return items, judgements


def run_sql(folder: Path, sql: str) -> list[tuple]:  # type: ignore[type-arg]
    with duckdb.connect() as database:
        for name, path in (("items", "items.parquet"), ("events", "events/*.parquet")):
            database.execute(f"CREATE VIEW {name} AS FROM '{folder / path}'")
        return database.execute(sql).fetchall()


def test_only_the_queries_of_the_split_are_searched(files: tuple[Path, Path], tmp_path: Path) -> None:
    simulate_judged(JudgedConfig(), *files, tmp_path / "shop", "train")
    queries = {query for (query,) in run_sql(tmp_path / "shop", "SELECT DISTINCT query FROM events")}
    assert queries == set(NOUNS) - {"rug", "fan"}
    simulate_judged(JudgedConfig(), *files, tmp_path / "all", None)
    assert len(run_sql(tmp_path / "all", "SELECT DISTINCT query FROM events")) == 8


def test_a_query_of_two_splits_is_never_searched(files: tuple[Path, Path], tmp_path: Path) -> None:
    with files[1].open("a") as handle:
        handle.write("  LAMP ,0000,4,dev\n")
    simulate_judged(JudgedConfig(), *files, tmp_path / "shop", "train")
    assert run_sql(tmp_path / "shop", "SELECT count(*) FROM events WHERE query = 'lamp'") == [(0,)]


def test_higher_grades_are_clicked_and_ordered_more(files: tuple[Path, Path], tmp_path: Path) -> None:
    simulate_judged(JudgedConfig(requests_per_query=400), *files, tmp_path / "shop", None)
    rates = run_sql(
        tmp_path / "shop",
        f"""SELECT relevance, avg(clicked::INT), avg(ordered::INT) FROM events e
        LEFT JOIN read_csv('{files[1]}', all_varchar = true) j USING (query, item_id)
        GROUP BY 1 ORDER BY 1 NULLS FIRST""",
    )
    assert [grade for grade, *_ in rates] == [None, "1", "2", "3", "4"]
    assert (np.diff([click for _, click, _ in rates]) > 0).all()
    assert (np.diff([order for *_, order in rates])[1:] > 0).all()


def test_columns_are_kept_and_nothing_made_up_is_added(files: tuple[Path, Path], tmp_path: Path) -> None:
    simulate_judged(JudgedConfig(), *files, tmp_path / "shop", "train")
    items = pq.read_table(tmp_path / "shop" / "items.parquet")
    assert items.column_names == ["item_id", "title", "weight_kg", "finish"]
    assert items["item_id"].to_pylist()[:2] == ["0000", "0001"]
    config = tomllib.loads((tmp_path / "shop" / "shop.toml").read_text())
    assert config["items"]["numeric"] == ["weight_kg"]
    assert config["items"]["categorical"] == ["finish"]
    assert "price" not in pq.read_table(tmp_path / "shop" / "events").column_names


def test_truth_follows_the_grades(files: tuple[Path, Path], tmp_path: Path) -> None:
    simulate_judged(JudgedConfig(), *files, tmp_path / "shop", "train")
    truth = Truth.open(tmp_path / "shop" / "truth")
    [(request,)] = run_sql(tmp_path / "shop", "SELECT min(request_id) FROM events WHERE query = 'tent'")
    orders = truth.order_propensity([request])[0]
    is_judged = np.arange(80) % 8 == NOUNS.index("tent")
    assert (orders[~is_judged] == 0).all()
    grade = (np.arange(80) // 8) % 4
    assert orders[is_judged & (grade == 3)].mean() > orders[is_judged & (grade == 0)].mean()


def test_every_query_is_searched_and_the_seed_decides(files: tuple[Path, Path], tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("repeat", 1), ("b", 2)):
        simulate_judged(JudgedConfig(seed=seed), *files, tmp_path / name, None)
    a, repeat, b = (read_manifest(tmp_path / name, "shop") for name in ("a", "repeat", "b"))
    events = "events/part-00000.parquet"
    assert a.files[events] == repeat.files[events] != b.files[events]
    assert a.counts["requests"] == 8 * 12
    simulate_judged(JudgedConfig(n_requests=5), *files, tmp_path / "few", None)
    assert read_manifest(tmp_path / "few", "shop").counts["requests"] == 5


@pytest.mark.parametrize("kind", ["csv.gz", "parquet", "jsonl"])
def test_other_formats_give_the_same_shop(files: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    targets = [tmp_path / f"{path.stem}.{kind}" for path in files]
    for path, target in zip(files, targets, strict=True):
        if kind == "csv.gz":
            target.write_bytes(gzip.compress(path.read_bytes()))
        else:
            formats = {"parquet": "FORMAT parquet", "jsonl": "FORMAT json"}
            with duckdb.connect() as database:
                database.execute(
                    f"COPY (FROM read_csv('{path}', types = {{'item_id': 'VARCHAR'}})) TO '{target}' ({formats[kind]})"
                )
    simulate_judged(JudgedConfig(), *files, tmp_path / "plain", "train")
    simulate_judged(JudgedConfig(), targets[0], targets[1], tmp_path / "converted", "train")
    events_a, events_b = (pq.read_table(tmp_path / name / "events") for name in ("plain", "converted"))
    assert events_a.equals(events_b)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, ("relevance", "grade"), "no column 'relevance'"),
        (0, ("title", "name"), "no column 'title'"),
        (1, ("lamp,0008,2,", "lamp,9999,2,"), "row 2: item_id '9999' is not among"),
        (1, ("lamp,0008,2,", "lamp,0008,good,"), "row 2: relevance is 'good', expected a number"),
        (1, ("lamp,0008,2,", "lamp,0008,nan,"), "row 2: relevance is 'nan'"),
        (1, ("lamp,0008,2,", ",0008,2,"), "row 2: the query is empty"),
        (0, ("0001,", "0000,"), "row 2: item_id '0000' stands in an earlier row"),
        (0, ("0001,", ","), "row 2: the item_id is empty"),
        (1, (",train", ",tryout"), "no rows of split 'train', found dev, tryout"),
    ],
)
def test_bad_input_is_named(
    files: tuple[Path, Path], tmp_path: Path, index: int, change: tuple[str, str], message: str
) -> None:
    path = files[index]
    count = -1 if change[0] == ",train" else 1
    path.write_text(path.read_text().replace(*change, count))
    with pytest.raises(TableError) as error:
        simulate_judged(JudgedConfig(), *files, tmp_path / "shop", "train")
    assert message in error.value.cause
    assert path.name in error.value.cause
    assert error.value.cure
    assert not (tmp_path / "shop").exists()


def test_empty_missing_and_foreign_files_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    header = tmp_path / "header.csv"
    header.write_text("query,item_id,relevance,split\n")
    foreign = tmp_path / "items.docx"
    foreign.write_text("x")
    broken_file = tmp_path / "damaged.parquet"
    broken_file.write_bytes(b"PAR1 and no more")
    for items, judgements, message in (
        (files[0], header, "has no rows"),
        (files[0], tmp_path / "none.csv", "There is no file"),
        (foreign, files[1], "of no known kind"),
        (broken_file, files[1], "cannot be read"),
    ):
        with pytest.raises(TableError, match=message):
            simulate_judged(JudgedConfig(), items, judgements, tmp_path / "shop", None)


def test_real_judgements_give_a_log_worth_learning_from(judged_data: Path, tmp_path: Path) -> None:
    folder = judged_data / "crowdflower"
    simulate_judged(JudgedConfig(), folder / "items.csv.gz", folder / "judgements.csv.gz", tmp_path / "shop", None)
    counts = read_manifest(tmp_path / "shop", "shop").counts
    assert counts["judged_queries"] > 250
    assert 0.05 < counts["click_rate"] < 0.15
