"""Many threads edit and search at once, while edits are folded: every search sees one moment, no edit is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from catalogue.live_runs import BOOSTS, copy_run
from catalogue.reference_model import apply_edits, check_snapshot, read_items
from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, LiveConfig, Upsert
from mmse.catalogue.edits import id_of
from mmse.core.errors import UsageError
from mmse.model.encoder import Encoder
from mmse.schema.filters import parse_filter

WORDS = ("zorbak", "fimtul", "quevo", "yandle")
THREADS, CALLS = 4, 16
SHARED_IDS = [f"shared{n}" for n in range(6)]


def worker_calls(worker: int) -> list[list[Edit]]:
    """The calls of one thread: on items of its own, and on some that all share."""
    rng = np.random.default_rng([7, worker])
    own = [f"w{worker}-{n}" for n in range(8)] + [f"i{8 * worker + n:08d}" for n in range(8)]
    calls: list[list[Edit]] = []
    for _ in range(CALLS):
        call: list[Edit] = []
        for item_id in [*rng.choice(own, rng.integers(1, 4), replace=False).tolist(), str(rng.choice(SHARED_IDS))]:
            if rng.random() < 0.3:
                call.append(Delete(item_id, missing_ok=True))
            else:
                title = " ".join(rng.choice(WORDS, 2).tolist())
                brand = str(rng.choice(["zorbak", "other"]))
                call.append(Upsert({"item_id": item_id, "title": title, "brand": brand, "price": float(worker)}))
        calls.append(call)
    return calls


def search_until(catalogue: LiveCatalogue, stop: threading.Event, versions: list[int]) -> None:
    """Searches until `stop` is set, and appends each version to `versions`; both channels of a snapshot agree."""
    while not stop.is_set():
        snapshot = catalogue.snapshot()
        versions.append(snapshot.version)
        filter = parse_filter({"brand": "zorbak"}, snapshot.kinds)
        mask = snapshot.mask(filter)
        assert mask is not None
        filter_rows = set(np.flatnonzero(mask).tolist())
        query = snapshot.vectors(np.array([3]))
        neighbours = snapshot.search_vectors(query, 20, filter).ids[0]
        assert set(neighbours[neighbours >= 0].tolist()) <= filter_rows
        assert (neighbours >= 0).sum() == min(20, len(filter_rows))
        lexical = snapshot.lexical
        matches = lexical.search(lexical.parse("zorbak fimtul quevo yandle", BOOSTS), 1000, filter).rows
        assert set(matches.tolist()) <= filter_rows
        assert snapshot.alive(matches).all()
        titles = {row: snapshot.values("title", np.array([row]))[0] for row in filter_rows}
        assert set(matches.tolist()) == {row for row, title in titles.items() if set(title.split()) & set(WORDS)}


def test_no_edit_is_lost_among_threads(ivf_run: Path, tmp_path: Path, encoder: Encoder) -> None:
    run = copy_run(ivf_run, tmp_path / "run")
    config = LiveConfig(fold_rows=20, fold_share=0.0)
    commits: list[tuple[int, int, list[Edit]]] = []
    failures: list[BaseException] = []
    stop = threading.Event()
    version_lists: list[list[int]] = [[], []]

    def run_guarded(work: object, *args: object) -> None:
        try:
            work(*args)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)
            stop.set()

    def apply_calls(worker: int) -> None:
        for call in worker_calls(worker):
            version = catalogue.apply(call)
            snapshot = catalogue.snapshot()
            assert snapshot.version >= version
            own_edits = [edit for edit in call if not is_shared(edit)]
            has_item = (snapshot.rows([id_of(edit) for edit in own_edits]) >= 0).tolist()
            assert has_item == [isinstance(edit, Upsert) for edit in own_edits], "an acknowledged edit is seen"
            commits.append((version, worker, call))

    with LiveCatalogue.open(run, writable=True, encoder=encoder, config=config) as catalogue:
        editors = [threading.Thread(target=run_guarded, args=(apply_calls, worker)) for worker in range(THREADS)]
        searchers = [
            threading.Thread(target=run_guarded, args=(search_until, catalogue, stop, versions))
            for versions in version_lists
        ]
        for thread in [*searchers, *editors]:
            thread.start()
        for thread in editors:
            thread.join()
        stop.set()
        for thread in searchers:
            thread.join()
        assert not failures, failures
        commits.sort(key=lambda commit: commit[0])
        versions = [version for version, _, _ in commits]
        assert versions == list(range(1, THREADS * CALLS + 1)), "every call has a version of its own"
        assert all(versions and versions == sorted(versions) for versions in version_lists)
        items = read_items(run)
        columns = list(items["i00000000"])
        for _, _, call in commits:
            items = apply_edits(items, call, columns)
        edited_ids = {id_of(edit) for _, _, call in commits for edit in call}
        check_snapshot(catalogue.snapshot(), items, WORDS, deleted_ids=edited_ids)
    assert [path for path in (run / "live").iterdir() if path.name.startswith("base-")], "edits were folded meanwhile"
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        assert reader.snapshot().version == THREADS * CALLS
        check_snapshot(reader.snapshot(), items, WORDS, deleted_ids=edited_ids)


def test_a_bad_call_in_a_shared_commit_fails_alone(run: Path, encoder: Encoder) -> None:
    """Two calls wait while a third commits; the next commit has both, and each gets its own answer."""
    with LiveCatalogue.open(run, writable=True, encoder=encoder) as catalogue:
        answers: dict[str, object] = {}

        def call(name: str, edit: Edit) -> None:
            try:
                answers[name] = catalogue.apply([edit])
            except UsageError as error:
                answers[name] = error.cause

        threads = [
            threading.Thread(target=call, args=("good", Upsert({"item_id": "n1", "title": "t"}))),
            threading.Thread(target=call, args=("bad", Change("nobody", {"price": 1.0}))),
        ]
        with catalogue._commit_lock:
            for thread in threads:
                thread.start()
            while len(catalogue._queue) < len(threads):
                pass
        for thread in threads:
            thread.join()
        assert answers == {"good": 1, "bad": "There is no item 'nobody' to change."}


def is_shared(edit: Edit) -> bool:
    return id_of(edit) in SHARED_IDS
