"""The commands of a live catalogue and the options of a search, as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.called import Call

QUERY = "blue tent"


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def found(call: Call, run: Path, *options: object) -> list[str]:
    done = call("search", run, QUERY, "--json", *options)
    assert done.code == 0, done.err
    return [hit["item_id"] for hit in json.loads(done.out)["hits"]]


def test_items_go_in_and_out(call: Call, run: Path, tmp_path: Path) -> None:
    first = found(call, run, "-k", 1)[0]
    edits = tmp_path / "edits.jsonl"
    new = {"item_id": "new", "title": "Zyzzyva blue tent", "price": 5.0, "available": True}
    edits.write_text(
        json.dumps({"edit": "upsert", "item": new}) + "\n\n" + '{"edit":"delete","item_id":"' + first + '"}'
    )
    assert "2 edits applied; 400 items, version 1." in call("items", "apply", run, edits).out
    assert "new" in found(call, run, "-k", 20)
    assert first not in found(call, run, "-k", 20)
    assert call("items", "set", run, "new", "price=9.5", "available=false").code == 0
    assert "new" in found(call, run, "--filter", "price=9.5", "--filter", "available=false")
    assert "2 changed since the index was made" in call("items", "status", run).out
    assert "Folded; 400 items." in call("items", "compact", run).out
    assert "There was nothing to fold." in call("items", "compact", run).out
    assert "new" in found(call, run, "--filter", "price=9.5")
    assert call("items", "delete", run, "new").code == 0
    assert "new" not in found(call, run, "--filter", "price=9.5")
    assert "The edits of 2 items were dropped." in call("items", "discard", run).out
    assert first in found(call, run, "-k", 20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "i00000001", "pric=3"), "pric"),
        (("set", "i00000001", "price=cheap"), "price"),
        (("set", "i00000001", "price"), "has no '='"),
        (("set", "nobody", "price=3"), "nobody"),
        (("delete", "nobody"), "nobody"),
        (("apply", "/no/such/file"), "There is no file"),
    ],
)
def test_a_wrong_edit_changes_nothing(call: Call, run: Path, arguments: tuple[str, ...], said: str) -> None:
    command, *rest = arguments
    done = call("items", command, run, *rest)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert "0 changed since" in call("items", "status", run).out


def test_an_edit_that_is_no_edit_is_named_by_its_line(call: Call, run: Path, tmp_path: Path) -> None:
    edits = tmp_path / "edits.jsonl"
    edits.write_text('{"edit": "delete", "item_id": "i00000001"}\n{"edit": "remove"}\n')
    done = call("items", "apply", run, edits)
    assert done.code == 2
    assert "edits.jsonl, line 2" in done.err
    assert "0 changed since" in call("items", "status", run).out


def test_a_search_with_everything(call: Call, run: Path) -> None:
    done = call(
        "search",
        run,
        QUERY,
        "-k",
        5,
        "--filter",
        "price=..1000",
        "--filter",
        '{"not": {"available": false}}',
        "--cap",
        "brand=1",
        "--boost",
        "2:price=..50",
        "--min-probability",
        0.001,
    )
    assert done.code == 0, done.err
    assert "likely" in done.out
    assert "words" in done.out


def test_no_good_match_is_said(call: Call, run: Path) -> None:
    assert "No good match" in call("search", run, QUERY, "--min-probability", 1).out
    answer = json.loads(call("search", run, QUERY, "--min-probability", 1, "--json").out)
    assert answer["no_good_match"] is True
    assert answer["hits"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--filter", "pric=..3"), "Did you mean 'price'?"),
        (("--filter", "price"), "has no '='"),
        (("--filter", '{"price":'), "is not valid JSON"),
        (("--cap", "brand"), "is not column=number"),
        (("--cap", "brand=0"), "The cap of 'brand' is 0"),
        (("--boost", "x:price=..3"), "does not begin with a factor"),
        (("--boost", "-1:price=..3"), "A boost is -1"),
        (("--channel", "psychic"), "There is no channel 'psychic'"),
        (("--min-probability", "2"), "min_probability is 2"),
        (("--channel", "rrf", "--target-precision", "0.5"), "gives no probabilities"),
    ],
)
def test_a_wrong_option_is_named(call: Call, run: Path, options: tuple[str, ...], said: str) -> None:
    done = call("search", run, QUERY, *options)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""
