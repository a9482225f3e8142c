"""Two rankings in one list, so that each shopper compares them: team-draft and balanced interleaving.

Team-draft (Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008): in each
turn both lists, a coin says which first, add their best item that is not there yet, and it plays for that list.
Balanced (Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002): the lists take turns by depth, a
coin says once which leads; what is clicked is credited by its ranks in both.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["team_draft", "balanced"]
Team = Literal["a", "b"]


@dataclass(frozen=True)
class Drawn:
    """An item of the one list: the list that brought it, and its rank in each, from 1 (None: not in it)."""

    item_id: str
    team: Team
    rank_a: int | None
    rank_b: int | None


def interleave(a: Sequence[str], b: Sequence[str], k: int, method: Method, seed: str) -> list[Drawn]:
    """The first `k` of both rankings (item ids, each once, best first) in one list; the same `seed`, the same list."""
    coin = random.Random(seed)  # noqa: S311  a coin, not a secret
    lists: Mapping[Team, Sequence[str]] = {"a": a, "b": b}
    teams = _team_draft(lists, k, coin) if method == "team_draft" else _balanced(lists, k, coin)
    rank_a, rank_b = ({item: rank for rank, item in enumerate(one, 1)} for one in (a, b))
    return [Drawn(item, team, rank_a.get(item), rank_b.get(item)) for item, team in teams.items()]


def _team_draft(lists: Mapping[Team, Sequence[str]], k: int, coin: random.Random) -> dict[str, Team]:
    drawn: dict[str, Team] = {}
    left = {team: iter(one) for team, one in lists.items()}
    while len(drawn) < k:
        before = len(drawn)
        turn: list[Team] = ["a", "b"] if coin.random() < 0.5 else ["b", "a"]
        for team in turn:
            item = next((one for one in left[team] if one not in drawn), None)
            if item is not None and len(drawn) < k:
                drawn[item] = team
        if len(drawn) == before:
            break
    return drawn


def _balanced(lists: Mapping[Team, Sequence[str]], k: int, coin: random.Random) -> dict[str, Team]:
    drawn: dict[str, Team] = {}
    leader: Team = "a" if coin.random() < 0.5 else "b"
    other: Team = "b" if leader == "a" else "a"
    for depth in range(max(map(len, lists.values()))):
        for team in (leader, other):
            if depth < len(lists[team]) and len(drawn) < k:
                drawn.setdefault(lists[team][depth], team)
    return drawn
