"""The traffic of a soak: searches, edits, events and changes of the site, and what every answer has to be.

The catalogue that a client expects is what was acknowledged to it. An answer of the version and the state that took the
last edit, or of a later state, has to agree with it to the item; one of a former state may lag, for `LAG_S` at most.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from mmse.experiment.assignment import Arm, Experiment
from mmse.ranking.rulebook import Rulebook
from mmse.retrieval.retriever import Retriever
from mmse.schema.http import LIVE
from mmse.serving import experiments
from mmse.serving.events import retention
from mmse.serving.versions import publish as publishing
from mmse.serving.versions.site import Site, drop_arm, rollback

MARK, OTHER_MARK = "zorbak", "quevo"
"""Words that no item of the shop has: a search for one finds the items of the soak that have it, and no other."""
N_ITEMS, N_USERS = 300, 50
LAG_S = 3.0
QUERIES = ("drill", "red mug", "lamp", "garden chair", "shoes", "phone", "black shirt", "wireless speaker")
EXPERIMENT, CANDIDATE = "soak", "candidate"
KEEP_DAYS = 400.0
MAX_FAULTS = 50


@dataclass
class Tally:
    """How often each operation was done, what was wrong, and how long an answer lagged behind an edit."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_lag_s: float = 0.0
    search_s: list[float] = field(default_factory=list)

    def add_fault(self, text: str) -> None:
        """Counts a fault; the first of them are kept in words."""
        self.counts["faults"] += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{time.strftime('%H:%M:%S')} {text}")
            print(self.faults[-1], flush=True)


