"""Ids of shoppers and visits replaced by a keyed hash, before anything is written or looked up.

    h_ and the first 32 hexadecimal digits of SHA-256 of "salt", the byte 31 and the id, in UTF-8

Whoever has the salt can find a person's rows; without it the ids say nothing. An id that is such a hash already stays,
so that a log of the server can be mined beside a shop's own.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, final

from mmse.core.errors import UsageError

SALT: Final = "user_salt"
"""The name under which manifests have the fingerprint of the salt, where ids are hashed."""
MIN_LENGTH: Final = 16
SALT_VARIABLE: Final = "user_salt"
"""The variable of a DuckDB session that has the salt, which so never stands in a query or in a message."""
_PATTERN: Final = "h_[0-9a-f]{32}"
_N_DIGITS: Final = 32


@final
class UserSalt:
    """The key of the hashes. `fingerprint` tells two salts apart and says nothing of them."""

    def __init__(self, text: str) -> None:
        """Raises `UsageError` for a salt that could be guessed."""
        if len(text) < MIN_LENGTH:
            raise UsageError(
                f"The salt of user ids has {len(text)} characters, expected {MIN_LENGTH} or more.",
                "Make one with `openssl rand -hex 32`, and keep it: with another one nobody is known any more.",
            )
        self.text = text
        self.fingerprint = hashlib.sha256(f"fingerprint\x1f{text}".encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"UserSalt({self.fingerprint})"

    @classmethod
    def read(cls, file: Path) -> UserSalt:
        """The salt in a file; raises `UsageError` where it cannot be read or is too short."""
        try:
            text = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"Cannot read the salt in {file}: {error}.", "Name a file with one line of text."
            ) from error
        return cls(text)

    def hash_id(self, raw_id: str | None) -> str | None:
        """The hash of an id; None for none, and for the empty text."""
        if not raw_id:
            return None
        if re.fullmatch(_PATTERN, raw_id):
            return raw_id
        return "h_" + hashlib.sha256(f"{self.text}\x1f{raw_id}".encode()).hexdigest()[:_N_DIGITS]


def hash_sql(text: str) -> str:
    """SQL for `UserSalt.hash_id` of `text`, SQL for a text, in a session whose `SALT_VARIABLE` has the salt."""
    digest = f"left(sha256(getvariable('{SALT_VARIABLE}') || chr(31) || {text}), {_N_DIGITS})"
    return (
        f"CASE WHEN {text} IS NULL OR {text} = '' THEN NULL WHEN regexp_full_match({text}, '{_PATTERN}') THEN {text} "
        f"ELSE 'h_' || {digest} END"
    )
