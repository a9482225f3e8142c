"""How `spelling.py` changes a query, by rule and from a seed: typos, number, blanks, accents, measures."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from spelling_shops import PLAIN_VOWELS, TWO_VOWELS, compound_apart, german_number, umlauts

Change = Callable[[str, random.Random], str | None]
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEAR = {
    letter: "".join(row[max(i - 1, 0) : i] + row[i + 1 : i + 2] for row in KEYS for i in [row.find(letter)] if i >= 0)
    for letter in "".join(KEYS)
}
UNIT = re.compile(r"\b(\d+(?:[./]\d+)?)[ -]?(inch|inches|in|ft|feet|foot|gal|gallon|oz|lb|lbs|gb|mah|mm|volt|watt)\b")
UNIT_FORMS = {
    "inch": ('"', " in.", "in"), "inches": ('"', " inch"), "in": (" inch", '"'), "ft": (" feet", "ft.", "'"),
    "feet": (" ft", "ft"), "foot": (" ft", "ft"), "gal": (" gallon", "gal"), "gallon": (" gal", "gal."),
    "oz": (" ounce", "oz."), "lb": (" pounds", "lbs"), "lbs": (" lb", " pound"), "gb": (" gb", "GB"), "mah": (" mah",),
    "mm": (" mm", "mm"), "volt": (" v", "v"), "watt": (" w", "w"),
}  # fmt: skip
SIZE = re.compile(r"\b(\d+(?:/\d+)?)( ?x ?)(?=\d)")


def one_typo(query: str, rng: random.Random) -> str | None:
    """A fault in one word of at least four letters."""
    words = query.split()
    places = [index for index, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not places:
        return None
    place = rng.choice(places)
    words[place] = mistype(words[place], rng)
    return " ".join(words)


def two_typos(query: str, rng: random.Random) -> str | None:
    """Two faults, in two words where there are two."""
    first = one_typo(query, rng)
    for _ in range(20):
        second = first and one_typo(first, rng)
        if second and second != query and distance_words(query, second) == min(2, n_long(query)):
            return second
    return None


def n_long(query: str) -> int:
    """The words that may get a fault."""
    return sum(len(word) >= 4 and word.isalpha() for word in query.split())


def distance_words(a: str, b: str) -> int:
    """How many words differ."""
    return sum(x != y for x, y in zip(a.split(), b.split(), strict=True))


def mistype(word: str, rng: random.Random) -> str:
    """`word` with one letter left out, doubled, swapped with the next, or struck on the key beside it."""
    index = rng.randrange(len(word) - 1)
    kind = rng.choice(("omit", "double", "swap", "key"))
    if kind == "omit":
        return word[:index] + word[index + 1 :]
    if kind == "double":
        return word[: index + 1] + word[index:]
    if kind == "swap" and word[index] != word[index + 1]:
        return word[:index] + word[index + 1] + word[index] + word[index + 2 :]
    near = NEAR.get(word[index], "")
    return word[:index] + rng.choice(near) + word[index + 1 :] if near else word[:index] + word[index + 1 :]


def other_number(query: str, _: random.Random) -> str | None:
    """The last word in the plural, or in the singular where it is one."""
    if not query[-1].isalpha() or len(query.split()[-1]) < 4:
        return None
    if query.endswith("ies"):
        return query[:-3] + "y"
    if query.endswith("s") and not query.endswith(("ss", "us", "is")):
        return query[:-2] if query.endswith(("ches", "shes", "xes", "sses")) else query[:-1]
    if query.endswith("y") and query[-2] not in "aeiou":
        return query[:-1] + "ies"
    return query + ("es" if query.endswith(("ch", "sh", "x", "ss")) else "s")


def joined(query: str, _: random.Random) -> str | None:
    """The first two words in one."""
    words = query.split()
    return "".join(words[:2]) + "".join(f" {word}" for word in words[2:]) if len(words) > 1 else None


def split(query: str, rng: random.Random) -> str | None:
    """A word of at least seven letters in two, anywhere behind the second letter."""
    words = query.split()
    places = [index for index, word in enumerate(words) if len(word) >= 7 and word.isalpha()]
    if not places:
        return None
    place = rng.choice(places)
    middle = rng.randrange(3, len(words[place]) - 2)
    words[place] = f"{words[place][:middle]} {words[place][middle:]}"
    return " ".join(words)


def shouted(query: str, _: random.Random) -> str:
    """In upper case, with a full stop."""
    return f" {query.upper()}. "


def accented(query: str, rng: random.Random) -> str | None:
    """With an accent on a vowel."""
    places = [index for index, letter in enumerate(query) if letter in "aeiou"]
    if not places:
        return None
    place = rng.choice(places)
    return query[: place + 1] + "\u0301" + query[place + 1 :]


def remeasured(query: str, rng: random.Random) -> str | None:
    """A measure or a size in another spelling: `5 inch` as `5"`, `2x4` as `2 x 4`."""
    match = UNIT.search(query)
    if match:
        form = rng.choice(UNIT_FORMS[match[2]])
        return query[: match.start()] + match[1] + form + query[match.end() :]
    size = SIZE.search(query)
    return SIZE.sub(r"\1x" if " " in size[2] else r"\1 x ", query) if size else None


def blank_between(query: str, rng: random.Random) -> str | None:
    """A blank somewhere in a text without blanks."""
    middle = rng.randrange(1, len(query))
    return f"{query[:middle]} {query[middle:]}"


def other_order(query: str, _: random.Random) -> str | None:
    """The last two characters of a text without blanks first."""
    return query[-2:] + query[:-2] if len(query) > 3 else None


def struck_character(query: str, rng: random.Random) -> str | None:
    """One character of at least four replaced by another."""
    place = rng.randrange(len(query))
    return query[:place] + "们" + query[place + 1 :] if len(query) > 3 else None


def plain(change: Callable[[str], str | None]) -> Change:
    """A change without chance."""
    return lambda query, _: change(query)


LATIN: dict[str, Change] = {
    "one typo": one_typo,
    "two typos": two_typos,
    "plural or singular": other_number,
    "two words in one": joined,
    "one word in two": split,
    "upper case, full stop": shouted,
    "an accent more": accented,
    "a measure in another spelling": remeasured,
}
GERMAN: dict[str, Change] = {
    "one typo": one_typo,
    "two typos": two_typos,
    "plural or singular": plain(german_number),
    "upper case, full stop": shouted,
    "a compound in two words": plain(compound_apart),
    "u for ü": plain(umlauts(PLAIN_VOWELS)),
    "ue for ü": plain(umlauts(TWO_VOWELS)),
}
CHINESE: dict[str, Change] = {
    "a blank between": blank_between,
    "another order": other_order,
    "one character wrong": struck_character,
}
