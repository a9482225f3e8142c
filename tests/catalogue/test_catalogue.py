"""Edits are on both channels at once, durable, seen by readers, refused where they do not fit, undone by failures."""

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

from catalogue.live_shop import BOOSTS
from catalogue.plain_model import Items, applied, check, read_items
from mmse.catalogue import Catalogue, Change, Delete, Edit, LiveConfig, Upsert, carry_over, discard
from mmse.catalogue import wal as journal
from mmse.catalogue.working_index import Scratch
from mmse.core import artifact
from mmse.core.errors import ArtifactError, MmseError, OutputError, UsageError
from mmse.model.encoder import Encoder
from mmse.schema.filters import parse_filter

NEW: list[Edit] = [
    Upsert({"item_id": "n1", "title": "Zorbak fimtul kettle", "brand": "zorbak", "price": 9.5, "available": True}),
    Upsert({"item_id": "n2", "title": "Quevo kettle", "category": "Zone > A > B"}),
    Change("i00000004", {"price": 7.25, "available": False}),
    Delete("i00000009"),
    Upsert({"item_id": "i00000005", "title": "Quevo instead"}),
]
WORDS = ("zorbak", "fimtul", "quevo", "kettle", "instead")


def after(run: Path, *calls: list[Edit]) -> Items:
    items = read_items(run)
    return applied(items, [edit for call in calls for edit in call], list(next(iter(items.values()))))


def writing(run: Path, encoder: Encoder) -> Catalogue:
    return Catalogue.open(run, writable=True, encoder=encoder, config=LiveConfig(automatic=False))


def test_edits_are_on_both_channels_at_once_and_after_reopening_and_folding(either_run: Path, encoder: Encoder) -> None:
    run, wanted = either_run, after(either_run, NEW)
    with writing(run, encoder) as catalogue:
        before = catalogue.snapshot()
        assert catalogue.apply(NEW) == 1
        check(catalogue.snapshot(), wanted, WORDS, gone=["i00000009"])
        check(before, read_items(run), WORDS, gone=["n1", "n2"])
    with writing(run, encoder) as catalogue:
        assert catalogue.snapshot().version == 1
        check(catalogue.snapshot(), wanted, WORDS, gone=["i00000009"])
        assert catalogue.compact() == "folded"
        assert catalogue.compact() == "nothing"
        folded = catalogue.snapshot()
        assert (folded.version, folded.changed) == (1, 0)
        check(folded, wanted, WORDS, gone=["i00000009"])
        check(before, read_items(run), WORDS, gone=["n1", "n2"])
    with Catalogue.open(run, encoder=encoder) as reader:
        check(reader.snapshot(), wanted, WORDS, gone=["i00000009"])


def test_an_item_keeps_its_row_for_ever(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW)
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
    with Catalogue.open(run, encoder=encoder) as reader:
        assert reader.snapshot().rows(["n1", "i00000005", "n3"]).tolist() == [400, 5, 402]
        assert first_seen[0] is not None
        assert first_seen[1] is None
        assert reader.snapshot().values("first_seen", np.array([5, 400])) == first_seen


