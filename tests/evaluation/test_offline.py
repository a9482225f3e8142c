"""Logged metrics by hand on made-up requests; slices, differences, judgements and the truth on small shops."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse import pipeline
from mmse.core.artifact import MANIFEST, write_folder
from mmse.core.errors import ArtifactError, TableError
from mmse.core.progress import silent
from mmse.core.run_folder import INDEX, VECTORS
from mmse.dataset.folder import DatasetFolder
from mmse.evaluation.bootstrap import BootstrapConfig
from mmse.evaluation.channels import CUTS, QueryBatch, Subject
from mmse.evaluation.judgements import evaluate_judged
from mmse.evaluation.metric_values import MetricValues, summarise
from mmse.evaluation.offline import EvaluateConfig, evaluate_log, logged_metrics
from mmse.evaluation.rows import ALL, Row
from mmse.evaluation.slices import Slice, slices_of
from mmse.evaluation.step import read_report, write_report
from mmse.evaluation.systems import System, open_baselines, rank_all
from mmse.evaluation.truth import CatalogueTruth, truth_metrics
from mmse.index.embedding import EmbedConfig
from mmse.lab.simulator.truth import Truth
from mmse.pipeline import Listener
from mmse.schema.stages import Stage
from mmse.shop import Shop
from mmse.training.targets import LoggedRequests, read_logged_requests

NAN = float("nan")
FAST = EvaluateConfig(requests=60, truth_requests=30, calibration_requests=20, filter_requests=6, draws=30)


def logged(
    queries: Sequence[str], pairs: Sequence[tuple[int, int, Stage, bool]], history: Sequence[int] | None = None
) -> LoggedRequests:
    """Requests with these queries; a pair is request, item row, stage, and whether its slot was explored."""
    request, rows, stages, explored = zip(*pairs, strict=True) if pairs else ((), (), (), ())
    return LoggedRequests(
        request_ids=[f"r{i}" for i in range(len(queries))],
        queries=list(queries),
        users=[None] * len(queries),
        history=np.array(history if history is not None else [-1] * len(queries), np.int32)[:, None],
        request=np.array(request, np.int64),
        item_rows=np.array(rows, np.int32),
        stages=np.array(stages, np.int64),
        explored=np.array(explored, bool),
    )


def padded(*rankings: Sequence[int]) -> np.ndarray:
    rows = np.full((len(rankings), max(CUTS)), -1)
    for row, ranking in zip(rows, rankings, strict=True):
        row[: len(ranking)] = ranking
    return rows


class TestLoggedMetricsByHand:
    """Request 0 ordered item 4 and clicked 7; request 1 clicked 2 (explored) and 9; request 2 did nothing."""

    LOG = logged(
        ["red tent", "stove", "lamp"],
        [
            (0, 4, Stage.ORDERED, False),
            (0, 7, Stage.CLICKED, False),
            (1, 2, Stage.CLICKED, True),
            (1, 9, Stage.CLICKED, False),
        ],
    )
    RANKING_A = padded([7, 4], [*range(10, 20), 2], [4])
    RANKING_B = padded([0, 1, 4], [9], [])

    def metric_values(self, *slices: Slice) -> dict[tuple[str, str, str, int], np.ndarray]:
        every = Slice(ALL, np.ones(3, bool), np.ones(4, bool))
        results = logged_metrics([self.RANKING_A, self.RANKING_B], self.LOG, slices or [every])
        return {(m.target, m.slice, m.metric, m.k): m.values for m in results}

    def test_which_are_measured(self) -> None:
        recalls = {(target, ALL, "recall", k) for target in ("ordered", "clicked") for k in CUTS}
        assert self.metric_values().keys() == recalls | {("clicked", ALL, "ndcg", 10), ("clicked", ALL, "mrr", 10)}

    def test_recall(self) -> None:
        m = self.metric_values()
        np.testing.assert_array_equal(m["ordered", ALL, "recall", 10], [[1, NAN, NAN], [1, NAN, NAN]])
        np.testing.assert_array_equal(m["clicked", ALL, "recall", 10], [[2 / 2, 0 / 2, NAN], [1 / 2, 1 / 2, NAN]])
        np.testing.assert_array_equal(m["clicked", ALL, "recall", 50], [[2 / 2, 1 / 2, NAN], [1 / 2, 1 / 2, NAN]])

    def test_ndcg_gives_an_order_three_and_a_click_one(self) -> None:
        second, third = 1 / np.log2(3), 1 / 2
        ideal = 3 + 1 * second
        expected = [[(1 + 3 * second) / ideal, 0, NAN], [3 * third / ideal, 1 / (1 + second), NAN]]
        np.testing.assert_allclose(self.metric_values()["clicked", ALL, "ndcg", 10], expected)

    def test_ndcg_gives_a_cart_two(self) -> None:
        carted = logged(["red tent"], [(0, 4, Stage.CARTED, False), (0, 7, Stage.CLICKED, False)])
        every = Slice(ALL, np.ones(1, bool), np.ones(2, bool))
        results = {(m.target, m.metric): m for m in logged_metrics([padded([7, 4])], carted, [every]) if m.k == 10}
        second = 1 / np.log2(3)
        np.testing.assert_allclose(results["clicked", "ndcg"].values, [[(1 + 2 * second) / (2 + second)]])
        np.testing.assert_array_equal(results["clicked", "recall"].values, [[1]])
        assert np.isnan(results["ordered", "recall"].values).all()

    def test_mrr(self) -> None:
        np.testing.assert_allclose(self.metric_values()["clicked", ALL, "mrr", 10], [[1, 0, NAN], [1 / 3, 1, NAN]])

    def test_a_slice_of_requests_and_one_of_pairs(self) -> None:
        requests = Slice("first", np.array([True, False, False]), np.ones(4, bool))
        pairs = Slice("explored slots", np.ones(3, bool), self.LOG.explored)
        m = self.metric_values(requests, pairs)
        np.testing.assert_array_equal(m["clicked", "first", "recall", 10], [[1, NAN, NAN], [1 / 2, NAN, NAN]])
        np.testing.assert_array_equal(m["clicked", "explored slots", "recall", 10], [[NAN, 0, NAN], [NAN, 0, NAN]])
        np.testing.assert_array_equal(m["clicked", "explored slots", "recall", 100], [[NAN, 1, NAN], [NAN, 0, NAN]])
        assert np.isnan(m["ordered", "explored slots", "recall", 10]).all()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Ten training requests, five queries; of four items the last was first shown in validation."""
    moments = pa.array([0, 1, 2, 3], pa.timestamp("us"))
    snapshot, row, shown = [1, 1, 1, 2, 2, 2, 2, 3], [0, 1, 2, 0, 1, 2, 3, 3], [5, 3, 2, 9, 9, 9, 1, 4]
    with write_folder(tmp_path / "dataset", kind="dataset", config={}, inputs={}) as draft:
        tables = {
            "queries": {"query": ["a", "b", "c", "d", "e f"], "requests": [3, 3, 2, 1, 1]},
            "snapshots": {"snapshot": [0, 1, 2, 3], "before": moments},
            "item_stats": {"snapshot": snapshot, "item_row": row, "shown": shown, "clicked": shown, "ordered": shown},
            "items": {"item_id": ["w", "x", "y", "z"]},
        }
        for name, columns in tables.items():
            pq.write_table(pa.table(columns), draft.folder / f"{name}.parquet")
    return tmp_path / "dataset"


