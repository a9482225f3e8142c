"""Queries as the catalogue and the log spell them: misspelt words corrected, other forms of one query made the same.

A word that neither knows is replaced by the likeliest of the words near it: a frequent one, that stands beside its
neighbours in queries and titles; it may also be two words written as one, or half of one word written as two. Plurals,
spacing and punctuation lead to the form that the log has most, so that what a model remembers of a query serves them.
"""

from __future__ import annotations

import functools
import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, final

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.errors import ArtifactError
from mmse.index.near_words import LONG, MIN_COUNT, MIN_LENGTH, MIN_RARE_LENGTH, Finder, make_finder
from mmse.index.query_forms import Stem, stem_key, variant_keys
from mmse.index.word_counts import HashedCounts, count_words, find_commonest
from mmse.text.exclusions import FREE, NEGATORS
from mmse.text.normalise import normalise, word_spans
from mmse.text.terms import fold, terms

MAX_RARE, MIN_PAIRS = 100, 3
"""A word of items may be mistyped if it is seen at most so often, and one near it so often beside its neighbours."""
UNFINISHED_RATIO = 5
"""A last word that longer ones begin with is corrected to one that is so many times as frequent as these."""
MAX_PAIR_TEXTS = 300_000
"""Pairs of words are counted in so many titles; more of them take memory and teach little."""
MAX_WORDS = 12
"""Queries of more words are not corrected; of more unknown words the others are searched as they are."""
MISTYPED_RATIO = 20
"""A word that only the log has, or that only ends others, gives way to one so many times as frequent; so do two."""
MIN_COMPOUND_PART, MIN_PREFIX, MAX_COMPOUNDS = 4, 3, 16
"""The fewest letters of the last part of a compound, and before it; so many compounds are searched."""
MAX_COMPOUND = 100
"""A longer word is no compound."""
MIN_NEAR, LONG_NEAR, MAX_NEAR = 4, 8, 10
"""From so many letters on a word that stays unknown may have one fault, and two; so many words near it are searched."""
MAX_FORMS = 5
"""So many forms of a query's last word are looked for in the log."""
JOINED_RATIO = 5
"""Two words that the log alone writes as one are parted where they stand side by side so many times as often."""
FORM_RATIO = 5
"""A form of a word gives way to another one that is so many times as frequent."""
_CACHE_SIZE = 20_000
_FAULT_COST, _FIRST_LETTER_COST, _PAIR_WEIGHT = 6.0, 1.5, 2.0
"""In logarithms of a count: what a second fault and another first letter cost, and the weight of a known neighbour."""
_WORDS, _CORRECTIONS, _PAIRS, _LOG_WORDS = "words.parquet", "corrections.parquet", "pairs", "logged"
_MAX_CORRECTED = 3
"""The most words that shoppers' corrections are looked up by."""

IsKnown = Callable[[str], bool]

_TEXT_PAIRS = pa.schema([("misspelling", pa.string()), ("spelling", pa.string())])


class _Token(NamedTuple):
    """A word of a query: where it stands, and its folded form."""

    start: int
    end: int
    word: str


