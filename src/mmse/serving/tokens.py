"""Tokens: what the holder of each may do, from a file that is read again whenever it changes.

    # the shop's backend, then the feed and the tracker
    search 3f0c…9a
    items,events 77b1…02

A file with a single word has the token for everything, and searches are open. Where a line has the scope `search`,
searching and reading need a token with it too. Of a token only its SHA-256 is kept, and messages name lines alone.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, final, get_args

from mmse.core.errors import UsageError

Scope = Literal["search", "items", "events", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What a token may be for: searching and reading, editing items, sending events, switching versions."""
MIN_LENGTH: Final = 16
MAX_BYTES: Final = 256 * 1024
_COMMENT = "#"

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class TokenTable:
    """The scopes of each token, by the SHA-256 of the token; `guards_search` is whether searches need one."""

    scopes: Mapping[bytes, frozenset[str]] = field(repr=False)
    guards_search: bool

    @classmethod
    def of_one(cls, token: str) -> TokenTable:
        """The token for everything; searches are open."""
        return cls({_digest(token.encode()): frozenset(SCOPES)}, guards_search=False)

    def scopes_of(self, token: bytes) -> frozenset[str] | None:
        """What the holder of `token` may do, None for an unknown one; it takes the same time for each."""
        digest, scopes = _digest(token), None
        for known_digest, known_scopes in self.scopes.items():
            if hmac.compare_digest(digest, known_digest):
                scopes = known_scopes
        return scopes


_NO_TOKEN: Final = TokenTable({}, guards_search=True)
"""What holds where a worker starts with a file that cannot be read: nobody knows whom the former one let in."""


@final
class Tokens:
    """The tokens of a server: one for everything, those of a file, or none; for any number of threads.

    The file is looked at every `look_every_s`. While it is wrong, the tokens that it had before hold, and `problem`
    says in which line.
    """

    def __init__(self, token: str | None, file: Path | None, look_every_s: float) -> None:
        self._problem = ""
        self._file, self._look_every_s = file, look_every_s
        self._table = _NO_TOKEN if file else TokenTable.of_one(token) if token else None
        self._content_digest, self._look_at_s = b"", 0.0
        self._lock = threading.Lock()
        if file:
            self._look()

    @property
    def problem(self) -> str:
        """What is wrong with the file at this moment, "" where nothing is."""
        self.table()
        return self._problem

    def table(self) -> TokenTable | None:
        """The tokens of this moment; None where the server has none and takes no writes."""
        if self._file and time.monotonic() >= self._look_at_s and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._table

    def _look(self) -> None:
        """Reads the file, and takes over what it has where that is new and right."""
        assert self._file is not None
        self._look_at_s = time.monotonic() + self._look_every_s
        try:
            content = _read(self._file)
            digest = _digest(content)
            if digest == self._content_digest:
                return
            self._content_digest = digest
            self._table = parse_tokens(content)
        except UsageError as error:
            problem = f"The token file is not in use, and the tokens before it hold: {error.cause}"
            if problem != self._problem:
                log.error("%s (%s) %s", problem, self._file, error.cure)
            self._problem = problem
        else:
            if self._problem:
                log.info("the token file is in use again")
            self._problem = ""


def read_tokens(file: Path) -> TokenTable:
    """The tokens of a file; raises `UsageError` naming the file and the line."""
    try:
        return parse_tokens(_read(file))
    except UsageError as error:
        raise UsageError(f"{file}: {error.cause}", error.cure) from error


def parse_tokens(content: bytes) -> TokenTable:
    """The tokens of a file's content; raises `UsageError` naming the line, never what stands in it."""
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"Line {line} of the tokens is not UTF-8.", "Write tokens in letters and digits.") from error
    entries = [(number, line.split()) for number, line in enumerate(lines, 1)]
    entries = [(number, words) for number, words in entries if words and not words[0].startswith(_COMMENT)]
    if not entries:
        raise UsageError("There is no token in the file.", "Write one: `openssl rand -hex 32`.")
    if len(entries) == 1 and len(entries[0][1]) == 1:
        number, (token,) = entries[0]
        _require_length(token, number)
        return TokenTable.of_one(token)
    scopes: dict[bytes, frozenset[str]] = {}
    line_numbers: dict[bytes, int] = {}
    for number, words in entries:
        if len(words) != 2:
            cause = f"Line {number} of the tokens: expected scopes and a token, found {len(words)} words."
            raise UsageError(cause, "Write `items,events TOKEN`, a comment in a line of its own after '#'.")
        names, token = words[0].split(","), words[1]
        if not set(names) <= set(SCOPES):
            cause = f"Line {number} of the tokens: what stands before the token is no list of scopes."
            raise UsageError(cause, f"Scopes: {', '.join(SCOPES)}, joined by commas.")
        _require_length(token, number)
        digest = _digest(token.encode())
        if digest in scopes:
            cause = f"Line {number} of the tokens has the same token as line {line_numbers[digest]}."
            raise UsageError(cause, "Join their scopes by commas, in one line.")
        scopes[digest], line_numbers[digest] = frozenset(names), number
    return TokenTable(scopes, guards_search=any("search" in names for names in scopes.values()))


def _require_length(token: str, number: int) -> None:
    if len(token) < MIN_LENGTH:
        cause = f"Line {number} of the tokens: the token has {len(token)} characters, expected {MIN_LENGTH} or more."
        raise UsageError(cause, "Make one with `openssl rand -hex 32`.")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"The tokens cannot be read: {error.strerror}.", "Name a file with one line of text."
        ) from error
    if len(content) > MAX_BYTES:
        raise UsageError(f"The tokens take more than {MAX_BYTES:,} bytes.", "Name a file of tokens.")
    return content


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
