"""Experiments over HTTP: who is served what, what is logged of it, and that nothing of it can fail a search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from litestar.testing import TestClient

from mmse.core.errors import ArtifactError, UsageError
from mmse.core.json_files import rewrite_json
from mmse.experiment.assignment import Arm, Experiment, Explore, Interleave, assign
from mmse.serving import experiments
from mmse.serving.config import ServeConfig
from mmse.serving.events.export import export_table
from mmse.serving.experiments import EXPERIMENTS
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from serving.conftest import TOKEN, WRITER, worker

QUERY = {"query": "red shoes", "k": 6}


@pytest.fixture
def folder(small_run: Path, tmp_path: Path) -> Path:
    """A site with two arms."""
    for arm in ("live", "other"):
        publish(tmp_path / "site", small_run, arm=arm)
    return tmp_path / "site"


@pytest.fixture
def service(folder: Path) -> Iterator[TestClient[Any]]:
    with worker(ServeConfig(folder, token=TOKEN, log_exposures=True)) as client:
        yield client


def ask(service: TestClient[Any], **more: object) -> dict[str, Any]:
    reply = service.post("/v1/search", json=QUERY | more)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def shown(service: TestClient[Any], folder: Path) -> list[dict[str, Any]]:
    """What was logged; what is sent is written after what was shown before, and on the disk when it is answered."""
    stray = {"type": "click", "request_id": "nobody's", "item_id": "none"}
    service.post("/v1/events", headers=WRITER, json={"events": [stray]})
    export_table(folder / "events", folder / "out.parquet")
    return list(pq.read_table(folder / "out.parquet").to_pylist())


def test_shoppers_are_served_their_arm_and_the_exposure_says_so(folder: Path, service: TestClient[Any]) -> None:
    arms = {"control": Arm(), "words": Arm(serves="other", channel="lexical")}
    started = experiments.start(Site.open(folder), Experiment("try", arms, traffic=0.5))
    users = [f"u{n}" for n in range(24)]
    expected = {user: assign(started, user_id=user).arms.get("try") for user in users}
    assert set(expected.values()) == {None, "control", "words"}
    found = {user: ask(service, user_id=user) for user in users}
    for user, arm in expected.items():
        assert found[user]["assignments"] == ({"try": arm} if arm else {})
        assert found[user]["arm"] == (arm or "live")
        assert found[user]["version"] == ("0002" if arm == "words" else "0001")
    said = service.post("/v1/assignments", json={"units": [{"user_id": user} for user in users]}).json()
    assert [one.get("try") for one in said["assignments"]] == list(expected.values())
    third = found["u3"]
    order = {"type": "order", "request_id": third["request_id"], "item_id": third["hits"][1]["item_id"], "price": 2}
    service.post("/v1/events", headers=WRITER, json={"events": [order]})
    rows = shown(service, folder)
    assert len(rows) == sum(len(one["hits"]) for one in found.values())
    for row in rows:
        arm = expected[row["user_id"]]
        assert row["arm"] == arm
        assert row["assignments"] == ([("try", arm)] if arm else None)
        assert row["propensity"] == 1.0
    assert [(row["user_id"], row["position"]) for row in rows if row["ordered"]] == [("u3", 2)]


def test_who_asks_for_a_version_is_in_no_experiment(folder: Path, service: TestClient[Any]) -> None:
    experiments.start(Site.open(folder), Experiment("try", {"a": Arm(serves="other"), "b": Arm(serves="other")}))
    assert ask(service, user_id="u1")["version"] == "0002"
    assert ask(service, user_id="u1", version="live")["assignments"] == {}
    assert ask(service)["version"] == "0001"  # nobody to assign
    batch = service.post("/v1/search/batch", json={"searches": [QUERY | {"user_id": "u1"}]}).json()
    assert batch["outcomes"][0]["answer"]["version"] == "0001"


def test_two_versions_in_one_list(folder: Path, service: TestClient[Any]) -> None:
    mixed = Arm(channel="lexical", interleave=Interleave("other"))
    experiments.start(Site.open(folder), Experiment("mix", {"a": mixed, "b": mixed}))
    answer = ask(service, user_id="u1", shown=4)
    hits = answer["hits"]
    alone = [hit["item_id"] for hit in ask(service, version="live", channel="lexical", shown=0)["hits"]]
    assert [hit["item_id"] for hit in hits] == alone  # both are the same
    assert [(hit["rank_a"], hit["rank_b"]) for hit in hits] == [(rank, rank) for rank in range(1, len(hits) + 1)]
    assert abs(sum(1 if hit["team"] == "a" else -1 for hit in hits)) <= 1
    rows = shown(service, folder)
    assert [(row["team"], row["rank_a"], row["propensity"]) for row in rows] == [
        (hit["team"], hit["rank_a"], None) for hit in hits[:4]
    ]


def test_slots_filled_at_random_are_marked(folder: Path, service: TestClient[Any]) -> None:
    exploring = Arm(explore=Explore(0.5, 60))
    experiments.start(Site.open(folder), Experiment("wild", {"a": exploring, "b": exploring}))
    found = [ask(service, user_id=f"u{n}") for n in range(8)]
    plain = [hit["item_id"] for hit in ask(service, version="live", k=60, shown=0)["hits"]]
    marked = [(hit["explored"], hit["propensity"]) for answer in found for hit in answer["hits"]]
    assert {explored for explored, _ in marked} == {True, False}
    assert {chance for explored, chance in marked if not explored} == {0.5}
    assert all(chance == pytest.approx(0.5 / (len(plain) - 6)) for explored, chance in marked if explored)
    assert all([hit["rank"] for hit in answer["hits"]] == list(range(1, 7)) for answer in found)
    assert sum(row["explored"] for row in shown(service, folder)) == sum(explored for explored, _ in marked)


def test_what_is_not_served_any_more_ends_the_experiment_for_its_shoppers(
    folder: Path, service: TestClient[Any]
) -> None:
    site = Site.open(folder)
    experiments.start(site, Experiment("try", {"a": Arm(serves="other"), "b": Arm(serves="other")}))
    with pytest.raises(UsageError, match="'try' serves 'other'"):
        experiments.require_unused(site, "other")
    text = (folder / EXPERIMENTS).read_text("utf-8")
    rewrite_json(folder / EXPERIMENTS, text.replace('"serves": "other"', '"serves": "gone"'))
    answer = ask(service, user_id="u1")
    assert (answer["version"], answer["assignments"]) == ("0001", {})
    assert "needs 'gone', which is not served" in service.get("/v1/experiments").json()["problem"]
    assert "needs 'gone', which is not served" in str(service.get("/v1/health").json()["problems"])


def test_a_damaged_file_changes_nothing_and_is_told(folder: Path, service: TestClient[Any]) -> None:
    experiments.start(Site.open(folder), Experiment("try", {"a": Arm(serves="other"), "b": Arm(serves="other")}))
    assert ask(service, user_id="u1")["version"] == "0002"
    (folder / EXPERIMENTS).write_text("{", "utf-8")
    assert ask(service, user_id="u1")["version"] == "0002"
    assert "is damaged" in str(service.get("/v1/health").json()["problems"])
    with pytest.raises(ArtifactError, match="is damaged"):
        experiments.read_experiments(folder)


def test_ramp_stop_and_holdout(folder: Path, service: TestClient[Any]) -> None:
    site = Site.open(folder)
    experiments.start(site, Experiment("try", {"a": Arm(), "b": Arm()}, traffic=0.1))
    experiments.ramp(site, "try", 1.0)
    assert ask(service, user_id="u1")["assignments"]
    experiments.hold_out(site, 0.999)
    assert ask(service, user_id="u1")["assignments"] == {"holdout": "holdout"}
    experiments.stop(site, "try")
    assert service.get("/v1/experiments").json()["experiments"] == []
    assert [step.action for step in experiments.read_experiments(folder).history] == [
        "start",
        "ramp",
        "holdout",
        "stop",
    ]
    with pytest.raises(UsageError, match=r"needs 'nobody', which .* does not serve"):
        experiments.start(site, Experiment("x", {"a": Arm(), "b": Arm(serves="nobody")}))
    with pytest.raises(UsageError, match=r"The holdout is 1\.0"):
        experiments.hold_out(site, 1.0)
