"""Queries as the catalogue and the log spell them: misspelt words corrected, other forms of one query made the same.

A word that neither knows is replaced by the likeliest of the words near it: a frequent one, that stands beside its
neighbours in queries and titles; it may also be two words written as one, or half of one word written as two. Plurals,
spacing and punctuation lead to the form that the log has most, so that what a model remembers of a query serves them.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt64
from rapidfuzz import process
from rapidfuzz.distance import OSA

from mmse.core.errors import ArtifactError
from mmse.text.exclusions import NEGATORS
from mmse.text.hashing import digests
from mmse.text.normalise import normalise, word_spans
from mmse.text.terms import fold, main_terms, terms

MIN_LENGTH = 3
"""Shorter words are not corrected."""
LONG = 5
"""Words from this length on may have two faults; those of one letter less only beside a word that goes with it."""
MIN_COUNT = 2
"""A word that is seen less often corrects no other."""
MAX_PAIR_TEXTS = 300_000
"""Pairs of words are counted in so many titles; more of them take memory and teach little."""
MAX_WORDS = 12
"""Queries of more words are not corrected."""
MISTYPED_RATIO = 20
"""What the log alone knows is a mistyped word where a word of the catalogue near it is so many times as frequent."""
MIN_COMPOUND_PART, MIN_PREFIX, MAX_COMPOUNDS = 4, 3, 16
"""The fewest letters of the last part of a compound, and before it; so many compounds are searched."""
MAX_FORMS = 5
"""So many forms of a query's last word are looked for in the log."""
JOINED_RATIO = 5
"""Two words that the log alone writes as one are parted where they stand side by side so many times as often."""
FORM_RATIO = 5
"""A form of a word gives way to another one that is so many times as frequent."""
SMALL = 30_000
"""Of more words, those with another first or second letter are near only if the first letter is the one fault."""
_CACHE_SIZE = 20_000
_MAX_CANDIDATES = 50
_FAULT_COST, _FIRST_LETTER_COST, _PAIR_WEIGHT = 4.0, 1.5, 2.0
"""In logarithms of a count: what a second fault and another first letter cost, and the weight of a known neighbour."""
_WORDS, _PAIRS, _LOGGED = "words.parquet", "pairs", "logged"

Stem = Callable[[str], Sequence[str]]
IsKnown = Callable[[str], bool]


class _Token(NamedTuple):
    """A word of a query: where it stands, and its folded form."""

    start: int
    end: int
    word: str


class _Counts:
    """Numbers by text; the texts are kept as hashes."""

    def __init__(self, hashes: UInt64[np.ndarray, " n"], numbers: Int64[np.ndarray, " n"]) -> None:
        self._hashes, self._numbers = hashes, numbers

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> _Counts:
        hashes = digests(numbers)
        order = np.argsort(hashes)
        return cls(hashes[order], np.fromiter(numbers.values(), np.int64, len(numbers))[order])

    def get(self, text: str, default: int) -> int:
        (key,) = digests([text])
        index = int(np.searchsorted(self._hashes, key))
        return int(self._numbers[index]) if index < len(self._hashes) and self._hashes[index] == key else default

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.npy", np.stack([self._hashes, self._numbers.astype(np.uint64)]), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path, name: str) -> _Counts:
        hashes, numbers = np.load(folder / f"{name}.npy", allow_pickle=False)
        return cls(hashes.astype(np.uint64), numbers.astype(np.int64))


