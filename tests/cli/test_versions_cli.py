"""The commands of a site's versions, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.called import Call
from mmse.cli.main import app
from mmse.cli.versions import versions_app


@pytest.fixture(autouse=True)
def wired() -> None:
    """The commands hang in the command line."""
    if all(group.typer_instance is not versions_app for group in app.registered_groups):
        app.add_typer(versions_app)


@pytest.fixture
def site(call: Call, small_run: Path, tmp_path: Path) -> Path:
    done = call("versions", "publish", tmp_path / "site", small_run, "--note", "first")
    assert (done.code, done.out) == (0, "Version 0001 is live.\n"), done.err
    return tmp_path / "site"


def test_a_life_of_versions(call: Call, site: Path, small_run: Path) -> None:
    assert call("versions", "publish", site, small_run, "--note", "second").out == "Version 0002 is live.\n"
    assert call("versions", "assign", site, "candidate", "0001").out == "Version 0001 is candidate.\n"
    first, second = call("versions", "list", site).out.splitlines()
    assert first.startswith("0001  20")
    assert first.endswith("candidate     first")
    assert second.endswith("live          second")
    assert call("versions", "rollback", site).out == "Version 0001 is live again.\n"
    assert call("versions", "rollback", site, "0002").out == "Version 0002 is live again.\n"
    assert call("versions", "drop", site, "candidate").out == "There is no arm candidate any more.\n"
    assert call("versions", "prune", site, "--keep", 1).out == "There was nothing to remove.\n"
    said = json.loads(call("versions", "list", site, "--json").out)
    assert [(one["version"], one["arms"]) for one in said["versions"]] == [("0001", []), ("0002", ["live"])]
    assert [step["what"] for step in said["history"]] == [
        "publish",
        "publish",
        "assign",
        "rollback",
        "rollback",
        "drop",
    ]


def test_edits_of_a_site_reach_all_that_is_served(call: Call, site: Path, small_run: Path) -> None:
    call("versions", "publish", site, small_run, "--arm", "candidate")
    done = call("items", "set", site, "i00000001", "price=9.99")
    assert done.out == "1 edits applied to version 0001, which is live, and version 0002.\n"
    assert "1 changed since" in call("items", "status", site).out
    assert call("items", "compact", site).out.count("Folded; 400 items.") == 2
    assert "0 changed since" in call("items", "status", site / "versions" / "0002").out
    for command in ("carry-over", "discard"):
        refused = call("items", command, site)
        assert refused.code == 2
        assert "--discard-edits" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("rollback", "{site}"), 2, "no version before"),
        (("rollback", "{site}", "0009"), 2, "no version '0009'"),
        (("assign", "{site}", "12", "0001"), 2, "no name for an arm"),
        (("drop", "{site}", "live"), 2, "cannot be dropped"),
        (("list", "{site}/versions/0001"), 2, "mmse versions publish SITE RUN"),
        (("list", "{site}/nowhere"), 2, "neither a site nor a run"),
        (("publish", "{site}", "{site}"), 2, "not a finished 'model' folder"),
    ],
)
def test_what_is_refused_names_cause_and_cure(
    call: Call, site: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = call("versions", *(one.format(site=site) for one in arguments))
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "to mend it:" in done.err


def test_rules_of_any_version_are_those_of_the_site(call: Call, site: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[redirect]]\nname = "sale"\nquery = "sale"\nto = "offers"\n')
    published = call("rules", "publish", site / "versions" / "0001", rules)
    assert (published.code, published.out) == (0, "Version 1 is live: 1 rule.\n"), published.err
    assert (site / "rules" / "0001.toml").is_file()
