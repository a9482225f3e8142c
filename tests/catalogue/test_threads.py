"""Many threads edit and search at once, while edits are folded: every search sees one moment, no edit is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from catalogue.live_shop import BOOSTS, copy_run
from catalogue.plain_model import applied, check, read_items
from mmse.catalogue import Catalogue, Change, Delete, Edit, LiveConfig, Upsert
from mmse.catalogue.edits import id_of
from mmse.core.errors import UsageError
from mmse.model.encoder import Encoder
from mmse.schema.filters import parse_filter

WORDS = ("zorbak", "fimtul", "quevo", "yandle")
THREADS, CALLS = 4, 16
SHARED = [f"shared{n}" for n in range(6)]


def script(worker: int) -> list[list[Edit]]:
    """The calls of one thread: on items of its own, and on some that all share."""
    rng = np.random.default_rng([7, worker])
    own = [f"w{worker}-{n}" for n in range(8)] + [f"i{8 * worker + n:08d}" for n in range(8)]
    calls: list[list[Edit]] = []
    for _ in range(CALLS):
        call: list[Edit] = []
        for item_id in [*rng.choice(own, rng.integers(1, 4), replace=False).tolist(), str(rng.choice(SHARED))]:
            if rng.random() < 0.3:
                call.append(Delete(item_id, missing_ok=True))
            else:
                title = " ".join(rng.choice(WORDS, 2).tolist())
                brand = str(rng.choice(["zorbak", "other"]))
                call.append(Upsert({"item_id": item_id, "title": title, "brand": brand, "price": float(worker)}))
        calls.append(call)
    return calls


def look(catalogue: Catalogue, stop: threading.Event, seen: list[int]) -> None:
    """Searches until told to stop: in one snapshot both channels know the same items, and versions only grow."""
    while not stop.is_set():
        now = catalogue.snapshot()
        seen.append(now.version)
        only = parse_filter({"brand": "zorbak"}, now.kinds)
        mask = now.mask(only)
        assert mask is not None
        allowed = set(np.flatnonzero(mask).tolist())
        some = now.vectors(np.array([3]))
        near = now.search_vectors(some, 20, only).ids[0]
        assert set(near[near >= 0].tolist()) <= allowed
        assert (near >= 0).sum() == min(20, len(allowed))
        matched = now.lexical.search(now.lexical.ask("zorbak fimtul quevo yandle", BOOSTS), 1000, only).rows
        assert set(matched.tolist()) <= allowed
        assert now.alive(matched).all()
        named = {row for row in allowed if set(now.values("title", np.array([row]))[0].split()) & set(WORDS)}
        assert set(matched.tolist()) == named


def test_no_edit_is_lost_among_threads(ivf_run: Path, tmp_path: Path, encoder: Encoder) -> None:
    run = copy_run(ivf_run, tmp_path / "run")
    config = LiveConfig(fold_rows=20, fold_share=0.0)
    done: list[tuple[int, int, list[Edit]]] = []
    failures: list[BaseException] = []
    stop = threading.Event()
    seen: list[list[int]] = [[], []]

    def guarded(work: object, *given: object) -> None:
        try:
            work(*given)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)
            stop.set()

    def edit(worker: int) -> None:
        for call in script(worker):
            version = catalogue.apply(call)
            now = catalogue.snapshot()
            assert now.version >= version
            own = [one for one in call if not one_of_shared(one)]
            there = (now.rows([id_of(one) for one in own]) >= 0).tolist()
            assert there == [isinstance(one, Upsert) for one in own], "an edit is seen as soon as it is acknowledged"
            done.append((version, worker, call))

    with Catalogue.open(run, writable=True, encoder=encoder, config=config) as catalogue:
        editors = [threading.Thread(target=guarded, args=(edit, worker)) for worker in range(THREADS)]
        lookers = [threading.Thread(target=guarded, args=(look, catalogue, stop, one)) for one in seen]
        for thread in [*lookers, *editors]:
            thread.start()
        for thread in editors:
            thread.join()
        stop.set()
        for thread in lookers:
            thread.join()
        assert not failures, failures
        versions = [version for version, _, _ in sorted(done, key=lambda one: one[0])]
        assert versions == list(range(1, THREADS * CALLS + 1)), "every call has a version of its own"
        assert all(one == sorted(one) and one for one in seen)
        items = read_items(run)
        columns = list(items["i00000000"])
        for _, _, call in sorted(done, key=lambda one: one[0]):
            items = applied(items, call, columns)
        ever = {id_of(one) for _, _, call in done for one in call}
        check(catalogue.snapshot(), items, WORDS, gone=ever)
    assert [path for path in (run / "live").iterdir() if path.name.startswith("base-")], "edits were folded meanwhile"
    with Catalogue.open(run, encoder=encoder) as reader:
        assert reader.snapshot().version == THREADS * CALLS
        check(reader.snapshot(), items, WORDS, gone=ever)


def test_one_bad_call_among_those_committed_together_fails_alone(run: Path, encoder: Encoder) -> None:
    """Two calls wait while a third commits; the next commit takes both in, and each gets its own answer."""
    with Catalogue.open(run, writable=True, encoder=encoder) as catalogue:
        answers: dict[str, object] = {}

        def call(name: str, edit: Edit) -> None:
            try:
                answers[name] = catalogue.apply([edit])
            except UsageError as error:
                answers[name] = error.cause

        waiting = [
            threading.Thread(target=call, args=("good", Upsert({"item_id": "n1", "title": "t"}))),
            threading.Thread(target=call, args=("bad", Change("nobody", {"price": 1.0}))),
        ]
        with catalogue._commit:
            for thread in waiting:
                thread.start()
            while len(catalogue._waiting) < len(waiting):
                pass
        for thread in waiting:
            thread.join()
        assert answers == {"good": 1, "bad": "There is no item 'nobody' to change."}


def one_of_shared(edit: Edit) -> bool:
    return id_of(edit) in SHARED
