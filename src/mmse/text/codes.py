"""Codes in texts: article numbers, GTINs, model numbers, whole or by their beginning, with or without separators."""

from __future__ import annotations

import re

from mmse.text.terms import fold, is_measure

MIN_CODE = 4
MIN_NUMBER = 5
"""A code of digits alone, without a separator or a zero before them, has at least so many."""
MAX_CODE = 40
MAX_MEASURE = 6
"""`10mm` and `1500w` are measures and no codes, `9960001W` is one."""
_TRIM = "()[]{}<>\"'“”„‚‘’.,;:!?#"
_NO_CODE = re.compile(r"[\W_]")


def code_key(text: str) -> str:
    """The form in which codes are compared: letters and digits alone, folded."""
    return _NO_CODE.sub("", fold(text[: 2 * MAX_CODE]))


def padded_key(key: str) -> str | None:
    """The form in which a number with leading zeros is found without them, as `0017` by `17`; None for other keys."""
    is_padded = key.isdigit() and key[0] == "0" and len(key) >= MIN_CODE
    return unpadded_form(key.lstrip("0")) if is_padded else None


def unpadded_form(key: str) -> str:
    """The form in which a number asks for those that have zeros before it; no number as it is has it."""
    return f"0 {key}"


def codes(text: str) -> list[str]:
    """The keys of the words of `text` that may be codes; measures (`10mm`, `2x4`) are none."""
    return [key for word in text.split() if any(map(str.isdigit, word)) for key in _keys(word.strip(_TRIM))]


def _keys(word: str) -> list[str]:
    key = code_key(word)
    is_number = key.isdigit() and len(key) == len(word) and key[0] != "0"
    is_code = (MIN_NUMBER if is_number else MIN_CODE) <= len(key) <= MAX_CODE
    return [key] if is_code and not (len(key) <= MAX_MEASURE and is_measure(fold(word))) else []
