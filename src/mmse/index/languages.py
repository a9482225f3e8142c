"""The languages of a catalogue, found column by column, so that words are stemmed as their languages inflect them.

A title alone tells little (brands, codes), ten of them tell a lot: the texts of a column are grouped by what each seems
to be, and a group counts where it is no small share and its texts, ten at a time, are surely of that language. Words go
through the stemmers of all languages, one after another, so that the words of either language meet their forms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import pyarrow as pa
import tantivy

from mmse.schema.value_sets import join_values

LANGUAGES = {
    "arabic": "ar",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hungarian": "hu",
    "italian": "it",
    "norwegian": "no",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "tamil": "ta",
    "turkish": "tr",
}
"""The languages with a stemmer, each with its code."""
AUTO, NONE, DEFAULT = "auto", "none", "english"
"""Languages that are found, no stemming, and what a catalogue is taken for where nothing is found."""
STOP_LANGUAGES = frozenset(LANGUAGES) - {"arabic", "greek", "romanian", "tamil", "turkish"}
"""The languages of which the library knows the words that say nothing (`for`, `the`)."""
_OTHERS = "bg cs fa he hi hr id ja ko pl sk th uk vi zh"
"""Codes of languages without a stemmer that a catalogue may be in."""
MIN_SHARE, MIN_CONFIDENCE = 0.05, 0.9
MIN_TEXTS = 20
MAX_TEXTS = 1_000
MAX_CHARACTERS = 200
"""So much of each text is looked at."""
_TEXTS_AT_ONCE = 10

Identify = Callable[[str], tuple[str, float]]


def parse_languages(text: str) -> list[str]:
    """The names in `text`, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def are_languages(text: str) -> bool:
    """Whether `text` is `auto`, `none`, or one or several languages with a stemmer."""
    names = parse_languages(text)
    return text in (AUTO, NONE) or (bool(names) and set(names) <= LANGUAGES.keys())


def find_languages(items: pa.Table, columns: Sequence[str]) -> str:
    """The languages of the `columns` of `items` that are there, separated by commas.

    `none` where all are languages without a stemmer, and `english` where nothing is sure, as of a few titles or codes.
    """
    codes: dict[str, None] = {}
    for column in columns:
        if column in items.column_names:
            step = max(1, len(items) // MAX_TEXTS)
            texts = join_values(items[column]).to_pylist()[::step]
            shortened_texts = [text[:MAX_CHARACTERS] for text in texts if text and text.strip()]
            codes |= dict.fromkeys(find_codes(shortened_texts, load_identifier()))
    names = [name for name, code in LANGUAGES.items() if code in codes]
    return ", ".join(names) or (NONE if codes else DEFAULT)


def find_codes(texts: Sequence[str], identify: Identify) -> list[str]:
    """The codes of the languages of `texts`, the commonest first.

    `identify` gives a code and how sure it is, from 0 to 1.
    """
    if len(texts) < MIN_TEXTS:
        return []
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(identify(text)[0], []).append(text)
    large_groups = [item for item in groups.items() if len(item[1]) >= MIN_SHARE * len(texts)]
    sure_groups = [
        (len(group), code) for code, group in large_groups if _confidence(code, group, identify) >= MIN_CONFIDENCE
    ]
    return [code for _, code in sorted(sure_groups, reverse=True)]


def _confidence(code: str, texts: Sequence[str], identify: Identify) -> float:
    """How sure it is that ten of `texts` together are of the language `code`, on average."""
    blocks = [" ".join(texts[i : i + _TEXTS_AT_ONCE]) for i in range(0, len(texts), _TEXTS_AT_ONCE)]
    guesses = [identify(block) for block in blocks]
    return sum(share for guess, share in guesses if guess == code) / len(guesses)


@functools.cache
def load_identifier() -> Identify:
    """The kept library's identifier, with the languages that a catalogue may be in; it takes a second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # here, since only indexing needs it

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*LANGUAGES.values(), *_OTHERS.split()])

    def identify(text: str) -> tuple[str, float]:
        code, share = identifier.classify(text)
        return str(code), float(share)

    return identify


def make_analyzer(language: str) -> tantivy.TextAnalyzer:
    """Splits at white space and stems by each of the languages in `language`, which are not `auto`."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    for name in parse_languages(language):
        if name != NONE:
            builder = builder.filter(tantivy.Filter.stemmer(name))
    return builder.build()


def make_stop_filter(language: str) -> tantivy.TextAnalyzer:
    """Splits at white space and drops the words that say nothing in any of the languages in `language`.

    Words of a language that is not one of `STOP_LANGUAGES` are kept.
    """
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    for name in parse_languages(language):
        if name in STOP_LANGUAGES:
            builder = builder.filter(tantivy.Filter.stopword(name))
    return builder.build()
