"""Folders of a process's own: gone with it, or with the next one where it was killed, and never while it lives."""

from __future__ import annotations

from pathlib import Path

from mmse.core.scratch import LinkFolder, ScratchFolder, make_owned_folder


def leave(parent: Path, prefix: str) -> Path:
    """A folder whose process was killed: the system has released its lock."""
    folder, owner_lock = make_owned_folder(parent, prefix)
    (folder / "rows").write_text("of a shopper")
    owner_lock.close()
    return folder


def test_the_next_process_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left, used = leave(tmp_path, "mmse-memory-"), ScratchFolder("memory", [tmp_path])
    assert not left.exists()
    left, other = leave(tmp_path, "mmse-memory-x"), leave(tmp_path, "mmse-doctor-")
    young = tmp_path / "mmse-memory-young"
    young.mkdir()
    (tmp_path / "mmse-memory-link").symlink_to(other)
    with ScratchFolder("memory", [tmp_path]) as folder:
        assert not left.exists()
        assert used.path.is_dir(), "its process lives"
        assert young.is_dir(), "one that is just being made has no lock yet"
        assert other.is_dir(), "of another kind, and behind a link"
        (folder / "file").write_text("")
    assert not folder.exists()
    path = used.path
    del used
    assert not path.exists()


def test_links_go_with_the_object(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b.lock").write_text("")
    links = LinkFolder(tmp_path)
    assert [file.name for file in links.path.iterdir()] == ["a"]
    path = links.path
    del links
    assert not path.parent.exists()