@final
@dataclass(frozen=True, eq=False)
class Speller:
    """The words of a catalogue and of popular queries, and how often two of them stand side by side.

    `counts` has each word in folded form, `catalogue_words` those of items. `spellings` has the commonest spelling of
    words that are not spelt so, `forms` the words of each stem, the commonest first. `variants` has the commonest
    popular query by what its forms have in common. What the log has besides is kept as hashes: its words (`logged`),
    and its pairs of neighbours with those of titles (`pairs`).
    """

    counts: Mapping[str, int]
    catalogue_words: frozenset[str]
    spellings: Mapping[str, str]
    forms: Mapping[str, Sequence[str]]
    pairs: _Counts
    logged: _Counts
    variants: Mapping[str, str]
    stem: Stem

    @staticmethod
    def write(folder: Path, texts: Iterable[str], queries: Mapping[str, int], stem: Stem) -> None:
        """Writes into `folder`, which exists, what is known of items with these `texts` and of a log's `queries`.

        `queries` has the requests of each; no text of a query is written.
        """
        counts, spellings, pairs, logged = Counter[str](), Counter[tuple[str, str]](), Counter[str](), Counter[str]()
        for number, text in enumerate(texts):
            _count(text, 1, counts, spellings, pairs if number < MAX_PAIR_TEXTS else None)
        for query, n in queries.items():
            _count(query, n, logged, None, pairs)
        commonest = _commonest(spellings)
        columns = {
            "word": list(counts),
            "count": list(counts.values()),
            "spelling": [commonest[word] for word in counts],
            "stem": [_stem_key(word, stem) for word in counts],
        }
        pq.write_table(pa.table(columns), folder / _WORDS)
        _Counts.of({pair: n for pair, n in pairs.items() if n >= MIN_COUNT}).save(folder, _PAIRS)
        _Counts.of(logged).save(folder, _LOGGED)

    @classmethod
    def open(cls, folder: Path, popular_queries: Mapping[str, int], stem: Stem) -> Speller:
        """The speller written into `folder`, with queries that anybody may see, and the requests of each.

        Raises `ArtifactError` where a table is missing or damaged.
        """
        try:
            words = pq.read_table(folder / _WORDS).to_pydict()
            entries = list(zip(words["word"], words["count"], words["spelling"], words["stem"], strict=True))
            pairs, logged = _Counts.open(folder, _PAIRS), _Counts.open(folder, _LOGGED)
        except (OSError, ValueError, EOFError, KeyError, TypeError, pa.ArrowException) as error:
            raise ArtifactError(f"Cannot read the words in {folder}: {error}.", "Build the index again.") from error
        counts, spellings = Counter({word: n for word, n, _, _ in entries}), Counter[tuple[str, str]]()
        catalogue_words, variants = frozenset(counts), dict[str, str]()
        for query, n in sorted(popular_queries.items(), key=lambda entry: (-entry[1], entry[0])):
            _count(query, n, counts, spellings, None)
            for key in _variant_keys(query, stem):
                variants.setdefault(key, query)
        stems = {word: stem_key for word, _, _, stem_key in entries}
        forms: dict[str, list[str]] = {}
        for word in sorted(counts, key=lambda word: (-counts[word], word)):
            forms.setdefault(stems[word] if word in stems else _stem_key(word, stem), []).append(word)
        all_spellings = _commonest(spellings) | {word: spelling for word, _, spelling, _ in entries}
        other_spellings = {word: spelling for word, spelling in all_spellings.items() if word != spelling}
        fast_stem = functools.lru_cache(_CACHE_SIZE)(lambda text: tuple(stem(text)))
        return cls(counts, catalogue_words, other_spellings, forms, pairs, logged, variants, fast_stem)

    def correct(self, query: str, is_known: IsKnown) -> str | None:
        """`query` with its misspelt words corrected; None where nothing is misspelt, or no correction is known.

        `is_known` tells of a folded word whether an item has it now.
        """
        text = normalise(query)
        tokens = [_Token(start, end, fold(text[start:end])) for start, end in word_spans(text)]
        if not 0 < len(tokens) <= MAX_WORDS:
            return None
        result, position, predecessor = "", 0, ""
        words: tuple[str, ...]
        index, has_changed = 0, False
        while index < len(tokens):
            token, successor = tokens[index], tokens[index + 1] if index + 1 < len(tokens) else None
            if successor and self._are_one(token.word, successor.word):
                n_used, words = 2, (token.word + successor.word,)
            elif self._is_right(token.word, is_known):
                n_used, words = 1, (token.word,)
            else:
                n_used, words = 1, self._replacement(predecessor, token, successor)
            if words != (token.word,):
                has_changed = True
                result += text[position : token.start] + " ".join(self.spellings.get(word, word) for word in words)
                position = tokens[index + n_used - 1].end
            predecessor, index = words[-1], index + n_used
        return result + text[position:] if has_changed else None

    def knows(self, word: str) -> bool:
        """Whether an item of the catalogue, or a query of the log, has `word`, which is in folded form."""
        return word in self.counts or self.logged.get(word, 0) > 0

    def compounds(self, word: str) -> tuple[str, ...]:
        """The commonest words of the catalogue that end with `word`, as `holzschraube` with `schraube`; all folded."""
        end = _stem_key(word, self.stem)[::-1]
        if len(end) < MIN_COMPOUND_PART:
            return ()
        start = bisect_left(self._reversed_stems, (end, ""))
        stop = bisect_left(self._reversed_stems, (end + chr(0x10FFFF), ""))
        endings = [w for stem, w in self._reversed_stems[start:stop] if len(stem) >= len(end) + MIN_PREFIX]
        return tuple(sorted(endings, key=lambda w: (-self.counts[w], w))[:MAX_COMPOUNDS])

    @functools.cached_property
    def _reversed_stems(self) -> list[tuple[str, str]]:
        """The stem of each word of the catalogue from its end to its beginning, and the word, sorted."""
        stems = ((stem, word) for stem, words in self.forms.items() for word in words if word in self.catalogue_words)
        return sorted((stem[::-1], word) for stem, word in stems)

    def variant(self, query: str) -> str | None:
        """The commonest popular query of the same stems, or of the same ones without blanks."""
        texts = (self.variants.get(key) for key in _variant_keys(normalise(query), self.stem))
        return next((text for text in texts if text is not None), None)

    def canonical(self, query: str, requests_of: Callable[[Sequence[str]], Sequence[int]]) -> str:
        """The form of `query` that the log has most; else `query` with the commonest form of each word.

        `requests_of` tells how often the log has each of some queries.
        """
        variant = self.variant(query)
        if variant is not None:
            return variant
        text = normalise(query)
        spans = word_spans(text)
        result, position = "", 0
        for start, end in spans:
            word = fold(text[start:end])
            form = self._forms_of(word)[0]
            if self.counts.get(form, 0) >= FORM_RATIO * max(self.counts.get(word, 0), 1):
                result, position = result + text[position:start] + self.spellings.get(form, form), end
        result += text[position:]
        plain_words = [text[start:end] for start, end in spans]
        last_forms = self._forms_of(fold(plain_words[-1]))[:MAX_FORMS] if plain_words else ()
        options = [result, " ".join(plain_words), *(" ".join([*plain_words[:-1], form]) for form in last_forms)]
        requests = list(requests_of(options))
        return options[requests.index(max(requests))]

    def _forms_of(self, word: str) -> Sequence[str]:
        """The words with the stem of `word`, the commonest first."""
        return self.forms.get(_stem_key(word, self.stem), (word,))

    def _is_right(self, word: str, is_known: IsKnown) -> bool:
        """Whether `word` is not to be corrected: it is known, or too short, or no word of letters."""
        if len(word) < MIN_LENGTH or not word.isalpha() or word in self.catalogue_words or terms(word) != [word]:
            return True
        if word in NEGATORS or is_known(word) or self.compounds(word):
            return True
        n_logged = self.logged.get(word, 0)
        if n_logged < MIN_COUNT:
            return False
        near_counts = [
            self.counts[c] for c, n_faults in self._near_words(word) if n_faults == 1 and c in self.catalogue_words
        ]
        split_counts = [self._count_pair(*parts) for parts in self._splits(word)]
        is_typo = max(near_counts, default=0) >= MISTYPED_RATIO * n_logged
        return not is_typo and max(split_counts, default=0) < JOINED_RATIO * n_logged

    def _are_one(self, left: str, right: str) -> bool:
        """Whether two words are one that was written apart: nobody writes them side by side, and one is no word."""
        is_word = self.counts.get(left + right, 0) >= MIN_COUNT
        return is_word and not (left in self.counts and right in self.counts) and not self._count_pair(left, right)

    def _replacement(self, predecessor: str, token: _Token, successor: _Token | None) -> tuple[str, ...]:
        """The words in place of `token`: itself where nothing is near.

        A last word that a known one begins with may be unfinished: it is finished, or left alone.
        """
        next_word = successor.word if successor else ""
        options: list[tuple[float, tuple[str, ...]]] = [(-math.inf, (token.word,))]
        is_unfinished = successor is None and self._begins_word(token.word)
        for word, n_faults in self._near_words(token.word):
            if is_unfinished and not word.startswith(token.word):
                continue
            if not self._is_right(word, lambda _: False):
                continue  # the log has this mistyped word, too
            if n_faults > 1 and len(token.word) < LONG and not self._has_neighbour(predecessor, word, next_word):
                continue
            cost = _FAULT_COST * (n_faults - 1) + _FIRST_LETTER_COST * (word[0] != token.word[0])
            options.append((self._score(predecessor, word, next_word) - cost, (word,)))
        for left, right in self._splits(token.word):
            n = self._count_pair(left, right)
            options.append((_PAIR_WEIGHT * math.log1p(n) + math.log(n), (left, right)))
        return max(options, key=lambda option: option[0])[1]

    def _begins_word(self, word: str) -> bool:
        index = bisect_left(self._sorted_words, word)
        return index < len(self._sorted_words) and self._sorted_words[index].startswith(word)

    @functools.cached_property
    def _sorted_words(self) -> list[str]:
        return sorted(word for word, n in self.counts.items() if n >= MIN_COUNT)

    def _has_neighbour(self, predecessor: str, word: str, successor: str) -> bool:
        return bool(self._count_pair(predecessor, word) or self._count_pair(word, successor))

    def _score(self, predecessor: str, word: str, successor: str) -> float:
        n_pairs = [self._count_pair(predecessor, word), self._count_pair(word, successor)]
        return math.log(self.counts[word]) + _PAIR_WEIGHT * sum(map(math.log1p, n_pairs))

    def _count_pair(self, left: str, right: str) -> int:
        return self.pairs.get(f"{left} {right}", 0) if left and right else 0

    def _splits(self, word: str) -> Iterator[tuple[str, str]]:
        """Two words that `word` is made of and that stand side by side somewhere."""
        for middle in range(2, len(word) - 1):
            if self._count_pair(word[:middle], word[middle:]):
                yield word[:middle], word[middle:]

    @functools.cached_property
    def _near_words(self) -> Callable[[str], list[tuple[str, int]]]:
        """The words near another, with the number of faults between them; what was looked up last is kept."""
        by_start: dict[tuple[int, str], list[str]] = {}
        for word, count in self.counts.items():
            if count >= MIN_COUNT and len(word) >= MIN_LENGTH and word.isalpha():
                by_start.setdefault((len(word), word[0]), []).append(word)
        letters = sorted({letter for _, letter in by_start})
        is_small = len(self.counts) <= SMALL

        def near(word: str) -> list[tuple[str, int]]:
            most = 2 if len(word) >= LONG - 1 else 1
            lengths = range(len(word) - most, len(word) + most + 1)
            starts = letters if is_small else sorted({word[0], word[1]})
            choices = [c for length in lengths for letter in starts for c in by_start.get((length, letter), ())]
            if not is_small:
                other_starts = [letter + rest for letter in letters for rest in (word, word[1:])]
                choices += [c for c in other_starts if c[0] not in starts and self.counts.get(c, 0) >= MIN_COUNT]
            matches = process.extract(word, choices, scorer=OSA.distance, score_cutoff=most, limit=_MAX_CANDIDATES)
            return [(candidate, int(n_faults)) for candidate, n_faults, _ in matches if n_faults]

        return functools.lru_cache(_CACHE_SIZE)(near)


