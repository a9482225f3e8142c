"""The shop's front: puts shoppers' queries to the server, makes pages of its answers, and tells it what came of them.

What the server finds passes the ranking stages of the simulated engine (`ranked`), the same for every arm, which leave
out what is not on sale; or it is shown as it comes, as the server's own exploring and interleaving made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import msgspec
import numpy as np
from jaxtyping import Float64, Int, Int32, Int64

from mmse.client import AsyncClient
from mmse.lab.simulated_test.process import Server
from mmse.lab.simulated_test.world import Shop
from mmse.lab.simulator.behaviour import Actions, act, examination
from mmse.lab.simulator.engine import Pages
from mmse.schema import http as api
from mmse.schema.search import Channel
from mmse.text.bm25 import Ranking

_AT_ONCE = 16
_CHUNK = 1_024
_TIMEOUT_S = 60.0
OUTSIDE = ""
"""The arm of whoever is in no experiment."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Display:
    """How answers become pages: `candidates` are `ranked` by the engine's own stages, which explore a share of slots.

    `version` asks for a version or arm by name, so that its shoppers are in no experiment; `channel` for one of its
    channels. Nothing is told to the server where it is `silent`.
    """

    candidates: int = 100
    ranked: bool = True
    exploration: float = 0.0
    version: str | None = None
    channel: Channel = "hybrid"
    silent: bool = False
    seed: int = 0

    def depth(self, shop: Shop) -> int:
        """How many hits are asked for."""
        return self.candidates if self.ranked else shop.behaviour.page_size


@dataclass(frozen=True)
class Traffic:
    """What came of requests: `rows` of the shop's requests, the arm each was in, its page, and what was done there.

    `clicks` and `orders` are the numbers to be expected of the page by the truth, before any chance.
    """

    rows: Int64[np.ndarray, " n"]
    arms: np.ndarray
    pages: Int32[np.ndarray, "n page"]
    clicked: np.ndarray
    ordered: np.ndarray
    clicks: Float64[np.ndarray, " n"]
    orders: Float64[np.ndarray, " n"]

    def of(self, kept: np.ndarray) -> Traffic:
        """Some of the requests."""
        return Traffic(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True)
class _Answered:
    request_id: str
    arm: str
    answer: api.SearchAnswer


def visit(
    shop: Shop, server: Server, rows: Int64[np.ndarray, " n"], display: Display, progress: Progress | None = None
) -> Traffic:
    """Lets the requests `rows` of `shop` happen, in order of time; exposures, clicks and orders go to the server."""
    parts = list(asyncio.run(_visit(shop, server, rows, display, progress or (lambda done, total: None))))
    return Traffic(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Traffic)))


async def _visit(
    shop: Shop, server: Server, rows: Int64[np.ndarray, " n"], display: Display, progress: Progress
) -> Sequence[Traffic]:
    done = []
    place = {item_id: row for row, item_id in enumerate(shop.world.items["item_id"].to_pylist())}
    async with AsyncClient(server.url, token=server.token, timeout_s=_TIMEOUT_S) as client:
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            answered = await _answers(client, shop, some, display)
            traffic, events = _shown(shop, some, answered, place, display)
            for begin in range(0, 0 if display.silent else len(events), api.MAX_EVENTS):
                await client.send_events(events[begin : begin + api.MAX_EVENTS])
            done.append(traffic)
            progress(start + len(some), len(rows))
    return done


async def _answers(client: AsyncClient, shop: Shop, rows: Int64[np.ndarray, " n"], display: Display) -> list[_Answered]:
    room = asyncio.Semaphore(_AT_ONCE)
    asked = shop.world.requests

    async def ask(row: int) -> _Answered:
        async with room:
            answer = await client.search(
                shop.world.texts[asked.text[row]],
                display.depth(shop),
                user_id=user_of(int(asked.shopper[row])),
                version=display.version,
                channel=display.channel,
            )
        return _Answered(answer.request_id, (answer.arm or OUTSIDE) if answer.assignments else OUTSIDE, answer)

    return list(await asyncio.gather(*(ask(row) for row in rows.tolist())))


def _shown(
    shop: Shop, rows: Int64[np.ndarray, " n"], answered: Sequence[_Answered], place: dict[str, int], display: Display
) -> tuple[Traffic, list[api.Exposure | api.Click | api.Order]]:
    asked, behaviour = shop.world.requests, shop.behaviour
    intents, shoppers, time = asked.intent[rows], asked.shopper[rows], asked.time[rows]
    rng = np.random.default_rng([shop.config.market.seed, display.seed, int(rows[0])])
    found = _found(answered, place, display.depth(shop))
    pages = _pages(shop, found, intents, shoppers, time, display, rng)
    actions = act(shop.preferences, behaviour, pages, intents, shoppers, rng)
    clicks, orders = expected(shop, pages.items, intents, shoppers)
    arms = np.array([one.arm for one in answered])
    traffic = Traffic(rows, arms, pages.items, actions.clicked, actions.ordered, clicks, orders)
    return traffic, list(_events(shop, rows, answered, pages, actions))


