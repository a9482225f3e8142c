"""The normal form of a text, and its words."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

MAX_CHARACTERS = 2_000
"""Text past this is not read: no title or query needs more, and a hostile query costs no more than a long one."""


def normalise(text: str) -> str:
    """`text` in NFC, lower case, with white space collapsed: two queries equal in this form are one query.

    Half a surrogate pair, which a command line that is not UTF-8 may hold, becomes `?`, because the tokenizer refuses
    it.
    """
    valid = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return " ".join(unicodedata.normalize("NFC", valid).lower().split())


def words(text: str) -> list[str]:
    """The lower-cased alphanumeric words of `text`, in order, with the combining marks that belong to them.

    Scripts written without spaces (Chinese, Japanese, Thai) give one word per unbroken run.
    """
    return _word_pattern(is_ascii=text.isascii()).findall(text.lower())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each of the `words` of a lower-case `text` begins and ends."""
    return [match.span() for match in _word_pattern(is_ascii=text.isascii()).finditer(text)]


@functools.cache
def _word_pattern(*, is_ascii: bool) -> re.Pattern[str]:
    """Letters and digits of any script, each with the combining marks after it (vowel signs, accents).

    `re` has no class of marks, so the pattern lists them from the Unicode table of this Python, once. That of ASCII
    takes less than half the time.
    """
    if is_ascii:
        return re.compile("[A-Za-z0-9]+")
    marks = [chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    assert sys.maxunicode > 0xFFFF
    return re.compile(rf"[^\W_](?:[^\W_]|[{''.join(marks)}])*")
