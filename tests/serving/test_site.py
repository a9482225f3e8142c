"""A site: runs published as versions, arms, going back, edits that go along, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalogue.live_runs import STEP_FOLDERS
from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, LiveConfig, Upsert
from mmse.catalogue.transfer import pending_edits
from mmse.core import artifact, folder_copy
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.core.run_folder import SEARCH
from mmse.model.encoder import Encoder
from mmse.ranking.rulebook import Rulebook
from mmse.retrieval.retriever import Retriever
from mmse.serving.versions import publish as publishing
from mmse.serving.versions import site_file
from mmse.serving.versions.publish import list_versions, prune, publish
from mmse.serving.versions.site import Site, drop_arm, put_in_service, rollback, switch_arm
from mmse.serving.versions.site_file import Version

NEW: list[Edit] = [Upsert({"item_id": "n1", "title": "Zorbak kettle", "price": 9.5}), Delete("i00000009")]
MANUAL = LiveConfig(automatic=False)
Titles = dict[str, str | None]


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A run of its own whose stage folders are links."""
    return linked(small_run, tmp_path / "run")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture(scope="session")
def encoder(small_run: Path) -> Encoder:
    return Encoder.open(small_run / "model")


def linked(run: Path, out: Path) -> Path:
    out.mkdir()
    for name in (*STEP_FOLDERS, "ranking"):
        (out / name).symlink_to((run / name).resolve())
    return out


def titles(run: Path, *item_ids: str) -> Titles:
    """What a version has of some items, as a process finds it that opens it now."""
    with LiveCatalogue.open(run) as catalogue:
        now = catalogue.snapshot()
        rows = now.rows(list(item_ids))
        there = dict(zip(np.array(item_ids)[rows >= 0].tolist(), now.values("title", rows[rows >= 0]), strict=True))
    return {one: there.get(one) for one in item_ids}


def live(site: Path) -> Version:
    return Site.open(site).state().live


