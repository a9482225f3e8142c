"""The daily loop: a good day becomes a version, a bad one never reaches shoppers, and the page says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cycle.days import POISONS, write_shop
from mmse.catalogue.edits import Change
from mmse.catalogue.transfer import pending_edits
from mmse.core import locks
from mmse.core.errors import ArtifactError, OutputError, UsageError
from mmse.cycle import loop
from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.cycle.record import PAGE, CycleRecord, folder_of, read_records, record_of
from mmse.release import answers
from mmse.schema.http_events import Click, Exposure
from mmse.serving.events.log import EventLog
from mmse.serving.versions.site import Site
from mmse.shop import Shop, read_shop
from mmse.training import catalogue_requests
from shop import TRAIN


@pytest.fixture(scope="session")
def good_site(small_shop: Shop, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with one version, made by a first cycle."""
    site = tmp_path_factory.mktemp("cycle") / "site"
    shutil.copytree(small_run, site.parent / "run", ignore=shutil.ignore_patterns("baselines"))
    record = run_cycle(site, small_shop.path, CycleOptions(run=site.parent / "run", by="a test"))
    assert (record.outcome, record.version, record.summary) == (
        "published",
        "0001",
        "Version 0001 is live, the first one.",
    )
    return site


@pytest.fixture
def site(good_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the good site, and of its run folder; of the head of the log, few queries are asked."""
    monkeypatch.setattr(answers, "MAX_HEAD_QUERIES", 30)
    shutil.copytree(good_site, tmp_path / "site", symlinks=True)
    shutil.copytree(good_site.parent / "run", tmp_path / "run")
    return tmp_path / "site"


@pytest.mark.parametrize("name", POISONS)
def test_a_poisoned_day_is_refused_with_the_reason(site: Path, small_shop: Shop, tmp_path: Path, name: str) -> None:
    change, reason = POISONS[name]
    shop_file = write_shop(tmp_path / "shop", small_shop, change)
    if name == "items_gone":
        shop_file.write_text(shop_file.read_text("utf-8").replace("[events]\n", "[events]\nmax_rejected_share = 0.9\n"))
    record = run_cycle(site, shop_file, CycleOptions(run=tmp_path / "run"))
    assert record.outcome == "refused"
    causes = {finding.name: finding.cause for finding in record.findings if finding.severity == "blocks"}
    assert reason in causes[name]
    assert "version 0001 goes on being served" in record.summary
    assert Site.open(site).state().live.name == "0001"
    page = (folder_of(site, record.number) / PAGE).read_text("utf-8")
    assert "refused" in page
    assert record.steps[-1].name == "dataset", "nothing is trained on a day that is refused"


def test_a_good_day_becomes_the_next_version_with_edits_and_the_site_s_own_events(
    site: Path, small_shop: Shop, tmp_path: Path
) -> None:
    Site.open(site).apply([Change("i00000009", {"price": 12.5})])
    events = EventLog(site / "events")
    last_day = 1_772_500_000.0
    for number in range(5):
        exposure = Exposure(request_id=f"new{number}", query="mug", items=["i00000001"], timestamp=last_day + number)
        events.append([exposure, Click(request_id=f"new{number}", item_id="i00000001", timestamp=last_day + number)])
    events.close()
    shop_file = write_shop(tmp_path / "shop", small_shop, POISONS["prices"][0])
    record = run_cycle(site, shop_file, CycleOptions(run=tmp_path / "run", accept=["prices"]))
    assert (record.outcome, record.version, record.former) == ("published", "0002", "0001")
    assert [(f.severity, f.cure) for f in record.findings if f.name == "prices"] == [("warns", "It was accepted.")]
    assert record.log is not None
    assert record.log.requests == read_records(site)[0].log.requests + 5  # type: ignore[union-attr]
    names = {finding.name for finding in record.findings}
    assert {"items_gone", "prices", "titles", "log", "recall_of_clicks", "drift", "latency", "answered"} <= names
    assert set(pending_edits(site / "versions" / "0002")) == {"i00000009"}
    again = run_cycle(site, shop_file, CycleOptions(run=tmp_path / "run"))
    assert (again.outcome, again.summary) == (
        "unchanged",
        "Nothing has changed since the last version; version 0002 goes on being served.",
    )
    page = (folder_of(site, again.number) / PAGE).read_text("utf-8")
    assert page.count("../0002/cycle.html") == 1


def test_a_shop_without_a_log_begins_with_its_catalogue_and_waits_for_enough_shoppers(
    small_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_requests, "MIN_REQUESTS", 2_000)  # 20,000 take a while
    shop_file = tmp_path / "shop.toml"
    source = (small_shop.base / "items.parquet").as_posix()
    shop_file.write_text(f'[items]\nsource = "{source}"\n' + TRAIN.replace("n_random = 64", "n_random = 16"), "utf-8")
    assert read_shop(shop_file).events is None
    first = run_cycle(tmp_path / "site", shop_file, CycleOptions())
    assert (first.outcome, first.log, first.items) == ("published", None, 400)
    events = EventLog(tmp_path / "site" / "events")
    events.append([Exposure(request_id="r1", query="mug", items=["i00000001"], timestamp=1_772_500_000.0)])
    events.close()
    second = run_cycle(tmp_path / "site", shop_file, CycleOptions())
    assert second.outcome == "unchanged"
    assert "The site has logged 1 requests, too few to learn from" in " ".join(f.cause for f in second.findings)


def test_what_fails_is_written_down_and_publishes_nothing(
    site: Path, small_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ArtifactError("The disk is worn.", "Change it.")

    monkeypatch.setattr(loop, "compare_catalogues", fail)
    record = run_cycle(site, small_shop.path, CycleOptions(run=tmp_path / "run"))
    assert (record.outcome, record.summary) == ("failed", "The disk is worn. Change it.")
    assert "The disk is worn." in (folder_of(site, record.number) / PAGE).read_text("utf-8")
    assert Site.open(site).state().live.name == "0001"


def test_a_version_is_compared_with_what_its_own_cycle_saw() -> None:
    first, refusal, second = (
        CycleRecord(number, "", 0.0, "published" if version else "refused", "", "live", version)
        for number, version in ((1, "0001"), (2, None), (3, "0002"))
    )
    records = [first, refusal, second]
    assert record_of(records, "0001") is first, "after a rollback what came later is new again"
    assert record_of(records, "0009") is None, "it was published by hand"


def test_two_cycles_of_a_site_do_not_run_at_once(site: Path, small_shop: Shop) -> None:
    with locks.try_lock(site / "cycles" / ".lock") as is_free:
        assert is_free
        with pytest.raises(OutputError, match="Another cycle"):
            run_cycle(site, small_shop.path, CycleOptions())


def test_a_table_that_cannot_be_read_is_named_and_cannot_be_accepted(
    site: Path, small_shop: Shop, tmp_path: Path
) -> None:
    shop_file = write_shop(tmp_path / "shop", small_shop, lambda items, events: (items, events))
    items = tmp_path / "shop" / "items.parquet"
    items.write_bytes(items.read_bytes()[:5_000])
    record = run_cycle(site, shop_file, CycleOptions(run=tmp_path / "run", accept=["unreadable"]))
    assert record.outcome == "refused"
    assert "items.parquet" in record.findings[0].cause
    assert record.summary.endswith("Mend what is found and run the cycle again.")


def test_a_wrong_shop_file_is_told_before_anything_is_made(small_shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(small_shop.path.read_text("utf-8") + "\n[release]\nmax_repriced = 3.0\n")
    for path in (tmp_path / "missing.toml", tmp_path / "shop.toml"):
        with pytest.raises(UsageError, match=r"max_repriced|no file"):
            run_cycle(tmp_path / "site", path, CycleOptions())
    assert not (tmp_path / "site").exists()


def test_a_site_that_serves_nothing_yet_says_so(tmp_path: Path) -> None:
    (tmp_path / "site" / "versions").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="serves nothing yet"):
        Site.open(tmp_path / "site")


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path, small_shop: Shop) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat", "utf-8")
    with pytest.raises((ArtifactError, UsageError)):
        run_cycle(tmp_path / "photos", small_shop.path, CycleOptions())
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_log_comes_to_the_sources_of_the_shop(small_shop: Shop, tmp_path: Path) -> None:
    shop = read_shop(small_shop.path, tmp_path)
    assert shop.events is not None
    assert [source.source for source in shop.events.sources] == ["events/*.parquet", str(tmp_path)]


def test_a_site_of_an_earlier_schema_gets_its_next_version(site: Path, small_shop: Shop, tmp_path: Path) -> None:
    file = site / "versions" / "0001" / "index" / "manifest.json"
    manifest = json.loads(file.read_text("utf-8")) | {"schema_version": 1, "fingerprint": "0" * 32}
    file.unlink()  # it may be a link to that of the run
    file.write_text(json.dumps(manifest), "utf-8")
    record = run_cycle(site, small_shop.path, CycleOptions(run=tmp_path / "run"))
    assert (record.outcome, record.version, record.former) == ("published", "0002", "0001")
    assert "former_schema" in {finding.name for finding in record.findings}
