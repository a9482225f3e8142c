"""Text into grains: any script, any length, the same bag for the same text."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.text.hashing import bucket
from mmse.text.normalise import MAX_CHARACTERS, normalise
from mmse.text.tokenizer import BY_WORDS_FROM, Tokenizer, document_frequency

TITLES = ["Red Running Shoes", "Blue running shoe", "Cordless drill 18V", "ГОСТ кран", "跑鞋 红色", "😀 mug"] * 3
TOKENIZER = Tokenizer.train(TITLES, vocab_size=300, bigram_buckets=64, max_tokens=8)


@given(st.text())
@settings(deadline=None)
def test_any_text_encodes_within_bounds(text: str) -> None:
    bags = TOKENIZER.encode([text, "red"])
    assert len(bags) == 2
    assert bags.offsets[1] <= 8 + 7
    assert ((bags.grains >= 0) & (bags.grains < TOKENIZER.n_grains)).all()


@given(st.lists(st.text(), min_size=8))
@settings(deadline=None, max_examples=30)
def test_many_texts_have_the_bags_of_each_alone(texts: list[str]) -> None:
    texts = [*texts, "  red  shoe ", "e\u0301t\u00e9 \u0301x \u00a8 y", "a\tb\u00a0c\u3000d", "shoe " * 1_000, *TITLES]
    many = TOKENIZER.encode(texts * 5)
    bags = [TOKENIZER.encode([text]).grains.tolist() for text in texts] * 5
    assert len(many) >= BY_WORDS_FROM
    assert [many.grains[i:j].tolist() for i, j in pairwise(many.offsets)] == bags


@given(st.text())
@settings(deadline=None)
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_a_very_long_query_costs_no_more_than_a_long_one() -> None:
    assert len(normalise("a" * 10_000)) == MAX_CHARACTERS
    assert len(TOKENIZER.encode(["shoe " * 10_000]).grains) <= 15


def test_an_empty_text_is_an_empty_bag() -> None:
    assert TOKENIZER.encode(["", "...", "red"]).offsets.tolist()[:3] == [0, 0, 0]


def test_pairs_follow_the_subwords_of_their_bag() -> None:
    bags = TOKENIZER.encode(["red running shoes", "drill"])
    bag = bags.grains[: bags.offsets[1]]
    n_words = int((bag < TOKENIZER.n_subwords).sum())
    assert (bag[:n_words] < TOKENIZER.n_subwords).all()
    assert len(bag) == 2 * n_words - 1
    assert (bag[n_words:] >= TOKENIZER.n_subwords).all()


def test_a_pair_is_the_same_grain_wherever_it_stands() -> None:
    short, long = TOKENIZER.encode(["red running"]), TOKENIZER.encode(["drill red running"])
    assert short.grains[-1] in long.grains


def test_a_bag_of_many_taken_is_the_bag_alone() -> None:
    bags = TOKENIZER.encode(TITLES)
    selection = bags.take(np.array([3, 0, 3]))
    direct = TOKENIZER.encode([TITLES[3], TITLES[0], TITLES[3]])
    np.testing.assert_array_equal(selection.grains, direct.grains)
    np.testing.assert_array_equal(selection.offsets, direct.offsets)


def test_document_frequency_counts_bags_not_grains() -> None:
    frequency = document_frequency(TOKENIZER.encode(["red red red", "red", "drill"]), TOKENIZER.n_grains)
    assert frequency.max() == 2


def test_buckets_are_the_same_on_every_machine() -> None:
    assert bucket("running shoes", 1_000) == 518
    assert bucket("", 10) == bucket("", 10)


def test_a_tokenizer_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    reopened = Tokenizer.open(tmp_path)
    np.testing.assert_array_equal(reopened.encode(TITLES).grains, TOKENIZER.encode(TITLES).grains)
