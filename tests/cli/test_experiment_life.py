"""An experiment from its start to its end, and what a log that explored says of a run, by their commands."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.called import Call
from mmse.retrieval.retriever import Retriever
from mmse.serving.versions.publish import publish
from mmse.training.targets import read_logged_requests

PLAN = """
name = "try"
unit = "user"
layer = "search"
traffic = 0.4
note = "new fusion"

[arms.control]
[arms.words]
channel = "lexical"
weight = 3
"""


@pytest.fixture
def site(small_run: Path, tmp_path: Path) -> Path:
    publish(tmp_path / "site", small_run)
    return tmp_path / "site"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "experiment.toml").write_text(PLAN, "utf-8")
    return tmp_path / "experiment.toml"


def test_an_experiment_starts_grows_and_ends(call: Call, site: Path, plan: Path) -> None:
    assert "No experiment runs." in call("experiment", "list", site).out
    assert "try  40.00% of the users of layer search" in call("experiment", "start", site, plan).out
    assert "try  60.00%" in call("experiment", "ramp", site, "try", 0.6, "--note", "no harm").out
    assert "5.00% of shoppers are in no experiment" in call("experiment", "holdout", site, 0.05).out
    said = call("experiment", "list", site).out
    assert "words            weight 3  channel = lexical" in said
    assert "control          weight 1  as live" in said
    assert "5.00% of shoppers are held out." in said
    assert "no harm" in said
    assert '"traffic": 0.6' in call("experiment", "list", site, "--json").out
    assert "try is over." in call("experiment", "stop", site, "try").out
    assert "No experiment runs." in call("experiment", "list", site).out


def test_arms_are_the_same_by_file_and_by_site(call: Call, site: Path, plan: Path) -> None:
    units = [f"u{n}" for n in range(40)]
    call("experiment", "start", site, plan)
    by_site, by_file = (json.loads(call("experiment", "assign", where, *units, "--json").out) for where in (site, plan))
    assert by_site == by_file
    arms = [unit["arms"].get("try") for unit in by_site]
    assert set(arms) == {None, "control", "words"}
    said = call("experiment", "assign", site, *units).out.splitlines()
    assert [f"try: {arm}" if arm else "in no experiment" for arm in arms] == [line.split("  ")[1] for line in said]
    assert f"(bucket {by_site[0]['buckets']['search']} of search)" in said[0]
    call("experiment", "holdout", site, 0.9)
    assert call("experiment", "assign", site, *units).out.count("held out of all experiments") > 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("start", "{site}", "no-file.toml"), "no-file.toml"),
        (("ramp", "{site}", "other", 0.5), "other"),
        (("ramp", "{site}", "try", 0.1), "has 40.00% of its layer"),
        (("stop", "{site}", "other"), "other"),
        (("holdout", "{site}", 2), "2"),
        (("start", "{site}", "{plan}"), "try"),
    ],
)
def test_what_cannot_be_changes_nothing(
    call: Call, site: Path, plan: Path, arguments: tuple[object, ...], said: str
) -> None:
    call("experiment", "start", site, plan)
    before = call("experiment", "list", site, "--json").out
    done = call("experiment", *(str(argument).format(site=site, plan=plan) for argument in arguments))
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert call("experiment", "list", site, "--json").out == before


def write_exploring_log(run: Path, target: Path, n_requests: int, k: int) -> None:
    """A log that shows the first `k` hits of `run` in random order; a look ends in an order half of the time."""
    rng, retriever = np.random.default_rng(0), Retriever.open(run, edits=False)
    queries = sorted(set(read_logged_requests(run / "dataset", "test", 30).queries))
    pages = {query: [hit.item_id for hit in retriever.search(query, k)] for query in queries}
    rows = []
    for number in range(n_requests):
        query = queries[number % len(queries)]
        for slot, item_id in enumerate(rng.permutation(pages[query]).tolist()):
            is_ordered = bool(rng.random() < 0.5 / (1 + slot))
            rows.append(
                {
                    "request_id": f"r{number}",
                    "timestamp": datetime(2026, 3, 1) + timedelta(minutes=number),
                    "query": query,
                    "item_id": item_id,
                    "position": slot + 1,
                    "clicked": is_ordered,
                    "ordered": is_ordered,
                    "explored": True,
                    "propensity": 1 / k,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), target)


def test_a_log_that_explored_tells_what_a_run_would_earn(call: Call, small_run: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    write_exploring_log(small_run, log, 300, 4)
    arguments = ("experiment", "off-policy", small_run, "--log", log, "--k", 4)
    values = json.loads(call(*arguments, "--json").out)
    (estimate,) = values["runs"].values()
    assert estimate["refusal"] == ""
    assert estimate["dr"]["estimate"] == pytest.approx(values["log"]["estimate"], rel=0.15), "the same page, in order"
    said = call(*arguments).out
    assert "orders a request, by 300 requests of log.parquet" in said
    assert "the log itself" in said


def test_a_log_without_chances_is_refused(call: Call, small_run: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    write_exploring_log(small_run, log, 4, 4)
    table = pq.read_table(log)
    arguments = ("experiment", "off-policy", small_run, "--log", log, "--k", 4)
    for propensity, said in ((None, "have no propensity"), (1.5, "have a propensity that is no chance")):
        column = pa.array([propensity] * table.num_rows, pa.float64())
        pq.write_table(table.set_column(table.schema.get_field_index("propensity"), "propensity", column), log)
        done = call(*arguments)
        assert done.code == 2
        assert said in done.err
    pq.write_table(table, log)
    assert "Ask for --k" in call("experiment", "off-policy", small_run, "--log", log, "--k", 4_000).err