def files(folder: Path) -> dict[str, int]:
    """Every file with its inode and size, of what a site serves."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("queue", "lock", "publishing")]
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in found}


def test_a_run_is_published_linked_and_served(run: Path, site: Path) -> None:
    assert publish(site, run, note="first", by="me") == "0001"
    state = Site.open(site).state()
    assert list(state.arms) == ["live"]
    version = state.live
    fingerprint = artifact.read_manifest(run / "index", "index").fingerprint
    assert (version.name, version.run, version.note) == ("0001", site / "versions" / "0001", "first")
    assert version.fingerprint == fingerprint
    items = "serving/items.parquet"
    assert (version.run / items).stat().st_ino == (run / items).stat().st_ino
    assert Retriever.open(version.run).search("tent")
    (step,) = site_file.read_site(site).history
    assert (step.arm, step.action, step.version_before, step.version, step.by, step.note) == (
        "live",
        "publish",
        None,
        "0001",
        "me",
        "first",
    )


def test_on_a_disk_without_hard_links_it_is_copied(run: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    publish(site, run)
    version = live(site)
    for kind in SEARCH:
        artifact.verify(version.run / kind, kind, content=True)
    items = "serving/items.parquet"
    assert (version.run / items).stat().st_ino != (run / items).stat().st_ino


def test_versions_and_arms_come_and_go(run: Path, site: Path) -> None:
    for note in ("one", "two", "three"):
        publish(site, run, note=note)
    shop = Site.open(site)
    assert publish(site, run, arm="candidate") == "0004"
    assert {arm: one.name for arm, one in shop.state().arms.items()} == {"live": "0003", "candidate": "0004"}
    put_in_service(shop, "other", "0001", "to compare", "me")
    assert [(one.version.name, one.arms) for one in list_versions(shop)] == [
        ("0001", ("other",)),
        ("0002", ()),
        ("0003", ("live",)),
        ("0004", ("candidate",)),
    ]
    put_in_service(shop, "live", "0004")
    assert shop.state().arms["live"] == shop.state().arms["candidate"]
    drop_arm(shop, "candidate")
    drop_arm(shop, "other")
    assert list(shop.state().arms) == ["live"]
    assert rollback(shop) == "0003"
    assert rollback(shop) == "0002"
    assert rollback(shop) == "0001"
    with pytest.raises(UsageError, match="no version before"):
        rollback(shop)
    assert rollback(shop, version="0004") == "0004"
    assert rollback(shop) == "0001"
    assert [step.action for step in site_file.read_site(site).history][:6] == [
        "publish",
        "publish",
        "publish",
        "publish",
        "assign",
        "assign",
    ]


def test_what_cannot_be_is_refused_and_changes_nothing(run: Path, site: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would be its first arm"):
        publish(site, run, arm="candidate")
    assert not site.exists()
    publish(site, run)
    shop, before = Site.open(site), files(site)
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("no name for an arm", lambda: publish(site, run, arm="7")),
        ("no name for an arm", lambda: put_in_service(shop, "a b", "0001")),
        ("no version '0009'.*\n.*0001", lambda: put_in_service(shop, "live", "0009")),
        ("no version before", lambda: rollback(shop)),
        ("cannot be dropped", lambda: drop_arm(shop, "live")),
        ("no arm 'candidate'", lambda: drop_arm(shop, "candidate")),
        ("is a run folder, which has one version", lambda: publish(run, run)),
        ("neither a site nor a run", lambda: publish(tmp_path, run)),
        ("neither a site nor a run", lambda: Site.open(tmp_path / "nowhere")),
        ("not a finished 'model' folder", lambda: publish(site, tmp_path)),
    ]
    for said, refused in refusals:
        with pytest.raises(MmseError, match=said):
            refused()
    assert files(site) == before


def test_a_run_folder_is_a_site_with_one_version(run: Path) -> None:
    shop = Site.open(run)
    fingerprint = artifact.read_manifest(run / "index", "index").fingerprint
    (version,) = shop.state().versions
    assert (version.name, version.run, version.fingerprint) == (fingerprint[:8], run, fingerprint)
    assert shop.state().arms == {"live": version}
    done = shop.apply(NEW)
    assert (done.version, done.catalogue_version, dict(done.catalogue_versions)) == (version.name, 1, {version.name: 1})
    assert titles(run, "n1", "i00000009") == {"n1": "Zorbak kettle", "i00000009": None}
    for refused in (lambda: put_in_service(shop, "live", "0001"), lambda: rollback(shop), lambda: prune(shop, 2)):
        with pytest.raises(UsageError, match=r"one version.*\n.*mmse versions publish"):
            refused()


def test_edits_go_along_with_every_version(run: Path, site: Path) -> None:
    publish(site, run)
    shop = Site.open(site)
    shop.apply(NEW)
    with LiveCatalogue.open(live(site).run, writable=True, config=MANUAL) as catalogue:
        catalogue.compact()
    shop.apply([Change("n1", {"price": 3.0})])
    publish(site, run)
    assert live(site).name == "0002"
    assert titles(live(site).run, "n1", "i00000009") == {"n1": "Zorbak kettle", "i00000009": None}
    assert pending_edits(live(site).run)["n1"] == Upsert({"item_id": "n1", "title": "Zorbak kettle", "price": 3.0})
    shop.apply([Change("n1", {"title": "Later"}), Delete("i00000008")])
    assert rollback(shop) == "0001"
    assert titles(live(site).run, "n1", "i00000008", "i00000009") == {
        "n1": "Later",
        "i00000008": None,
        "i00000009": None,
    }
    publish(site, run, edits="discard")
    assert live(site).name == "0003"
    assert titles(live(site).run, "n1")["n1"] is None
    shop.apply([Upsert({"item_id": "n2", "title": "Newest"})])
    rollback(shop)
    assert titles(live(site).run, "n1", "n2") == {"n1": "Later", "n2": "Newest"}, "its own edits, and those since"


def test_a_run_brings_its_own_edits_and_rules(run: Path, site: Path) -> None:
    with LiveCatalogue.open(run, writable=True, config=MANUAL) as catalogue:
        catalogue.apply(NEW)
    book = Rulebook.open(run / "rules", Retriever.open(run).kinds)
    book.publish('[[synonym]]\nname = "couch"\nwords = ["sofa", "couch"]\n')
    publish(site, run)
    publish(site, run)
    for name in ("0001", "0002"):
        assert titles(site / "versions" / name, "n1")["n1"] == "Zorbak kettle"
        shared = Rulebook.open(site / "versions" / name / "rules", {})
        assert shared.status().rules == 1
    book = Rulebook.open(site / "versions" / "0001" / "rules", {})
    assert book.publish("", "no more") == 2
    assert (site / "rules" / "0002.toml").is_file()
    assert Rulebook.open(site / "versions" / "0002" / "rules", {}).status().version == 2
    assert Rulebook.open(run / "rules", {}).status().version == 1


def test_every_version_served_takes_the_edits_that_fit_it(
    run: Path, site: Path, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    publish(site, run)
    publish(site, run, arm="candidate")
    shop = Site.open(site)
    candidate = shop.state().arms["candidate"]
    with LiveCatalogue.open(candidate.run, writable=True, encoder=encoder, config=MANUAL) as ahead:
        ahead.apply([Delete("i00000004")])
        done = shop.apply([*NEW, Change("i00000004", {"price": 1.0})], {candidate: ahead}.get)
        assert done.version == "0001"
        assert dict(done.catalogue_versions) == {"0001": 1, "0002": 2}
        assert ahead.snapshot().version == 2
        assert "1 of 3 edits do not fit version 0002" in caplog.text
        with pytest.raises(UsageError, match="no item 'nobody'"):
            shop.apply([Delete("n1"), Change("nobody", {"price": 1.0})], {candidate: ahead}.get)
        assert ahead.snapshot().version == 2
    for name in ("0001", "0002"):
        assert titles(site / "versions" / name, "n1", "i00000009") == {"n1": "Zorbak kettle", "i00000009": None}
    put_in_service(shop, "live", "0002")
    assert pending_edits(live(site).run)["i00000004"] == Change("i00000004", {"price": 1.0}), (
        "what the live version has counts"
    )


def test_a_version_that_is_not_live_and_fails_is_no_reason_to_refuse(
    run: Path, site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(site, run)
    publish(site, run, arm="candidate")
    journal = site / "versions" / "0002" / "live" / "journal-0"
    journal.parent.mkdir(exist_ok=True)
    journal.write_bytes(b"damage")
    done = Site.open(site).apply(NEW)
    assert dict(done.catalogue_versions) == {"0001": 1}
    assert "version 0002, which is not live, could not take 2 edits" in caplog.text


def test_edits_that_come_while_it_is_published_are_kept(run: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One during the copying, which is let through; one at the switch, which waits, and goes to the new version."""
    publish(site, run)
    shop = Site.open(site)
    answers, switch = publishing._require_answers, switch_arm
    late = threading.Thread(target=shop.apply, args=([Upsert({"item_id": "late", "title": "Late"})],))

    def asked(draft: Path) -> None:
        shop.apply(NEW)
        answers(draft)

    def switched(*given: object, **named: object) -> object:
        late.start()
        late.join(0.2)
        assert late.is_alive(), "nobody edits while it is switched"
        return switch(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(publishing, "_require_answers", asked)
    monkeypatch.setattr(publishing, "switch_arm", switched)
    publish(site, run)
    late.join()
    assert titles(live(site).run, "n1", "late") == {"n1": "Zorbak kettle", "late": "Late"}
    assert titles(site / "versions" / "0001", "late")["late"] is None


def test_no_edit_is_lost_while_versions_come_and_go(run: Path, site: Path) -> None:
    """Two write without a pause, one of them into catalogues that it keeps open, meanwhile."""
    publish(site, run)
    stop, done = threading.Event(), list[str]()
    failures = list[BaseException]()

    def write(name: str, keep: bool) -> None:
        shop, number = Site.open(site), 0
        held: dict[Version, LiveCatalogue] = {}

        def opened(version: Version) -> LiveCatalogue | None:
            if keep and version not in held:
                held[version] = LiveCatalogue.open(version.run, writable=True, config=MANUAL)
            return held.get(version)

        try:
            while not stop.is_set():
                item_id = f"{name}{number}"
                shop.apply([Upsert({"item_id": item_id, "title": "Zorbak"})], opened)
                done.append(item_id)
                number += 1
        except BaseException as error:
            failures.append(error)
        for catalogue in held.values():
            catalogue.close()

    writers = [threading.Thread(target=write, args=one) for one in (("a", True), ("b", False))]
    for writer in writers:
        writer.start()
    shop = Site.open(site)
    publish(site, run)
    assert rollback(shop) == "0001"
    put_in_service(shop, "live", "0002")
    stop.set()
    for writer in writers:
        writer.join()
    assert not failures, failures
    assert len(done) > 4
    assert set(titles(live(site).run, *done).values()) == {"Zorbak"}


@pytest.mark.parametrize("damage", ["content", "fingerprint", "missing", "changed", "nothing found", "rules"])
def test_a_run_that_is_not_whole_is_refused(
    run: Path, site: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    publish(site, run)
    Site.open(site).apply(NEW)
    before = files(site)
    kind = "index" if damage in ("content", "missing") else "vectors"
    (run / kind).unlink()
    shutil.copytree(small_run / kind, run / kind)
    file = run / kind / ("index.json" if kind == "index" else "items.npy")
    if damage == "content":
        file.write_bytes(file.read_bytes()[:-1] + b" ")
    elif damage == "missing":
        file.unlink()
    elif damage == "fingerprint":
        manifest = run / kind / "manifest.json"
        said = json.loads(manifest.read_text("utf-8"))
        manifest.write_text(json.dumps(said | {"fingerprint": "another"}), "utf-8")
    elif damage == "changed":  # `mmse run` puts other vectors there while they are copied
        link = folder_copy.link_file

        def changed(source: Path, target: Path) -> None:
            if source.name == "items.npy":
                source.write_bytes(source.read_bytes()[::-1])
            link(source, target)

        monkeypatch.setattr(folder_copy, "link_file", changed)
    elif damage == "nothing found":
        monkeypatch.setattr(Retriever, "search", lambda *_, **__: [])
    else:
        Rulebook(site / "rules", Retriever.open(run).kinds | {"shade": Retriever.open(run).kinds["brand"]}).publish(
            '[[boost]]\nname = "red"\nquery = "*"\nfactor = 2.0\nwhere = { shade = "red" }\n'
        )
        before = files(site)
    said = {
        "content": "its content is not what was written",
        "missing": "changed while it was copied",
        "fingerprint": "was changed after it was written",
        "changed": "damaged",
        "nothing found": "finds nothing for any of",
        "rules": "The rules of the site do not fit",
    }[damage]
    with pytest.raises(ArtifactError, match=said):
        publish(site, run)
    assert files(site) == before


def own_index(run: Path) -> Path:
    """The index of `run` as a folder of its own, to be changed."""
    linked_index = (run / "index").resolve()
    (run / "index").unlink()
    shutil.copytree(linked_index, run / "index")
    return run / "index"


@pytest.mark.parametrize("name", ["../../../../planted", "{tmp}/planted"])
def test_a_manifest_writes_nothing_outside_the_site(run: Path, site: Path, tmp_path: Path, name: str) -> None:
    file = own_index(run) / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"][name.format(tmp=tmp_path)] = f"8:{'0' * 32}"
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged: it names .*planted"):
        publish(site, run)
    assert not list(tmp_path.rglob("planted"))
    assert not list((site / "versions").iterdir())


def test_links_in_a_run_are_not_followed(run: Path, site: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "0001.toml").write_text("secret")
    index = own_index(run)
    (index / "index.json").rename(foreign / "index.json")
    (index / "index.json").symlink_to(foreign / "index.json")
    with pytest.raises(ArtifactError, match=r"index\.json is a link"):
        publish(site, run)
    (index / "index.json").unlink()
    (foreign / "index.json").rename(index / "index.json")
    (run / "live").symlink_to(foreign)
    with pytest.raises(ArtifactError, match="live is a link"):
        publish(site, run)
    with pytest.raises(ArtifactError, match="live is a link"):
        LiveCatalogue.open(run, writable=True)
    (run / "live").unlink()
    (run / "rules").mkdir()
    (run / "rules" / "0001.toml").symlink_to(foreign / "0001.toml")
    (run / "rules" / "else").symlink_to(foreign)
    publish(site, run)
    assert not list((site / "rules").iterdir())
    assert [path.name for path in foreign.iterdir()] == ["0001.toml"]


@pytest.mark.parametrize("name", ["../../run", "{tmp}/run", "", "0002"])
def test_a_version_lies_in_the_site(run: Path, site: Path, tmp_path: Path, name: str) -> None:
    publish(site, run)
    (site / "versions" / "0002").symlink_to(site / "versions" / "0001")
    record = site_file.read_site(site)
    site_file.write_site(site, site_file.SiteRecord({"live": name.format(tmp=tmp_path)}, record.history))
    with pytest.raises(ArtifactError, match="is no version of"):
        Site.open(site).state()
    assert site_file.version_names(site) == ["0001"]


def test_a_damaged_site_goes_on_with_what_it_knew(run: Path, site: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(site, run)
    shop = Site.open(site)
    state, whole = shop.state(), (site / "serving.json").read_bytes()
    for content in (b"{", b"{}", whole.replace(b'"live"', b'"else"'), whole.replace(b'"0001"', b'"0007"'), None):
        if content is None:
            (site / "serving.json").unlink()
        else:
            (site / "serving.json").write_bytes(content)
        assert shop.state() == shop.state() == state
        assert shop.problem
        with pytest.raises(ArtifactError):
            Site.open(site)
        with pytest.raises(MmseError):
            rollback(shop)
    assert caplog.text.count("What was served goes on") == 5, "said once for each"
    (site / "serving.json").write_bytes(b"{")
    with pytest.raises(ArtifactError, match=r"serving\.json is damaged"):
        publish(site, run)
    (site / "serving.json").write_bytes(whole)
    assert (shop.state(), shop.problem) == (state, None)
    (site / "serving.json").unlink()
    assert publish(site, run) == "0002", "moved away, it is begun again"
    assert shop.state().live.name == "0002"


KILLED_PUBLISHER = """
import importlib, os, sys
from pathlib import Path
from mmse.serving.versions.publish import publish

site, run, module, name = sys.argv[1:]
setattr(importlib.import_module(module), name, lambda *_: os.kill(os.getpid(), 9))
publish(Path(site), Path(run))
"""
"""In a process of its own: a fork of a process with threads may hang."""


@pytest.mark.parametrize("at", ["copy", "rename", "flip"])
def test_a_killed_publisher_leaves_nothing_half_and_the_next_sweeps(run: Path, site: Path, at: str) -> None:
    publish(site, run)
    Site.open(site).apply(NEW)
    place = {
        "copy": "mmse.serving.versions.publish:_require_answers",
        "rename": "mmse.serving.versions.site_file:read_version",
        "flip": "mmse.serving.versions.site_file:write_site",
    }[at]
    command = [sys.executable, "-c", KILLED_PUBLISHER, str(site), str(run), *place.split(":")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert live(site).name == "0001"
    shop = Site.open(site)
    shop.apply([Change("n1", {"title": "After"})])
    name = publish(site, run)
    assert name == ("0002" if at == "copy" else "0003")
    assert titles(live(site).run, "n1", "i00000009") == {"n1": "After", "i00000009": None}
    assert sorted(path.name for path in (site / "versions").iterdir()) == [f"{n:04}" for n in range(1, int(name) + 1)]


def test_two_publish_at_once_and_both_are_there(run: Path, site: Path) -> None:
    publish(site, run)
    done: list[str] = []
    threads = [threading.Thread(target=lambda: done.append(publish(site, run))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["0002", "0003"]
    assert live(site).name == done[-1]


def test_old_versions_are_pruned_but_none_that_is_served(run: Path, site: Path) -> None:
    for _ in range(6):
        publish(site, run)
    shop = Site.open(site)
    put_in_service(shop, "candidate", "0001")
    rollback(shop, version="0003")
    assert prune(shop, 1) == ["0004"], "kept: the newest two, the arms' own, and what was live before 0003"
    assert sorted(path.name for path in (site / "versions").iterdir()) == ["0001", "0002", "0003", "0005", "0006"]
    assert prune(shop, 5) == []
    with pytest.raises(UsageError, match="no version '0004'"):
        put_in_service(shop, "live", "0004")
    assert publish(site, run) == "0007"


def test_a_map_of_other_vectors_is_left_out(run: Path, site: Path, caplog: pytest.LogCaptureFixture) -> None:
    inputs_now = {kind: artifact.read_manifest(run / kind, kind).fingerprint for kind in ("dataset", "vectors")}
    for inputs, there in ((inputs_now | {"vectors": "others"}, False), (inputs_now, True)):
        with artifact.write_folder(run / "map", kind="map", config={}, inputs=inputs) as draft:
            (draft.folder / "points.json").write_text("[]")
        publish(site, run)
        assert (live(site).run / "map" / "points.json").exists() is there
    assert caplog.text.count("is left out") == 1


def test_asking_what_is_served_is_cheap(run: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(site, run)
    shop = Site.open(site)
    monkeypatch.setattr(site_file, "read_site", lambda _: pytest.fail("it has not changed"))
    assert shop.state() is shop.state()
