"""Exact brands and model numbers: the query `iphone 6` must not be answered by another model while that one exists.

The guard recognises three kinds of names in a query: a brand, where most titles with its words are of that brand (so
`apple` is one, `best` is not); a number together with the word before it; a code of letters and digits by itself.
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
from mmse.core.json_files import parse_json
from mmse.index.lexical import LexicalIndex, LexicalQuery
from mmse.ranking.candidates import Candidates
from mmse.schema.filters import Filter
from mmse.text.normalise import words

_QUOTED = re.compile(r'(?<!\w)["“„]([^"“”„]{2,})["”“](?!\w)')
MAX_BRAND_WORDS = 3
"""Brands of more words are not guarded."""
FETCH_K = 10
"""How many items are fetched where no candidate has the names of the query."""
MIN_MATCH_SHARE = 0.75
"""An item leads if its lexical score is at least this share of the best candidate's."""
MIN_BRAND_SHARE = 0.5
"""A brand is guarded if this share of the titles with its words is of that brand."""
_FILE = "brands.json"
_CODE = re.compile(r"(?=.*\d)(?=.*[^\W\d_])\w{2,}")
_MEASURE = re.compile(r"\d+(?P<unit>[^\W\d_]+)|(\d*x\d+)+")
_UNIT_NAMES = """
in inch inches ft feet foot yd yard yards mm cm m km sq gal gallon gallons qt oz ounce ounces lb lbs pound pounds g kg
ml l litre liter pack pk pc pcs piece pieces count ct set x by v volt volts w watt watts amp amps a hp kw ton btu psi
mph light lights tier door drawer shelf step cu gauge ga year years month months day days way hz ghz mhz gb tb mb k p
"""
_UNITS = frozenset(_UNIT_NAMES.split())
"""Units: a number with one is no model (`6 ft ladder`); neither is a measure such as `4x8`."""

Phrase = tuple[str, ...]
_NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)


@dataclass(frozen=True)
class Guard:
    """The guarded brands, as phrases of words."""

    brands: frozenset[Phrase] = frozenset()

    @classmethod
    def learn(cls, titles: Iterable[str], brands: Sequence[str | None]) -> Guard:
        """The guard of a catalogue of `titles` and their `brands`."""
        phrase_of = {brand: tuple(words(brand or "")) for brand in dict.fromkeys(brands)}
        phrases = {phrase for phrase in phrase_of.values() if 0 < len(phrase) <= MAX_BRAND_WORDS}
        n_titles, n_own_titles = Counter[Phrase](), Counter[Phrase]()
        for title, brand in zip(titles, brands, strict=True):
            for phrase in phrases.intersection(_phrases(words(title))):
                n_titles[phrase] += 1
                n_own_titles[phrase] += phrase == phrase_of[brand]
        return cls(
            frozenset(b for b in phrases if n_titles[b] == 0 or n_own_titles[b] / n_titles[b] >= MIN_BRAND_SHARE)
        )

    def phrases(self, query: str) -> list[Phrase]:
        """The names in `query`: phrases that an item's title or brand should have, in order, none inside another.

        Where the query has phrases in quotation marks, these.
        """
        quoted = [tuple(words(phrase)) for phrase in _QUOTED.findall(query)]
        if any(quoted):
            return [phrase for phrase in quoted if phrase]
        query_words = words(query)
        brands = [p for p in _phrases(query_words) if p in self.brands]
        brands = [p for p in brands if not any(len(q) > len(p) and _contains(q, p) for q in brands)]
        models = _models(query_words) if len(query_words) > 1 else []
        return list(dict.fromkeys([*brands, *models]))

    def find_leads(
        self,
        query: str,
        candidates: Candidates,
        lexical_query: LexicalQuery,
        lexical: LexicalIndex,
        filter: Filter | None,
    ) -> tuple[Int64[np.ndarray, " m"], Bool[np.ndarray, " n"]]:
        """Rows to add to the candidates, and which of `candidates` should lead.

        A candidate leads if it has the names in the query and its words match about as well as those of the best
        candidate: `40` alone puts no bulb first for `water heater electric 40`. If no candidate has the names, the best
        items of the catalogue that do are to be added, if their words match as well.
        """
        phrases, min_share = self.phrases(query), MIN_MATCH_SHARE * candidates.lexical.max(initial=0.0)
        if not phrases or lexical_query.tantivy_query is None:
            return _NO_ROWS, np.zeros(len(candidates), bool)
        has_names = lexical.match_phrases(phrases, candidates.rows)
        if has_names.any():
            return _NO_ROWS, has_names & (candidates.lexical >= min_share)
        matches = lexical.search_phrases(phrases, lexical_query, FETCH_K, filter)
        return matches.rows[matches.scores >= min_share * lexical_query.max_score], has_names

    def save(self, folder: Path) -> None:
        """Writes `brands.json` into `folder`."""
        brands = sorted(" ".join(brand) for brand in self.brands)
        (folder / _FILE).write_text(json.dumps(brands, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def open(cls, folder: Path) -> Guard:
        """The guard saved in `folder`; raises `ArtifactError` where it is missing or damaged."""
        try:
            brands = parse_json((folder / _FILE).read_text("utf-8"))
            return cls(frozenset(tuple(brand.split()) for brand in brands))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ArtifactError(f"Cannot read {folder / _FILE}: {error}.", "Run `mmse rank` again.") from error


def _models(query_words: Sequence[str]) -> list[Phrase]:
    """Codes such as `dcd771c2`, and short numbers together with the word before them, such as `iphone 6`."""
    models: list[Phrase] = []
    for index, word in enumerate(query_words):
        next_word = query_words[index + 1] if index + 1 < len(query_words) else ""
        measure = _MEASURE.fullmatch(word)
        if _CODE.fullmatch(word) and not (measure and (measure["unit"] or "x") in _UNITS):
            models.append((word,))
        elif word.isdecimal() and index > 0 and next_word not in _UNITS and not next_word.isdecimal():
            previous_word = query_words[index - 1]
            if previous_word.isalpha() and previous_word not in _UNITS and len(previous_word) > 2:
                models.append((previous_word, word))
    return models


def _phrases(text: Sequence[str]) -> list[Phrase]:
    """All runs of up to `MAX_BRAND_WORDS` words, the short ones first."""
    return [tuple(text[i : i + n]) for n in range(1, MAX_BRAND_WORDS + 1) for i in range(len(text) - n + 1)]


def _contains(phrase: Phrase, part: Phrase) -> bool:
    return any(phrase[i : i + len(part)] == part for i in range(len(phrase) - len(part) + 1))
