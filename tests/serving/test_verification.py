"""`mmse verify` finds every damaged file of a run or a site, and names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmse.catalogue import Delete, LiveCatalogue
from mmse.cli.verify import verify
from mmse.core.errors import ArtifactError
from mmse.retrieval.retriever import Retriever
from mmse.serving.versions.content import Inspection
from mmse.serving.versions.publish import publish
from mmse.serving.versions.verification import verify_path


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_run, tmp_path / "run")


def problems(path: Path) -> list[Inspection]:
    return [inspection for inspection in verify_path(path) if inspection.problem]


def flip(file: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # a published version shares it
    file.write_bytes(content)


def test_a_whole_run_and_every_flipped_bit(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(run)
    assert "are whole" in capsys.readouterr().out
    files = ["ranking/ranking.json", "serving/items.parquet", "index/columns/column0.npy", "report/report.html"]
    files.append(next(path.relative_to(run).as_posix() for path in (run / "index").rglob("*.fieldnorm")))
    for file in files:
        flip(run / file)
    found = problems(run)
    assert {inspection.subject for inspection in found} == {"ranking", "serving", "index", "report"}
    with pytest.raises(ArtifactError, match=r"4 of .* parts of .* are damaged: index, ranking, serving, report"):
        verify(run)
    assert "ranking.json is damaged: its content is not what was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "file", ["model/tokenizer.json", "model/towers.safetensors", "index/lexical/meta.json", "ranking/ranking.json"]
)
def test_what_cannot_be_read_is_named(run: Path, file: str) -> None:
    content = (run / file).read_bytes()
    (run / file).write_bytes(b"\0" * len(content))
    with pytest.raises(ArtifactError, match=rf"{Path(file).name} is damaged"):
        Retriever.open(run)


def test_folders_that_do_not_fit(run: Path) -> None:
    file = run / "ranking" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["inputs"]["model"] = "0" * 32
    file.write_text(json.dumps(manifest))
    assert [inspection.subject for inspection in problems(run)] == ["ranking"], "its fingerprint is another"


def test_answers_that_miss_what_is_near(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmse.serving.versions.verification.MIN_RECALL", 1.01)
    (inspection,) = problems(run)
    assert inspection.subject == "answers"
    assert "10 nearest items" in inspection.problem


def test_a_log_of_edits_that_was_cut_is_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LiveCatalogue.open(run, writable=True) as catalogue:
        catalogue.apply([Delete("i00000001")])
        encoder = catalogue.encoder
    file = run / "live" / "journal-0"
    file.write_bytes(file.read_bytes()[:-9])
    (inspection,) = problems(run)
    assert inspection.subject == "edits"
    assert "journal-0, from byte" in inspection.problem
    with LiveCatalogue.open(run, writable=True, encoder=encoder) as catalogue:
        assert "are no whole commit" in catalogue.problem
        catalogue.apply([Delete("i00000002")])
    assert "are cut off, and kept in" in caplog.text
    (kept,) = (run / "live").glob("torn-journal-0-*")
    assert b"i00000001" in kept.read_bytes()
    assert not problems(run)


def test_a_site_is_verified_version_by_version(run: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    publish(site, run)
    publish(site, run)
    assert not problems(site)
    flip(site / "versions" / "0001" / "model" / "towers.json")
    (inspection,) = problems(site)
    assert inspection.subject == "0001/model"


def test_what_is_neither_run_nor_site(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="neither a site nor a run"):
        problems(tmp_path)
