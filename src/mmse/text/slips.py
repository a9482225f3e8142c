"""Slips of the fingers, made by rule: what people who hurry type for what they mean."""

from __future__ import annotations

import numpy as np

SHORTEST = 4
"""Shorter words, and words with other characters than letters, are left as they are."""
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: row[max(index - 1, 0) : index] + row[index + 1 : index + 2]
    for row in _KEYS
    for index, letter in enumerate(row)
}


def add_slip(text: str, rng: np.random.Generator) -> str:
    """`text` with one slip in one of its longer words, drawn by `rng`; as it is where no word is long enough.

    A letter is left out, doubled, exchanged with the next, or struck on the key beside it; a blank is left out after
    the word, or struck within it. The first letter stays.
    """
    parts = text.split(" ")
    long_words = [number for number, part in enumerate(parts) if len(part) >= SHORTEST and part.isalpha()]
    if not long_words:
        return text
    number = long_words[rng.integers(len(long_words))]
    word, slip, at = parts[number], int(rng.integers(6)), int(rng.integers(1, len(parts[number]) - 1))
    if slip == 0:
        parts[number] = word[:at] + word[at + 1 :]
    elif slip == 1:
        parts[number] = word[:at] + word[at] + word[at:]
    elif slip == 2:
        parts[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif slip == 3:
        keys = _NEIGHBOURS.get(word[at].lower(), word[at])
        parts[number] = word[:at] + keys[int(rng.integers(len(keys)))] + word[at + 1 :]
    elif slip == 4:
        parts[number : number + 2] = ["".join(parts[number : number + 2])]
    else:
        parts[number] = f"{word[:at]} {word[at:]}"
    return " ".join(parts)
