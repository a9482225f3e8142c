"""Hashed ids: the same in Python and in SQL, and nothing of the salt in a text."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.core.errors import UsageError
from mmse.schema.user_ids import SALT_VARIABLE, UserSalt, hash_sql

SALT = UserSalt("a salt of tests: o'ne")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


def by_sql(texts: list[str | None]) -> list[object]:
    with duckdb.connect() as database:
        database.execute(f"SET VARIABLE {SALT_VARIABLE} = '{SALT.text.replace(chr(39), chr(39) * 2)}'")
        rows = database.execute(f"SELECT {hash_sql('x')} FROM (SELECT unnest(CAST($1 AS VARCHAR[])) AS x)", [texts])
        return [row[0] for row in rows.fetchall()]


@settings(deadline=None, max_examples=10)
@given(st.lists(TEXTS, min_size=1, max_size=50))
def test_sql_and_python_agree(texts: list[str | None]) -> None:
    assert by_sql(texts) == [SALT.hash_id(text) for text in texts]


def test_the_hash_is_fixed() -> None:
    assert UserSalt("0123456789abcdef").hash_id("u17") == "h_44780a62bdb1325e58f49c8033981098"
    assert SALT.hash_id("u17") != UserSalt("another salt of tests").hash_id("u17")


@pytest.mark.parametrize("text", [None, "", "h_" + "0" * 32, "h_" + "0" * 31, "h_" + "G" * 32, "h_" + "0" * 32 + "\n"])
def test_no_id_stays_none_and_a_hash_stays_itself(text: str | None) -> None:
    assert by_sql([text]) == [SALT.hash_id(text)]
    hashed = SALT.hash_id("u17")
    assert SALT.hash_id(hashed) == hashed


def test_a_salt_shows_itself_nowhere_and_may_not_be_short(tmp_path: Path) -> None:
    (tmp_path / "salt").write_text(f"{SALT.text}\n")
    assert UserSalt.read(tmp_path / "salt").fingerprint == SALT.fingerprint
    assert SALT.text not in repr(SALT) + hash_sql("x")
    (tmp_path / "salt").write_text("short")
    with pytest.raises(UsageError, match="5 characters, expected 16"):
        UserSalt.read(tmp_path / "salt")
    with pytest.raises(UsageError, match="Cannot read"):
        UserSalt.read(tmp_path / "none")
