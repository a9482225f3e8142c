"""Text as the terms that words are compared by: accents folded, measures in one form, joined words also apart.

`Café` is `cafe` and `Straße` `strasse`; `55"`, `55 inch` and `55in` are `55in`; `1,5 l` is `1.5l`; `2 x 4 x 8` is
`2x4x8`; `t-shirt` is found by `t shirt` and by `tshirt`. Scripts written without blanks give pairs of characters.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

from mmse.text.normalise import MAX_CHARACTERS, words

_UNITS = {
    "in": "in inch inches zoll \" ″ ′′ ''",
    "ft": "ft feet foot ' ′",
    "yd": "yd yard yards",
    "mm": "mm millimeter millimetre millimeters millimetres",
    "cm": "cm centimeter centimetre centimeters centimetres",
    "m": "m meter metre meters metres",
    "km": "km",
    "ml": "ml milliliter millilitre milliliters millilitres",
    "cl": "cl",
    "l": "l liter litre liters litres ltr",
    "gal": "gal gallon gallons",
    "qt": "qt quart quarts",
    "mg": "mg",
    "g": "g gr gram grams gramm",
    "kg": "kg kilo kilos kilogram kilograms",
    "oz": "oz ounce ounces",
    "lb": "lb lbs pound pounds",
    "w": "w watt watts",
    "kw": "kw",
    "v": "v volt volts",
    "amp": "amp amps",
    "ah": "ah",
    "mah": "mah",
    "mb": "mb",
    "gb": "gb gigabyte gigabytes",
    "tb": "tb terabyte terabytes",
    "mhz": "mhz",
    "ghz": "ghz",
    "hz": "hz",
    "btu": "btu",
}
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
_SIGNS = ('"', "″", "′′", "''", "'", "′")

_NUMBER = r"\d+[- ]\d+/\d+|\d+/\d+|\d+[.,]\d+|\d+"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNIT_OF, key=len, reverse=True) if unit not in _SIGNS)
_SIGN = "|".join(map(re.escape, _SIGNS))
_AFTER_NUMBER = rf"(?:[ -]?(?:{_UNIT})(?![^\W_])\.?|(?:{_SIGN}))"
_START = r"(?<![^\W_])(?<![\d][.,/])"
_SIZE = re.compile(
    rf"{_START}(?:{_NUMBER}) ?(?:{_AFTER_NUMBER})? ?(?:[x*×] ?(?:{_NUMBER})(?![\d/]) ?(?:{_AFTER_NUMBER})? ?)+"
    r"(?![^\W_])"
)
_MEASURE = re.compile(
    rf"{_START}(?P<number>{_NUMBER})(?:(?P<sign>{_SIGN})|[ -]?(?P<unit>{_UNIT})(?![^\W_])(?! ?\d+(?![\d/.,]* ?[x*×])))"
)
_PLAIN_NUMBER = re.compile(rf"{_START}(?:\d+[- ]\d+/\d+|\d+/\d+|\d+[.,]\d+)(?![.,/]?\d)(?![^\W_])")
_PART = re.compile(rf"({_NUMBER})(?: ?({_UNIT})(?![^\W_])|({_SIGN}))?")
_COMPOUND = re.compile(r"(?<![^\W_])[^\W_]+(?:[-'’./][^\W_]+)+")
_HALF = re.compile(r"\bhalf[ -](?:an? )?(?=(?:inch|litre|liter|gallon|pound|ounce)\b)")
_NEXT_WORD = re.compile(r" +[^\W_]")
_FENCE = "\x00"
"""Stands around a term that no later rule takes apart; no text holds it, since `fold` leaves it out."""
_MARKS = re.compile("[\u0300-\u036f]+")
_KEPT_MARK = "й"
"""Of the letters with a mark, one that is a letter of its own wherever it is written."""
_BLANKLESS = "[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
_WITHOUT_BLANKS = re.compile(f"{_BLANKLESS}+")
_STRAY_BLANK = re.compile(
    f"(?<={_BLANKLESS}) +(?={_BLANKLESS}(?!{_BLANKLESS}))|(?<![^ ]{_BLANKLESS})(?<={_BLANKLESS}) +(?={_BLANKLESS})"
)
"""A blank beside a single character of a script without blanks, which no pair of characters would hold."""
_NAME_AND_NUMBER = re.compile(r"(?P<name>[^\W\d_]{3,})(?P<number>\d[^\W_]{0,3})")
_THREAD = re.compile(r"(?<![^\W_])m(?P<width>\d+) ?[x*×] ?(?P<length>\d+)(?![^\W_])")
"""A metric screw, such as `m8x20`."""


def terms(text: str) -> list[str]:
    """The terms of `text` in its order; behind them further forms: the parts of measures, joined words in one."""
    main, further = _read(text)
    return main + further


def main_terms(text: str) -> list[str]:
    """The terms of `text` in its order, each part of it in one."""
    return _read(text)[0]


def _read(text: str) -> tuple[list[str], list[str]]:
    text, further = fold(text[:MAX_CHARACTERS]), list[str]()
    if "half" in text:
        text = _HALF.sub("1/2 ", text)
    if not text.isascii():
        text = _STRAY_BLANK.sub("", text)
    if any(map(str.isdigit, text)):
        text = _THREAD.sub(lambda match: _replace_thread(match, further), text)
        text = _SIZE.sub(lambda match: _replace_size(match, further), text)
        text = _MEASURE.sub(lambda match: _replace_measure(match, further), text)
        text = _PLAIN_NUMBER.sub(lambda match: _FENCE + _number(match[0]) + _FENCE, text)
    result: list[str] = []
    for index, piece in enumerate(text.split(_FENCE)):
        if index % 2:  # between two marks
            result.append(piece)
        else:
            further += [re.sub(r"[\W_]", "", compound) for compound in _COMPOUND.findall(piece)]
            for word in words(piece):
                result += _segments(word)
                further += _name_and_number(word)
    return result, further


def fold(text: str) -> str:
    """`text` in lower case and compatibility form, without the accents of Latin, Greek and Cyrillic letters."""
    if text.isascii():
        return text.lower().replace(_FENCE, " ")
    valid = text.encode("utf-8", "replace").decode("utf-8").replace(_FENCE, " ")
    compatible = unicodedata.normalize("NFKC", re.sub("(?<=\\d)(?=[½⅓⅔¼¾⅛⅜⅝⅞])", "-", valid)).replace("⁄", "/")
    return "".join(map(_fold_letter, compatible.casefold()))


@functools.cache
def _fold_letter(letter: str) -> str:
    if letter == _KEPT_MARK or letter.isascii():
        return letter
    base = _MARKS.sub("", unicodedata.normalize("NFD", letter))
    return unicodedata.normalize("NFC", base).replace("ø", "o").replace("ł", "l").replace("ı", "i")


def is_measure(text: str) -> bool:
    """Whether folded `text` is a measure, a size or a plain number."""
    return any(pattern.fullmatch(text) for pattern in (_SIZE, _MEASURE, _PLAIN_NUMBER))


def _number(text: str) -> str:
    """One spelling of a number: `1,50` is `1.5`, `1,000` is `1000`, `1 1/2` is `1-1/2`."""
    if "/" in text:
        return text.replace(" ", "-")
    whole, mark, decimals = text.replace(",", ".").partition(".")
    if not mark or ("," in text and len(decimals) == 3):
        return whole + decimals
    decimals = decimals.rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole


def _replace_measure(match: re.Match[str], further: list[str]) -> str:
    number, unit = _number(match["number"]), _UNIT_OF[match["sign"] or match["unit"]]
    if match[0].endswith(" in") and _NEXT_WORD.match(match.string, match.end()):
        further.append(number + unit)  # `5 in the box`: with a word behind it, `in` may be no inch; both are kept
        return match[0]
    further.append(number)
    return f" {_FENCE}{number}{unit}{_FENCE} "


def _replace_thread(match: re.Match[str], further: list[str]) -> str:
    """One spelling of a metric screw; `m8` and `20mm` find it, too."""
    width, length = match["width"], match["length"]
    further += [f"m{width}", length, f"{length}mm"]
    return f" {_FENCE}m{width}x{length}{_FENCE} "


def _name_and_number(word: str) -> Sequence[str]:
    """The two parts of a name that a number is written on to, such as `forza4`."""
    match = None if word.isalpha() else _NAME_AND_NUMBER.fullmatch(word)
    return match.groups() if match else ()


def _replace_size(match: re.Match[str], further: list[str]) -> str:
    parts = [(_number(number), unit or sign) for number, unit, sign in _PART.findall(match[0])]
    further += [number + _UNIT_OF[unit] for number, unit in parts if unit]
    return f" {_FENCE}{'x'.join(number for number, _ in parts)}{_FENCE} "


def _segments(word: str) -> list[str]:
    """A word, or the pairs of neighbouring characters of a script that has no blanks between words."""
    if word.isascii() or not _WITHOUT_BLANKS.search(word):
        return [word]
    pieces: list[str] = []
    for part in re.findall(rf"{_WITHOUT_BLANKS.pattern}|[^{_WITHOUT_BLANKS.pattern[1:-2]}]+", word):
        is_run = bool(_WITHOUT_BLANKS.fullmatch(part)) and len(part) > 1
        pieces += [part[index : index + 2] for index in range(len(part) - 1)] if is_run else [part]
    return pieces
