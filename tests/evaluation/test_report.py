"""The report holds every number, loads nothing, and takes any name as plain text."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from mmse.cli.console import evaluation_table
from mmse.core import artifact
from mmse.core.errors import ArtifactError, OutputError, UsageError
from mmse.evaluation.filter_quality import FilterQuality
from mmse.evaluation.offline import Evaluation
from mmse.evaluation.reliability import Bin, Reliability, ThresholdCurve
from mmse.evaluation.report import render_report
from mmse.evaluation.report.query_path import QueryPathContext, query_path_context, summary
from mmse.evaluation.rows import Difference, Row, write_rows
from mmse.evaluation.shortfall import Shortfall, describe
from mmse.evaluation.step import PAGE, ROWS, read_report, write_report

SYSTEMS = {"mmse": 0.7, "bm25": 0.6, "popularity": 0.1}
MEASURES = [
    ("ordered", "recall", 10),
    ("ordered", "recall", 100),
    ("clicked", "recall", 10),
    ("clicked", "recall", 100),
    ("off_search", "recall", 100),
    ("truth", "order_rate", 10),
    ("truth", "share_of_top", 100),
    ("judged", "ndcg", 10),
]
CONTEXT = {"shop": "Kleinhaus", "subject": "mmse"}
HOSTILE = "</script><img src=http://evil.example/x onerror=alert(1)>\"'{{ 7 * 7 }}"


class Page(HTMLParser):
    """Tags with their attributes, the readable text, and the JSON behind the charts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.styles = ""
        self.inside = ""
        self.data = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = "data" if dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "data":
            self.data += data
        elif self.inside == "style":
            self.styles += data
        elif not self.inside:
            self.text += data

    @property
    def charts(self) -> dict[str, list[dict[str, object]]]:
        found: dict[str, list[dict[str, object]]] = json.loads(self.data)
        return found


def sample_rows(systems: dict[str, float] = SYSTEMS) -> tuple[list[Row], list[Difference]]:
    rows, differences = [], []
    for s, slice_ in enumerate(["all", "tail queries"]):
        for m, (target, metric, k) in enumerate(MEASURES):
            for system, level in systems.items():
                value = level + 0.011 * m - 0.1 * s
                rows.append(Row(system, target, slice_, metric, k, value, value - 0.013, value + 0.017, 1234))
                gap = systems["mmse"] - level - (0.3 if slice_ != "all" else 0)
                if system != "mmse":
                    at = (target, slice_, metric, k)
                    differences.append(Difference("mmse", system, *at, gap, gap - 0.01, gap + 0.01, True))
    return rows, differences


def render(
    tmp_path: Path, rows: list[Row], differences: list[Difference], context: Mapping[str, object] | None = None
) -> Page:
    page_path = tmp_path / "report.html"
    render_report(rows, differences, {**CONTEXT, **(context or {})}, page_path)
    return Page(page_path.read_text("utf-8"))


def test_every_number_stands_in_the_text(tmp_path: Path) -> None:
    rows, differences = sample_rows()
    text = render(tmp_path, rows, differences).text
    for row in rows:
        assert row.low is not None
        assert row.high is not None
        assert f"{row.value:.3f}{row.low:.3f}–{row.high:.3f}" in text
    for difference in differences:
        assert f"{difference.value:+.3f}".replace("-", "−") in text
    assert "1,234" in text


def test_losses_are_marked_as_plainly_as_wins(tmp_path: Path) -> None:
    rows, differences = sample_rows()
    page = render(tmp_path, rows, differences)
    outcomes = [attrs["class"] for tag, attrs in page.tags if tag == "tr" and "data-slice" in attrs]
    assert outcomes == ["ahead"] * len(MEASURES) + ["behind"] * len(MEASURES)
    words = [
        attrs["class"] for tag, attrs in page.tags if tag == "span" and (attrs.get("class") or "").startswith("verdict")
    ]
    assert words.count("verdict behind") > len(MEASURES)


def test_level_and_untested(tmp_path: Path) -> None:
    at = ("ordered", "all", "recall", 10)
    rows = [Row(system, *at, 0.5, None, None, 9) for system in ("mmse", "a", "b")]
    differences = [Difference("mmse", "a", *at, 0.0, -0.1, 0.1, False)]
    page = render(tmp_path, rows, differences)
    classes = [attrs.get("class") for _, attrs in page.tags]
    assert "verdict level" in classes
    assert "verdict untested" in classes


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    page = render(tmp_path, *sample_rows(), {"training": [{"step": 1.0, "loss": 2.0}]})
    for tag, attrs in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "srcset", "action", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"url\(|@import", page.styles)


