"""One person is taken out of a site and a run, and everybody else stays."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cli.called import Call
from cli.conftest import call  # noqa: F401  the fixture
from mmse.core.errors import OutputError, UsageError
from mmse.core.folder_copy import rewrite_files
from mmse.core.run_folder import DATASET, RunFolder
from mmse.cycle.forget import forget
from mmse.cycle.record import CYCLES
from mmse.dataset.contract import check_dataset
from mmse.dataset.erasure import erase_from_serving, redact, text_pattern
from mmse.dataset.serving_data import POPULAR_QUERIES
from mmse.retrieval.retriever import Retriever
from mmse.schema.http import SearchAnswer
from mmse.schema.http_events import Click, Exposure
from mmse.serving.config import ServeConfig
from mmse.serving.events.log import EventLog
from mmse.serving.events.segments import open_segments
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site_file import read_version
from mmse.serving.versions.verification import verify_path
from serving.conftest import worker
from serving.test_api import decode


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run, to change."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))


@pytest.fixture
def people(run: Path) -> list[str]:
    """The shoppers of the run, the busiest first."""
    users = pq.read_table(run / "dataset" / "interactions.parquet", columns=["user_id"])["user_id"].to_pylist()
    return [user for user, _ in Counter(users).most_common()]


def log_of(folder: Path, users: list[str]) -> EventLog:
    """A log in which each of `users` saw two items and clicked one."""
    log = EventLog(folder)
    for user in users:
        shown = Exposure(request_id=f"r-{user[::-1]}", query=f"asked by {user}", items=["a", "b"], user_id=user)
        log.append([shown, Click(request_id=shown.request_id, item_id="a")])
    return log


def add_rejected_rows(dataset: Path, users: list[str]) -> None:
    """Adds a row for each of `users` to those that mining set aside."""
    schema = pq.read_schema(dataset / "rejected.parquet")
    rows = [{name: f"{{'user_id': '{user}'}}" for name in schema.names} for user in users]
    table = pa.Table.from_pylist(rows, schema)
    rewrite_files(dataset, DATASET, {"rejected.parquet": lambda target: pq.write_table(table, target)})


def traces(folder: Path, user: str) -> list[Path]:
    """The files below a folder that name a user; Parquet is read as rows too."""
    named = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        texts = [path.read_bytes()]
        if path.suffix == ".parquet":
            texts.append(str(pq.read_table(path, partitioning=None).to_pylist()).encode())
        if any(user.encode() in text or user[::-1].encode() in text for text in texts):
            named.append(path)
    return named


def rows_of(run: Path, user: str) -> list[object]:
    """All rows of a user in the tables of a run."""
    files = [*sorted((run / "dataset").rglob("*.parquet")), run / "serving" / "interactions.parquet"]
    tables = [pq.read_table(file, partitioning=None) for file in files]
    return [table.filter(pc.equal(table["user_id"], user)) for table in tables if "user_id" in table.column_names]


def test_nothing_of_the_person_is_left_and_all_else_is(
    run: Path,
    people: list[str],
    tmp_path: Path,
    call: Call,  # noqa: F811
) -> None:
    person, other = people[:2]
    add_rejected_rows(run / "dataset", [person, other])
    site = tmp_path / "site"
    publish(site, run)
    log_of(site / "events", [person, other]).close()
    (site / CYCLES / "0001").mkdir(parents=True)
    (site / CYCLES / "0001" / "cycle.json").write_text(json.dumps({"cause": f"40% are of shopper '{person}'"}))
    others_rows, hits = rows_of(run, other), Retriever.open(run, edits=False).search("a", 5, other)
    assert {path.parts[-2] for path in traces(tmp_path, person)} >= {"dataset", "serving", "0001", "test", "valid"}

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    dry = call("forget", person, site, run, "--dry-run")
    assert (dry.code, "rows would go" in dry.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in before} == before

    done = call("forget", person, site, run)
    assert done.code == 0
    for folder in (site / "versions" / "0001" / "serving", site / CYCLES / "0001", run / "dataset", site / "events"):
        assert f"rows gone {folder}" in done.out
    assert "the next `mmse run` makes them without" in done.out
    assert traces(tmp_path, person) == []
    assert rows_of(run, other) == others_rows
    assert not [inspection for path in (site, run) for inspection in verify_path(path) if inspection.problem]
    assert check_dataset(run / "dataset") == []
    assert len(pq.read_table(run / "dataset" / "rejected.parquet")) == 1
    assert read_version(site, "0001").revision == 1
    assert Retriever.open(run, edits=False).search("a", 5, other) == hits
    assert len(pq.read_table(next((site / "events").glob("2*/*.parquet")))) == 3

    again = call("forget", person, site, run)
    assert (again.code, again.out.startswith(f"Nothing of '{person}' was found in")) == (0, True)
    assert read_version(site, "0001").revision == 1


def test_a_server_goes_on_with_the_new_histories(small_run: Path, people: list[str], tmp_path: Path) -> None:
    site, person = tmp_path / "site", people[0]
    publish(site, small_run)
    with worker(ServeConfig(site, log_exposures=True, look_every_s=0.02)) as service:
        search = {"query": "a", "user_id": person}
        personal = decode(service.post("/v1/search", json=search), SearchAnswer)
        plain = decode(service.post("/v1/search", json={"query": "a"}), SearchAnswer)
        assert [hit.score for hit in personal.hits] != [hit.score for hit in plain.hits]
        deadline_s = time.monotonic() + 10
        while not open_segments(site / "events"):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        report = forget([site], [person])
        assert report.n_open_rows == 0, "the server has closed its segment"
        assert {traces.folder.name for traces in report.folders} == {"serving", "events"}
        scores = [hit.score for hit in personal.hits]
        while scores == [hit.score for hit in personal.hits]:
            assert time.monotonic() < deadline_s + 10
            scores = [hit.score for hit in decode(service.post("/v1/search", json=search), SearchAnswer).hits]
        fresh = Retriever.open(site / "versions" / "0001", edits=False)
        assert len(fresh.history.look_up([person], np.array([2**62])).item_rows.clip(0).nonzero()[0]) == 0
        assert scores == pytest.approx([hit.score for hit in fresh.search("a", 10, person)])


def test_what_a_server_does_not_close_is_said(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmse.serving.events.log.EventLog._is_due", lambda *_: False)
    monkeypatch.setattr("mmse.serving.events.erasure.SEAL_LIMIT_S", 0.1)
    log = log_of(tmp_path / "log", ["somebody"])
    try:
        assert forget([run], ["somebody"], events=[tmp_path / "log"]).n_open_rows == 3
    finally:
        log.close()
    assert forget([run], ["somebody"], events=[tmp_path / "log"]).n_open_rows == 0


def test_a_run_at_work_and_an_empty_id_are_refused(run: Path) -> None:
    with RunFolder(run).lock(), pytest.raises(OutputError, match="Another process is making folders"):
        forget([run], ["somebody"])
    with pytest.raises(UsageError, match="empty"):
        forget([run], [" "])


def test_queries_that_are_popular_by_one_person_alone_go(run: Path) -> None:
    popular = pq.read_table(run / "serving" / POPULAR_QUERIES)
    limit = RunFolder(run).manifest("serving").config["min_shoppers"]
    rare = popular.filter(pc.equal(popular["shoppers"], limit))["query"].to_pylist()[0]
    common = popular.filter(pc.greater(popular["shoppers"], limit))["query"].to_pylist()[0]
    assert erase_from_serving(run / "serving", "nobody", [rare, common]).n_rows == 1
    queries = pq.read_table(run / "serving" / POPULAR_QUERIES)["query"].to_pylist()
    assert (rare in queries, common in queries) == (False, True)


def test_an_id_is_a_word_of_its_own() -> None:
    assert text_pattern("u1").findall("u1, 'u1' and u17, au1, u1-a, u1") == ["u1", "u1", "u1"]
    assert redact({"warnings": ["ids such as 'u1'"], "n": 3}, "u1") == {
        "warnings": ["ids such as '(forgotten)'"],
        "n": 3,
    }


def test_killed_at_any_moment_it_is_finished_by_the_next(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "serving" / "forget_kill_script.py"
    result = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True)
    outcome = json.loads(result.stdout)
    assert outcome["kills"] >= 8
    assert outcome["left"] == 0, result.stderr
