"""Versions of rules on disk: what goes live, what a running search notices, and what never takes it down."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mmse.core.errors import ArtifactError, OutputError, UsageError
from mmse.ranking.rulebook import CURRENT, Rulebook, RulesStatus
from mmse.schema.filters import Kind

KINDS = {"brand": Kind.NAME}
TIME = datetime(2026, 7, 1, tzinfo=UTC)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pin(name: str, query: str = "tent") -> str:
    return f'[[pin]]\nname = "{name}"\nquery = "{query}"\nitems = ["i1"]\n'


def live(book: Rulebook) -> list[str]:
    return [rule.head.name for rule in book.current().rules]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "rules"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_no_folder_is_no_rules(folder: Path, clock: Clock) -> None:
    book = Rulebook.open(folder, KINDS, clock)
    assert len(book.current()) == 0
    assert book.status() == RulesStatus(None, 0, None)
    assert book.history() == []
    assert not folder.exists()
    Rulebook(folder, KINDS).publish(pin("a"))
    clock.now += 0.6
    assert live(book) == ["a"]


def test_publish_and_roll_back(folder: Path, clock: Clock) -> None:
    book = Rulebook.open(folder, KINDS, clock)
    assert book.publish(pin("a"), "first", "anna") == 1
    assert book.publish("# nothing now\r\n") == 2
    assert live(book) == []
    clock.now += 0.6
    assert book.status() == RulesStatus(2, 0, None)
    book.rollback(1, "it was right", "bert")
    clock.now += 0.6
    assert live(book) == ["a"]
    assert book.status() == RulesStatus(1, 1, None)
    assert [(e.version, e.by, e.note) for e in book.history()] == [
        (1, "anna", "first"),
        (2, "", ""),
        (1, "bert", "it was right"),
    ]
    assert all(datetime.fromisoformat(publication.at) for publication in book.history())
    assert book.text(2) == "# nothing now\r\n"
    assert book.publish(pin("b")) == 3
    assert json.loads((folder / CURRENT).read_text())["edition"]["version"] == 3
    assert sorted(p.name for p in folder.iterdir()) == ["0001.toml", "0002.toml", "0003.toml", CURRENT]
    assert stat.S_IMODE((folder / "0001.toml").stat().st_mode) & 0o222 == 0


def test_add_puts_one_rule_behind_the_live_ones(folder: Path, clock: Clock) -> None:
    book = Rulebook(folder, KINDS, clock)
    assert book.add(pin("a")) == 1
    book.publish("# ours\n" + pin("a") + "\n\n")
    assert book.add(pin("b", "stove")) == 3
    assert live(book) == ["a", "b"]
    assert book.text(3) == "# ours\n" + pin("a") + "\n" + pin("b", "stove")
    with pytest.raises(UsageError, match="two rules have the name 'a'"):
        book.add(pin("a", "stove"))
    assert len(book.history()) == 3


def test_what_is_wrong_is_not_published(folder: Path) -> None:
    book = Rulebook(folder, KINDS)
    with pytest.raises(UsageError, match="there is no rule of kind"):
        book.publish("[[pni]]")
    assert not folder.exists()
    book.publish(pin("a"))
    with pytest.raises(UsageError, match=r"no version 7 of the rules.\nPublished versions: 1\."):
        book.rollback(7)
    assert len(book.history()) == 1


def test_a_version_that_no_longer_fits_is_not_gone_back_to(folder: Path) -> None:
    Rulebook(folder, KINDS).publish('[[boost]]\nname = "a"\nquery = "*"\nfactor = 2\nwhere = { brand = "x" }')
    Rulebook(folder, KINDS).publish("")
    with pytest.raises(UsageError, match=r"0001\.toml, boost 'a', 'where': There is no column 'brand'"):
        Rulebook(folder, {}).rollback(1)


def test_a_search_looks_twice_a_second_and_not_more(folder: Path, clock: Clock) -> None:
    book = Rulebook(folder, KINDS, clock)
    book.publish(pin("a"))
    assert live(book) == ["a"]
    book.publish(pin("b"))
    clock.now += 0.4
    assert live(book) == ["a"]
    clock.now += 0.2
    assert live(book) == ["b"]
    assert book.current() is book.current()
    rules = book.current()
    clock.now += 10
    assert book.current() is rules


PUBLISH = """
import sys
from pathlib import Path
from mmse.schema.filters import Kind
from mmse.ranking.rulebook import Rulebook
for n in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{n}"
    rule = f'[[pin]]\\nname = "{name}"\\nquery = "{name}"\\nitems = ["i1"]\\n'
    print(Rulebook(Path(sys.argv[1]), {"brand": Kind.NAME}).add(rule, name))
