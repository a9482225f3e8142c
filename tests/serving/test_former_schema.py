"""A site that an earlier mmse wrote: it is refused in words, and the next version takes its edits over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmse.catalogue import LiveCatalogue
from mmse.core.artifact import reason_to_make, verify
from mmse.core.errors import SchemaError
from mmse.core.run_folder import INDEX
from mmse.serving.config import ServeConfig
from mmse.serving.server import check
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site, rollback

FORMER = Path(__file__).with_name("former_site")


@pytest.fixture
def former_site(tmp_path: Path) -> Path:
    return shutil.copytree(FORMER, tmp_path / "site")


def test_what_it_serves_is_refused_and_says_what_to_do(former_site: Path) -> None:
    folder = former_site / "versions" / "0001" / INDEX
    with pytest.raises(SchemaError, match="schema version 1 of 'index', this mmse reads 2") as error_info:
        verify(folder, INDEX)
    assert "publish the new run; the edits go along" in error_info.value.cure
    assert "schema version 1" in str(reason_to_make(folder, INDEX, {}, {})), "`mmse run` makes it again"


def test_the_next_version_takes_its_edits_over(former_site: Path, small_run: Path) -> None:
    assert publish(former_site, small_run) == "0002"
    site = Site.open(former_site)
    with LiveCatalogue.open(site.state().live.run) as catalogue:
        snapshot = catalogue.snapshot()
        prices = [item["price"] for item in snapshot.items(snapshot.rows(["n1", "i00000002"]))]
    assert prices == [5.0, 7.0]
    check(ServeConfig(former_site, port=0))
    with pytest.raises(SchemaError, match="schema version 1"):
        rollback(site)
    assert Site.open(former_site).state().live.name == "0002", "nothing has changed"