def _found(answered: Sequence[_Answered], place: dict[str, int], candidates: int) -> Ranking:
    rows = np.full((len(answered), candidates), -1, np.int32)
    scores = np.zeros((len(answered), candidates), np.float32)
    for number, one in enumerate(answered):
        hits = one.answer.hits
        rows[number, : len(hits)] = [place[hit.item_id] for hit in hits]
        scores[number, : len(hits)] = _scores(hits)
    return Ranking(rows, scores)


def _scores(hits: Sequence[api.FoundItem]) -> list[float]:
    """The scores of hits; of two lists in one, by place: a list whose scores fall slowly must not win by that alone."""
    return [hit.score if hit.team is msgspec.UNSET else 1 - place / len(hits) for place, hit in enumerate(hits)]


def expected(
    shop: Shop, items: Int32[np.ndarray, "n page"], intents: Int[np.ndarray, " n"], shoppers: Int[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Clicks and orders to be expected of each page by the truth."""
    odds = shop.preferences.log_odds(intents[:, None], shoppers[:, None], np.maximum(items, 0))
    click, order = shop.preferences.chances(odds)
    clicks = np.where(items >= 0, examination(shop.behaviour) * click, 0.0)
    return clicks.sum(axis=1), (clicks * order).sum(axis=1)


def _pages(
    shop: Shop,
    found: Ranking,
    intents: Int32[np.ndarray, " n"],
    shoppers: Int32[np.ndarray, " n"],
    time: Float64[np.ndarray, " n"],
    display: Display,
    rng: np.random.Generator,
) -> Pages:
    """What is shown of what was found."""
    if display.ranked:
        engine = replace(shop.world.engine, exploration=display.exploration)
        return engine.pages(found, intents, shoppers, time, rng)
    items = found.rows[:, : shop.behaviour.page_size]
    return Pages(items, np.zeros(items.shape, bool), np.empty((len(items), 0), np.int32))


def _events(
    shop: Shop, rows: Int64[np.ndarray, " n"], answered: Sequence[_Answered], pages: Pages, actions: Actions
) -> Iterator[api.Exposure | api.Click | api.Order]:
    """What the shop tells the server of these requests; prices are those of the items."""
    asked, items = shop.world.requests, shop.world.items
    ids, prices = items["item_id"].to_pylist(), items["price"].to_pylist()
    for number, (row, one) in enumerate(zip(rows.tolist(), answered, strict=True)):
        there = pages.items[number] >= 0
        shown = pages.items[number][there].tolist()
        if not shown:
            continue
        answer, at = one.answer, shop.moment(float(asked.time[row]))
        marks = {hit.item_id: hit for hit in answer.hits}
        seen = [marks.get(ids[item]) for item in shown]
        drawn = _drawn(seen)
        at_random = pages.explored[number][there] | np.array([hit is not None and hit.explored is True for hit in seen])
        yield api.Exposure(
            request_id=answer.request_id,
            query=shop.world.texts[asked.text[row]],
            items=[ids[i] for i in shown],
            user_id=user_of(int(asked.shopper[row])),
            version=answer.version,
            timestamp=at,
            arm=answer.arm if answer.assignments else None,
            assignments=answer.assignments,
            explored=np.flatnonzero(at_random).tolist(),
            propensities=_propensities(seen),
            teams=[team for team, _, _ in drawn] or None,
            ranks_a=[rank for _, rank, _ in drawn] or None,
            ranks_b=[rank for _, _, rank in drawn] or None,
        )
        for slot, item in enumerate(shown):
            if actions.clicked[number, slot]:
                yield api.Click(request_id=answer.request_id, item_id=ids[item], timestamp=at)
            if actions.ordered[number, slot]:
                yield api.Order(request_id=answer.request_id, item_id=ids[item], price=prices[item], timestamp=at)


def _propensities(hits: Sequence[api.FoundItem | None]) -> list[float | None] | None:
    """The chances that the server's own exploring gave the items that were shown."""
    known = [None if hit is None or hit.propensity is msgspec.UNSET else hit.propensity for hit in hits]
    return known if any(chance is not None for chance in known) else None


_Drawn = tuple[api.Team | None, int | None, int | None]


def _drawn(hits: Sequence[api.FoundItem | None]) -> list[_Drawn]:
    """Team and ranks of the items that were shown; empty where no two rankings were interleaved."""
    known: list[_Drawn] = [
        (None, None, None)
        if hit is None or hit.team is msgspec.UNSET
        else (hit.team, hit.rank_a or None, hit.rank_b or None)
        for hit in hits
    ]
    return known if any(team for team, _, _ in known) else []


def user_of(shopper: int) -> str:
    """The user_id that the simulated log gives a shopper."""
    return f"u{shopper:09d}"