def test_names_are_plain_text(tmp_path: Path) -> None:
    rows, differences = sample_rows({"mmse": 0.7, HOSTILE: 0.6})
    rows.append(Row("mmse", "ordered", HOSTILE, "recall", 10, 0.5, None, None, 3))
    hostile = {"shop": HOSTILE, "facts": {HOSTILE: HOSTILE}, "warnings": [HOSTILE], "command": HOSTILE}
    page = render(tmp_path, rows, differences, hostile | {"ann": [{HOSTILE: HOSTILE}]})
    assert not [tag for tag, attrs in page.tags if tag == "img" or "onerror" in attrs]
    assert page.text.count(HOSTILE) >= 8
    assert "49" not in re.findall(r"\b49\b", page.text)
    assert any(s["name"] == HOSTILE for s in page.charts["curves"][0]["series"])  # type: ignore[attr-defined]
    assert sum(tag == "script" for tag, _ in page.tags) == 3


def test_simulated_behaviour_is_said_wherever_numbers_stand(tmp_path: Path) -> None:
    rows, differences = sample_rows()
    assert "simulated behaviour" not in render(tmp_path, rows, differences).text
    text = render(tmp_path, rows, differences, {"simulated": True}).text
    assert text.count("simulated behaviour") == 6


def test_the_warning_about_logged_orders(tmp_path: Path) -> None:
    rows, differences = sample_rows()
    warning = "favours systems that imitate the engine that made the log"
    assert warning in render(tmp_path, rows, differences).text
    judged_rows = [row for row in rows if row.target == "judged"]
    assert warning not in render(tmp_path, judged_rows, []).text


def test_charts_by_target_and_slice(tmp_path: Path) -> None:
    charts = render(tmp_path, *sample_rows(), {"training": [{"step": 1.0, "loss": 2.0, "recall@10": 0.1}]}).charts
    assert [chart["title"] for chart in charts["curves"]] == ["Logged orders", "Logged clicks"]
    assert [chart["title"] for chart in charts["truth"]] == ["Order rate", "Share of the true best"]
    assert all(chart["slices"] == ["all", "tail queries"] for chart in charts["gains"])
    assert [chart["title"] for chart in charts["training"]] == ["Training loss", "While training"]


def test_only_losses_and_shares_are_drawn_of_the_training(tmp_path: Path) -> None:
    points = [
        {"step": 5, "epoch": 1, "loss": 2.5, "ordered": float("nan"), "clicked_requests": 400},
        {"step": 9, "epoch": 2, "loss": None, "ordered": 0.7, "clicked_requests": 400},
    ]
    loss, shares = render(tmp_path, *sample_rows(), {"training": points}).charts["training"]
    assert loss["series"] == [{"name": "loss", "colour": 0, "x": [5], "value": [2.5]}]
    assert shares["series"] == [{"name": "ordered", "colour": 0, "x": [9], "value": [0.7]}]


def test_facts_and_indexes_are_shown(tmp_path: Path) -> None:
    context = {
        "facts": {"Items": 20_000, "Model": "3f9c"},
        "ann": [{"index": "exact", "recall": 1.0}, {"index": "ivf"}],
        "command": "mmse evaluate shop.toml",
    }
    text = render(tmp_path, *sample_rows(), context).text
    for words in ("20,000", "3f9c", "exact", "ivf", "mmse evaluate shop.toml"):
        assert words in text


@pytest.mark.parametrize("case", ["nothing", "one system", "one measure", "subject absent", "unknown metric"])
def test_what_is_missing_is_left_out(tmp_path: Path, case: str) -> None:
    rows, differences = sample_rows()
    inputs = {
        "nothing": ([], []),
        "one system": ([row for row in rows if row.system == "mmse"], []),
        "one measure": ([row for row in rows if (row.target, row.k) == ("ordered", 10)], differences),
        "subject absent": ([row for row in rows if row.system != "mmse"], []),
        "unknown metric": ([Row("mmse", "judged", "all", "err", 10, 0.25, None, None, 5)], []),
    }[case]
    page = render(tmp_path, *inputs)
    headings = [attrs.get("id") for tag, attrs in page.tags if tag == "h2"]
    assert ("headline" in headings) == (case not in ("nothing", "subject absent"))
    assert ("truth" in headings) == (case in ("one system", "subject absent"))
    assert "training" not in headings
    for row in inputs[0]:
        assert f"{row.value:.3f}" in page.text


