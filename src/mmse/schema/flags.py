"""How shops write true and false, and whether an item can be bought: for tables and for filters alike."""

from __future__ import annotations

import re

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0", "on", "x", "ja", "j", "oui", "si", "sí", "sim", "tak", "да")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0", "off", "nein", "nee", "non", "não", "nao", "nej", "nie", "нет")
IN_STOCK_WORDS = (
    "instock",
    "available",
    "limitedavailability",
    "preorder",
    "presale",
    "backorder",
    "onbackorder",
    "onlineonly",
)
OUT_OF_STOCK_WORDS = ("outofstock", "soldout", "unavailable", "notavailable", "discontinued")
NOT_OF_WORD = r"^\s*https?://schema\.org/|[\s_-]"
"""What is taken out of a lower-case text before it is compared with the words of a stock."""

_FLAG_OF = dict.fromkeys((*TRUE_WORDS, *IN_STOCK_WORDS), True) | dict.fromkeys(
    (*FALSE_WORDS, *OUT_OF_STOCK_WORDS), False
)


def parse_flag(value: object) -> bool | None:
    """The flag that a value means: true or false, 1 or 0, or one of the words above; None for any other."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, int)) and len(str(value)) < 100:
        return _FLAG_OF.get(re.sub(NOT_OF_WORD, "", str(value).lower()))
    return None
