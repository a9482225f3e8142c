"""The report holds every number, loads nothing, and takes any name as plain text."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmse.errors import OutputError, UsageError
from mmse.evaluation.filtered import Filtered
from mmse.evaluation.reliability import Bin, Kept, Reliability
from mmse.evaluation.report import render_report
from mmse.evaluation.report.served import ServedContext, summary
from mmse.evaluation.rows import Difference, Row
from mmse.evaluation.shortfall import Shortfall

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
CONTEXT = {"shop": "Kleinhaus", "ours": "mmse"}
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


def made_up(systems: dict[str, float] = SYSTEMS) -> tuple[list[Row], list[Difference]]:
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
    out = tmp_path / "report.html"
    render_report(rows, differences, {**CONTEXT, **(context or {})}, out)
    return Page(out.read_text("utf-8"))


def test_every_number_stands_in_the_text(tmp_path: Path) -> None:
    rows, differences = made_up()
    text = render(tmp_path, rows, differences).text
    for row in rows:
        assert row.low is not None
        assert row.high is not None
        assert f"{row.value:.3f}{row.low:.3f}–{row.high:.3f}" in text
    for difference in differences:
        assert f"{difference.value:+.3f}".replace("-", "−") in text
    assert "1,234" in text


def test_losses_are_marked_as_plainly_as_wins(tmp_path: Path) -> None:
    rows, differences = made_up()
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
    page = render(tmp_path, *made_up(), {"training": [{"step": 1.0, "loss": 2.0}]})
    for tag, attrs in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "srcset", "action", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"url\(|@import", page.styles)


def test_names_are_plain_text(tmp_path: Path) -> None:
    rows, differences = made_up({"mmse": 0.7, HOSTILE: 0.6})
    rows.append(Row("mmse", "ordered", HOSTILE, "recall", 10, 0.5, None, None, 3))
    hostile = {"shop": HOSTILE, "facts": {HOSTILE: HOSTILE}, "warnings": [HOSTILE], "command": HOSTILE}
    page = render(tmp_path, rows, differences, hostile | {"ann": [{HOSTILE: HOSTILE}]})
    assert not [tag for tag, attrs in page.tags if tag == "img" or "onerror" in attrs]
    assert page.text.count(HOSTILE) >= 8
    assert "49" not in re.findall(r"\b49\b", page.text)
    assert any(s["name"] == HOSTILE for s in page.charts["curves"][0]["series"])  # type: ignore[attr-defined]
    assert sum(tag == "script" for tag, _ in page.tags) == 3


def test_simulated_behaviour_is_said_wherever_numbers_stand(tmp_path: Path) -> None:
    rows, differences = made_up()
    assert "simulated behaviour" not in render(tmp_path, rows, differences).text
    text = render(tmp_path, rows, differences, {"simulated": True}).text
    assert text.count("simulated behaviour") == 6


def test_the_warning_about_logged_orders(tmp_path: Path) -> None:
    rows, differences = made_up()
    warning = "flatters whoever imitates the engine that made the log"
    assert warning in render(tmp_path, rows, differences).text
    judged = [row for row in rows if row.target == "judged"]
    assert warning not in render(tmp_path, judged, []).text


def test_charts_by_target_and_slice(tmp_path: Path) -> None:
    charts = render(tmp_path, *made_up(), {"training": [{"step": 1.0, "loss": 2.0, "recall@10": 0.1}]}).charts
    assert [chart["title"] for chart in charts["curves"]] == ["Logged orders", "Logged clicks"]
    assert [chart["title"] for chart in charts["truth"]] == ["Order rate", "Share of the true best"]
    assert all(chart["slices"] == ["all", "tail queries"] for chart in charts["gains"])
    assert [chart["title"] for chart in charts["training"]] == ["Training loss", "While training"]


def test_only_losses_and_shares_are_drawn_of_the_training(tmp_path: Path) -> None:
    points = [
        {"step": 5, "epoch": 1, "loss": 2.5, "ordered": float("nan"), "clicked_requests": 400},
        {"step": 9, "epoch": 2, "loss": None, "ordered": 0.7, "clicked_requests": 400},
    ]
    loss, shares = render(tmp_path, *made_up(), {"training": points}).charts["training"]
    assert loss["series"] == [{"name": "loss", "slot": 0, "x": [5], "value": [2.5]}]
    assert shares["series"] == [{"name": "ordered", "slot": 0, "x": [9], "value": [0.7]}]


def test_facts_and_indexes_are_shown(tmp_path: Path) -> None:
    context = {
        "facts": {"Items": 20_000, "Model": "3f9c"},
        "ann": [{"index": "exact", "recall": 1.0}, {"index": "ivf"}],
        "command": "mmse evaluate shop.toml",
    }
    text = render(tmp_path, *made_up(), context).text
    for words in ("20,000", "3f9c", "exact", "ivf", "mmse evaluate shop.toml"):
        assert words in text


@pytest.mark.parametrize("case", ["nothing", "one system", "one measure", "ours absent", "unknown metric"])
def test_what_is_missing_is_left_out(tmp_path: Path, case: str) -> None:
    rows, differences = made_up()
    chosen = {
        "nothing": ([], []),
        "one system": ([row for row in rows if row.system == "mmse"], []),
        "one measure": ([row for row in rows if (row.target, row.k) == ("ordered", 10)], differences),
        "ours absent": ([row for row in rows if row.system != "mmse"], []),
        "unknown metric": ([Row("mmse", "judged", "all", "err", 10, 0.25, None, None, 5)], []),
    }[case]
    page = render(tmp_path, *chosen)
    headings = [attrs.get("id") for tag, attrs in page.tags if tag == "h2"]
    assert ("headline" in headings) == (case not in ("nothing", "ours absent"))
    assert ("truth" in headings) == (case in ("one system", "ours absent"))
    assert "training" not in headings
    for row in chosen[0]:
        assert f"{row.value:.3f}" in page.text


def test_wrong_context_and_places(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key 'shopp'"):
        render_report([], [], {"shopp": "x"}, tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        render_report([], [], CONTEXT, tmp_path / "file" / "report.html")


PATH = ServedContext(
    shortfall=Shortfall(
        3, 1, 1, [Difference("mmse", "mmse (lexical)", "clicked", "new item", "mrr", 10, -0.03, -0.05, -0.01, True)]
    ),
    filters=[
        Filtered("random", 0.01, 40, 0.011, 0.9871, 1.0, 3.21),
        Filtered("near", 0.5, 12, 0.46, 1.0, 0.75, 4.5),
    ],
    reliability=[
        Reliability("distribution", "explored slots", 900, 41.0, 0.0123, 0.0567, [Bin(0.1, 0.12, 0.1, 0.14, 300.0)]),
        Reliability("adapter", "explored slots", 900, 41.0, 0.0061, 0.0511, [Bin(0.1, 0.11, None, None, 300.0)]),
    ],
    kept=Kept([0.0, 0.01], [1.0, 0.9], [1.0, 0.8], 0.9),
    form="adapter",
    learned_on="explored slots of 4,000 validation requests",
)


def render_path(tmp_path: Path, path: ServedContext) -> Page:
    rows, differences = made_up()
    render_report(rows, differences, CONTEXT, tmp_path / "path.html", path)
    return Page((tmp_path / "path.html").read_text("utf-8"))


def test_the_query_path_has_its_sections(tmp_path: Path) -> None:
    page = render_path(tmp_path, PATH)
    ids = {attrs.get("id") for tag, attrs in page.tags if tag == "h2"}
    assert {"together", "filters", "reliability", "kept"} <= ids
    assert (
        "mmse falls short of the better channel on 1 (mrr@10 of clicked, new item: -0.030 to mmse (lexical))"
        in page.text
    )
    for said in ("−0.030", "around an item that was wanted", "0.987", "75.0%", "0.0511", "in use", PATH.learned_on):
        assert said in page.text
    (chart,) = page.charts["reliability"]
    series = chart["series"]
    assert isinstance(series, list)
    assert [(one["name"], one["slot"]) for one in series] == [("adapter", 0), ("distribution", 1)], "in use comes first"
    assert page.charts["kept"][0]["kind"] == "kept"


def test_sections_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    page = render_path(tmp_path, ServedContext())
    ids = {attrs.get("id") for tag, attrs in page.tags if tag == "h2"}
    assert not {"together", "filters", "reliability", "kept"} & ids
    assert page.charts["reliability"] == page.charts["kept"] == []


def test_a_catalogue_without_columns_says_so(tmp_path: Path) -> None:
    page = render_path(tmp_path, ServedContext(shortfall=Shortfall(2, 1, 1, [])))
    assert "no column of this catalogue can be filtered by" in page.text
    assert "nowhere below either of its channels" in page.text


def test_the_terminals_lines(tmp_path: Path) -> None:
    lines = summary(PATH, "mmse")
    assert (
        lines[0]
        == "Under filters: recall@100 against exact at least 0.987; 75.0% of searches got all the hits there are."
    )
    assert lines[1] == f"Probabilities (adapter, {PATH.learned_on}): calibration error 0.006 on explored slots."
    assert summary(ServedContext(), "mmse") == []
