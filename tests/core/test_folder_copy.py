"""A folder copied without some of its files: what is there is checked, what is left out is not missed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mmse.core import artifact
from mmse.core.artifact import read_manifest, verify
from mmse.core.errors import ArtifactError
from mmse.core.folder_copy import copy_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with artifact.write_folder(tmp_path / "whole", kind="toy", config={"a": 1}, inputs={"b": "c"}) as draft:
        (draft.folder / "part").mkdir()
        (draft.folder / "part" / "kept.txt").write_text("kept")
        (draft.folder / "secret.txt").write_text("secret")
    return tmp_path / "whole"


def test_a_copy_is_the_folder(folder: Path, tmp_path: Path) -> None:
    assert copy_folder(folder, tmp_path / "copy", "toy") == read_manifest(folder, "toy")
    assert (tmp_path / "copy" / "part" / "kept.txt").samefile(folder / "part" / "kept.txt")
    assert (tmp_path / "copy" / "secret.txt").read_text() == "secret"


def test_what_is_left_out_is_not_missed_and_the_rest_is_checked(folder: Path, tmp_path: Path) -> None:
    manifest = copy_folder(folder, tmp_path / "copy", "toy", leave_out=["secret.txt", "no-such-file"])
    assert manifest.fingerprint == read_manifest(folder, "toy").fingerprint
    assert manifest.left_out == ["secret.txt"]
    assert not (tmp_path / "copy" / "secret.txt").exists()
    verify(tmp_path / "copy", "toy", content=True)
    again = copy_folder(tmp_path / "copy", tmp_path / "again", "toy")
    assert again == manifest, "a copy of the copy is left without it as well"
    verify(folder, "toy", content=True)
    assert read_manifest(folder, "toy").left_out == (), "the folder itself stays whole"
    (tmp_path / "copy" / "part" / "kept.txt").unlink()
    with pytest.raises(ArtifactError, match=r"kept\.txt is damaged"):
        verify(tmp_path / "copy", "toy")


def test_a_folder_that_is_not_whole_is_not_copied(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds 'toy', expected 'other'"):
        copy_folder(folder, tmp_path / "copy", "other")
    (folder / "secret.txt").write_text("other!")
    with pytest.raises(ArtifactError, match="content is not what was written"):
        copy_folder(folder, tmp_path / "copy", "toy")
    (folder / "secret.txt").unlink()
    with pytest.raises(FileNotFoundError):
        copy_folder(folder, tmp_path / "other", "toy")


def test_a_disk_without_links_gets_copies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    copy_folder(folder, tmp_path / "copy", "toy")
    assert not (tmp_path / "copy" / "secret.txt").samefile(folder / "secret.txt")


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign.txt").write_text("secret")
    (folder / "secret.txt").unlink()
    (folder / "secret.txt").symlink_to(tmp_path / "foreign.txt")
    with pytest.raises(ArtifactError, match=r"secret\.txt is a link to .*foreign\.txt"):
        copy_folder(folder, tmp_path / "copy", "toy")
    assert not (tmp_path / "copy" / "secret.txt").exists()