"""


def test_another_process_publishes(folder: Path, clock: Clock) -> None:
    book = Rulebook.open(folder, KINDS, clock)
    subprocess.run([sys.executable, "-c", PUBLISH, folder, "far", "1"], check=True, capture_output=True)
    clock.now += 0.6
    assert live(book) == ["far-0"]


def test_publishers_at_once_lose_nothing(folder: Path) -> None:
    arguments = [[sys.executable, "-c", PUBLISH, str(folder), name, "8"] for name in ("one", "two")]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for line in arguments]
    numbers: list[int] = []

    def publish(name: str) -> None:
        for n in range(8):
            numbers.append(Rulebook(folder, KINDS).add(pin(f"{name}-{n}", f"{name} {n}"), f"{name}-{n}"))

    threads = [threading.Thread(target=publish, args=(name,)) for name in ("three", "four")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        numbers += map(int, process.communicate()[0].split())
    assert sorted(numbers) == list(range(1, 33))
    names = {f"{name}-{n}" for name in ("one", "two", "three", "four") for n in range(8)}
    assert set(live(Rulebook(folder, KINDS))) == names
    history = Rulebook(folder, KINDS).history()
    assert [publication.version for publication in history] == list(range(1, 33))
    assert {publication.note for publication in history} == names


DAMAGED_CONTENTS = ["", "{", "[]", '{"edition": 3}', '{"edition": {"version": "1"}}', "\x00" * 100, "{" * 10_000]


@pytest.mark.parametrize("content", DAMAGED_CONTENTS)
def test_a_broken_current_keeps_the_last_good_rules(
    folder: Path, clock: Clock, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = Rulebook(folder, KINDS, clock)
    book.publish(pin("a"))
    assert live(book) == ["a"]
    (folder / CURRENT).write_text(content)
    clock.now += 0.6
    with caplog.at_level(logging.WARNING):
        assert live(book) == ["a"]
    assert "is damaged" in caplog.text
    assert "version 1 stays in use" in caplog.text
    status = book.status()
    assert (status.version, status.rules) == (1, 1)
    assert "is damaged" in str(status.problem)
    caplog.clear()
    clock.now += 0.6
    book.current()
    assert caplog.text == ""  # said once
    with pytest.raises(ArtifactError):
        book.history()
    assert len(Rulebook.open(folder, KINDS).current()) == 0
    assert book.publish(pin("b")) == 2
    clock.now += 0.6
    assert live(book) == ["b"]
    assert book.status() == RulesStatus(2, 1, None)


def test_a_version_missing_cut_short_or_changed_keeps_the_last_good_rules(folder: Path, clock: Clock) -> None:
    book = Rulebook(folder, KINDS, clock)
    book.publish(pin("a"))
    assert live(book) == ["a"]
    book.publish(pin("b"))
    version = folder / "0002.toml"
    whole = version.read_bytes()
    for content in (None, whole[:10], whole + b" "):
        version.unlink(missing_ok=True)
        if content is not None:
            version.write_bytes(content)
        clock.now += 0.6
        assert live(book) == ["a"]
        problem = str(book.status().problem)
        assert ("cannot be read" if content is None else "is not what was published") in problem
    version.write_bytes(whole)
    clock.now += 0.6
    assert live(book) == ["b"]


def test_a_current_that_is_gone_keeps_the_last_good_rules(folder: Path, clock: Clock) -> None:
    book = Rulebook(folder, KINDS, clock)
    book.publish(pin("a"))
    assert live(book) == ["a"]
    (folder / CURRENT).unlink()
    clock.now += 0.6
    assert live(book) == ["a"]
    assert str(book.status().problem).endswith(f"{CURRENT} is gone.")


def test_a_version_half_written_is_never_live(folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Rulebook(folder, KINDS, clock)
    book.publish(pin("a"))

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OutputError, match="No space left"):
            book.publish(pin("b"))
    clock.now += 0.6
    assert live(book) == ["a"]
    assert (folder / "0002.toml").is_file()
    with pytest.raises(UsageError, match="no version 2"):
        book.rollback(2)
    assert book.publish(pin("c")) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("a file")
    with pytest.raises(OutputError):
        Rulebook(tmp_path / "rules", KINDS).publish(pin("a"))
    assert len(Rulebook.open(tmp_path / "rules", KINDS).current()) == 0
    assert Rulebook.open(tmp_path / "rules", KINDS).current().apply("tent", TIME).rules == ()


def test_many_threads_ask_while_one_publishes(folder: Path) -> None:
    book = Rulebook(folder, KINDS, clock=iter(range(10**9)).__next__)  # every look is due
    book.publish(pin("a"))
    failures: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                book.current().apply("tent", TIME)
            except Exception as error:  # whatever it is, the search was taken down
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(20):
        book.publish(pin(f"n-{n}"))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert live(book) == ["n-19"]
    assert book.status().problem is None


def test_versions_that_the_history_no_longer_names_are_removed(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmse.ranking.rulebook.MAX_HISTORY", 3)
    book = Rulebook.open(folder, KINDS, clock)
    for number in range(6):
        book.publish(pin(f"rule-{number}"))
    assert sorted(path.name for path in folder.glob("*.toml")) == ["0003.toml", "0004.toml", "0005.toml", "0006.toml"]
    for _ in range(4):
        book.rollback(3)
    assert sorted(path.name for path in folder.glob("*.toml")) == ["0003.toml", "0006.toml"], "the newest stays"
    assert book.publish(pin("next")) == 7
    (folder / CURRENT).write_text("{")
    book.publish(pin("after-the-damage"))
    names = sorted(path.name for path in folder.glob("*.toml"))
    assert names == ["0003.toml", "0007.toml", "0008.toml"], "nothing goes where the history is not known"
