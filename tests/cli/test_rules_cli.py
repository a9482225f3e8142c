"""The commands of rules as a merchandiser meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from mmse.cli.rules import FOLDER, _plain, rules_app, run_kinds
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.dataset.folder import DatasetFolder
from mmse.ranking.rulebook import CURRENT, Rulebook
from mmse.schema.filters import Kind, parse_filter, parse_terms

COMMANDS = ["check", "publish", "list", "history", "rollback", "add"]
Call = Callable[..., Result]


@pytest.fixture
def items() -> list[str]:
    return ["i0", "i1", "i2"]


@pytest.fixture
def run(items: list[str], tmp_path: Path) -> Path:
    """What the commands read of a run, and nothing published."""
    columns = {"item_row": [0, 1, 2], "item_id": items, "title": ["x"] * 3, "category": ["a > b"] * 3}
    columns |= {"brand": ["Acme"] * 3, "price": [1.0] * 3, "available": [True] * 3, "colour": ["red"] * 3}
    (tmp_path / "run" / "serving").mkdir(parents=True)
    pq.write_table(pa.table(columns), tmp_path / "run" / "serving" / "items.parquet")
    declare(tmp_path / "run", categorical=["colour"], numeric=[])
    return tmp_path / "run"


def declare(run: Path, **declared: list[str]) -> None:
    (run / "model").mkdir(exist_ok=True)
    (run / "model" / "features.json").write_text(json.dumps({"declared": {"text": ["title"], **declared}}))


def call(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(rules_app, [*map(str, arguments)])
    if isinstance(result.exception, MmseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def pin(name: str, *items: str) -> str:
    return f'[[pin]]\nname = "{name}"\nquery = "tent"\nitems = {list(items)}\n'


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    said = " ".join(call(command, "--help").split())
    assert f"mmse rules {command} run" in said or f"mmse rules {command} rules.toml run" in said
    assert re.search(r"Examples?:", said)


def test_check(run: Path, items: list[str], tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(pin("a", items[0]))
    assert call("check", file, run) == f"{file} is in order: 1 rule.\n"
    file.write_text(pin("a", items[0], "[bold]nowhere"))
    result = CliRunner().invoke(rules_app, ["check", str(file), str(run)])
    assert result.stderr == "warning: a: the catalogue has no item '[bold]nowhere'.\n"
    assert result.stdout == f"{file} is in order: 1 rule.\n"
    assert not (run / FOLDER).exists()


@pytest.mark.parametrize("content", ["[[pin]", "pin = 3", pin("A"), pin("a", "x") * 2])
def test_a_wrong_file_is_refused_and_not_published(run: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(content)
    for arguments in (("check", file, run), ("publish", run, file)):
        with pytest.raises(UsageError, match=re.escape(str(file))):
            call(*arguments)
    assert not (run / FOLDER).exists()


def test_publish_list_history_and_rollback(run: Path, items: list[str], tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    assert call("list", run) == "No rules were published.\n"
    assert call("history", run) == ""
    file.write_text(pin("a", items[0]) + 'note = "why [red]not[/]\\nindeed"\n')
    assert call("publish", run, file, "--note", "summer sale") == "Version 1 is live: 1 rule.\n"
    assert call("list", run) == (
        f"Version 1: 1 rule.\npin       a  “tent”: from place 1: {items[0]}  # why [red]not[/] indeed\n"
    )
    file.write_text("")
    assert call("publish", run, file) == "Version 2 is live: 0 rules.\n"
    assert call("rollback", run, 1) == "Version 1 is live again.\n"
    lines = call("history", run).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["0001", "0002", "0001"]
    assert lines[0].endswith("  summer sale")
    assert lines[2].endswith("  back to version 1")
    with pytest.raises(UsageError, match="no version 9"):
        call("rollback", run, 9)


def test_add_every_kind(run: Path, items: list[str]) -> None:
    added = call("add", run, "pin", "--name", "tents", "--query", "tent", "--item", items[0], "--item", items[1])
    expected = f'[[pin]]\nname = "tents"\nquery = "tent"\nitems = ["{items[0]}", "{items[1]}"]\n'
    assert added == f"Version 1 is live, with:\n{expected}"
    call(
        "add",
        run,
        "boost",
        "--name",
        "own",
        "--query",
        "*",
        "--where",
        "brand=Acme",
        "--where",
        "price=..20",
        "--factor",
        "1.5",
        "--from",
        "2020-01-01",
        "--until",
        "2099-12-31",
    )
    call("add", run, "bury", "--name", "gone", "--query", "*", "--where", '{"not": {"available": true}}')
    call("add", run, "synonym", "--name", "sofa", "--word", "sofa", "--word", "couch")
    call("add", run, "synonym", "--name", "tv", "--when", "tv", "--also", "television")
    call("add", run, "redirect", "--name", "tnet", "--query", "tnet", "--to", "tent")
    call("add", run, "redirect", "--name", "help", "--query", "help", "--url", "https://shop.example/help")
    call(
        "add",
        run,
        "pin",
        "--name",
        "asleep",
        "--query",
        "tent",
        "--item",
        items[2],
        "--place",
        "3",
        "--until",
        "2020-01-01",
    )
    listed = call("list", run)
    assert listed.startswith("Version 8: 8 rules.\n")
    assert 'odds x1.5 where {"and": [{"brand": "acme"}, {"price": {"to": 20.0}}]}' in listed
    assert "sofa = couch" in listed
    assert "tv → television" in listed
    assert "shows https://shop.example/help" in listed
    assert f"from place 3: {items[2]}  (asleep)\n" in listed
    assert call("list", run, "--query", "tnet") == (
        'Searched: tent\nodds x1.5 where {"and": [{"brand": "acme"}, {"price": {"to": 20.0}}]} (own)\n'
        'last where {"not": {"available": true}} (gone)\n'
        f"pinned to place 1: {items[0]} (tents)\npinned to place 2: {items[1]} (tents)\n"
        "Rules that apply: tnet, tents, own, gone\n"
    )
    assert "“couch” also searches sofa\n" in call("list", run, "--query", "red couch")
    assert "shows https://shop.example/help\n" in call("list", run, "--query", "help")
    assert Rulebook(run / FOLDER, run_kinds(run)).history()[0].note == "pin tents"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pin", "--name", "a", "--query", "x", "--item", "i", "--factor", "2"], "there is no key 'factor'"),
        (["pin", "--name", "A", "--query", "x", "--item", "i"], "'name' is 'A'"),
        (["pin", "--name", "a", "--query", "x"], "'items' is missing"),
        (["boost", "--name", "a", "--query", "x", "--where", "brnad=x", "--factor", "2"], "no column 'brnad'"),
        (["boost", "--name", "a", "--query", "x", "--where", "brand=x", "--factor", "nan"], "'factor' is nan"),
        (["pin", "--name", "a", "--query", "x", "--item", "i", "--from", "June"], "--from is 'June', expected a day"),
        (["redirect", "--name", "a", "--query", "x", "--url", "ftp://x"], "'url' is 'ftp://x'"),
    ],
)
def test_add_refuses(run: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        call("add", run, *arguments)
    assert not (run / FOLDER).exists()


def test_wrong_usage(run: Path) -> None:
    for arguments in (["add", run, "pni", "--name", "a"], ["add", run, "pin"], ["rollback", run, "x"], ["chekc"]):
        assert CliRunner().invoke(rules_app, [*map(str, arguments)]).exit_code == 2


def test_text_that_is_none_is_written_as_question_marks(run: Path) -> None:
    call("add", run, "pin", "--name", "a", "--query", "zelt \udcff", "--item", "i")
    assert "pinned to place 1: i (a)" in call("list", run, "--query", "zelt ?")


def test_a_missing_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not say which columns"):
        call("list", tmp_path / "none")


def test_broken_rules_are_said(run: Path) -> None:
    call("add", run, "pin", "--name", "a", "--query", "x", "--item", "i")
    (run / FOLDER / CURRENT).write_text("{")
    for command in ("list", "history"):
        with pytest.raises(ArtifactError, match="is damaged"):
            call(command, run)


def test_the_columns_of_a_run(run: Path) -> None:
    known = {"category": Kind.PATH, "brand": Kind.NAME, "price": Kind.NUMBER, "available": Kind.FLAG}
    assert run_kinds(run) == known | {"colour": Kind.NAME}
    declare(run, categorical=["category", "gone"], numeric=["item_row", "brand"])
    assert run_kinds(run) == known | {"item_row": Kind.NUMBER}
    (run / "model" / "features.json").write_text("[]")
    with pytest.raises(ArtifactError):
        run_kinds(run)


def test_the_columns_of_a_trained_run(small_run: Path) -> None:
    kinds = run_kinds(small_run)
    assert kinds["category"] is Kind.PATH
    assert kinds["colour"] is Kind.NAME
    assert set(kinds) <= set(pq.read_schema(DatasetFolder(small_run / "dataset").items).names)


@pytest.mark.parametrize(
    "terms",
    [
        ["brand=Acme"],
        ["price=10..20"],
        ["price=5", "available=false"],
        ['{"or": [{"brand": ["a", "b"]}, {"price": 3}]}'],
        ['{"not": {"category": "A > B"}}'],
        ['{"price": [1, 2]}'],
        ["price=..5"],
    ],
)
def test_a_filter_as_plain_values_reads_back(terms: list[str]) -> None:
    kinds = {"brand": Kind.NAME, "price": Kind.NUMBER, "available": Kind.FLAG, "category": Kind.PATH}
    parsed = parse_terms(terms, kinds)
    assert parsed is not None
    assert parse_filter(_plain(parsed), kinds) == parsed
