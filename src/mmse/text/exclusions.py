"""What a query excludes: `paint -solvent`, `paint not black`, `paint without solvent`, `Farbe ohne Öl`, `oil-free`."""

from __future__ import annotations

import re
from typing import NamedTuple

from mmse.text.normalise import normalise

NEGATORS = ("without", "no", "ohne", "sans", "sin", "senza", "sem", "zonder", "uden", "utan", "bez", "not", "nicht")
FREE = "free"
MAX_EXCLUSIONS = 5
_NOT_WORD = re.compile(r"(?<=\s)(?:[-−–](?=[^\W\d_])|(?:not|nicht)\s+(?=[^\W\d_]))([^\s]+)")
_WITHOUT_WORD = re.compile(rf"(?<=\s)({'|'.join(NEGATORS)})\s+([^\W\d_][^\s]*)")

_FREE_OF_WORD = re.compile(
    rf"(?<!\S)([^\W\d_]{{3,}})(?:-|\s+){FREE}(?!\s*-?\s*(?:standing|hand|shipping|delivery)|[^\W_])"
)


class Exclusion(NamedTuple):
    """A word that hits should not have, unless as one of `phrases`: `without solvent` excludes no solvent."""

    word: str
    phrases: tuple[tuple[str, str], ...]


def split_exclusions(query: str) -> tuple[str, tuple[Exclusion, ...]]:
    """The query without what stands behind a minus or `not`, and all that it excludes.

    What stands behind `without` stays in the query, since items say so too.
    """
    text = normalise(query)
    exclusions = [_exclude("without", word) for word in _NOT_WORD.findall(text)]
    searched_text = " ".join(_NOT_WORD.sub("", text).split()) if exclusions else query
    normal_text = normalise(searched_text)
    exclusions += [_exclude(negator, word) for negator, word in _WITHOUT_WORD.findall(normal_text)]
    exclusions += [_exclude("without", word) for word in _FREE_OF_WORD.findall(normal_text)]
    return searched_text, tuple(exclusions[:MAX_EXCLUSIONS])


def _exclude(negator: str, word: str) -> Exclusion:
    return Exclusion(word, tuple(dict.fromkeys([(negator, word), ("without", word), ("no", word), (word, FREE)])))
