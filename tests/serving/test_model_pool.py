"""Versions taken into service and out of it while searches go on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmse.catalogue.edits import Upsert
from mmse.schema.search import Search
from mmse.serving.config import ServeConfig
from mmse.serving.failures import RequestError
from mmse.serving.model_pool import ModelPool
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site, drop_arm, rollback


@pytest.fixture
def pool(site: Path) -> Iterator[ModelPool]:
    pool = ModelPool.open(ServeConfig(site))
    yield pool
    pool.stop()


def names(pool: ModelPool) -> dict[str, str]:
    return {arm: version.name for arm, version in pool.arms.items()}


def test_a_newer_version_takes_over_and_the_old_one_ends_with_its_last_search(
    pool: ModelPool, site: Path, small_run: Path
) -> None:
    old = pool.acquire(None)
    publish(site, small_run)
    pool.reload()
    assert names(pool) == {"live": "0002"}
    assert old.retriever.answer(Search("a")).hits  # it began before the swap, and is still answered
    catalogue = old.retriever.catalogue
    assert catalogue is not None
    assert not catalogue._is_closed
    pool.release(old)
    assert bool(catalogue._is_closed)
    rollback(Site.open(site))
    pool.reload()
    assert names(pool) == {"live": "0001"}
    assert pool.arms["live"] is not old


def test_an_arm_has_a_version_of_its_own_and_can_be_dropped(pool: ModelPool, site: Path, small_run: Path) -> None:
    live = pool.arms["live"]
    publish(site, small_run, arm="b")
    pool.reload()
    assert names(pool) == {"live": "0001", "b": "0002"}
    assert pool.arms["live"] is live  # what stays in service is not opened again
    with pool.lease("b") as by_arm, pool.lease("0002") as by_name:
        assert by_arm is by_name
    drop_arm(Site.open(site), "b")
    pool.reload()
    assert names(pool) == {"live": "0001"}
    with pytest.raises(RequestError, match="No version or arm 'b'"):
        pool.acquire("b")


def test_a_version_that_does_not_fit_is_refused_and_the_old_one_goes_on(
    pool: ModelPool, site: Path, small_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(site, small_run)
    model = site / "versions" / "0002" / "model" / "towers.safetensors"
    whole = model.read_bytes()
    model.unlink()  # a link: the run keeps its own
    model.write_bytes(whole[:1000])
    pool.reload()
    assert names(pool) == {"live": "0001"}
    assert pool.problem is not None
    assert "refused" in pool.problem
    assert "towers.safetensors" in caplog.text
    n_records = len(caplog.records)
    pool.reload()
    assert len(caplog.records) == n_records  # once, not four times a second
    model.write_bytes(whole)
    shutil.copyfile(site / "serving.json", site / "serving.json.again")
    rollback(Site.open(site))
    pool.reload()
    assert pool.problem is None


def test_edits_of_another_process_are_seen(pool: ModelPool, site: Path) -> None:
    Site.open(site).apply([Upsert({"item_id": "z", "title": "Zorbak quibble"})])
    pool._refresh()
    with pool.lease(None) as version:
        assert version.retriever.answer(Search("zorbak quibble", 1)).hits[0].item_id == "z"


def test_swaps_under_load_fail_no_search(pool: ModelPool, site: Path, small_run: Path) -> None:
    publish(site, small_run)
    end, failures, names_served = threading.Event(), list[BaseException](), set[str]()

    def search() -> None:
        while not end.is_set():
            try:
                with pool.lease(None) as version:
                    assert version.retriever.answer(Search("a", 5)).hits
                    names_served.add(version.name)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in ("0002", "0001"):
        rollback(Site.open(site), version=version)
        pool.reload()
    end.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names_served == {"0001", "0002"}


def test_a_run_that_is_made_again_takes_over_with_its_edits(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("train", "valid", "test"))
    pool = ModelPool.open(ServeConfig(run))
    former = pool.arms["live"]
    catalogue = former.retriever.catalogue
    assert catalogue is not None
    catalogue.apply([Upsert({"item_id": "n1", "title": "Quevo"})])
    ranking, index = (run / name / "manifest.json" for name in ("ranking", "index"))
    whole_ranking = ranking.read_bytes()
    ranking.unlink()  # the index is made, the ranking is on its way
    manifest = json.loads(index.read_bytes())
    index.write_text(json.dumps(manifest | {"fingerprint": "f" * 32}))
    pool.reload()
    assert pool.arms["live"] is former
    assert "are being made again" in str(pool.problem)
    catalogue.apply([Upsert({"item_id": "n2", "title": "Quevo"})])
    ranking.write_bytes(whole_ranking)
    pool.reload()
    assert names(pool) == {"live": "ffffffff"}
    assert pool.problem is None
    snapshot = pool.arms["live"].retriever.snapshot()
    assert min(snapshot.rows(["n1", "n2"])) >= 0
    pool.stop()
