"""Rows survive JSON, refuse nonsense, and pivot into the table that people read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.evaluation.rows import TARGETS, Difference, Measure, Row, find_difference, pivot, read_rows, write_rows

ROW = Row("mmse", "ordered", "all", "recall", 100, 0.76, 0.75, 0.77, 900)
NUMBERS = st.floats(-1, 1)
ROWS = st.builds(
    Row,
    system=st.text(),
    target=st.sampled_from(TARGETS),
    slice=st.text(),
    metric=st.text(),
    k=st.integers(1, 1000),
    value=NUMBERS,
    low=st.just(0.1),
    high=NUMBERS,
    queries=st.integers(0, 99),
)


@given(st.lists(ROWS))
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("rows") / "report.json"
    differences = [
        Difference(r.system, "bm25", r.target, r.slice, r.metric, r.k, r.value, None, None, False) for r in rows
    ]
    write_rows(path, rows, differences, seed=3)
    assert read_rows(path) == (rows, differences)


@pytest.mark.parametrize("content", ["", "[]", '{"rows": []}', '{"rows": [{"system": 1}], "differences": []}'])
def test_files_that_hold_something_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(ArtifactError, match="no file"):
        read_rows(path)
    path.write_text(content)
    with pytest.raises(ArtifactError, match="does not hold evaluation rows"):
        read_rows(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "carted"}, "target"),
        ({"k": 0}, "k"),
        ({"value": float("nan")}, "finite"),
        ({"low": None}, "both ends"),
        ({"high": float("inf")}, "finite ends"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], words: str) -> None:
    fields = {name: getattr(ROW, name) for name in ROW.__dataclass_fields__}
    with pytest.raises(ValueError, match=words):
        Row(**(fields | change))


def test_pivot() -> None:
    rows = [
        Row("mmse", "judged", "all", "ndcg", 10, 0.5, None, None, 9),
        ROW,
        Row("bm25", "ordered", "all", "recall", 100, 0.64, 0.6, 0.7, 900),
        Row("bm25", "ordered", "head", "recall", 100, 0.9, 0.8, 1.0, 20),
    ]
    table = pivot(rows)
    assert table.systems == ["mmse", "bm25"]
    assert [str(m) for m in table.measures] == ["ordered recall@100", "judged ndcg@10"]
    assert table.get("mmse", Measure("ordered", "recall", 100)) == ROW
    assert table.get("bm25", Measure("judged", "ndcg", 10)) is None
    assert table.best(Measure("ordered", "recall", 100)) == 0.76
    assert table.best(Measure("judged", "mrr", 10)) is None
    assert pivot(rows, "head").systems == ["bm25"]
    assert pivot([]).measures == []


def test_find_difference() -> None:
    difference = Difference("mmse", "bm25", "ordered", "head", "recall", 100, 0.1, 0.05, 0.15, True)
    measure = Measure("ordered", "recall", 100)
    assert find_difference([difference], "mmse", "bm25", measure, "head") == difference
    assert find_difference([difference], "mmse", "bm25", measure) is None
