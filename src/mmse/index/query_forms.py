"""What the forms of one query have in common: the stems of its words, with blanks and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmse.text.terms import main_terms

Stem = Callable[[str], Sequence[str]]


def stem_key(text: str, stem: Stem) -> str:
    """The stems of the words of `text`, in its order."""
    return " ".join(stem(text))


def join_stems(query: str, stem: Stem) -> str:
    """The stems of `query` without blanks, which plurals, spacing and punctuation leave as they are."""
    return "".join((*stem(term), term)[0] for term in main_terms(query))


def variant_keys(query: str, stem: Stem) -> tuple[str, ...]:
    """What the forms of one query have in common: the stems in their order, and the same without blanks.

    Of `mug, red` also those of `red mug`, as registers write names.
    """
    head, comma, tail = query.partition(", ")
    turned = variant_keys(f"{tail} {head}", stem) if comma and "," not in tail else ()
    return f"stems {stem_key(query, stem)}", f"letters {join_stems(query, stem)}", *turned