class TestSlices:
    """Of ten training requests `a` and `b` made three each, so `b` begins before a third and `c` before two."""

    LOG = logged(
        ["a", "b", "c", "D ", "E\tF", "unheard of"],
        [(0, 0, Stage.CLICKED, False), (1, 3, Stage.CLICKED, True), (5, 3, Stage.ORDERED, False)],
        history=[2, -1, -1, 0, -1, -1],
    )

    def test_assignment(self, dataset: Path) -> None:
        results = {s.name: s for s in slices_of(dataset, self.LOG)}
        requests = {name: np.flatnonzero(s.requests).tolist() for name, s in results.items()}
        pairs = {name: np.flatnonzero(s.pairs).tolist() for name, s in results.items()}
        all_requests, all_pairs = list(range(6)), [0, 1, 2]
        assert requests == {
            ALL: all_requests,
            "head query": [0, 1],
            "torso query": [2],
            "tail query": [3, 4, 5],
            "new query": [5],
            "new item": all_requests,
            "with history": [0, 3],
            "without history": [1, 2, 4, 5],
            "explored slots": all_requests,
        }
        assert {name: p for name, p in pairs.items() if p != all_pairs} == {"new item": [1, 2], "explored slots": [1]}

    def test_a_log_without_training_has_only_new_queries(self, dataset: Path) -> None:
        empty = pa.table({"query": pa.array([], pa.string()), "requests": pa.array([], pa.int64())})
        pq.write_table(empty, DatasetFolder(dataset).queries)
        results = {s.name: s.requests.sum() for s in slices_of(dataset, self.LOG)}
        assert (results["head query"], results["torso query"], results["tail query"], results["new query"]) == (
            0,
            0,
            6,
            6,
        )


