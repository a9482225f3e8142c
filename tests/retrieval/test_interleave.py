"""Interleaving: both lists have their say, and neither gains from clicks at random."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mmse.retrieval.interleave import Method, interleave

RANKING = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)
METHOD = st.sampled_from(["team_draft", "balanced"])


@given(RANKING, RANKING, st.integers(1, 12), METHOD, st.text(max_size=5))
def test_every_item_once_and_the_head_of_both(a: list[str], b: list[str], k: int, method: Method, seed: str) -> None:
    interleaved_items = interleave(a, b, k, method, seed)
    items = [item.item_id for item in interleaved_items]
    assert len(items) == len(set(items)) == min(k, len({*a, *b}))
    assert interleaved_items == interleave(a, b, k, method, seed)
    for item in interleaved_items:
        assert item.rank_a == (a.index(item.item_id) + 1 if item.item_id in a else None)
        assert item.rank_b == (b.index(item.item_id) + 1 if item.item_id in b else None)
        assert item.item_id in (a if item.team == "a" else b)
    for length in range(len(items) + 1):  # any page end has the heads of both lists, and of each in its order
        head = items[:length]
        heads = [next((n for n, item in enumerate(ranking) if item not in head), len(ranking)) for ranking in (a, b)]
        assert set(head) == {*a[: heads[0]], *b[: heads[1]]} or method == "team_draft"
        assert all(item in {*a[: heads[0]], *b[: heads[1]]} for item in head)


@given(RANKING, RANKING, st.text(max_size=5))
def test_teams_are_of_one_size_while_both_have_items(a: list[str], b: list[str], seed: str) -> None:
    interleaved_items = interleave(a, b, min(len(a), len(b)), "team_draft", seed)
    teams = Counter(item.team for item in interleaved_items)
    assert abs(teams["a"] - teams["b"]) <= 1


def test_clicks_at_random_prefer_neither_list() -> None:
    a, b = list("abcdef"), list("gbhaci")
    for slot in range(4):
        credit = Counter(interleave(a, b, 4, "team_draft", str(seed))[slot].team for seed in range(4_000))
        assert abs(credit["a"] - credit["b"]) < 5 * 4_000**0.5


def test_the_lists_by_hand() -> None:
    assert {tuple(item.item_id for item in interleave("ab", "bc", 3, "balanced", str(s))) for s in range(20)} == {
        ("a", "b", "c"),
        ("b", "a", "c"),
    }
    drafts = {tuple((o.item_id, o.team) for o in interleave("ab", "bc", 3, "team_draft", str(s))) for s in range(60)}
    assert drafts == {(("a", "a"), ("b", "b"), ("c", "b")), (("b", "b"), ("a", "a"), ("c", "b"))}
