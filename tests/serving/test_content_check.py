"""A server reads what it serves: a damaged version is named, and the whole one before it takes over."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmse.catalogue import LiveCatalogue, LiveConfig
from mmse.catalogue.edits import Upsert
from mmse.core.errors import ArtifactError, SchemaError
from mmse.serving import server
from mmse.serving.config import ServeConfig
from mmse.serving.content_check import ContentCheck
from mmse.serving.model_pool import ModelPool
from mmse.serving.observability import metrics
from mmse.serving.versions import site_file, withdrawal
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from mmse.serving.versions.withdrawal import SERVER
from serving.conftest import worker
from serving.test_verification import flip

PROBE = Upsert({"item_id": "probe", "title": "Zorbak quibble"})


def check(path: Path, arm: str = "live") -> list[str]:
    """Reads the version of an arm; gives the problems."""
    site = Site.open(path)
    content = ContentCheck(site, pause_s=0.0)
    content.check(site.state().arms[arm])
    return content.problems


def a_file_of(kind: str, run: Path) -> Path:
    if kind == "index":
        return next((run / "index").rglob("*.fieldnorm"))
    return run / ("index/columns/column0.npy" if kind == "column" else "ranking/ranking.json")


@pytest.mark.parametrize("kind", ["ranking", "index", "column"])
def test_one_flipped_bit_and_the_version_before_is_live(site: Path, small_run: Path, kind: str) -> None:
    publish(site, small_run)
    file = a_file_of(kind, site / "versions" / "0002")
    flip(file)
    (problem,) = check(site)
    assert problem.startswith("Version 0002 is damaged.")
    assert f"{file.name} is damaged: its content is not what was written." in problem
    assert problem.endswith("Version 0001 is live in its place, with all edits.")
    assert metrics.damaged_versions._value.get() == 1
    change = site_file.read_site(site).history[-1]
    assert (change.action, change.by, change.version_before, change.version) == ("rollback", SERVER, "0002", "0001")
    assert f"{file.name} is damaged" in change.note


def test_the_version_that_takes_over_has_the_edits(site: Path, small_run: Path) -> None:
    publish(site, small_run)
    pool = ModelPool.open(ServeConfig(site))
    pool.site.apply([PROBE], lambda _: pool.arms["live"].retriever.catalogue)
    flip(a_file_of("ranking", site / "versions" / "0002"))
    pool.content.check(pool.arms["live"].site_version)
    pool.reload()
    assert pool.arms["live"].name == "0001"
    assert min(pool.arms["live"].retriever.snapshot().rows(["probe"])) >= 0
    assert len(pool.content.problems) == 1
    pool.stop()


def test_a_second_worker_changes_nothing_more(site: Path, small_run: Path) -> None:
    publish(site, small_run)
    publish(site, small_run)
    workers = [ContentCheck(Site.open(site), pause_s=0.0) for _ in range(2)]
    version = Site.open(site).state().live
    for name in ("0003", "0002"):
        flip(a_file_of("ranking", site / "versions" / name))
    for content in workers:
        content.check(version)
    assert Site.open(site).state().live.name == "0001", "the one before is damaged as well"
    assert workers[1].problems[0].endswith("It is out of service; 'live' serves version 0001.")


def test_an_arm_of_a_damaged_version_ends(site: Path, small_run: Path) -> None:
    publish(site, small_run, arm="b")
    flip(a_file_of("column", site / "versions" / "0002"))
    assert check(site, "b")[0].endswith("The arm 'b' has ended.")
    assert set(Site.open(site).state().arms) == {"live"}
    assert check(site) == []


def test_what_nothing_can_replace_stays_and_is_named(site: Path) -> None:
    flip(a_file_of("index", site / "versions" / "0001"))
    with worker(ServeConfig(site)) as client:
        deadline_s = time.monotonic() + 20
        while not (problems := client.get("/v1/health").json()["problems"]):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert problems[0].startswith("Version 0001 is damaged. versions/0001/index/lexical/")
        assert client.get("/v1/search", params={"q": "a"}).json()["hits"]
    assert check(site)[0].endswith("It stays in service: there is no former version that is whole.")


def test_damaged_edits_are_named(site: Path, small_run: Path) -> None:
    publish(site, small_run)
    run = site / "versions" / "0002"
    with LiveCatalogue.open(run, writable=True, config=LiveConfig(automatic=False)) as catalogue:
        catalogue.apply([PROBE])
        catalogue.compact()
    (vectors,) = (run / "live").glob("base-*/vectors.npy")
    flip(vectors)
    assert check(site)[0].endswith("It stays in service: no other version has its edits.")
    assert Site.open(site).state().live.name == "0002"


def test_a_run_folder_is_read_too(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    assert check(run) == []
    flip(a_file_of("column", run))
    assert check(run)[0].endswith("It stays in service: nothing can take its place.")


def test_a_version_that_was_rewritten_or_removed_meanwhile_is_not_damaged(site: Path, small_run: Path) -> None:
    publish(site, small_run)
    opened = Site.open(site)
    version, content = opened.state().live, ContentCheck(opened, pause_s=0.0)
    flip(a_file_of("ranking", version.run))
    site_file.revise_version(site, "0002")
    content.check(version)
    shutil.rmtree(version.run)
    content.check(version)
    assert content.problems == []


def test_reading_first_keeps_a_server_from_starting(site: Path) -> None:
    config = ServeConfig(site, port=0, verify=True)
    server.check(config)
    flip(a_file_of("ranking", site / "versions" / "0001"))
    server.check(ServeConfig(site, port=0))
    with pytest.raises(ArtifactError, match=r"Version 0001: .*ranking\.json is damaged"):
        server.check(config)


def cut(file: Path) -> None:
    data = file.read_bytes()
    file.unlink()  # versions of one run share its files
    file.write_bytes(data[:-1])


def empty(file: Path) -> None:
    file.unlink()
    file.write_text("{}")


@pytest.mark.parametrize(("kind", "damage"), [("column", cut), ("index", Path.unlink), ("ranking", empty)])
def test_a_server_starts_with_the_version_before_where_the_live_one_cannot_be_opened(
    site: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch, kind: str, damage: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(withdrawal, "PAUSE_S", 0.0)
    publish(site, small_run)
    opened = Site.open(site)
    opened.apply([PROBE])
    damage(a_file_of(kind, site / "versions" / "0002"))
    server.check(ServeConfig(site, port=0))
    pool = ModelPool.open(ServeConfig(site))
    assert pool.arms["live"].name == "0001"
    assert min(pool.arms["live"].retriever.snapshot().rows(["probe"])) >= 0
    pool.stop()
    change = site_file.read_site(site).history[-1]
    assert (change.by, change.version_before, change.version) == (SERVER, "0002", "0001")


def test_a_server_starts_without_an_arm_that_cannot_be_opened(site: Path, small_run: Path) -> None:
    publish(site, small_run, arm="b")
    cut(a_file_of("column", site / "versions" / "0002"))
    server.check(ServeConfig(site, port=0))
    assert set(Site.open(site).state().arms) == {"live"}


@pytest.mark.parametrize("start", [server.check, ModelPool.open])
def test_a_server_starts_without_an_arm_whose_version_is_gone(
    site: Path, small_run: Path, start: Callable[[ServeConfig], object]
) -> None:
    publish(site, small_run, arm="b")
    shutil.rmtree(site / "versions" / "0002")
    pool = start(ServeConfig(site, port=0))
    assert site_file.read_site(site).arms == {"live": "0001"}
    if isinstance(pool, ModelPool):
        pool.stop()
    shutil.rmtree(site / "versions" / "0001")
    with pytest.raises(ArtifactError, match="0001"):
        start(ServeConfig(site, port=0))


def test_a_server_does_not_start_where_nothing_takes_the_place(site: Path) -> None:
    cut(a_file_of("column", site / "versions" / "0001"))
    for start in (server.check, ModelPool.open):
        with pytest.raises(ArtifactError, match=r"column0\.npy"):
            start(ServeConfig(site, port=0))


def test_a_version_of_another_schema_stays_live_and_is_refused(site: Path, small_run: Path) -> None:
    publish(site, small_run)
    manifest = site / "versions" / "0002" / "index" / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    manifest.write_text(re.sub(r'"schema_version": \d+', '"schema_version": 1', text))
    with pytest.raises(SchemaError):
        server.check(ServeConfig(site, port=0))
    assert site_file.read_site(site).arms["live"] == "0002"
