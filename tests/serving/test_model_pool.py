"""Versions taken into service and out of it while searches go on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmse.catalogue.edits import Upsert
from mmse.schema.search import Search
from mmse.serving.config import ServeConfig
from mmse.serving.failures import Refused
from mmse.serving.model_pool import Fleet
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site, drop, rollback


@pytest.fixture
def fleet(site: Path) -> Iterator[Fleet]:
    fleet = Fleet.open(ServeConfig(site))
    yield fleet
    fleet.stop()


def names(fleet: Fleet) -> dict[str, str]:
    return {arm: served.name for arm, served in fleet.arms.items()}


def test_a_newer_version_takes_over_and_the_old_one_ends_with_its_last_search(
    fleet: Fleet, site: Path, small_run: Path
) -> None:
    before = fleet.acquire(None)
    publish(site, small_run)
    fleet.look()
    assert names(fleet) == {"live": "0002"}
    assert before.retriever.answer(Search("a")).hits  # begun before, and answered still
    catalogue = before.retriever.catalogue
    assert catalogue is not None
    ended = [catalogue.closed]
    fleet.release(before)
    assert [*ended, catalogue.closed] == [False, True]
    rollback(Site.open(site))
    fleet.look()
    assert names(fleet) == {"live": "0001"}
    assert fleet.arms["live"] is not before


def test_an_arm_has_a_version_of_its_own_and_can_be_dropped(fleet: Fleet, site: Path, small_run: Path) -> None:
    live = fleet.arms["live"]
    publish(site, small_run, arm="b")
    fleet.look()
    assert names(fleet) == {"live": "0001", "b": "0002"}
    assert fleet.arms["live"] is live  # what stays in service is not opened again
    with fleet.using("b") as by_arm, fleet.using("0002") as by_name:
        assert by_arm is by_name
    drop(Site.open(site), "b")
    fleet.look()
    assert names(fleet) == {"live": "0001"}
    with pytest.raises(Refused, match="No version or arm 'b'"):
        fleet.acquire("b")


def test_a_version_that_does_not_fit_is_refused_and_the_old_one_goes_on(
    fleet: Fleet, site: Path, small_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(site, small_run)
    model = site / "versions" / "0002" / "model" / "towers.safetensors"
    whole = model.read_bytes()
    model.unlink()  # a link: the run keeps its own
    model.write_bytes(whole[:1000])
    fleet.look()
    assert names(fleet) == {"live": "0001"}
    assert fleet.problem is not None
    assert "refused" in fleet.problem
    assert "towers.safetensors" in caplog.text
    said = len(caplog.records)
    fleet.look()
    assert len(caplog.records) == said  # once, not four times a second
    model.write_bytes(whole)
    shutil.copyfile(site / "serving.json", site / "serving.json.again")
    rollback(Site.open(site))
    fleet.look()
    assert fleet.problem is None


def test_edits_of_another_process_are_seen(fleet: Fleet, site: Path) -> None:
    Site.open(site).apply([Upsert({"item_id": "z", "title": "Zorbak quibble"})])
    fleet._refresh()
    with fleet.using(None) as served:
        assert served.retriever.answer(Search("zorbak quibble", 1)).hits[0].item_id == "z"


def test_swaps_under_load_fail_no_search(fleet: Fleet, site: Path, small_run: Path) -> None:
    publish(site, small_run)
    over, failures, served_by = threading.Event(), list[BaseException](), set[str]()

    def search() -> None:
        while not over.is_set():
            try:
                with fleet.using(None) as served:
                    assert served.retriever.answer(Search("a", 5)).hits
                    served_by.add(served.name)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        for version in ("0002", "0001"):
            rollback(Site.open(site), version=version)
            fleet.look()
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert served_by == {"0001", "0002"}
