"""Two rankings in one list, so that each shopper compares them: team-draft and balanced interleaving.

Team-draft (Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008): in each
turn both lists add their best item that is not in the list yet, in an order that a coin decides; the item plays for the
list that added it. Balanced (Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002): the lists take
turns by depth, a coin decides once which list leads; a click is credited by the item's ranks in both lists.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["team_draft", "balanced"]
Team = Literal["a", "b"]


@dataclass(frozen=True)
class InterleavedItem:
    """An item of the interleaved list: the list that added it, and its rank in each, from 1 (None: not in it)."""

    item_id: str
    team: Team
    rank_a: int | None
    rank_b: int | None


def interleave(a: Sequence[str], b: Sequence[str], k: int, method: Method, seed: str) -> list[InterleavedItem]:
    """The first `k` of both rankings (item ids, each once, best first) in one list; the same `seed`, the same list."""
    coin = random.Random(seed)  # noqa: S311  a coin, not a secret
    lists: Mapping[Team, Sequence[str]] = {"a": a, "b": b}
    teams = _team_draft(lists, k, coin) if method == "team_draft" else _balanced(lists, k, coin)
    rank_a, rank_b = ({item: rank for rank, item in enumerate(ranking, 1)} for ranking in (a, b))
    return [InterleavedItem(item, team, rank_a.get(item), rank_b.get(item)) for item, team in teams.items()]


def _team_draft(lists: Mapping[Team, Sequence[str]], k: int, coin: random.Random) -> dict[str, Team]:
    team_of: dict[str, Team] = {}
    iterators = {team: iter(ranking) for team, ranking in lists.items()}
    while len(team_of) < k:
        n_items = len(team_of)
        turn: list[Team] = ["a", "b"] if coin.random() < 0.5 else ["b", "a"]
        for team in turn:
            item = next((item for item in iterators[team] if item not in team_of), None)
            if item is not None and len(team_of) < k:
                team_of[item] = team
        if len(team_of) == n_items:
            break
    return team_of


def _balanced(lists: Mapping[Team, Sequence[str]], k: int, coin: random.Random) -> dict[str, Team]:
    team_of: dict[str, Team] = {}
    leader: Team = "a" if coin.random() < 0.5 else "b"
    follower: Team = "b" if leader == "a" else "a"
    for depth in range(max(map(len, lists.values()))):
        for team in (leader, follower):
            if depth < len(lists[team]) and len(team_of) < k:
                team_of.setdefault(lists[team][depth], team)
    return team_of