class Traffic:
    """One client over several connections, which does one thing after the other."""

    def __init__(self, url: str, token: str, seed: int) -> None:
        self.rng, self.tally = random.Random(seed), Tally()
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._clients = [self._connect() for _ in range(4)]
        self._items: dict[str, dict[str, Any] | None] = {}
        self._state, self._edited_at = ("", 0), 0.0
        self.arms: dict[str, str] = {}
        self.request_ids: list[str] = []
        self._works: dict[Callable[[], None], int] = {
            self._search: 50,
            self._search_shopper: 15,
            self._check_words: 6,
            self._check_filter: 6,
            self._check_item: 8,
            self._edit: 10,
            self._send_events: 8,
            self._ask_more: 4,
        }

    def turn(self) -> None:
        """Does one thing, by chance."""
        (work,) = self.rng.choices(list(self._works), list(self._works.values()))
        try:
            work()
        except httpx.TransportError as error:
            self.tally.add_fault(f"{work.__name__}: {type(error).__name__}: {error}")
        self.tally.counts[work.__name__.strip("_")] += 1
        if self.rng.random() < 0.01:
            client = self._clients.pop(0)
            client.close()
            self._clients.append(self._connect())

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            client.close()

    def _connect(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, headers=self._headers, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, *, admissible: tuple[int, ...] = ()) -> Any:  # noqa: ANN401
        """The answer, None for an admissible refusal; a fault for any other."""
        reply = self.rng.choice(self._clients).request(method, path, json=body)
        if reply.is_success:
            return reply.json()
        if reply.status_code not in admissible:
            self.tally.add_fault(f"{method} {path}: {reply.status_code} {reply.text[:200]}")
        return None

    def _ask_search(self, body: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        answer: dict[str, Any] | None = self.ask("POST", "/v1/search", body)
        self.tally.search_s.append(time.perf_counter() - start)
        return answer or {"hits": [], "version": "", "catalogue": -1}

    def _search(self) -> None:
        k = self.rng.choice((8, 24, 100))
        body: dict[str, Any] = {"query": self.rng.choice(QUERIES), "k": k, "shown": 5}
        if self.rng.random() < 0.3:
            body |= {"facets": ["brand", "price"], "explain": True}
        if self.rng.random() < 0.3:
            body |= {"filter": {"price": {"to": 60}}, "sort": "price"}
        hits = self._ask_search(body)["hits"]
        if not hits and "filter" not in body:
            self.tally.add_fault(f"no hit: {body}")
        if "filter" in body and any(hit["item"]["price"] is None or hit["item"]["price"] > 60 for hit in hits):
            self.tally.add_fault(f"a hit beside the filter: {body}")

    def _search_shopper(self) -> None:
        """A search of a shopper, who stays in one arm while an experiment runs."""
        user = f"soak-user{self.rng.randrange(N_USERS)}"
        answer = self._ask_search({"query": self.rng.choice(QUERIES), "k": 10, "user_id": user, "shown": 5})
        arm = answer.get("assignments", {}).get(EXPERIMENT)
        if arm and self.arms.setdefault(user, arm) != arm:
            self.tally.add_fault(f"{user} was in arm {self.arms[user]} and is in {arm}")

    def _edit(self) -> None:
        item_id = f"soak{self.rng.randrange(N_ITEMS)}"
        item, price = self._items.get(item_id), round(self.rng.uniform(1, 200), 2)
        kind = self.rng.random()
        if item is None or kind < 0.5:
            word = self.rng.choice((MARK, OTHER_MARK))
            values = {"title": f"{word} thing {self.rng.randrange(1000)}", "price": price}
            answer, new = self.ask("PUT", f"/v1/items/{item_id}", values), values
        elif kind < 0.8:
            answer, new = self.ask("PATCH", f"/v1/items/{item_id}", {"price": price}), {**item, "price": price}
        else:
            answer, new = self.ask("DELETE", f"/v1/items/{item_id}"), None
        if answer is not None:
            self._items[item_id] = new
            self._state, self._edited_at = (answer["version"], answer["catalogue"]), time.monotonic()

    def _check_item(self) -> None:
        item_id = f"soak{self.rng.randrange(N_ITEMS)}"

        def look() -> tuple[str, int, object]:
            answer = self.ask("GET", f"/v1/items/{item_id}", admissible=(404,))
            item = answer and {name: answer["item"][name] for name in ("title", "price")}
            return (answer["version"], answer["catalogue"], item) if answer else ("", -1, None)

        self._compare(look, lambda: self._items.get(item_id), item_id)

    def _check_words(self) -> None:
        """All items with a word, and no other."""
        word = self.rng.choice((MARK, OTHER_MARK))
        self._compare_search({"query": word}, lambda item: item["title"].startswith(word))

    def _check_filter(self) -> None:
        word, price = self.rng.choice((MARK, OTHER_MARK)), float(self.rng.randrange(5, 195))
        body = {"query": word, "filter": {"price": {"from": price, "to": price + 40}}}
        self._compare_search(body, lambda item: item["title"].startswith(word) and price <= item["price"] <= price + 40)

    def _compare_search(self, body: dict[str, Any], belongs: Callable[[dict[str, Any]], bool]) -> None:
        body |= {"k": 1_000, "channel": "lexical", "correct": False, "shown": 0, "version": LIVE}

        def look() -> tuple[str, int, object]:
            answer = self._ask_search(body)
            hits = {hit["item_id"]: hit["item"]["price"] for hit in answer["hits"]}
            return answer["version"], answer["catalogue"], hits

        def expect() -> dict[str, float]:
            return {item_id: item["price"] for item_id, item in self._items.items() if item and belongs(item)}

        self._compare(look, expect, str(body))

    def _compare(self, look: Callable[[], tuple[str, int, object]], expect: Callable[[], object], subject: str) -> None:
        """Compares what the server says with what is expected; a state before the last edit may differ for a while."""
        start = time.monotonic()
        while True:
            version, catalogue, actual = look()
            if actual == expect():
                break
            is_later = version == self._state[0] and catalogue >= self._state[1]
            lag_s = time.monotonic() - self._edited_at
            if is_later or time.monotonic() - start > LAG_S:
                self.tally.add_fault(f"{subject} is {actual}, expected {expect()}, after {lag_s:.2f} s")
                return
            self.tally.counts["answers of a former state"] += 1
            time.sleep(0.02)
        if time.monotonic() - start > 0.01:
            self.tally.slowest_lag_s = max(self.tally.slowest_lag_s, time.monotonic() - start)

    def _send_events(self) -> None:
        request_id = f"soak-{self.tally.counts['send_events']}"
        shown = {"type": "exposure", "request_id": request_id, "query": "drill", "items": ["i00000001", "i00000002"]}
        click = {"type": "click", "request_id": request_id, "item_id": "i00000002"}
        if self.ask("POST", "/v1/events", {"events": [shown, click]}):
            self.request_ids.append(request_id)

    def _ask_more(self) -> None:
        """What is asked beside searches, and what has to be refused."""
        self.ask("GET", f"/v1/suggest?q={self.rng.choice(QUERIES)[:3]}")
        self.ask("GET", "/v1/versions")
        self.ask("POST", "/v1/search/batch", {"searches": [{"query": query, "shown": 0} for query in QUERIES]})
        if problems := (self.ask("GET", "/v1/health") or {"problems": ["no health"]})["problems"]:
            self.tally.add_fault(f"health: {problems}")
        if self.ask("POST", "/v1/search", {"query": "", "k": 0}, admissible=(400,)):
            self.tally.add_fault("an empty query was answered")


def administer(site: Path, run: Path, tokens: Path, traffic: Traffic) -> Iterator[str]:
    """The changes of a site, round and round: gives the name of each once it is done."""
    token_text, number = tokens.read_text("ascii"), 0
    kinds = Retriever.open(run).kinds
    while True:
        number += 1
        publishing.publish(site, run, note=f"soak {number}")
        yield "publish"
        rollback(Site.open(site))
        yield "rollback"
        publishing.publish(site, run, arm=CANDIDATE)
        yield "publish a candidate"
        traffic.arms.clear()
        arms = {"a": Arm(), "b": Arm(serves=CANDIDATE), "c": Arm(channel="lexical")}
        experiments.start(Site.open(site), Experiment(EXPERIMENT, arms, traffic=0.5))
        yield "experiment start"
        experiments.ramp(Site.open(site), EXPERIMENT, 1.0)
        yield "experiment ramp"
        experiments.stop(Site.open(site), EXPERIMENT)
        yield "experiment stop"
        drop_arm(Site.open(site), CANDIDATE)
        yield "drop the candidate"
        rule = f'name = "r{number}"\nquery = "lamp"\nwhere = {{ price = {{ to = {number % 50 + 10} }} }}'
        Rulebook.open(site / "rules", kinds).publish(f"[[boost]]\n{rule}\nfactor = 1.2\n")
        yield "rules"
        tokens.write_text(f"{token_text}items former-token-number-{number:08}\n", "ascii")
        yield "tokens"
        publishing.prune(Site.open(site), 2)
        yield "prune versions"
        retention.prune(site / "events", KEEP_DAYS, datetime.now(UTC))
        yield "prune events"