def test_differences_are_the_subject_minus_the_rival() -> None:
    values = np.array([[0.0, 0.5, 0.0, 0.5], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    metric_values = MetricValues("ordered", ALL, "recall", 10, values)
    clusters, config = np.arange(4, dtype=np.int64), BootstrapConfig(draws=50)
    rows, differences = summarise([metric_values], ["mmse", "weak", "strong"], clusters, config, silent)
    assert [(row.system, row.value, row.queries) for row in rows] == [
        ("mmse", 1 / 4, 4),
        ("weak", 3 / 4, 4),
        ("strong", 1.0, 4),
    ]
    assert [(d.system, d.versus, d.value) for d in differences] == [
        ("mmse", "weak", -1 / 2),
        ("mmse", "strong", -3 / 4),
    ]
    swapped = MetricValues("ordered", ALL, "recall", 10, values[[1, 0, 2]])
    difference, reverse = (
        differences[0],
        summarise([swapped], ["weak", "mmse", "strong"], clusters, config, silent)[1][0],
    )
    assert (reverse.system, reverse.versus) == ("weak", "mmse")
    assert (reverse.value, reverse.low, reverse.high) == (
        -difference.value,
        -(difference.high or 0),
        -(difference.low or 0),
    )
    for d in differences:
        assert d.low is not None
        assert d.high is not None
        assert d.low <= d.value <= d.high


def test_what_no_request_defines_has_no_row_and_one_query_no_interval() -> None:
    truth_values = [
        MetricValues("ordered", "new item", "recall", 10, np.full((2, 3), NAN)),
        MetricValues("ordered", ALL, "recall", 10, np.array([[1.0, NAN, 0.0], [0.0, NAN, 1.0]])),
    ]
    systems, config = ["mmse", "bm25"], BootstrapConfig(draws=20)
    rows, differences = summarise(truth_values, systems, np.zeros(3, np.int64), config, silent)
    assert rows == [Row(name, "ordered", ALL, "recall", 10, 0.5, None, None, 1) for name in systems]
    assert differences == []


def test_a_ranking_of_a_small_catalogue_is_padded() -> None:
    batch = QueryBatch(["a"], [None], np.full((1, 1), -1, np.int32))
    ranking = rank_all([System("s", lambda q, depth: np.array([[2, 0, 1]]))], batch, silent)["s"]
    assert ranking.shape == (1, max(CUTS))
    assert ranking[0, :4].tolist() == [2, 0, 1, -1]


@pytest.fixture(scope="module")
def truth_values(small_shop: Shop, small_run: Path) -> dict[tuple[str, str, int], np.ndarray]:
    return _measure_truth(small_shop, small_run)


def _measure_truth(shop: Shop, run: Path) -> dict[tuple[str, str, int], np.ndarray]:
    """The best ranking and the worst one against the truth, on 30 of 40 requests."""
    log = read_logged_requests(run / "dataset", "test", 40, clicked_only=False)
    assert shop.truth
    truth = CatalogueTruth.align(Truth.open(shop.truth), run / "dataset")
    propensity = truth.orders(log.request_ids)
    best = np.argsort(-propensity, axis=1, kind="stable")
    rankings = [np.pad(r, ((0, 0), (0, 1000 - r.shape[1])), constant_values=-1) for r in (best, best[:, ::-1])]
    results = truth_metrics(rankings, log.request_ids, truth, 30, 0, silent)
    return {(m.target, m.metric, m.k): m.values for m in results}


class TestTruth:
    """What the simulated truth says of rankers whose worth is known."""

    @pytest.mark.parametrize(("metric", "k"), [("order_rate", 10), ("order_rate", 100), ("share_of_top", 100)])
    def test_ranking_by_true_propensity_is_perfect(
        self, truth_values: dict[tuple[str, str, int], np.ndarray], metric: str, k: int
    ) -> None:
        best, worst = truth_values["truth", metric, k]
        np.testing.assert_allclose(best[:30], 1)
        assert np.isnan(best[30:]).all(), "only the first `truth_requests` are held against the truth"
        assert (worst[:30] < 1).all()

    def test_orders_outside_the_search(self, truth_values: dict[tuple[str, str, int], np.ndarray]) -> None:
        best, worst = truth_values["off_search", "recall", 100]
        assert np.nanmean(best) > np.nanmean(worst)
        np.testing.assert_array_equal(truth_values["off_search", "recall", 500][:, :30], 1)

    def test_parts_that_fit_into_memory_change_no_number(
        self,
        truth_values: dict[tuple[str, str, int], np.ndarray],
        small_shop: Shop,
        small_run: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("mmse.evaluation.truth._CELLS", 5_000)
        for key, values in _measure_truth(small_shop, small_run).items():
            np.testing.assert_array_equal(values, truth_values[key])


class TestALog:
    """The whole evaluation of the small run, and what it refuses."""

    @pytest.fixture
    def run_copy(self, small_run: Path, tmp_path: Path) -> Path:
        shutil.copytree(small_run, tmp_path / "run")
        return tmp_path / "run"

    def test_a_report_comes_back_as_it_was_written(self, small_shop: Shop, run_copy: Path) -> None:
        assert small_shop.truth
        evaluation = evaluate_log(run_copy, FAST, Truth.open(small_shop.truth))
        write_report(run_copy, run_copy / "again", evaluation, {}, {})
        assert read_report(run_copy / "again") == evaluation
        assert evaluation.subject == "mmse"
        assert evaluation.facts["test requests"] == 60
        assert evaluation.facts["simulated"] is True
        assert evaluation.facts["probability"] == "adapter"
        systems = {row.system for row in evaluation.rows}
        channels = {"mmse (vector)", "mmse (lexical)", "mmse (rrf)"}
        assert systems == {"mmse", "dssm", "bm25", "popularity"} | channels
        assert evaluation.shortfall.n_compared > 20
        assert {record.sample for record in evaluation.reliability} == {
            "all slots",
            "explored slots",
            "hits, true chance",
        }
        assert all(quality.full == 1 and quality.recall > 0.9 for quality in evaluation.filters)
        assert {d.versus for d in evaluation.differences} == systems - {"mmse"}
        assert {row.target for row in evaluation.rows} == {"ordered", "clicked", "off_search", "truth"}
        assert all(0 <= row.value <= 1 for row in evaluation.rows)
        assert [record["index"] for record in evaluation.agreement] == ["mmse (vector), ivf"]

    def test_the_same_seed_gives_the_same_numbers(self, small_run: Path) -> None:
        evaluation, repetition = (
            replace(evaluate_log(small_run, FAST), filters=[]) for _ in range(2)
        )  # filters are timed
        assert evaluation == repetition

    def test_no_report(self, run_copy: Path) -> None:
        shutil.rmtree(run_copy / "report")
        with pytest.raises(ArtifactError, match="report"):
            read_report(run_copy / "report")

    def test_vectors_as_of_the_end_are_refused(self, small_shop: Shop, run_copy: Path) -> None:
        late = replace(small_shop, embed=EmbedConfig(as_of="end"))
        pipeline.make(VECTORS, late, run_copy, Listener())
        pipeline.make(INDEX, late, run_copy, Listener())
        with pytest.raises(ArtifactError, match="embedded as of 'end': it knows the test window's orders") as caught:
            evaluate_log(run_copy, FAST)
        assert "--as-of test" in caught.value.cure

    def test_a_log_without_a_test_window(self, run_copy: Path) -> None:
        manifest = json.loads((run_copy / "dataset" / MANIFEST).read_text())
        for file in (run_copy / "dataset" / "test").glob("*.parquet"):
            file.unlink()
            del manifest["files"][f"test/{file.name}"]
        (run_copy / "dataset" / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError, match="has no test request"):
            evaluate_log(run_copy, FAST)

    @pytest.mark.parametrize(
        ("folder", "name", "message"),
        [
            ("vectors", "model", "was made from another model"),
            ("vectors", "dataset", "was made from another dataset"),
            ("index", "vectors", "was made from another vectors"),
        ],
    )
    def test_folders_that_do_not_belong_together(self, run_copy: Path, folder: str, name: str, message: str) -> None:
        file = run_copy / folder / MANIFEST
        manifest = json.loads(file.read_text())
        manifest["inputs"][name] = "feedface"
        file.write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError, match=message):
            open_baselines(Subject.open(run_copy))

    def test_a_baseline_of_another_dataset_is_left_out(self, run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
        file = run_copy / "baselines" / "dssm" / MANIFEST
        manifest = json.loads(file.read_text())
        manifest["inputs"]["dataset"] = "feedface"
        file.write_text(json.dumps(manifest))
        assert "dssm" not in [system.name for system in open_baselines(Subject.open(run_copy))]
        assert "dssm is left out: it was trained on another dataset" in caplog.text


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def grades(small_run: Path) -> list[tuple[str, str, float, str]]:
    items = pq.read_table(DatasetFolder(small_run / "dataset").items).slice(0, 12).to_pylist()
    rows = []
    for i, item in enumerate(items):
        split = "dev" if i % 3 else "held"
        rows += [(item["title"], item["item_id"], 3.0, split), (item["title"], items[i - 1]["item_id"], 1.0, split)]
    return rows


class TestJudgements:
    """Grades of the small shop's own items: each query is the title of the item graded 3."""

    COLUMNS = ("query", "item_id", "relevance", "split")

    @pytest.fixture
    def judge(self, small_run: Path, tmp_path: Path) -> Callable[..., object]:
        def judged(rows: Sequence[Sequence[object]], columns: Sequence[str] = self.COLUMNS, **given: object) -> object:
            file = write_csv(tmp_path / "grades.csv", columns, rows)
            return evaluate_judged(small_run, file, FAST, **({"relevant_from": 2.5} | given))  # type: ignore[arg-type]

        return judged

    def test_a_title_finds_its_item(self, small_run: Path, tmp_path: Path, grades: list[Sequence[object]]) -> None:
        file = write_csv(tmp_path / "grades.csv", self.COLUMNS, grades)
        result = evaluate_judged(small_run, file, FAST, relevant_from=2.5)
        queries = len({row[0] for row in grades})
        assert result.facts == {"judged queries": queries, "relevant from": 2.5, "split": "all"}
        assert {(row.target, row.slice) for row in result.rows} == {("judged", ALL)}
        assert {(row.metric, row.k) for row in result.rows} == {("mrr", 10), *(("recall", k) for k in CUTS)}
        value = {(row.system, row.metric, row.k): row.value for row in result.rows}
        assert value["bm25", "recall", 10] == value["mmse (lexical)", "recall", 10] == 1
        assert value["mmse", "recall", 500] == value["popularity", "recall", 500] == 1
        assert {row.queries for row in result.rows} == {queries}

    def test_one_split_only(self, small_run: Path, tmp_path: Path, grades: list[Sequence[object]]) -> None:
        file = write_csv(tmp_path / "grades.csv", self.COLUMNS, grades)
        result = evaluate_judged(small_run, file, FAST, relevant_from=2.5, split="held")
        held_out_queries = {row[0] for row in grades if row[3] == "held"} - {
            row[0] for row in grades if row[3] != "held"
        }
        assert result.facts["judged queries"] == len(held_out_queries)
        assert result.facts["split"] == "held"

    def test_a_threshold_that_no_grade_reaches(self, judge: Callable[..., object], grades: list[object]) -> None:
        with pytest.raises(TableError, match=r"no relevance reaches 4\.0; the highest is 3\.0"):
            judge(grades, relevant_from=4.0)

    def test_an_item_that_the_run_does_not_have(self, judge: Callable[..., object], grades: list[object]) -> None:
        with pytest.raises(TableError, match=r"grades\.csv, row 25: item_id 'ghost' is not among the items"):
            judge([*grades, ("tent", "ghost", 3, "dev")])

    def test_an_unknown_split(self, judge: Callable[..., object], grades: list[object]) -> None:
        with pytest.raises(TableError, match="no rows of split 'final', found dev, held"):
            judge(grades, split="final")

    def test_a_missing_column(self, judge: Callable[..., object], grades: list[tuple[object, ...]]) -> None:
        with pytest.raises(TableError, match="has no column 'relevance': expected query, item_id, relevance"):
            judge([row[:2] for row in grades], self.COLUMNS[:2])
        with pytest.raises(TableError, match="has no column 'split'"):
            judge([row[:3] for row in grades], self.COLUMNS[:3], split="dev")

    def test_no_rows(self, judge: Callable[..., object]) -> None:
        with pytest.raises(TableError, match="has no rows"):
            judge([])

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("tent", None, "good", "dev"), "relevance is 'good', expected a number"),
            ((" ", None, 3, "dev"), "the query is empty"),
            (("tent", None, "nan", "dev"), "expected a number"),
        ],
    )
    def test_a_bad_row(
        self, judge: Callable[..., object], grades: list[Sequence[object]], row: tuple[object, ...], message: str
    ) -> None:
        with pytest.raises(TableError, match=message) as caught:
            judge([*grades, (row[0], grades[0][1], *row[2:])])
        assert "row 25" in caught.value.cause

    @pytest.mark.parametrize("content", ["", "\n", "\x00\xff\xfe"])
    def test_an_empty_file(self, small_run: Path, tmp_path: Path, content: str) -> None:
        file = tmp_path / "grades.csv"
        file.write_text(content, "latin-1")
        with pytest.raises(TableError, match=r"grades\.csv"):
            evaluate_judged(small_run, file, FAST, relevant_from=1.0)

    def test_no_file(self, small_run: Path, tmp_path: Path) -> None:
        with pytest.raises(TableError, match="There is no file"):
            evaluate_judged(small_run, tmp_path / "none.csv", FAST, relevant_from=1.0)
