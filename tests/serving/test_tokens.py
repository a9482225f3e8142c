"""Tokens with scopes: what a file of them may hold, and what each lets its holder do while the file changes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from litestar.testing import TestClient

from mmse.core.errors import UsageError
from mmse.schema.http import Health, SearchAnswer
from mmse.serving.config import ServeConfig
from mmse.serving.tokens import SCOPES, Tokens, parse_tokens, read_tokens
from serving.conftest import worker
from serving.test_api import check_error, decode

SEARCH, ITEMS, ALL = "search-" + "s" * 16, "items-" + "i" * 16, "all-" + "a" * 16
FILE = f"# who may what\n\nsearch {SEARCH}\nitems,events\t{ITEMS}\n"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_single_word_is_the_token_for_everything_and_searches_are_open() -> None:
    table = parse_tokens(f"# comment\n  {ALL}  \n".encode())
    assert table.scopes_of(ALL.encode()) == frozenset(SCOPES)
    assert table.scopes_of(b"x" * 20) is None
    assert not table.guards_search


def test_lines_have_scopes_and_a_token() -> None:
    table = parse_tokens(FILE.encode())
    assert table.scopes_of(SEARCH.encode()) == frozenset({"search"})
    assert table.scopes_of(ITEMS.encode()) == frozenset({"items", "events"})
    assert table.guards_search
    assert not parse_tokens(f"items {ITEMS}\n".encode()).guards_search
    assert SEARCH not in repr(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no token"),
        (b"# only\n\n", "no token"),
        (b"secret", "Line 1 .* 6 characters, expected 16"),
        (f"{SEARCH}\n{ITEMS}".encode(), "Line 1 .* found 1 words"),
        (f"search {SEARCH}\n\nserach {ITEMS}".encode(), "Line 3 .* no list of scopes"),
        (f"{SEARCH} search".encode(), "Line 1 .* no list of scopes"),
        (f"search {SEARCH} # shop".encode(), "Line 1 .* found 4 words"),
        (f"search {SEARCH}\nitems {SEARCH}".encode(), "Line 2 .* same token as line 1"),
        (f"search {SEARCH}\nitems \xff".encode("latin-1"), "Line 2 .* UTF-8"),
    ],
)
def test_a_file_that_is_wrong_is_said_by_line_and_shows_no_token(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(UsageError, match=message) as failure:
        read_tokens(tmp_path / "tokens")
    assert str(tmp_path / "tokens") in failure.value.cause
    assert not any(token in str(failure.value) for token in (SEARCH, ITEMS, "serach", "secret"))


def test_tokens_change_with_their_file_and_hold_where_it_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    file.write_text(FILE)
    tokens = Tokens(None, file, look_every_s=0.0)
    file.write_text(f"search {ALL}\n")
    table = tokens.table()
    assert table is not None
    assert table.scopes_of(SEARCH.encode()) is None
    assert table.scopes_of(ALL.encode()) == frozenset({"search"})
    file.write_text(f"search {SEARCH}\nwrong {ITEMS}")
    assert tokens.table() is tokens.table() is table
    assert "Line 2" in tokens.problem
    assert len(caplog.records) == 1, "once, and not for every request"
    assert ITEMS not in caplog.text
    file.unlink()
    assert tokens.table() is table
    assert "No such file" in tokens.problem
    file.write_text(ITEMS)
    table = tokens.table()
    assert table is not None
    assert table.scopes_of(ITEMS.encode()) == frozenset(SCOPES)
    assert tokens.problem == ""


def test_a_worker_that_starts_with_a_wrong_file_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("short")
    tokens = Tokens(None, tmp_path / "tokens", look_every_s=0.0)
    table = tokens.table()
    assert table is not None
    assert table.guards_search
    assert "Line 1" in tokens.problem


def test_each_route_wants_its_scope(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(FILE)
    with worker(ServeConfig(site, token_file=file, look_every_s=0.0)) as service:
        check_error(service.post("/v1/search", json={"query": "a"}), 401, "unauthorised")
        message = check_error(service.post("/v1/search", json={"query": "a"}, headers=bearer(ITEMS)), 403, "forbidden")
        assert "is for events, items; the route needs one for search" in message
        decode(service.post("/v1/search", json={"query": "a"}, headers=bearer(SEARCH)), SearchAnswer)
        assert service.get("/v1/search?q=a", headers=bearer(SEARCH)).status_code == 200
        for path in (
            "/v1/search?q=a",
            "/v1/suggest?q=a",
            "/v1/catalogue",
            "/v1/map",
            "/v1/versions",
            "/v1/experiments",
        ):
            check_error(service.get(path), 401, "unauthorised")
        for path in ("/v1/search/batch", "/v1/embed", "/v1/assignments"):
            check_error(service.post(path, json={}), 401, "unauthorised")
        check_error(service.get("/v1/items/none", headers=bearer(ITEMS)), 404, "not_found")
        for path in ("/v1/health", "/v1/health/ready", "/v1/health/live", "/metrics", "/openapi.json", "/"):
            assert service.get(path).status_code == 200
        lamp = {"title": "Lamp"}
        check_error(service.put("/v1/items/z", json=lamp, headers=bearer(SEARCH)), 403, "forbidden")
        assert service.put("/v1/items/z", json=lamp, headers=bearer(ITEMS)).status_code == 200
        click = {"events": [{"type": "click", "request_id": "r", "item_id": "z"}]}
        assert service.post("/v1/events", json=click, headers=bearer(ITEMS)).status_code == 202
        check_error(
            service.post("/v1/versions/live", json={"version": "0001"}, headers=bearer(ITEMS)), 403, "forbidden"
        )
        check_error(service.post("/v1/versions/live", json={"version": "0001"}), 401, "unauthorised")


def test_tokens_are_rotated_while_it_serves(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(FILE)
    with worker(ServeConfig(site, token_file=file, look_every_s=0.01)) as service:
        file.write_text(f"search {ALL}\n")
        assert answers_in_time(service, ALL)
        check_error(service.get("/v1/search?q=a", headers=bearer(SEARCH)), 401, "unauthorised")
        file.write_text("oops")
        time.sleep(0.02)
        (problem,) = decode(service.get("/v1/health"), Health).problems
        assert answers_in_time(service, ALL)
        assert "Line 1 of the tokens" in problem
        assert str(file) not in problem


def answers_in_time(service: TestClient, token: str) -> bool:  # type: ignore[type-arg]
    """Whether a search with `token` is answered within a second."""
    deadline_s = time.monotonic() + 1
    while time.monotonic() < deadline_s:
        if service.get("/v1/search?q=a", headers=bearer(token)).status_code == 200:
            return True
    return False


def test_the_description_says_who_may_what(service: TestClient) -> None:  # type: ignore[type-arg]
    paths = service.get("/openapi.json").json()["paths"]
    assert paths["/v1/search"]["post"]["security"] == [{}, {"token": ["search"]}]
    assert paths["/v1/items"]["post"]["security"] == [{"token": ["items"]}]
    assert paths["/v1/versions/live"]["post"]["security"] == [{"token": ["admin"]}]
    assert {"401", "403"} <= paths["/v1/suggest"]["get"]["responses"].keys()
    assert "security" not in paths["/v1/health"]["get"]