@final
@dataclass(frozen=True, eq=False)
class Speller:
    """The words of a catalogue and of popular queries, and how often two of them stand side by side.

    `counts` has each word in folded form, `catalogue_words` those of items. `spellings` has the commonest spelling of
    words that are not spelt so, `forms` the words of each stem, the commonest first. `variants` has the commonest
    popular query by what its forms have in common, `corrections` what several shoppers meant by words that they wrote.
    `is_content` tells of a word whether it says something, as `the` does not. What else the log has is kept as hashes:
    its words (`log_words`), and its pairs of neighbours with those of titles (`pairs`).
    """

    counts: Mapping[str, int]
    catalogue_words: frozenset[str]
    spellings: Mapping[str, str]
    forms: Mapping[str, Sequence[str]]
    pairs: HashedCounts
    log_words: HashedCounts
    variants: Mapping[str, str]
    stem: Stem
    corrections: Mapping[str, str] = field(default_factory=dict)
    is_content: IsKnown = bool

    @staticmethod
    def write(
        folder: Path,
        texts: Iterable[str],
        queries: Mapping[str, int],
        stem: Stem,
        corrections: Mapping[str, str] | None = None,
    ) -> None:
        """Writes into `folder`, which exists, what is known of items with these `texts` and of a log's `queries`.

        `queries` has the requests of each, and `corrections` what shoppers meant by words that they wrote. No other
        text of a query is written.
        """
        counts, spellings, pairs, log_words = Counter[str](), Counter[tuple[str, str]](), Counter[str](), Counter[str]()
        remaining = iter(texts)
        for text, n in Counter(itertools.islice(remaining, MAX_PAIR_TEXTS)).items():
            count_words(text, n, counts, spellings, pairs)
        for text, n in Counter(remaining).items():
            count_words(text, n, counts, spellings, None)
        for query, n in queries.items():
            count_words(query, n, log_words, None, pairs)
        commonest = find_commonest(spellings)
        columns = {
            "word": list(counts),
            "count": list(counts.values()),
            "spelling": [commonest[word] for word in counts],
            "stem": [stem_key(word, stem) for word in counts],
        }
        pq.write_table(pa.table(columns), folder / _WORDS)
        HashedCounts.of({pair: n for pair, n in pairs.items() if n >= MIN_COUNT}).save(folder, _PAIRS)
        HashedCounts.of(log_words).save(folder, _LOG_WORDS)
        known_words = counts.keys() | log_words.keys()
        known = {m: s for m, s in (corrections or {}).items() if known_words.issuperset(s.split())}
        pq.write_table(pa.table([list(known), list(known.values())], _TEXT_PAIRS), folder / _CORRECTIONS)

    @classmethod
    def open(cls, folder: Path, popular_queries: Mapping[str, int], stem: Stem, is_content: IsKnown = bool) -> Speller:
        """The speller written into `folder`, with queries that anybody may see, and the requests of each.

        Raises `ArtifactError` where a table is missing or damaged.
        """
        try:
            words = pq.read_table(folder / _WORDS).to_pydict()
            entries = list(zip(words["word"], words["count"], words["spelling"], words["stem"], strict=True))
            pairs, log_words = HashedCounts.open(folder, _PAIRS), HashedCounts.open(folder, _LOG_WORDS)
            corrections = _read_corrections(folder / _CORRECTIONS)
        except (OSError, ValueError, EOFError, KeyError, TypeError, pa.ArrowException) as error:
            raise ArtifactError(f"Cannot read the words in {folder}: {error}.", "Build the index again.") from error
        counts, spellings = Counter({word: n for word, n, _, _ in entries}), Counter[tuple[str, str]]()
        catalogue_words, variants = frozenset(counts), dict[str, str]()
        for query, n in sorted(popular_queries.items(), key=lambda entry: (-entry[1], entry[0])):
            count_words(query, n, counts, spellings, None)
            for key in variant_keys(query, stem):
                variants.setdefault(key, query)
        stems = {word: stem_key for word, _, _, stem_key in entries}
        forms: dict[str, list[str]] = {}
        for word in sorted(counts, key=lambda word: (-counts[word], word)):
            forms.setdefault(stems[word] if word in stems else stem_key(word, stem), []).append(word)
        all_spellings = find_commonest(spellings) | {word: spelling for word, _, spelling, _ in entries}
        other_spellings = {word: spelling for word, spelling in all_spellings.items() if word != spelling}
        fast_stem = functools.lru_cache(_CACHE_SIZE)(lambda text: tuple(stem(text)))
        words = (counts, catalogue_words, other_spellings, forms)
        return cls(*words, pairs, log_words, variants, fast_stem, corrections, is_content)

    def correct(self, query: str, is_known: IsKnown, *, as_shoppers: bool = False) -> str | None:
        """`query` with its misspelt words corrected; None where nothing is misspelt, or no correction is known.

        `is_known` tells of a folded word whether an item has it now. With `as_shoppers` nothing is corrected but what
        shoppers corrected themselves. What is corrected may tell what a word beside it was meant to be.
        """
        text = self._correct_words(normalise(query), is_known, as_shoppers)
        return text and (self._correct_words(text, is_known, as_shoppers) or text)

    def _correct_words(self, text: str, is_known: IsKnown, as_shoppers: bool) -> str | None:
        """`text`, which is normalised, with the words corrected that are misspelt as it stands; None where none is."""
        tokens = [_Token(start, end, fold(text[start:end])) for start, end in word_spans(text)]
        if not 0 < len(tokens) <= MAX_WORDS:
            return None
        result, position, predecessor = "", 0, ""
        words: tuple[str, ...]
        index, has_changed = 0, False
        while index < len(tokens):
            token, successor = tokens[index], tokens[index + 1] if index + 1 < len(tokens) else None
            if replacement := self._look_up(tokens[index : index + _MAX_CORRECTED]):
                n_used, words = replacement
            elif as_shoppers:
                n_used, words = 1, (token.word,)
            elif successor and self._are_one(token.word, successor.word):
                n_used, words = 2, (token.word + successor.word,)
            elif self._is_right(token.word, is_known):
                n_used, words = 1, (self._word_meant(predecessor, token, successor),)
            else:
                n_used, words = 1, self._replacement(predecessor, token, successor)
            if words != (token.word,):
                has_changed = True
                result += text[position : token.start] + " ".join(self.spellings.get(word, word) for word in words)
                position = tokens[index + n_used - 1].end
            predecessor, index = words[-1], index + n_used
        return result + text[position:] if has_changed else None

    def _look_up(self, tokens: Sequence[_Token]) -> tuple[int, tuple[str, ...]] | None:
        """How many of the first `tokens` shoppers replaced, and by which words; the most that are known so.

        A word that items have is replaced by one that is far more frequent.
        """
        for n_used in range(len(tokens) if self.corrections else 0, 0, -1):
            typed = [token.word for token in tokens[:n_used]]
            spelling = self.corrections.get(" ".join(typed), "").split()
            if not spelling:
                continue
            n_typed, n_spelling = (min(self.counts.get(w, 0) for w in words) for words in (typed, spelling))
            if not self.catalogue_words.issuperset(typed) or n_spelling >= MISTYPED_RATIO * n_typed:
                return n_used, tuple(spelling)
        return None

    def knows(self, word: str) -> bool:
        """Whether an item of the catalogue, or a query of the log, has `word`, which is in folded form."""
        return word in self.counts or self.log_words.get(word, 0) > 0

    def compounds(self, word: str) -> tuple[str, ...]:
        """The commonest words of the catalogue that end with `word`, as `holzschraube` with `schraube`; all folded."""
        end = stem_key(word, self.stem)[::-1] if len(word) <= MAX_COMPOUND else ""
        if len(end) < MIN_COMPOUND_PART:
            return ()
        start = bisect_left(self._reversed_stems, (end, ""))
        stop = bisect_left(self._reversed_stems, (end + chr(0x10FFFF), ""))
        endings = [w for stem, w in self._reversed_stems[start:stop] if len(stem) >= len(end) + MIN_PREFIX]
        return tuple(sorted(endings, key=lambda w: (-self.counts[w], w))[:MAX_COMPOUNDS])

    def parts(self, word: str) -> tuple[str, ...]:
        """What a compound that no item has may be made of: `edelstahlschraube` of `edelstahl` and some `schraube`."""
        longest = len(word) - MIN_COMPOUND_PART if len(word) <= MAX_COMPOUND else 0
        for middle in range(longest, MIN_COMPOUND_PART - 1, -1):
            head, tail = word[:middle], word[middle:]
            if head not in self.catalogue_words:
                continue
            if ends := ((tail,) if tail in self.catalogue_words else ()) + self.compounds(tail):
                return tuple(f"{head} {end}" for end in ends)
        return ()

    def near(self, word: str) -> tuple[str, ...]:
        """The commonest words within the faults that a word of this length may have; none for a short one."""
        most = 0 if len(word) < MIN_NEAR or not word.isalpha() else 1 if len(word) < LONG_NEAR else 2
        matches = [near for near, _ in self._near_words(word, most)] if most else []
        return tuple(sorted(matches, key=lambda w: (-self.counts[w], w))[:MAX_NEAR])

    @functools.cached_property
    def _reversed_stems(self) -> list[tuple[str, str]]:
        """The stem of each word of the catalogue from its end to its beginning, and the word, sorted."""
        stems = ((stem, word) for stem, words in self.forms.items() for word in words if word in self.catalogue_words)
        return sorted((stem[::-1], word) for stem, word in stems)

    def variant(self, query: str) -> str | None:
        """The commonest popular query of the same stems, or of the same ones without blanks."""
        texts = (self.variants.get(key) for key in variant_keys(normalise(query), self.stem))
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
            form = next((f for f in self._forms_of(word)[:MAX_FORMS] if self._is_preferred(f, word)), word)
            if form != word:
                result, position = result + text[position:start] + self.spellings.get(form, form), end
        result += text[position:]
        plain_words = [text[start:end] for start, end in spans]
        last_forms = self._forms_of(fold(plain_words[-1]))[:MAX_FORMS] if plain_words else ()
        options = [result, " ".join(plain_words), *(" ".join([*plain_words[:-1], form]) for form in last_forms)]
        requests = list(requests_of(options))
        return options[requests.index(max(requests))]

    def _is_preferred(self, form: str, word: str) -> bool:
        """Whether `form` stands for `word` in a query that the log lacks, as the commoner of two numbers does."""
        ratio = 1 if form.rstrip("s") == word.rstrip("s") else FORM_RATIO
        return self.counts.get(form, 0) > ratio * self.counts.get(word, 0)

    def _forms_of(self, word: str) -> Sequence[str]:
        """The words with the stem of `word`, the commonest first."""
        return self.forms.get(stem_key(word, self.stem), (word,))

    def _is_right(self, word: str, is_known: IsKnown) -> bool:
        """Whether `word` is not to be corrected: it is known, or too short, or no word of letters."""
        if len(word) < MIN_LENGTH or not word.isalpha() or word in self.catalogue_words or terms(word) != [word]:
            return True
        if word in (FREE, *NEGATORS) or is_known(word):
            return True
        n_uses = self.log_words.get(word, 0)
        n_uses = (n_uses if n_uses >= MIN_COUNT else 0) + sum(self.counts[c] for c in self.compounds(word))
        if not n_uses:
            return False
        near_counts = [self.counts[c] for c, _ in self._near_words(word, 1) if c in self.catalogue_words]
        split_counts = [self._count_pair(*parts) for parts in self._splits(word)]
        is_typo = max(near_counts, default=0) >= MISTYPED_RATIO * n_uses
        return not is_typo and max(split_counts, default=0) < JOINED_RATIO * n_uses

    def _word_meant(self, predecessor: str, token: _Token, successor: _Token | None) -> str:
        """`token`, which is a word, or the one that was meant: far more frequent, and at home beside its neighbours.

        `wal paint` is `wall paint` where items say so often and never `wal paint`.
        """
        word, next_word = token.word, successor.word if successor else ""
        n = max(self.counts.get(word, 0), self.log_words.get(word, 0), 1)
        is_rare = n <= MAX_RARE and len(word) >= MIN_LENGTH and word.isalpha() and word not in NEGATORS
        if not is_rare or not (predecessor or next_word) or self._has_neighbour(predecessor, word, next_word):
            return word
        stem = stem_key(word, self.stem)
        options = [
            (n_pairs, self.counts[near_word], near_word)
            for near_word, _ in self._near_words(word, 1)
            if self.counts[near_word] >= MISTYPED_RATIO * n and stem != stem_key(near_word, self.stem)
            if (n_pairs := self._count_pair(predecessor, near_word) + self._count_pair(near_word, next_word))
            >= MIN_PAIRS
        ]
        return max(options)[2] if options else word

    def _are_one(self, head: str, tail: str) -> bool:
        """Whether two words are one that was written apart: nobody writes them so, and one is no word or a rare one."""
        n_joined, n_rarer = self.counts.get(head + tail, 0), min(self.counts.get(head, 0), self.counts.get(tail, 0))
        return n_joined >= max(MIN_COUNT, MISTYPED_RATIO * n_rarer) and not self._count_pair(head, tail)

    def _replacement(self, predecessor: str, token: _Token, successor: _Token | None) -> tuple[str, ...]:
        """The words in place of `token`: itself where nothing is near.

        A last word that a known one begins with may be unfinished: it is finished, or left alone, unless a word is near
        that is far more frequent or at home beside its neighbours. No word that says nothing replaces one that stands
        alone.
        """
        next_word = successor.word if successor else ""
        options: list[tuple[float, tuple[str, ...]]] = [(-math.inf, (token.word,))]
        n_longer = 0 if successor else self._count_longer(token.word)
        for word, n_faults in self._near_words(token.word, 2):
            is_longer = word.startswith(token.word)
            is_at_home = self._has_neighbour(predecessor, word, next_word)
            is_clear = n_faults == 1 and (is_at_home or self.counts[word] >= UNFINISHED_RATIO * n_longer)
            if n_longer and not is_longer and not is_clear:
                continue
            if self.counts[word] < MIN_COUNT and (n_faults > 1 or len(word) < MIN_RARE_LENGTH):
                continue
            if not self._is_right(word, lambda _: False):
                continue  # the log has this mistyped word, too
            has_other_start = word[0] != token.word[0]
            is_far = n_faults > 1 or (has_other_start and word[1::-1] != token.word[:2])
            if is_far and len(token.word) < LONG and not is_at_home:
                continue
            if not (predecessor or successor or self.is_content(word)):
                continue
            cost = _FAULT_COST * (n_faults - 1) + _FIRST_LETTER_COST * has_other_start
            options.append((self._score(predecessor, word, next_word) - cost, (word,)))
        for head, tail in self._splits(token.word):
            n = self._count_pair(head, tail)
            options.append((_PAIR_WEIGHT * math.log1p(n) + math.log(n), (head, tail)))
        return max(options, key=lambda option: option[0])[1]

    def _count_longer(self, word: str) -> int:
        """How often words stand somewhere that begin with `word`."""
        start, stop = bisect_left(self._sorted_words, word), bisect_left(self._sorted_words, word + chr(0x10FFFF))
        return sum(self.counts[longer] for longer in self._sorted_words[start:stop])

    @functools.cached_property
    def _sorted_words(self) -> list[str]:
        return sorted(word for word, n in self.counts.items() if n >= MIN_COUNT)

    def _has_neighbour(self, predecessor: str, word: str, successor: str) -> bool:
        return bool(self._count_pair(predecessor, word) or self._count_pair(word, successor))

    def _score(self, predecessor: str, word: str, successor: str) -> float:
        n_pairs = [self._count_pair(predecessor, word), self._count_pair(word, successor)]
        return math.log(self.counts[word]) + _PAIR_WEIGHT * sum(map(math.log1p, n_pairs))

    def _count_pair(self, head: str, tail: str) -> int:
        return self.pairs.get(f"{head} {tail}", 0) if head and tail else 0

    def _splits(self, word: str) -> Iterator[tuple[str, str]]:
        """Two words that `word` is made of and that stand side by side somewhere."""
        for middle in range(2, len(word) - 1):
            if self._count_pair(word[:middle], word[middle:]):
                yield word[:middle], word[middle:]

    @functools.cached_property
    def _near_words(self) -> Finder:
        """Finds the words near another, with the number of faults between them."""
        return make_finder(self.counts)


def _read_corrections(path: Path) -> dict[str, str]:
    """What shoppers meant by what they wrote; an index that was made before has none."""
    if not path.is_file():
        return {}
    columns = pq.read_table(path, schema=_TEXT_PAIRS).to_pydict()
    return dict(zip(columns["misspelling"], columns["spelling"], strict=True))