def _count(
    text: str, n: int, counts: Counter[str], spellings: Counter[tuple[str, str]] | None, pairs: Counter[str] | None
) -> None:
    """Adds the words of `text` and their pairs, `n` times."""
    normal_text, predecessor = normalise(text), ""
    for start, end in word_spans(normal_text):
        spelling = normal_text[start:end]
        word = fold(spelling)
        counts[word] += n
        if spellings is not None:
            spellings[word, spelling] += n
        if predecessor and pairs is not None:
            pairs[f"{predecessor} {word}"] += n
        predecessor = word


def _commonest(numbers: Counter[tuple[str, str]]) -> dict[str, str]:
    """The second text with the highest number of each first one."""
    best: dict[str, tuple[int, str]] = {}
    for (key, text), n in numbers.items():
        best[key] = max(best.get(key, (0, "")), (n, text))
    return {key: text for key, (_, text) in best.items()}


def _stem_key(text: str, stem: Stem) -> str:
    return " ".join(stem(text))


def join_stems(query: str, stem: Stem) -> str:
    """The stems of `query` without blanks, which plurals, spacing and punctuation leave as they are."""
    return "".join((*stem(term), term)[0] for term in main_terms(query))


def _variant_keys(query: str, stem: Stem) -> tuple[str, str]:
    """What the forms of one query have in common: the stems in their order, and the same without blanks."""
    return f"stems {_stem_key(query, stem)}", f"letters {join_stems(query, stem)}"
