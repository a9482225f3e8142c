"""The versions of a shop's rules on disk, which one is live, and the live one in memory.

    rules/
      0001.toml, 0002.toml, …   what was published, never changed again
      current.json              which version is live and which were, who made them live, when and why

Publishing writes a new version to the end, then replaces `current.json` in one step, so nothing half-written is ever
live. A search looks at `current.json` twice a second; what it cannot read leaves the rules it has as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mmse.core.artifact import writable
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.ranking.rule_file import read_rules
from mmse.ranking.rules import Rules
from mmse.schema.filters import Kind

CURRENT = "current.json"
LOOK_EVERY_S = 0.5
MAX_HISTORY = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Edition:
    """A version that went live: when (UTC, ISO 8601), by whom, why, and the digest of its text."""

    version: int
    at: str
    by: str
    note: str
    digest: str


@dataclass(frozen=True)
class Live:
    """What `current.json` holds: the live version, and those before it, oldest first."""

    edition: Edition
    before: tuple[Edition, ...] = ()


@dataclass(frozen=True)
class Status:
    """The rules in use: their version (`None`: there are none), how many, and why a newer one is not in use."""

    version: int | None
    rules: int
    problem: str | None


class Rulebook:
    """The rules of one run folder; any number of threads may ask it, and other processes may publish."""

    def __init__(self, folder: Path, kinds: Mapping[str, Kind], clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.kinds = kinds
        self._clock = clock
        self._reading = threading.Lock()
        self._rules = Rules()
        self._status = Status(None, 0, None)
        self._seen: object = None
        self._looked = -float("inf")

    @classmethod
    def open(cls, folder: Path, kinds: Mapping[str, Kind], clock: Callable[[], float] = time.monotonic) -> Rulebook:
        """The rulebook in `folder`, which need not exist; `clock` gives seconds. Never fails: see `status`."""
        book = cls(folder, kinds, clock)
        book.current()
        return book

    def current(self) -> Rules:
        """The live rules, at most half a second old; no rules where none was published."""
        now = self._clock()
        if now - self._looked >= LOOK_EVERY_S and self._reading.acquire(blocking=False):
            try:
                self._looked = now
                self._look()
            finally:
                self._reading.release()
        return self._rules

    def status(self) -> Status:
        """What is in use, and what is wrong with what should be."""
        self.current()
        return self._status

    def history(self) -> list[Edition]:
        """What went live, oldest first, the live version last; raises `ArtifactError` where it cannot be read."""
        live = self._live()
        return [*live.before, live.edition] if live else []

    def text(self, version: int) -> str:
        """What was published as `version`; raises `UsageError` if nothing was, `ArtifactError` if it was changed."""
        editions = {edition.version: edition for edition in self.history()}
        if version not in editions:
            known = ", ".join(map(str, sorted(editions))) or "none yet"
            raise UsageError(f"There is no version {version} of the rules.", f"Published versions: {known}.")
        return self._text(editions[version])

    def publish(self, text: str, note: str = "", by: str = "") -> int:
        """Makes `text` the live rules and gives its version; raises `UsageError` and changes nothing if it is wrong."""
        read_rules(text, self.kinds)
        with self._publishing():
            return self._publish(text, note, by)

    def add(self, rule: str, note: str = "", by: str = "") -> int:
        """Publishes the live rules with the TOML of one more `rule` at their end; gives the version."""
        with self._publishing():
            live = self._live()
            former = self._text(live.edition).rstrip("\n") if live else ""
            text = f"{former}\n\n{rule}" if former else rule
            read_rules(text, self.kinds)
            return self._publish(text, note, by)

    def rollback(self, version: int, note: str = "", by: str = "") -> None:
        """Makes a former `version` live again; raises as `text` does, and `UsageError` if it no longer fits."""
        with self._publishing():
            text = self.text(version)
            read_rules(text, self.kinds, _name(version))
            self._go_live(version, text, note, by)

    def _look(self) -> None:
        """Takes up what is live now, if it changed since it was last seen."""
        seen = self._stamp()
        if seen == self._seen:
            return
        try:
            live = self._live()
            if live is None and self._status.version is not None:
                raise ArtifactError(f"{self.folder / CURRENT} is gone.", "Publish the rules again.")
            rules = read_rules(self._text(live.edition), self.kinds, _name(live.edition.version)) if live else Rules()
        except (MmseError, OSError) as error:
            cause = error.cause if isinstance(error, MmseError) else str(error)
            kept = f"version {self._status.version} stays in use" if self._status.version else "no rules are in use"
            log.warning("Rules in %s: %s; %s.", self.folder, cause.rstrip("."), kept)
            self._status = Status(self._status.version, len(self._rules), cause)
        else:
            self._rules = rules
            self._status = Status(live.edition.version if live else None, len(rules), None)
        self._seen = seen

    def _stamp(self) -> object:
        """Changes when `current.json` or the version it names does."""
        stamps: list[object] = []
        with contextlib.suppress(OSError, ArtifactError):
            stamps.append(_stamp(self.folder / CURRENT))
            live = self._live()
            stamps.append(_stamp(self.folder / _name(live.edition.version)) if live else None)
        return stamps

    def _live(self) -> Live | None:
        path = self.folder / CURRENT
        try:
            return msgspec.json.decode(path.read_bytes(), type=Live)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise ArtifactError(f"{path} is damaged: {error}.", "Publish the rules again.") from error

    def _text(self, edition: Edition) -> str:
        path = self.folder / _name(edition.version)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}.", "Publish the rules again.") from error
        if _digest(content) != edition.digest:
            raise ArtifactError(f"{path} is not what was published.", "Publish what you want as a new version.")
        return content.decode()

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[None]:
        """One publisher at a time, over all processes."""
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
                os.fsync(lock)
            finally:
                os.close(lock)

    def _publish(self, text: str, note: str, by: str) -> int:
        numbers = [int(path.stem) for path in self.folder.glob("*.toml") if path.stem.isdecimal()]
        version = max(numbers, default=0) + 1
        _write(self.folder / _name(version), text.encode(), os.O_EXCL, 0o444)
        self._go_live(version, text, note, by)
        return version

    def _go_live(self, version: int, text: str, note: str, by: str) -> None:
        try:
            former = self.history()[-MAX_HISTORY:]
        except ArtifactError as error:
            log.warning("%s The history begins anew.", error.cause)
            former = []
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        live = Live(Edition(version, at, by, note, _digest(text.encode())), tuple(former))
        draft = self.folder / f".{CURRENT}.writing"
        _write(draft, msgspec.json.format(msgspec.json.encode(live), indent=2), os.O_TRUNC, 0o644)
        draft.replace(self.folder / CURRENT)


def _name(version: int) -> str:
    return f"{version:04}.toml"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _write(path: Path, content: bytes, flag: int, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flag, mode), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
