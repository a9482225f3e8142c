"""Simulated shoppers in front of a real server: sends their queries, fills pages with the hits, reports the events.

The hits pass the ranking steps of the simulated engine (`rerank`), the same for every arm, which also remove items that
are not on sale. Or they are shown as they come, as the server's own exploring and interleaving arranged them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import msgspec
import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64

from mmse.client import AsyncClient
from mmse.core.progress import Progress, silent
from mmse.lab.simulated_test.online_shop import OnlineShop
from mmse.lab.simulated_test.server_process import Server
from mmse.lab.simulator.behaviour import Actions, act, examination
from mmse.lab.simulator.engine import Pages
from mmse.schema import http, http_events
from mmse.schema.search import Channel
from mmse.text.bm25 import Bm25Hits

_PARALLEL_REQUESTS = 16
_CHUNK_REQUESTS = 1_024
_TIMEOUT_S = 60.0
NO_ARM = ""
"""The arm of requests that are in no experiment."""

ShopEvent = http_events.Exposure | http_events.Click | http_events.Order


@dataclass(frozen=True)
class Display:
    """How hits become pages.

    With `rerank` the engine's own steps rank `candidates` hits and fill the share `exploration` of slots at random.
    `version` names a version or arm, so that the requests are in no experiment; `channel` is one of its channels.
    With `silent` no events are sent to the server.
    """

    candidates: int = 100
    rerank: bool = True
    exploration: float = 0.0
    version: str | None = None
    channel: Channel = "hybrid"
    silent: bool = False
    seed: int = 0

    def depth(self, shop: OnlineShop) -> int:
        """How many hits a request asks for."""
        return self.candidates if self.rerank else shop.behaviour.page_size


@dataclass(frozen=True)
class Traffic:
    """The result of requests: `rows` of the shop's requests, their arms, their pages, the clicks and orders by slot.

    `clicks` and `orders` are the expected numbers per page by the truth, before any draw.
    """

    rows: Int64[np.ndarray, " n"]
    arms: np.ndarray
    pages: Int32[np.ndarray, "n page"]
    clicked: np.ndarray
    ordered: np.ndarray
    clicks: Float64[np.ndarray, " n"]
    orders: Float64[np.ndarray, " n"]

    def select(self, mask: Bool[np.ndarray, " n"]) -> Traffic:
        """The requests for which `mask` is true."""
        return Traffic(*(getattr(self, field.name)[mask] for field in fields(self)))


@dataclass(frozen=True)
class _Reply:
    arm: str
    answer: http.SearchAnswer


def simulate_traffic(
    shop: OnlineShop, server: Server, rows: Int64[np.ndarray, " n"], display: Display, progress: Progress = silent
) -> Traffic:
    """Simulates the requests `rows` of `shop` in order of time; sends their exposures, clicks and orders."""
    parts = list(asyncio.run(_simulate_parts(shop, server, rows, display, progress)))
    return Traffic(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Traffic)))


async def _simulate_parts(
    shop: OnlineShop, server: Server, rows: Int64[np.ndarray, " n"], display: Display, progress: Progress
) -> Sequence[Traffic]:
    parts = []
    item_rows = {item_id: row for row, item_id in enumerate(shop.world.items["item_id"].to_pylist())}
    async with AsyncClient(server.url, token=server.token, timeout_s=_TIMEOUT_S) as client:
        for start in range(0, len(rows), _CHUNK_REQUESTS):
            chunk = rows[start : start + _CHUNK_REQUESTS]
            replies = await _search(client, shop, chunk, display)
            traffic, events = _show_pages(shop, chunk, replies, item_rows, display)
            for i in range(0, 0 if display.silent else len(events), http_events.MAX_EVENTS):
                await client.send_events(events[i : i + http_events.MAX_EVENTS])
            parts.append(traffic)
            progress("shoppers", start + len(chunk), len(rows))
    return parts


async def _search(
    client: AsyncClient, shop: OnlineShop, rows: Int64[np.ndarray, " n"], display: Display
) -> list[_Reply]:
    limit = asyncio.Semaphore(_PARALLEL_REQUESTS)
    requests = shop.world.requests

    async def search(row: int) -> _Reply:
        async with limit:
            answer = await client.search(
                shop.world.texts[requests.text[row]],
                display.depth(shop),
                user_id=user_id_of(int(requests.shopper[row])),
                version=display.version,
                channel=display.channel,
            )
        return _Reply((answer.arm or NO_ARM) if answer.assignments else NO_ARM, answer)

    return list(await asyncio.gather(*(search(row) for row in rows.tolist())))


def _show_pages(
    shop: OnlineShop,
    rows: Int64[np.ndarray, " n"],
    replies: Sequence[_Reply],
    item_rows: dict[str, int],
    display: Display,
) -> tuple[Traffic, list[ShopEvent]]:
    requests, behaviour = shop.world.requests, shop.behaviour
    intents, states, time = requests.intent[rows], requests.state[rows], requests.time[rows]
    rng = np.random.default_rng([shop.config.market.seed, display.seed, int(rows[0])])
    candidates = _candidates(replies, item_rows, display.depth(shop))
    pages = _pages(shop, candidates, intents, states, time, display, rng)
    actions = act(shop.preferences, behaviour, pages, intents, states, rng)
    clicks, orders = expected_actions(shop, pages.items, intents, states)
    arms = np.array([reply.arm for reply in replies])
    traffic = Traffic(rows, arms, pages.items, actions.clicked, actions.ordered, clicks, orders)
    return traffic, list(_events(shop, rows, replies, pages, actions))


def _candidates(replies: Sequence[_Reply], item_rows: dict[str, int], depth: int) -> Bm25Hits:
    rows = np.full((len(replies), depth), -1, np.int32)
    scores = np.zeros((len(replies), depth), np.float32)
    for i, reply in enumerate(replies):
        hits = reply.answer.hits
        rows[i, : len(hits)] = [item_rows[hit.item_id] for hit in hits]
        scores[i, : len(hits)] = _scores(hits)
    return Bm25Hits(rows, scores)


def _scores(hits: Sequence[http.SearchHit]) -> list[float]:
    """The scores of hits; by rank where they are interleaved, or a list whose scores fall slowly would win by that."""
    return [hit.score if hit.team is msgspec.UNSET else 1 - i / len(hits) for i, hit in enumerate(hits)]


def expected_actions(
    shop: OnlineShop,
    items: Int32[np.ndarray, "n page"],
    intents: Int[np.ndarray, " n"],
    shoppers: Int[np.ndarray, " n"],
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """The expected clicks and orders of each page by the truth."""
    odds = shop.preferences.log_odds(intents[:, None], shoppers[:, None], np.maximum(items, 0))
    click, order = shop.preferences.chances(odds)
    clicks = np.where(items >= 0, examination(shop.behaviour) * click, 0.0)
    return clicks.sum(axis=1), (clicks * order).sum(axis=1)


def _pages(
    shop: OnlineShop,
    candidates: Bm25Hits,
    intents: Int32[np.ndarray, " n"],
    shoppers: Int32[np.ndarray, " n"],
    time: Float64[np.ndarray, " n"],
    display: Display,
    rng: np.random.Generator,
) -> Pages:
    """The pages that show the `candidates`."""
    if display.rerank:
        engine = replace(shop.world.engine, exploration=display.exploration)
        return engine.make_pages(candidates, intents, shoppers, time, rng)
    items = candidates.rows[:, : shop.behaviour.page_size]
    return Pages(items, np.zeros(items.shape, bool), np.empty((len(items), 0), np.int32))


def _events(
    shop: OnlineShop, rows: Int64[np.ndarray, " n"], replies: Sequence[_Reply], pages: Pages, actions: Actions
) -> Iterator[ShopEvent]:
    """The events that the shop sends to the server for these requests; prices are those of the items."""
    requests, items = shop.world.requests, shop.world.items
    ids, prices = items["item_id"].to_pylist(), items["price"].to_pylist()
    for i, (row, reply) in enumerate(zip(rows.tolist(), replies, strict=True)):
        has_item = pages.items[i] >= 0
        page = pages.items[i][has_item].tolist()
        if not page:
            continue
        answer, timestamp = reply.answer, shop.timestamp(float(requests.time[row]))
        hit_of = {hit.item_id: hit for hit in answer.hits}
        hits = [hit_of.get(ids[item]) for item in page]
        slots = _interleaved_slots(hits)
        is_random = pages.explored[i][has_item] | np.array([hit is not None and hit.explored is True for hit in hits])
        yield http_events.Exposure(
            request_id=answer.request_id,
            query=shop.world.texts[requests.text[row]],
            items=[ids[item] for item in page],
            user_id=user_id_of(int(requests.shopper[row])),
            version=answer.version,
            timestamp=timestamp,
            arm=answer.arm if answer.assignments else None,
            assignments=answer.assignments,
            explored=np.flatnonzero(is_random).tolist(),
            propensities=_propensities(hits),
            teams=[team for team, _, _ in slots] or None,
            ranks_a=[rank for _, rank, _ in slots] or None,
            ranks_b=[rank for _, _, rank in slots] or None,
        )
        for slot, item in enumerate(page):
            if actions.clicked[i, slot]:
                yield http_events.Click(request_id=answer.request_id, item_id=ids[item], timestamp=timestamp)
            if actions.ordered[i, slot]:
                yield http_events.Order(
                    request_id=answer.request_id, item_id=ids[item], price=prices[item], timestamp=timestamp
                )


def _propensities(hits: Sequence[http.SearchHit | None]) -> list[float | None] | None:
    """The chances that the server's exploring gave the shown items; None where it gave none."""
    chances = [None if hit is None or hit.propensity is msgspec.UNSET else hit.propensity for hit in hits]
    return chances if any(chance is not None for chance in chances) else None


_InterleavedSlot = tuple[http.Team | None, int | None, int | None]


def _interleaved_slots(hits: Sequence[http.SearchHit | None]) -> list[_InterleavedSlot]:
    """Team and both ranks of the shown items; empty where no two rankings were interleaved."""
    slots: list[_InterleavedSlot] = [
        (None, None, None)
        if hit is None or hit.team is msgspec.UNSET
        else (hit.team, hit.rank_a or None, hit.rank_b or None)
        for hit in hits
    ]
    return slots if any(team for team, _, _ in slots) else []


def user_id_of(shopper: int) -> str:
    """The user_id of a shopper in the simulated log."""
    return f"u{shopper:09d}"
