"""Frames: found wherever they begin, and a broken one is told from one that was being written."""

from __future__ import annotations

import pytest

from mmse.core.frames import HEAD, MARK, encode_frame, find_frame, is_torn, read_body

FRAME = encode_frame(b"body")


def test_a_frame_is_found_where_it_begins() -> None:
    assert find_frame(FRAME, 0) == 0
    assert find_frame(b"ab" + FRAME, 0) == 2
    assert find_frame(FRAME * 2, 1) == len(FRAME)
    assert find_frame(b"ab", 0) == 2


def test_a_mark_that_begins_no_frame_is_passed_over() -> None:
    assert find_frame(MARK + b"x" * 20 + FRAME, 0) == len(MARK) + 20
    assert find_frame(MARK + FRAME, 0) == len(MARK), "the next one may begin within a broken head"
    assert find_frame(MARK * 3, 0) == len(MARK) * 3


@pytest.mark.parametrize("at", range(len(FRAME)))
def test_every_flipped_bit_of_a_frame_is_seen(at: int) -> None:
    damaged = bytearray(FRAME)
    damaged[at] ^= 1
    assert read_body(bytes(damaged), 0) is None
    assert not is_torn(bytes(damaged) + FRAME, 0), "a whole frame stands behind it"
    assert not is_torn(FRAME + bytes(damaged) + FRAME, len(FRAME))


@pytest.mark.parametrize("size", range(1, len(FRAME)))
def test_every_cut_frame_at_the_end_is_torn(size: int) -> None:
    assert is_torn(FRAME[:size], 0)
    assert is_torn(FRAME + FRAME[:size], len(FRAME))


def test_what_begins_a_byte_behind_a_broken_frame_counts_as_whole() -> None:
    assert not is_torn(b"x" + FRAME, 0)
    assert not is_torn(b"x" + FRAME + bytes(512), 0)
    assert is_torn(bytes(HEAD.size), 0), "a power cut left zeros"
    assert not is_torn(b"x" * HEAD.size, 0), "damage: neither cut short nor zeros"
    assert is_torn(b"x" * HEAD.size + bytes(512), 0)
    assert not is_torn(b"x" * HEAD.size + bytes(511), 0)
