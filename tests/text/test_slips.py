"""Slips of the fingers: one a text, in a longer word, and the same for the same seed."""

from __future__ import annotations

import numpy as np
from rapidfuzz.distance import DamerauLevenshtein

from mmse.text.slips import add_slip

TEXT = "stainless steel mixing bowl 12 inch"


def test_a_slip_is_one_edit_and_leaves_first_letters() -> None:
    rng = np.random.default_rng(0)
    texts = [add_slip(TEXT, rng) for _ in range(300)]
    assert all(DamerauLevenshtein.distance(text, TEXT) <= 1 for text in texts)
    assert sum(text != TEXT for text in texts) > 260, "a letter that is exchanged with its double stays, for one"
    assert len(set(texts)) > 80
    assert all("12" in text and text[0] == "s" for text in texts)


def test_short_words_numbers_and_codes_are_left_as_they_are() -> None:
    rng = np.random.default_rng(0)
    for text in ("", "red mug", "a1b2c3 55 12", "靴"):
        assert {add_slip(text, rng) for _ in range(20)} == {text}


def test_the_same_seed_gives_the_same_slips() -> None:
    first, second = ([add_slip(TEXT, np.random.default_rng(seed)) for seed in range(9)] for _ in range(2))
    assert first == second