def test_vectors_are_what_embedding_the_catalogue_would_have_made(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        base = catalogue.snapshot().base
        rows = np.arange(len(base))
        some = rows[::7]
        catalogue.apply([Change(f"i{row:08d}", {"title": base.items["title"][row].as_py()}) for row in some.tolist()])
        now = catalogue.snapshot()
        assert now.changed == len(some)
        assert np.allclose(now.vectors(rows), base.vectors[rows], atol=1e-6)
        catalogue.apply(NEW)
        lived = catalogue.snapshot().vectors(np.arange(402))
    with Catalogue.open(run, encoder=encoder) as reader:
        assert np.allclose(reader.snapshot().vectors(np.arange(402)), lived, atol=1e-6)


def test_a_call_is_taken_in_whole_or_not_at_all(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        for bad in (Delete("nobody"), Change("nobody", {"price": 1.0}), Change("n1", {"colur": "red"})):
            with pytest.raises(UsageError, match=r"nobody|colur"):
                catalogue.apply([NEW[0], bad])
        assert catalogue.snapshot().version == 0
        assert catalogue.apply([Delete("nobody", missing_ok=True)]) == 1
        assert catalogue.apply([NEW[0], Delete("n1"), Upsert({"item_id": "n1", "title": "Quevo"})]) == 2
        check(catalogue.snapshot(), after(run, [Upsert({"item_id": "n1", "title": "Quevo"})]), WORDS)
        assert catalogue.apply([]) == 3


def test_readers_see_what_was_there_and_refresh(run: Path, encoder: Encoder) -> None:
    with Catalogue.open(run, encoder=encoder) as reader, writing(run, encoder) as catalogue:
        assert reader.refresh() == 0
        catalogue.apply(NEW[:2])
        assert (reader.snapshot().version, reader.refresh(), reader.refresh()) == (0, 1, 1)
        check(reader.snapshot(), after(run, NEW[:2]), WORDS)
        catalogue.apply(NEW[2:])
        catalogue.compact()
        catalogue.apply([Delete("n1")])
        old = reader.snapshot()
        assert reader.refresh() == 3
        check(reader.snapshot(), after(run, NEW, [Delete("n1")]), WORDS, gone=["n1"])
        check(old, after(run, NEW[:2]), WORDS)
        with pytest.raises(UsageError, match="open for reading"):
            reader.apply(NEW)
        with pytest.raises(UsageError, match="open for reading"):
            reader.compact()


def test_a_closed_catalogue_takes_no_edits_and_leaves_nothing(run: Path, encoder: Encoder) -> None:
    catalogue = writing(run, encoder)
    catalogue.apply(NEW)
    catalogue.close()
    with pytest.raises(UsageError, match="was closed"):
        catalogue.apply(NEW)
    catalogue.close()
    assert not [path.name for path in (run / "live").iterdir() if path.name.startswith("scratch")]


def test_stage_folders_are_never_written_to(either_run: Path, encoder: Encoder) -> None:
    with writing(either_run, encoder) as catalogue:
        catalogue.apply(NEW)
        catalogue.compact()
        catalogue.apply([Delete("n1")])
    for kind in ("dataset", "model", "vectors", "index"):
        artifact.verify(either_run / kind, kind, content=True)


def test_what_a_killed_writer_left_is_swept(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW)
    live = run / "live"
    for name in ("base-1", ".base-1.writing-99", "scratch-old"):
        (live / name).mkdir()
        (live / name / "held").write_text("")
    (live / ".journal-0.writing").write_text("half")
    with writing(run, encoder) as catalogue, Catalogue.open(run, encoder=encoder) as reader:
        check(catalogue.snapshot(), after(run, NEW), WORDS)
        assert len(reader.snapshot()) == len(catalogue.snapshot())
        names = sorted(path.name.split("-")[0] for path in live.iterdir())
        assert names == ["folding", "journal", "lock", "queue", "scratch", "scratch"], names


def test_facets_count_base_and_edits_together(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        brand = catalogue.snapshot().items(np.array([4]))[0]["brand"]
        counted = catalogue.snapshot().counts("brand")
        catalogue.apply([Upsert({"item_id": "n1", "title": "t", "brand": brand.upper()}), Delete("i00000004")])
        catalogue.apply([Upsert({"item_id": "n2", "title": "t", "brand": brand})])
        now = catalogue.snapshot()
        assert now.counts("brand") == counted | {brand: counted[brand] + 1}
        assert now.counts("brand", now.mask(parse_filter({"brand": brand}, now.kinds))) == {brand: counted[brand] + 1}


@pytest.mark.parametrize("where", ["fsync", "write", "words", "embedding"])
def test_a_failed_commit_changes_nothing_and_the_next_one_works(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW[:1])
        for edits in (NEW[1:], [Delete("n1")]):
            with monkeypatch.context() as patched:
                if where in ("fsync", "write"):
                    patched.setattr(os, where, full if where == "write" else _failing_on(run / "live" / "journal-0"))
                elif where == "words":
                    patched.setattr("mmse.index.lexical.LexicalWriter.commit", full)
                else:
                    patched.setattr("mmse.catalogue.embedder.Embedder.vectors", full)
                failing = [Upsert({"item_id": "n9", "title": "Quevo"})] if where == "embedding" else edits
                with pytest.raises((MmseError, OSError)):
                    catalogue.apply(failing)
            assert catalogue.snapshot().version == 1
            check(catalogue.snapshot(), after(run, NEW[:1]), WORDS)
        with Catalogue.open(run, encoder=encoder) as reader:
            check(reader.snapshot(), after(run, NEW[:1]), WORDS)
        assert catalogue.apply(NEW[1:]) == 2
        check(catalogue.snapshot(), after(run, NEW), WORDS)
    with Catalogue.open(run, encoder=encoder) as reader:
        check(reader.snapshot(), after(run, NEW), WORDS)


def test_an_interrupt_after_the_write_takes_it_back(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = journal.appended

    @contextlib.contextmanager
    def interrupted(*given: Any) -> Iterator[int]:
        with real(*given) as end:
            yield end
            raise KeyboardInterrupt

    with writing(run, encoder) as catalogue:
        with monkeypatch.context() as patched:
            patched.setattr(journal, "appended", interrupted)
            with pytest.raises(KeyboardInterrupt):
                catalogue.apply(NEW)
        check(catalogue.snapshot(), read_items(run), WORDS, gone=["n1", "n2"])
        assert catalogue.apply(NEW[:1]) == 1
    with Catalogue.open(run, encoder=encoder) as reader:
        check(reader.snapshot(), after(run, NEW[:1]), WORDS, gone=["n2"])


def _failing_on(path: Path) -> Callable[[int], None]:
    """An `os.fsync` that fails once for the file `path`, so that the cut after it can be made durable."""
    real = os.fsync
    failed: list[int] = []

    def fsync(file: int) -> None:
        if not failed and os.fstat(file).st_ino == path.stat().st_ino:
            failed.append(file)
            raise OSError(errno.EIO, "Input/output error")
        real(file)

    return fsync


def test_a_failed_folding_changes_nothing_and_the_next_one_works(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW)
        for place in ("mmse.core.artifact.sync", "mmse.catalogue.wal.sync"):
            with monkeypatch.context() as patched:
                patched.setattr(place, full)
                with pytest.raises(OutputError, match="No space left"):
                    catalogue.compact()
            check(catalogue.snapshot(), after(run, NEW), WORDS)
            assert sorted(path.name for path in (run / "live").iterdir() if "scratch" not in path.name) == [
                "folding",
                "journal-0",
                "lock",
                "queue",
            ]
        catalogue.apply([Delete("n1")])
        assert catalogue.compact() == "folded"
        check(catalogue.snapshot(), after(run, NEW, [Delete("n1")]), WORDS, gone=["n1"])
    with Catalogue.open(run, encoder=encoder) as reader:
        check(reader.snapshot(), after(run, NEW, [Delete("n1")]), WORDS, gone=["n1"])


def test_folding_starts_by_itself_past_the_limit(run: Path, encoder: Encoder) -> None:
    config = LiveConfig(fold_rows=3, fold_share=0.001)
    with Catalogue.open(run, writable=True, encoder=encoder, config=config) as catalogue:
        catalogue.apply(NEW)
    with Catalogue.open(run, encoder=encoder) as reader:
        assert reader.snapshot().changed == 0
        assert (run / "live" / "base-1").is_dir()
        check(reader.snapshot(), after(run, NEW), WORDS)


def remade(run: Path) -> None:
    """The index of `run` as another command would make it again."""
    index = run / "index"
    source = index.resolve()
    index.unlink()
    shutil.copytree(source, index)
    manifest = json.loads((index / "manifest.json").read_text("utf-8"))
    (index / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "another"}), "utf-8")


@pytest.mark.parametrize("fold", [False, True])
def test_edits_for_former_stage_folders_are_carried_over_or_dropped(
    fresh: Callable[[], Path], encoder: Encoder, fold: bool
) -> None:
    late: list[Edit] = [Change("n1", {"price": 3.0}), Delete("n2")]
    for keep in (True, False):
        run = fresh()
        assert carry_over(run).carried == discard(run) == 0
        with writing(run, encoder) as catalogue:
            catalogue.apply(NEW)
            if fold:
                catalogue.compact()
            catalogue.apply(late)
        remade(run)
        for writable in (True, False):
            with pytest.raises(ArtifactError, match=r"5 edited items wait in .*live.*\n.*carry-over.*discard"):
                Catalogue.open(run, writable=writable, encoder=encoder)
        if keep:
            carried = carry_over(run)
            assert (carried.carried, carried.left_out, carried.aside) == (4, 0, None)  # n2 was never in the base
        else:
            assert discard(run) == 5
        with writing(run, encoder) as catalogue:
            check(catalogue.snapshot(), after(run, NEW, late) if keep else read_items(run), WORDS)
            catalogue.apply([Upsert({"item_id": "n5", "title": "Quevo"})])
        assert carry_over(run).carried == 0


def test_stage_folders_made_again_under_an_open_catalogue_lose_no_edit(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as idle, Catalogue.open(run, encoder=encoder) as reader:
        remade(run)
        with pytest.raises(ArtifactError, match="made again while its catalogue was open"):
            idle.apply(NEW)
        assert reader.refresh() == 0
    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW[:2])
        manifest = run / "index" / "manifest.json"
        manifest.write_text(manifest.read_text("utf-8").replace('"another"', '"third"'), "utf-8")
        assert catalogue.apply(NEW[2:]) == 2
        with pytest.raises(ArtifactError, match="made again while its catalogue was open"):
            catalogue.compact()
        check(catalogue.snapshot(), after(run, NEW), WORDS)
    assert carry_over(run).carried == 5
    with writing(run, encoder) as catalogue:
        check(catalogue.snapshot(), after(run, NEW), WORDS)


def test_edits_that_fit_no_more_are_kept_aside(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        catalogue.apply([*NEW[:1], Change("i00000004", {"brand": "b"}), Change("i00000006", {"price": 1.0})])
    remade(run)
    groups = (run / "dataset").resolve()
    (run / "dataset").unlink()
    shutil.copytree(groups, run / "dataset")
    items = pq.read_table(groups / "items.parquet")
    pq.write_table(items.drop_columns(["brand"]).slice(0, 6), run / "dataset" / "items.parquet")
    carried = carry_over(run)
    assert (carried.carried, carried.left_out) == (1, 3)
    assert carried.aside is not None
    left = [json.loads(line) for line in carried.aside.read_text("utf-8").splitlines()]
    assert [one["why"] for one in left] == ["no column brand", "no column brand", "the item is there no more"]


def test_a_journal_without_edits_hinders_nothing(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW)
    discard(run)
    remade(run)
    with writing(run, encoder) as catalogue:
        assert len(catalogue.snapshot()) == 400
        catalogue.apply(NEW)
    with Catalogue.open(run, encoder=encoder) as reader:
        check(reader.snapshot(), after(run, NEW), WORDS)


def test_a_damaged_journal_or_base_is_named(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW)
        catalogue.compact()
        catalogue.apply([Delete("n1")])
        catalogue.apply([Delete("n2")])
    file = run / "live" / "journal-1"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"n1", b"n7"))
    with pytest.raises(ArtifactError, match="journal-1 is damaged at byte"):
        Catalogue.open(run, encoder=encoder)
    file.write_bytes(whole)
    (run / "live" / "base-1" / "dead.npy").unlink()
    with pytest.raises(ArtifactError, match=r"dead\.npy is damaged"):
        Catalogue.open(run, writable=True, encoder=encoder)
    shutil.rmtree(run / "live" / "base-1")
    with pytest.raises(ArtifactError, match="base-1"):
        Catalogue.open(run, writable=True, encoder=encoder)


def test_a_new_item_is_first_for_its_own_words(run: Path, encoder: Encoder) -> None:
    with writing(run, encoder) as catalogue:
        title = "Unheard Quevo Glockenspiel"
        catalogue.apply([Upsert({"item_id": "n1", "title": title})])
        now = catalogue.snapshot()
        row = now.rows(["n1"])[0]
        assert now.lexical.search(now.lexical.ask(title, BOOSTS), 1).rows.tolist() == [row]
        assert now.search_vectors(now.vectors(np.array([row])), 1).ids.tolist() == [[row]]


def test_scratch_falls_back_to_the_temporary_folder(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with writing(run, encoder) as catalogue:
        catalogue.apply(NEW)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(
            "mmse.catalogue.working_index.os.link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other disk"))
        )
        real = Path.mkdir
        monkeypatch.setattr(
            Path,
            "mkdir",
            lambda path, *a, **k: (
                (_ for _ in ()).throw(PermissionError()) if path.name == "live" else real(path, *a, **k)
            ),
        )
        with Catalogue.open(run, encoder=encoder) as reader:
            check(reader.snapshot(), after(run, NEW), WORDS)
            scratch = reader._generation.scratch
            assert isinstance(scratch, Scratch)
            assert scratch.folder.parent == tmp_path
        assert not scratch.folder.exists()
