"""Edits show on both channels at once, are durable, seen by readers, refused if they do not fit, undone by failures."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalogue.live_runs import BOOSTS, STEP_FOLDERS
from catalogue.reference_model import Items, apply_edits, check_snapshot, read_items
from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, LiveConfig, Upsert, carry_over, discard, wal
from mmse.catalogue.working_index import WorkingIndex
from mmse.core import artifact
from mmse.core.errors import ArtifactError, MmseError, OutputError, UsageError
from mmse.dataset.serving_data import ITEMS
from mmse.model.encoder import Encoder
from mmse.schema.filters import parse_filter

EDITS: list[Edit] = [
    Upsert({"item_id": "n1", "title": "Zorbak fimtul kettle", "brand": "zorbak", "price": 9.5, "available": True}),
    Upsert({"item_id": "n2", "title": "Quevo kettle", "category": "Zone > A > B"}),
    Change("i00000004", {"price": 7.25, "available": False}),
    Delete("i00000009"),
    Upsert({"item_id": "i00000005", "title": "Quevo instead"}),
]
WORDS = ("zorbak", "fimtul", "quevo", "kettle", "instead")


def items_after(run: Path, *calls: list[Edit]) -> Items:
    items = read_items(run)
    return apply_edits(items, [edit for call in calls for edit in call], list(next(iter(items.values()))))


def open_writable(run: Path, encoder: Encoder) -> LiveCatalogue:
    return LiveCatalogue.open(run, writable=True, encoder=encoder, config=LiveConfig(automatic=False))


def test_edits_are_on_both_channels_at_once_and_after_reopening_and_folding(either_run: Path, encoder: Encoder) -> None:
    run, expected_items = either_run, items_after(either_run, EDITS)
    with open_writable(run, encoder) as catalogue:
        old_snapshot = catalogue.snapshot()
        assert catalogue.apply(EDITS) == 1
        check_snapshot(catalogue.snapshot(), expected_items, WORDS, deleted_ids=["i00000009"])
        check_snapshot(old_snapshot, read_items(run), WORDS, deleted_ids=["n1", "n2"])
    with open_writable(run, encoder) as catalogue:
        assert catalogue.snapshot().version == 1
        check_snapshot(catalogue.snapshot(), expected_items, WORDS, deleted_ids=["i00000009"])
        assert catalogue.compact() == "folded"
        assert catalogue.compact() == "nothing"
        snapshot = catalogue.snapshot()
        assert (snapshot.version, snapshot.n_changed) == (1, 0)
        check_snapshot(snapshot, expected_items, WORDS, deleted_ids=["i00000009"])
        check_snapshot(old_snapshot, read_items(run), WORDS, deleted_ids=["n1", "n2"])
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        check_snapshot(reader.snapshot(), expected_items, WORDS, deleted_ids=["i00000009"])


def test_an_item_keeps_its_row(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS)
        rows = catalogue.snapshot().rows(["n1", "i00000005", "n2"])
        assert rows.tolist() == [400, 5, 401]
        for fold in (False, True):
            catalogue.apply([Delete("n1"), Delete("i00000005")])
            if fold:
                catalogue.compact()
            assert catalogue.snapshot().rows(["n1", "i00000005", "n2"]).tolist() == [-1, -1, 401]
            catalogue.apply(
                [Upsert({"item_id": "i00000005", "title": "Back"}), Upsert({"item_id": "n3", "title": "New"})]
            )
            catalogue.apply([Upsert({"item_id": "n1", "title": "Back"})])
            assert catalogue.snapshot().rows(["n1", "i00000005", "n2", "n3"]).tolist() == [400, 5, 401, 402]
        first_seen = catalogue.snapshot().values("first_seen", np.array([5, 400]))
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        assert reader.snapshot().rows(["n1", "i00000005", "n3"]).tolist() == [400, 5, 402]
        assert first_seen[0] is not None
        assert first_seen[1] is None
        assert reader.snapshot().values("first_seen", np.array([5, 400])) == first_seen


def test_vectors_are_what_embedding_the_catalogue_would_have_made(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        base = catalogue.snapshot().base
        rows = np.arange(len(base))
        changed_rows = rows[::7]
        catalogue.apply(
            [Change(f"i{row:08d}", {"title": base.items["title"][row].as_py()}) for row in changed_rows.tolist()]
        )
        snapshot = catalogue.snapshot()
        assert snapshot.n_changed == len(changed_rows)
        assert np.allclose(snapshot.vectors(rows), base.vectors[rows], atol=1e-6)
        catalogue.apply(EDITS)
        live_vectors = catalogue.snapshot().vectors(np.arange(402))
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        assert np.allclose(reader.snapshot().vectors(np.arange(402)), live_vectors, atol=1e-6)


def test_a_call_is_applied_whole_or_not_at_all(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        for bad in (Delete("nobody"), Change("nobody", {"price": 1.0}), Change("n1", {"colur": "red"})):
            with pytest.raises(UsageError, match=r"nobody|colur"):
                catalogue.apply([EDITS[0], bad])
        assert catalogue.snapshot().version == 0
        assert catalogue.apply([Delete("nobody", missing_ok=True)]) == 1
        assert catalogue.apply([EDITS[0], Delete("n1"), Upsert({"item_id": "n1", "title": "Quevo"})]) == 2
        check_snapshot(catalogue.snapshot(), items_after(run, [Upsert({"item_id": "n1", "title": "Quevo"})]), WORDS)
        assert catalogue.apply([]) == 3


def test_readers_keep_their_snapshot_until_they_refresh(run: Path, encoder: Encoder) -> None:
    with LiveCatalogue.open(run, encoder=encoder) as reader, open_writable(run, encoder) as catalogue:
        assert reader.refresh() == 0
        catalogue.apply(EDITS[:2])
        assert (reader.snapshot().version, reader.refresh(), reader.refresh()) == (0, 1, 1)
        check_snapshot(reader.snapshot(), items_after(run, EDITS[:2]), WORDS)
        catalogue.apply(EDITS[2:])
        catalogue.compact()
        catalogue.apply([Delete("n1")])
        old = reader.snapshot()
        assert reader.refresh() == 3
        check_snapshot(reader.snapshot(), items_after(run, EDITS, [Delete("n1")]), WORDS, deleted_ids=["n1"])
        check_snapshot(old, items_after(run, EDITS[:2]), WORDS)
        with pytest.raises(UsageError, match="open for reading"):
            reader.apply(EDITS)
        with pytest.raises(UsageError, match="open for reading"):
            reader.compact()


def test_a_closed_catalogue_takes_no_edits_and_leaves_nothing(run: Path, encoder: Encoder) -> None:
    catalogue = open_writable(run, encoder)
    catalogue.apply(EDITS)
    catalogue.close()
    with pytest.raises(UsageError, match="was closed"):
        catalogue.apply(EDITS)
    catalogue.close()
    assert not [path.name for path in (run / "live").iterdir() if path.name.startswith("scratch")]


def test_step_folders_are_never_written_to(either_run: Path, encoder: Encoder) -> None:
    with open_writable(either_run, encoder) as catalogue:
        catalogue.apply(EDITS)
        catalogue.compact()
        catalogue.apply([Delete("n1")])
    for kind in STEP_FOLDERS:
        artifact.verify(either_run / kind, kind, content=True)


def test_what_a_killed_writer_left_is_swept(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS)
    live = run / "live"
    for name in ("base-1", ".base-1.writing-99", "scratch-old"):
        (live / name).mkdir()
        (live / name / "held").write_text("")
    (live / ".journal-0.writing").write_text("half")
    with open_writable(run, encoder) as catalogue, LiveCatalogue.open(run, encoder=encoder) as reader:
        check_snapshot(catalogue.snapshot(), items_after(run, EDITS), WORDS)
        assert len(reader.snapshot()) == len(catalogue.snapshot())
        names = sorted(path.name.split("-")[0] for path in live.iterdir())
        assert names == ["folding", "journal", "lock", "queue", "scratch", "scratch"], names


def test_facets_count_base_and_edits_together(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        brand = catalogue.snapshot().items(np.array([4]))[0]["brand"]
        counts = catalogue.snapshot().counts("brand")
        catalogue.apply([Upsert({"item_id": "n1", "title": "t", "brand": brand.upper()}), Delete("i00000004")])
        catalogue.apply([Upsert({"item_id": "n2", "title": "t", "brand": brand})])
        snapshot = catalogue.snapshot()
        assert snapshot.counts("brand") == counts | {brand: counts[brand] + 1}
        mask = snapshot.mask(parse_filter({"brand": brand}, snapshot.kinds))
        assert snapshot.counts("brand", mask) == {brand: counts[brand] + 1}


@pytest.mark.parametrize("failure_point", ["fsync", "write", "words", "embedding"])
def test_a_failed_commit_changes_nothing_and_the_next_one_works(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, failure_point: str
) -> None:
    def raise_disk_full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS[:1])
        for edits in (EDITS[1:], [Delete("n1")]):
            with monkeypatch.context() as patch:
                if failure_point == "fsync":
                    patch.setattr(os, "fsync", _failing_fsync(run / "live" / "journal-0"))
                elif failure_point == "write":
                    patch.setattr(os, "write", raise_disk_full)
                elif failure_point == "words":
                    patch.setattr("mmse.index.lexical.LexicalWriter.commit", raise_disk_full)
                else:
                    patch.setattr("mmse.catalogue.embedder.Embedder.embed", raise_disk_full)
                call = [Upsert({"item_id": "n9", "title": "Quevo"})] if failure_point == "embedding" else edits
                with pytest.raises((MmseError, OSError)):
                    catalogue.apply(call)
            assert catalogue.snapshot().version == 1
            check_snapshot(catalogue.snapshot(), items_after(run, EDITS[:1]), WORDS)
        with LiveCatalogue.open(run, encoder=encoder) as reader:
            check_snapshot(reader.snapshot(), items_after(run, EDITS[:1]), WORDS)
        assert catalogue.apply(EDITS[1:]) == 2
        check_snapshot(catalogue.snapshot(), items_after(run, EDITS), WORDS)
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        check_snapshot(reader.snapshot(), items_after(run, EDITS), WORDS)


def test_an_interrupt_after_the_write_removes_the_commit(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_append = wal.append

    @contextlib.contextmanager
    def append_and_interrupt(*args: Any) -> Iterator[int]:
        with real_append(*args) as end:
            yield end
            raise KeyboardInterrupt

    with open_writable(run, encoder) as catalogue:
        with monkeypatch.context() as patch:
            patch.setattr(wal, "append", append_and_interrupt)
            with pytest.raises(KeyboardInterrupt):
                catalogue.apply(EDITS)
        check_snapshot(catalogue.snapshot(), read_items(run), WORDS, deleted_ids=["n1", "n2"])
        assert catalogue.apply(EDITS[:1]) == 1
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        check_snapshot(reader.snapshot(), items_after(run, EDITS[:1]), WORDS, deleted_ids=["n2"])


def _failing_fsync(path: Path) -> Callable[[int], None]:
    """An `os.fsync` that fails once for the file `path`, so that the truncation after it can be made durable."""
    real_fsync = os.fsync
    failures: list[int] = []

    def fsync(file: int) -> None:
        if not failures and os.fstat(file).st_ino == path.stat().st_ino:
            failures.append(file)
            raise OSError(errno.EIO, "Input/output error")
        real_fsync(file)

    return fsync


def test_a_failed_fold_changes_nothing_and_the_next_one_works(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write_and_fail(path: Path, content: bytes) -> None:
        artifact.write_file(path, content)
        raise OutputError("No space left on the disk.", "Free some space.")

    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS)
        for target, replacement in (
            ("mmse.core.artifact.sync", raise_disk_full),
            ("mmse.catalogue.wal.write_file", write_and_fail),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(target, replacement)
                with pytest.raises(OutputError, match="No space left"):
                    catalogue.compact()
            check_snapshot(catalogue.snapshot(), items_after(run, EDITS), WORDS)
            assert sorted(path.name for path in (run / "live").iterdir() if "scratch" not in path.name) == [
                "folding",
                "journal-0",
                "lock",
                "queue",
            ]
        catalogue.apply([Delete("n1")])
        assert catalogue.compact() == "folded"
        check_snapshot(catalogue.snapshot(), items_after(run, EDITS, [Delete("n1")]), WORDS, deleted_ids=["n1"])
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        check_snapshot(reader.snapshot(), items_after(run, EDITS, [Delete("n1")]), WORDS, deleted_ids=["n1"])


def test_folding_starts_by_itself_past_the_limit(run: Path, encoder: Encoder) -> None:
    config = LiveConfig(fold_rows=3, fold_share=0.001)
    with LiveCatalogue.open(run, writable=True, encoder=encoder, config=config) as catalogue:
        catalogue.apply(EDITS)
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        assert reader.snapshot().n_changed == 0
        assert (run / "live" / "base-1").is_dir()
        check_snapshot(reader.snapshot(), items_after(run, EDITS), WORDS)


def replace_index(run: Path) -> None:
    """Replaces the index of `run` as the index step would when it runs again."""
    index = run / "index"
    source = index.resolve()
    index.unlink()
    shutil.copytree(source, index)
    manifest = json.loads((index / "manifest.json").read_text("utf-8"))
    (index / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "another"}), "utf-8")


@pytest.mark.parametrize("fold", [False, True])
def test_edits_on_former_step_folders_are_carried_over_or_dropped(
    copy_unedited: Callable[[], Path], encoder: Encoder, fold: bool
) -> None:
    late_edits: list[Edit] = [Change("n1", {"price": 3.0}), Delete("n2")]
    for keep in (True, False):
        run = copy_unedited()
        assert carry_over(run).n_carried == discard(run) == 0
        with open_writable(run, encoder) as catalogue:
            catalogue.apply(EDITS)
            if fold:
                catalogue.compact()
            catalogue.apply(late_edits)
        replace_index(run)
        for writable in (True, False):
            with pytest.raises(ArtifactError, match=r"5 edited items wait in .*live.*\n.*carry-over.*discard"):
                LiveCatalogue.open(run, writable=writable, encoder=encoder)
        if keep:
            report = carry_over(run)
            assert (report.n_carried, report.n_left_out, report.rejects_file) == (
                4,
                0,
                None,
            )  # n2 was never in the base
        else:
            assert discard(run) == 5
        with open_writable(run, encoder) as catalogue:
            check_snapshot(
                catalogue.snapshot(), items_after(run, EDITS, late_edits) if keep else read_items(run), WORDS
            )
            catalogue.apply([Upsert({"item_id": "n5", "title": "Quevo"})])
        assert carry_over(run).n_carried == 0


def test_step_folders_made_again_under_an_open_catalogue_lose_no_edit(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as idle, LiveCatalogue.open(run, encoder=encoder) as reader:
        replace_index(run)
        with pytest.raises(ArtifactError, match="made again while its catalogue was open"):
            idle.apply(EDITS)
        assert reader.refresh() == 0
    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS[:2])
        manifest = run / "index" / "manifest.json"
        manifest.write_text(manifest.read_text("utf-8").replace('"another"', '"third"'), "utf-8")
        assert catalogue.apply(EDITS[2:]) == 2
        with pytest.raises(ArtifactError, match="made again while its catalogue was open"):
            catalogue.compact()
        check_snapshot(catalogue.snapshot(), items_after(run, EDITS), WORDS)
    assert carry_over(run).n_carried == 5
    with open_writable(run, encoder) as catalogue:
        check_snapshot(catalogue.snapshot(), items_after(run, EDITS), WORDS)


def test_edits_that_no_longer_fit_are_written_to_a_file(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        catalogue.apply([*EDITS[:1], Change("i00000004", {"brand": "b"}), Change("i00000006", {"price": 1.0})])
    replace_index(run)
    serving = (run / "serving").resolve()
    (run / "serving").unlink()
    shutil.copytree(serving, run / "serving")
    items = pq.read_table(serving / ITEMS)
    pq.write_table(items.drop_columns(["brand"]).slice(0, 6), run / "serving" / ITEMS)
    report = carry_over(run)
    assert (report.n_carried, report.n_left_out) == (1, 3)
    assert report.rejects_file is not None
    rejects = [json.loads(line) for line in report.rejects_file.read_text("utf-8").splitlines()]
    assert [reject["why"] for reject in rejects] == ["no column brand", "no column brand", "the item no longer exists"]


def test_a_log_without_edits_does_no_harm(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS)
    discard(run)
    replace_index(run)
    with open_writable(run, encoder) as catalogue:
        assert len(catalogue.snapshot()) == 400
        catalogue.apply(EDITS)
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        check_snapshot(reader.snapshot(), items_after(run, EDITS), WORDS)


def test_a_damaged_log_or_base_is_named(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS)
        catalogue.compact()
        catalogue.apply([Delete("n1")])
        catalogue.apply([Delete("n2")])
    file = run / "live" / "journal-1"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"n1", b"n7"))
    with pytest.raises(ArtifactError, match="journal-1 is damaged at byte"):
        LiveCatalogue.open(run, encoder=encoder)
    file.write_bytes(whole)
    (run / "live" / "base-1" / "dead.npy").unlink()
    with pytest.raises(ArtifactError, match=r"dead\.npy is damaged"):
        LiveCatalogue.open(run, writable=True, encoder=encoder)
    shutil.rmtree(run / "live" / "base-1")
    with pytest.raises(ArtifactError, match="base-1"):
        LiveCatalogue.open(run, writable=True, encoder=encoder)


def test_a_new_item_is_first_for_its_own_words(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as catalogue:
        title = "Unheard Quevo Glockenspiel"
        catalogue.apply([Upsert({"item_id": "n1", "title": title})])
        snapshot = catalogue.snapshot()
        row = snapshot.rows(["n1"])[0]
        assert snapshot.lexical.search(snapshot.lexical.parse(title, BOOSTS), 1).rows.tolist() == [row]
        assert snapshot.search_vectors(snapshot.vectors(np.array([row])), 1).ids.tolist() == [[row]]


def test_the_working_index_falls_back_to_the_temporary_folder(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open_writable(run, encoder) as catalogue:
        catalogue.apply(EDITS)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(
            "mmse.catalogue.working_index.os.link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other disk"))
        )
        real_mkdir = Path.mkdir
        monkeypatch.setattr(
            Path,
            "mkdir",
            lambda path, *a, **k: (
                (_ for _ in ()).throw(PermissionError()) if path.name == "live" else real_mkdir(path, *a, **k)
            ),
        )
        with LiveCatalogue.open(run, encoder=encoder) as reader:
            check_snapshot(reader.snapshot(), items_after(run, EDITS), WORDS)
            working_index = reader._generation.working_index
            assert isinstance(working_index, WorkingIndex)
            assert working_index.folder.parent == tmp_path
        assert not working_index.folder.exists()