def test_wrong_context_and_places(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key 'shopp'"):
        render_report([], [], {"shopp": "x"}, tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        render_report([], [], CONTEXT, tmp_path / "file" / "report.html")


SHORT = Difference("mmse", "mmse (lexical)", "clicked", "new item", "mrr", 10, -0.03, -0.05, -0.01, True)
EVALUATION = Evaluation(
    subject="mmse",
    shortfall=Shortfall(3, 1, 1, [SHORT]),
    filters=[
        FilterQuality("random", 0.01, 40, 0.0114, 0.9871, 1.0, 3.21),
        FilterQuality("near", 0.5, 12, 0.46, 1.0, 0.75, 4.5),
    ],
    reliability=[
        Reliability("distribution", "explored slots", 900, 41.0, 0.0123, 0.0567, [Bin(0.1, 0.12, 0.1, 0.14, 300.0)]),
        Reliability("adapter", "explored slots", 900, 41.0, 0.0061, 0.0511, [Bin(0.1, 0.11, None, None, 300.0)]),
    ],
    threshold_curve=ThresholdCurve([0.0, 0.01, 0.02], [1.0, 0.91, 0.0], [1.0, 0.82, 0.0], 0.934),
    facts={"probability": "adapter", "probability learned on": "explored slots of 4,000 validation requests"},
)
PATH = query_path_context(EVALUATION, filters_tried=True)
SECTIONS = {"together", "filters", "reliability", "kept"}


def render_path(tmp_path: Path, path: QueryPathContext, *, simulated: bool = False) -> Page:
    context = {**CONTEXT, "simulated": simulated}
    render_report(*sample_rows(), context, tmp_path / "path.html", path)
    return Page((tmp_path / "path.html").read_text("utf-8"))


def headings(page: Page) -> set[str | None]:
    return {attrs.get("id") for tag, attrs in page.tags if tag == "h2"}


def test_where_both_channels_together_fall_short(tmp_path: Path) -> None:
    text = render_path(tmp_path, PATH).text
    assert "mmse falls short of the better channel on 1 (mrr@10 of clicked, new item: −0.030 to mmse (lexical))" in text
    assert "MRR@10Logged clicksnew itemmmse (lexical)−0.030−0.050 to −0.010" in text
    level = render_path(tmp_path, replace(PATH, shortfall=Shortfall(2, 1, 1, []))).text
    assert "nowhere below either of its channels" in level
    assert "Difference to it" not in level


def test_filters_in_words(tmp_path: Path) -> None:
    text = render_path(tmp_path, PATH).text
    assert "has nothing to do with the queryabout 1%median 1.1%, 40 searches0.987100.0%3.2" in text
    assert "is built around an item that was wantedabout 50%median 46%, 12 searches1.00075.0%4.5" in text


@pytest.mark.parametrize(("filters_tried", "message"), [(True, "no column to filter by"), (False, "")])
def test_no_filter_was_measured(tmp_path: Path, filters_tried: bool, message: str) -> None:
    page = render_path(tmp_path, replace(PATH, filters=[], filters_tried=filters_tried))
    assert ("filters" in headings(page)) == filters_tried, (
        "nothing is said of a catalogue whose columns were not looked at"
    )
    assert message in page.text


def test_how_likely_is_likely(tmp_path: Path) -> None:
    page = render_path(tmp_path, PATH)
    assert "off by 0.6 percentage points on slots filled at random." in page.text
    assert (
        "The form in use, adapter, was learned on explored slots of 4,000 validation requests and has the lower log "
        "loss on everything it was held against." in page.text
    )
    assert "adapterin use0.0060.0511lower" in page.text
    assert "distribution0.0120.0567" in page.text
    (chart,) = page.charts["reliability"]
    assert chart["title"] == "Slots filled at random"
    series = chart["series"]
    assert isinstance(series, list)
    assert [(line["name"], line["colour"]) for line in series] == [("adapter", 0), ("distribution", 1)], (
        "in use comes first"
    )
    assert (series[1]["x"], series[1]["value"], series[1]["looks"]) == ([0.1], [0.12], [300.0])


def test_the_form_in_use_may_be_the_worse_one(tmp_path: Path) -> None:
    text = render_path(tmp_path, replace(PATH, form="distribution")).text
    assert (
        "distribution, was learned on explored slots of 4,000 validation requests and has the higher log loss" in text
    )
    every = [
        structs.replace(record, sample="all slots", log_loss=1 - record.log_loss) for record in EVALUATION.reliability
    ]
    mixed_context = replace(PATH, reliability=[*EVALUATION.reliability, *every])
    text = render_path(tmp_path, mixed_context).text
    assert "has the lower log loss on slots filled at random." in text
    assert "off by 0.6 percentage points on slots filled at random." in text, "slots that an engine picked are not fair"


def test_what_a_least_probability_leaves(tmp_path: Path) -> None:
    page = render_path(tmp_path, PATH)
    assert "93.4% of what was clicked or ordered" in page.text
    assert "1%91.0%82.0%2%0.0%0.0%" in page.text
    (chart,) = page.charts["kept"]
    assert chart["kind"] == "kept"


def test_every_section_about_behaviour_bears_the_badge(tmp_path: Path) -> None:
    assert render_path(tmp_path, PATH, simulated=True).text.count("simulated behaviour") == 6 + 3


def test_sections_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    assert headings(render_path(tmp_path, PATH)) >= SECTIONS
    page = render_path(tmp_path, QueryPathContext())
    assert not SECTIONS & headings(page)
    assert page.charts["reliability"] == page.charts["kept"] == []


def test_empty_bins_and_curves_break_nothing(tmp_path: Path) -> None:
    empty = [structs.replace(record, bins=[]) for record in EVALUATION.reliability]
    page = render_path(
        tmp_path, replace(PATH, reliability=empty, threshold_curve=ThresholdCurve([], [], [], 0.0), form="")
    )
    assert {"reliability", "kept"} <= headings(page)
    assert "in use" not in page.text


def test_the_report_folder_gives_back_the_evaluation(tmp_path: Path) -> None:
    rows, differences = sample_rows()
    whole = replace(EVALUATION, rows=rows, differences=differences, warnings=["Careful."])
    write_report(tmp_path, tmp_path / "report", whole, {"filter_requests": 150}, {})
    assert read_report(tmp_path / "report") == whole
    page = Page((tmp_path / "report" / PAGE).read_text("utf-8"))
    assert headings(page) >= SECTIONS
    minimal = Evaluation("mmse", rows)
    write_report(tmp_path, tmp_path / "bare", minimal, {}, {})
    assert read_report(tmp_path / "bare") == minimal


def test_a_report_of_an_older_evaluation_says_to_evaluate_again(tmp_path: Path) -> None:
    with artifact.write_folder(tmp_path / "report", kind="report", config={}, inputs={}) as draft:
        write_rows(draft.folder / ROWS, [], [], ours="mmse", warnings=[], agreement=[], facts={})
    with pytest.raises(ArtifactError, match=r"(?s)shortfall.*Evaluate again"):
        read_report(tmp_path / "report")


def test_our_own_channels_can_be_ahead(tmp_path: Path) -> None:
    at = ("ordered", "all", "recall", 10)
    rows = [Row("mmse", *at, 0.5, 0.4, 0.6, 9), Row("mmse (vector)", *at, 0.6, 0.5, 0.7, 9)]
    difference = Difference("mmse", "mmse (vector)", *at, -0.1, -0.15, -0.05, True)
    write_report(tmp_path, tmp_path / "report", Evaluation("mmse", rows, [difference]), {}, {})
    page = Page((tmp_path / "report" / PAGE).read_text("utf-8"))
    assert "verdict behind" in [attrs.get("class") for _, attrs in page.tags]


def test_the_terminals_lines() -> None:
    lines = summary(PATH, "mmse")
    assert lines[0].startswith("mmse falls short of the better channel on 1")
    assert lines[1:] == [
        "Filters: at worst 0.987 of exact recall@100; 25.0% of searches short of hits.",
        "Probabilities (adapter): calibration error 0.006 explored.",
    ]
    assert summary(QueryPathContext(), "mmse") == []
    full = replace(PATH, filters=[structs.replace(EVALUATION.filters[0], recall=1.0)])
    assert summary(full, "mmse")[1] == "Filters: at worst 1.000 of exact recall@100; no search was short of hits."


def test_the_terminals_lines_fit_80_columns() -> None:
    truth = [structs.replace(record, sample="hits, true chance") for record in EVALUATION.reliability]
    path = replace(PATH, reliability=[*EVALUATION.reliability, *truth], form="distribution")
    lines = summary(path, "mmse")
    assert lines[2] == "Probabilities (distribution): calibration error 0.012 explored, 0.012 in truth."
    assert max(map(len, lines[1:])) <= 80


def test_the_terminal_says_a_shortfall_once() -> None:
    evaluation = replace(EVALUATION, rows=sample_rows()[0], warnings=[describe(EVALUATION.shortfall, "mmse")])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(evaluation_table(evaluation))
    text = console.export_text()
    assert text.count("falls short") == 1
    assert "Filters: at worst 0.987" in text
