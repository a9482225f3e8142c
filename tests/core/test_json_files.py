"""A small JSON file is what was written, or is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mmse.core.json_files import DIGEST, TOO_DEEP, parse_json, read_json, rewrite_json, write_json


@dataclass(frozen=True)
class Weights:
    """Something to write."""

    name: str
    shares: tuple[float, ...] = (0.5, 1.0)


def test_every_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    file, content = tmp_path / "weights.json", Weights("kettle 0001")
    write_json(file, content)
    assert read_json(file, Weights) == content
    whole, n_refused = file.read_bytes(), 0
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        try:
            is_same = read_json(file, Weights) == content
        except ValueError:
            n_refused += 1
        else:
            assert is_same, data
    assert n_refused > len(whole) * 6


def test_a_file_of_people_needs_no_digest(tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    file.write_text('{"name": "a", "shares": [1]}', "utf-8")
    assert read_json(file, Weights) == Weights("a", (1.0,))
    write_json(file, Weights("a"))
    rewrite_json(file, file.read_text("utf-8").replace('"a"', '"b"'))
    assert read_json(file, Weights).name == "b"
    file.write_text(file.read_text("utf-8").replace('"b"', '"c"'), "utf-8")
    with pytest.raises(ValueError, match=f"changed it by hand, remove its '{DIGEST}'"):
        read_json(file, Weights)
    file.write_text("[1]", "utf-8")
    with pytest.raises(ValueError, match="found list"):
        read_json(file, Weights)


def test_brackets_by_the_thousand_are_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    file.write_text("[" * 10_000, "utf-8")
    with pytest.raises(ValueError, match=TOO_DEEP):
        read_json(file, Weights)
    with pytest.raises(ValueError, match=TOO_DEEP):
        parse_json(file.read_bytes())
    assert parse_json("[1]") == [1]
