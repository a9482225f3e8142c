"""The versions of a shop's rules on disk, which one is live, and the live one in memory.

    rules/
      0001.toml, 0002.toml, …   the published versions, which never change
      current.json              which version is live, which were live before, by whom, when and why

Publishing writes a new version, then replaces `current.json` in one step, so nothing half-written is ever live. The
history has the last 500 changes; a version that is neither in it nor the newest is removed. A
search looks at `current.json` twice a second; if it cannot read the new rules, it keeps the rules it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mmse.core import locks
from mmse.core.artifact import explain_os_errors
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.core.json_files import read_json, write_json
from mmse.ranking.rule_file import read_rules
from mmse.ranking.rules import Rules
from mmse.schema.filters import Kind

CURRENT = "current.json"
CHECK_EVERY_S = 0.5
MAX_HISTORY = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """A version that went live: when (UTC, ISO 8601), by whom, why, and the digest of its text."""

    version: int
    at: str
    by: str
    note: str
    digest: str


class LiveRules(msgspec.Struct, frozen=True, rename={"publication": "edition", "history": "before"}):
    """The content of `current.json`: the live version, and those that were live before, oldest first."""

    publication: Publication
    history: tuple[Publication, ...] = ()


@dataclass(frozen=True)
class RulesStatus:
    """The rules in use: their version (`None`: there are none), how many, and why a newer version is not in use."""

    version: int | None
    rules: int
    problem: str | None


class Rulebook:
    """The rules of one run folder; many threads may read them, and other processes may publish."""

    def __init__(self, folder: Path, kinds: Mapping[str, Kind], clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.kinds = kinds
        self._clock = clock
        self._read_lock = threading.Lock()
        self._rules = Rules()
        self._status = RulesStatus(None, 0, None)
        self._last_stamp: object = None
        self._last_check = -float("inf")

    @classmethod
    def open(cls, folder: Path, kinds: Mapping[str, Kind], clock: Callable[[], float] = time.monotonic) -> Rulebook:
        """The rulebook in `folder`, which need not exist; `clock` gives seconds. It never fails: see `status`."""
        book = cls(folder, kinds, clock)
        book.current()
        return book

    def current(self) -> Rules:
        """The live rules, at most half a second old; no rules where none was published."""
        time_s = self._clock()
        if time_s - self._last_check >= CHECK_EVERY_S and self._read_lock.acquire(blocking=False):
            try:
                self._last_check = time_s
                self._update()
            finally:
                self._read_lock.release()
        return self._rules

    def status(self) -> RulesStatus:
        """Which rules are in use, and why a newer version is not."""
        self.current()
        return self._status

    def history(self) -> list[Publication]:
        """What went live, oldest first, the live version last; raises `ArtifactError` where it cannot be read."""
        live = self._read_live()
        return [*live.history, live.publication] if live else []

    def text(self, version: int) -> str:
        """The text of `version`; raises `UsageError` if it was never published, `ArtifactError` if it was changed."""
        publications = {publication.version: publication for publication in self.history()}
        if version not in publications:
            versions = ", ".join(map(str, sorted(publications))) or "none yet"
            raise UsageError(f"There is no version {version} of the rules.", f"Published versions: {versions}.")
        return self._read_text(publications[version])

    def publish(self, text: str, note: str = "", by: str = "") -> int:
        """Makes `text` the live rules and returns its version; raises `UsageError` and changes nothing if wrong."""
        read_rules(text, self.kinds)
        with self._lock_folder():
            return self._publish(text, note, by)

    def add(self, rule: str, note: str = "", by: str = "") -> int:
        """Publishes the live rules with the TOML of one more `rule` at their end; returns the version."""
        with self._lock_folder():
            live = self._read_live()
            former = self._read_text(live.publication).rstrip("\n") if live else ""
            text = f"{former}\n\n{rule}" if former else rule
            read_rules(text, self.kinds)
            return self._publish(text, note, by)

    def rollback(self, version: int, note: str = "", by: str = "") -> None:
        """Makes a former `version` live again; raises as `text` does, and `UsageError` if a column is missing now."""
        with self._lock_folder():
            text = self.text(version)
            read_rules(text, self.kinds, _file_name(version))
            self._go_live(version, text, note, by)

    def _update(self) -> None:
        """Reads the live rules if they changed."""
        stamp = self._stamp()
        if stamp == self._last_stamp:
            return
        try:
            live = self._read_live()
            if live is None and self._status.version is not None:
                raise ArtifactError(f"{self.folder / CURRENT} is gone.", "Publish the rules again.")
            rules = self._read_rules(live.publication) if live else Rules()
        except (MmseError, OSError) as error:
            cause = error.cause if isinstance(error, MmseError) else str(error)
            effect = f"version {self._status.version} stays in use" if self._status.version else "no rules are in use"
            log.warning("Rules in %s: %s; %s.", self.folder, cause.rstrip("."), effect)
            self._status = RulesStatus(self._status.version, len(self._rules), cause)
        else:
            self._rules = rules
            self._status = RulesStatus(live.publication.version if live else None, len(rules), None)
        self._last_stamp = stamp

    def _stamp(self) -> object:
        """A value that changes when `current.json` changes, or the file of the version in it."""
        stamps: list[object] = []
        with contextlib.suppress(OSError, ArtifactError):
            stamps.append(_file_stamp(self.folder / CURRENT))
            live = self._read_live()
            stamps.append(_file_stamp(self.folder / _file_name(live.publication.version)) if live else None)
        return stamps

    def _read_live(self) -> LiveRules | None:
        path = self.folder / CURRENT
        try:
            return read_json(path, LiveRules)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise ArtifactError(f"{path} is damaged: {error}.", "Publish the rules again.") from error

    def _read_rules(self, publication: Publication) -> Rules:
        return read_rules(self._read_text(publication), self.kinds, _file_name(publication.version))

    def _read_text(self, publication: Publication) -> str:
        path = self.folder / _file_name(publication.version)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}.", "Publish the rules again.") from error
        if _digest(content) != publication.digest:
            raise ArtifactError(f"{path} is not what was published.", "Publish what you want as a new version.")
        return content.decode()

    @contextlib.contextmanager
    def _lock_folder(self) -> Iterator[None]:
        """One publisher at a time, over all processes."""
        with explain_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                locks.lock_file(descriptor, self.folder)
                yield
            finally:
                os.close(descriptor)

    def _publish(self, text: str, note: str, by: str) -> int:
        versions = [int(path.stem) for path in self.folder.glob("*.toml") if path.stem.isdecimal()]
        version = max(versions, default=0) + 1
        _write_once(self.folder / _file_name(version), text.encode())
        self._go_live(version, text, note, by)
        return version

    def _go_live(self, version: int, text: str, note: str, by: str) -> None:
        is_known = True
        try:
            history = self.history()[-MAX_HISTORY:]
        except ArtifactError as error:
            log.warning("%s The history starts again.", error.cause)
            history, is_known = [], False
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        live = LiveRules(Publication(version, at, by, note, _digest(text.encode())), tuple(history))
        write_json(self.folder / CURRENT, live)
        if is_known:
            self._prune({publication.version for publication in (live.publication, *live.history)})

    def _prune(self, versions: set[int]) -> None:
        """Removes the files of versions that the history no longer names; the newest stays, as the next follows it."""
        files = {int(path.stem): path for path in self.folder.glob("*.toml") if path.stem.isdecimal()}
        for version in files.keys() - versions - {max(files)}:
            with contextlib.suppress(OSError):  # it is tried again with the next version
                files[version].unlink()


def rule_files(folder: Path) -> list[Path]:
    """The files of the rulebook in `folder`, which need not exist; links are not among them, nor is anything else."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    is_named = re.compile(rf"\d+\.toml|{re.escape(CURRENT)}").fullmatch
    return [path for path in paths if is_named(path.name) and path.is_file() and not path.is_symlink()]


def _file_name(version: int) -> str:
    return f"{version:04}.toml"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _file_stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _write_once(path: Path, content: bytes) -> None:
    """Writes a file that does not exist yet and can only be read from then on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
