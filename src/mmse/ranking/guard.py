"""Exact brands and model numbers: who types `iphone 6` does not want to be led to another model while that one exists.

What a query names is found by the shop's own words: a brand is guarded where titles that hold its words are mostly of
that brand (so `apple` is, `best` is not), a number together with the word before it, a code of letters and digits
alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from mmse.core.errors import ArtifactError
from mmse.index.lexical import Asked, LexicalIndex
from mmse.ranking.candidates import Candidates
from mmse.schema.filters import Filter
from mmse.text.bm25 import words

LONGEST = 3
"""Words of the longest brand that is guarded."""
MISSED = 10
"""So many items are fetched where no candidate holds what the query names."""
ABOUT_AS_WELL = 0.75
SURE_FROM = 0.5
"""Of the titles that hold a brand's words, the share that must be of that brand."""
_FILE = "brands.json"
_CODE = re.compile(r"(?=.*\d)(?=.*[^\W\d_])\w{2,}")
_MEASURED = re.compile(r"\d+(?P<unit>[^\W\d_]+)|(\d*x\d+)+")
_UNITS = """
in inch inches ft feet foot yd yard yards mm cm m km sq gal gallon gallons qt oz ounce ounces lb lbs pound pounds g kg
ml l litre liter pack pk pc pcs piece pieces count ct set x by v volt volts w watt watts amp amps a hp kw ton btu psi
mph light lights tier door drawer shelf step cu gauge ga year years month months day days way hz ghz mhz gb tb mb k p
"""
_MEASURES = frozenset(_UNITS.split())
"""What a number counts, so that it names no model: `6 ft ladder`, and nor do measures such as `4x8`."""

Phrase = tuple[str, ...]
_NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)


@dataclass(frozen=True)
class Guard:
    """The brands, as phrases of words, that a query is held to when it names them."""

    brands: frozenset[Phrase] = frozenset()

    @classmethod
    def learn(cls, titles: Iterable[str], brands: Iterable[str | None]) -> Guard:
        """The guard of a catalogue of `titles` and their `brands`."""
        pairs = [(words(title), tuple(words(brand or ""))) for title, brand in zip(titles, brands, strict=True)]
        known = {brand for _, brand in pairs if 0 < len(brand) <= LONGEST}
        held, own = Counter[Phrase](), Counter[Phrase]()
        for title, brand in pairs:
            for phrase in set(_phrases(title)) & known:
                held[phrase] += 1
                own[phrase] += phrase == brand
        return cls(frozenset(b for b in known if held[b] == 0 or own[b] / held[b] >= SURE_FROM))

    def phrases(self, query: str) -> list[Phrase]:
        """What `query` names: phrases that an item's title or brand should hold, in order, none inside another."""
        asked = words(query)
        named = [p for p in _phrases(asked) if p in self.brands]
        named = [p for p in named if not any(len(q) > len(p) and _within(p, q) for q in named)]
        return list(dict.fromkeys([*named, *_models(asked)])) if len(asked) > 1 else list(dict.fromkeys(named))

    def guarded(
        self, query: str, found: Candidates, asked: Asked, lexical: LexicalIndex, only: Filter | None
    ) -> tuple[Int64[np.ndarray, " m"], Bool[np.ndarray, " n"]]:
        """Items to be found as well, and which of `found` should lead.

        Those lead that hold what the query names and match its words about as well as the best candidate: `40` alone
        leads no bulb to who asks for `water heater electric 40`. Where no candidate holds it, the best items of the
        catalogue that do are to be found as well, if they match so well.
        """
        phrases, least = self.phrases(query), ABOUT_AS_WELL * found.lexical.max(initial=0.0)
        if not phrases or asked.query is None:
            return _NO_ROWS, np.zeros(len(found), bool)
        holds = lexical.holds(phrases, found.rows)
        if holds.any():
            return _NO_ROWS, holds & (found.lexical >= least)
        matches = lexical.holding(phrases, asked, MISSED, only)
        return matches.rows[matches.scores >= least * asked.most], holds

    def save(self, folder: Path) -> None:
        """Writes `brands.json` into `folder`."""
        said = sorted(" ".join(brand) for brand in self.brands)
        (folder / _FILE).write_text(json.dumps(said, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def open(cls, folder: Path) -> Guard:
        """The guard saved in `folder`; raises `ArtifactError` where it is missing or damaged."""
        try:
            said = json.loads((folder / _FILE).read_text("utf-8"))
            return cls(frozenset(tuple(brand.split()) for brand in said))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ArtifactError(f"Cannot read {folder / _FILE}: {error}.", "Run `mmse rank` again.") from error


def _models(asked: Sequence[str]) -> list[Phrase]:
    """Codes such as `dcd771c2` alone, and short numbers with the word before them, such as `iphone 6`."""
    named: list[Phrase] = []
    for place, word in enumerate(asked):
        after = asked[place + 1] if place + 1 < len(asked) else ""
        measured = _MEASURED.fullmatch(word)
        if _CODE.fullmatch(word) and not (measured and (measured["unit"] or "x") in _MEASURES):
            named.append((word,))
        elif word.isdecimal() and place > 0 and after not in _MEASURES and not after.isdecimal():
            before = asked[place - 1]
            if before.isalpha() and before not in _MEASURES and len(before) > 2:
                named.append((before, word))
    return named


def _phrases(asked: Sequence[str]) -> list[Phrase]:
    return [tuple(asked[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(asked) - n + 1)]


def _within(phrase: Phrase, other: Phrase) -> bool:
    return any(other[i : i + len(phrase)] == phrase for i in range(len(other) - len(phrase) + 1))
