"""A short form of `benchmarks/fuzz_readers.py`, and files that it found."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_readers import execute, lost_tokens, read_all

from mmse.core.errors import TableError
from mmse.sources.duckdb_session import open_session

FOUND = {
    "a header that is no CSV": ("items.csv", b'"item_id";"title"0x1F\n"i0";"tok0x cup"\n', "is not valid CSV"),
    "a header with an open quote": ("items.csv", b'"item_id","title\n"i1","tok1x cup"\n', "is not valid CSV"),
    "a header with an open quote behind a blank": (
        "items.csv",
        b'item_id,title, "price\ni1,tok1x cup,1\ni2,tok2x cup,2"\ni3,tok3x cup,3\n',
        "is not valid CSV",
    ),
    "a header with two texts in quotes behind a blank": (
        "items.csv",
        b'item_id,title, "price"x"a"\ni1,tok1x cup\ni2,tok2x cup\n',
        "is not valid CSV",
    ),
    "a carriage return in the header": ("items.csv", b"item_id;title;price\r[i0;tok0x;9\r\ni1;tok1x;2\r\n", ""),
    "a gzip that is cut off": ("items.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "cannot be read"),
    "a key that comes twice": (
        "items.json",
        b'{"item_id": "1", "title": "tok0x", "title": "tok1x"},\n{"item_id": "2"}',
        "",
    ),
    "a key that comes twice in several lines": (
        "items.json",
        b'{\n"item_id": "1",\n"title": "tok0x",\n"title": "tok1x"}',
        "",
    ),
}


def test_mutated_files_give_rows_or_an_error_with_a_cure(tmp_path: Path) -> None:
    with open_session(memory_limit="500MB", threads=1) as session:
        outcomes = {execute(session, tmp_path, 9, number)[0] for number in range(60)}
    assert outcomes == {"rows", "refused"}


def test_a_page_of_parquet_that_claims_more_than_the_memory(tmp_path: Path) -> None:
    with open_session(memory_limit="500MB", threads=1) as session:
        outcome, name, _ = execute(session, tmp_path, 11, 1531)
        assert outcome == "refused"
        with pytest.raises(TableError, match=rf"{name}: Out of Memory") as caught:
            read_all(session, tmp_path / name)
    assert caught.value.cure is not None
    assert "A small file that takes so much is damaged" in caught.value.cure


@pytest.mark.parametrize("case", FOUND)
def test_what_the_fuzz_found(tmp_path: Path, case: str) -> None:
    name, content, finding = FOUND[case]
    (tmp_path / name).write_bytes(content)
    with open_session(memory_limit="500MB", threads=1) as session:
        if finding:
            with pytest.raises(TableError, match=finding):
                read_all(session, tmp_path / name)
        else:
            text, lines = read_all(session, tmp_path / name)
            assert lost_tokens(content, text, lines) == set()
