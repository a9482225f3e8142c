"""A step's folder is whole or absent, however its writing ends, and an error names what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmse.core import artifact
from mmse.core.artifact import MANIFEST, Manifest, explain_os_errors, read_manifest, verify, write_file, write_folder
from mmse.core.errors import ArtifactError, OutputError

CHILD = """
import os, signal, sys
from pathlib import Path
from mmse.core import artifact

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

{before}
with artifact.write_folder(Path({target!r}), kind="thing", config={{}}, inputs={{}}) as draft:
    (draft.folder / "data.bin").write_bytes(b"new")
    {inside}
"""


def write(target: Path, content: bytes = b"content", **config: object) -> Manifest:
    with write_folder(target, kind="thing", config=config, inputs={"log": "f00d"}) as draft:
        (draft.folder / "data.bin").write_bytes(content)
        (draft.folder / "deep").mkdir()
        (draft.folder / "deep" / "more.txt").write_text("more")
        draft.counts["rows"] = 7
    return read_manifest(target, "thing")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(target: Path, *, before: str = "", inside: str = "") -> None:
    code = CHILD.format(target=str(target), before=before, inside=inside)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()


def test_what_a_manifest_says(tmp_path: Path) -> None:
    manifest = write(tmp_path / "a" / "b" / "thing", epochs=3)
    assert verify(tmp_path / "a" / "b" / "thing", "thing") == manifest
    assert (manifest.config, manifest.inputs, manifest.counts) == ({"epochs": 3}, {"log": "f00d"}, {"rows": 7})
    assert {name: record.split(":")[0] for name, record in manifest.files.items()} == {
        "data.bin": "7",
        "deep/more.txt": "4",
    }
    assert left(tmp_path / "a" / "b") == ["thing"]


def test_the_fingerprint_covers_content_and_config_but_not_the_moment(tmp_path: Path) -> None:
    manifest = write(tmp_path / "one", epochs=3)
    assert write(tmp_path / "two", epochs=3).fingerprint == manifest.fingerprint
    assert write(tmp_path / "three", epochs=4).fingerprint != manifest.fingerprint
    assert write(tmp_path / "four", b"CONTENT", epochs=3).fingerprint != manifest.fingerprint


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("former", [False, True])
def test_a_failure_inside_leaves_what_was_there(tmp_path: Path, failure: type[BaseException], former: bool) -> None:
    target = tmp_path / "thing"
    before = write(target) if former else None
    with pytest.raises(failure), write_folder(target, kind="thing", config={}, inputs={}) as draft:  # noqa: PT012
        (draft.folder / "data.bin").write_bytes(b"half")
        raise failure
    assert left(tmp_path) == (["thing"] if former else [])
    if before:
        assert verify(target, "thing") == before


def test_a_rewrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    write(target, b"old")
    with write_folder(target, kind="thing", config={}, inputs={}) as draft:
        (draft.folder / "other.bin").write_bytes(b"new")
        assert (target / "data.bin").read_bytes() == b"old"
    assert left(target) == [MANIFEST, "other.bin"]
    assert left(tmp_path) == ["thing"]


@pytest.mark.parametrize("former", [False, True])
def test_killed_in_the_middle(tmp_path: Path, former: bool) -> None:
    target = tmp_path / "thing"
    before = write(target) if former else None
    killed(target, inside="die()")
    if before:
        assert verify(target, "thing") == before
    else:
        assert not target.exists()
    assert len(left(tmp_path)) == 1 + former, "the killed run's draft"
    write(target, b"again")
    assert left(tmp_path) == ["thing"]


def test_killed_between_the_two_renames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "thing"
    before = write(target)
    killed(target, before="first = Path.rename\nPath.rename = lambda s, t: (first(s, t), die())")
    assert not target.exists()
    with pytest.raises(RuntimeError), write_folder(target, kind="thing", config={}, inputs={}):  # noqa: PT012
        assert verify(target, "thing") == before
        assert "was put back" in caplog.text
        raise RuntimeError
    assert verify(target, "thing") == before
    assert left(tmp_path) == ["thing"]


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_between_the_two_renames_puts_the_former_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    target = tmp_path / "thing"
    before = write(target)
    rename = Path.rename

    def second_fails(self: Path, to: Path) -> Path:
        if ".writing-" in self.name:
            raise failure
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(type(failure)):
        write(target, b"new")
    assert verify(target, "thing") == before
    assert left(tmp_path) == ["thing"]


def test_the_draft_of_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    with write_folder(tmp_path / "thing", kind="thing", config={}, inputs={}) as draft:
        (draft.folder / "data.bin").write_bytes(b"longer")
        write(tmp_path / "thing")
        assert left(tmp_path) == [draft.folder.name, "thing"]
    assert left(tmp_path) == ["thing"]
    assert (tmp_path / "thing" / "data.bin").read_bytes() == b"longer"


def test_a_hidden_folder_of_another_kind_of_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".thing.writing-notes").mkdir()
    write(tmp_path / "thing")
    assert left(tmp_path) == [".thing.writing-notes", "thing"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_mmse_did_not_make_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "mine"
    if kind == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("years of work")
    else:
        target.write_text("years of work")
    with pytest.raises(ArtifactError, match="not a folder that mmse made") as error_info:
        write(target)
    assert error_info.value.exit_code == 2
    assert (target / "thesis.tex" if kind == "folder" else target).read_text() == "years of work"
    assert left(tmp_path) == ["mine"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    write(tmp_path / "thing")
    verify(tmp_path / "thing", "thing")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"cont"), "expected 7 bytes, found 4 bytes"),
        (lambda file: file.unlink(), "expected 7 bytes, found no such file"),
    ],
)
def test_verify_names_the_damaged_file(tmp_path: Path, damage: object, message: str) -> None:
    target = tmp_path / "thing"
    write(target)
    assert callable(damage)
    damage(target / "data.bin")
    with pytest.raises(ArtifactError, match=message) as error_info:
        verify(target, "thing")
    assert str(target / "data.bin") in error_info.value.cause
    assert str(target) in error_info.value.cure


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "it has no manifest.json"),
        ("{", "is damaged"),
        ("[1]", "is damaged"),
        ("7", "is damaged"),
        ('{"kind": "thing"}', "is damaged"),
        ("\xff", "is damaged"),
    ],
)
def test_a_manifest_that_cannot_be_read(tmp_path: Path, content: str | None, message: str) -> None:
    write(tmp_path / "thing")
    file = tmp_path / "thing" / MANIFEST
    file.unlink() if content is None else file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=message):
        read_manifest(tmp_path / "thing", "thing")


def change_manifest(folder: Path, **fields: object) -> None:
    file = folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "deep/../../secret",
        "/etc/hostname",
        "deep//more.txt",
        "./data.bin",
        "",
        ".",
        "a\0b",
        "manifest.json",
    ],
)
def test_a_name_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / "thing")
    change_manifest(tmp_path / "thing", files={name: f"4:{'0' * 32}"})
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged: it names .*no file in this folder"):
        read_manifest(tmp_path / "thing", "thing")


@pytest.mark.parametrize(
    "fields",
    [{"files": ["data.bin"]}, {"files": {"data.bin": "x"}}, {"files": {"data.bin": 7}}, {"inputs": 1}, {"made": "now"}],
)
def test_a_manifest_with_values_of_another_kind(tmp_path: Path, fields: dict[str, object]) -> None:
    write(tmp_path / "thing")
    change_manifest(tmp_path / "thing", **fields)
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path / "thing", "thing")


def test_a_manifest_that_is_nested_without_end(tmp_path: Path) -> None:
    write(tmp_path / "thing")
    (tmp_path / "thing" / MANIFEST).write_text("[" * 1_000_000)
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path / "thing", "thing")


@pytest.mark.parametrize("fields", [{"files": {}}, {"left_out": ["data.bin", "deep/more.txt"]}])
def test_a_manifest_without_files(tmp_path: Path, fields: dict[str, object]) -> None:
    write(tmp_path / "thing")
    change_manifest(tmp_path / "thing", **fields)
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged: it names no file"):
        verify(tmp_path / "thing", "thing")


@pytest.mark.parametrize("name", ["data.bin", "deep"])
def test_a_link_among_the_files(tmp_path: Path, name: str) -> None:
    write(tmp_path / "thing")
    (tmp_path / "thing" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "thing" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=rf"{name}.* is a link to .*elsewhere"):
        verify(tmp_path / "thing", "thing")


def test_a_folder_that_is_reached_by_a_link_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "thing")
    (tmp_path / "link").symlink_to("thing")
    verify(tmp_path / "link", "thing", content=True)


def test_by_content_a_changed_byte_and_a_changed_manifest_are_found(tmp_path: Path) -> None:
    write(tmp_path / "thing")
    (tmp_path / "thing" / "data.bin").write_bytes(b"c0ntent")
    verify(tmp_path / "thing", "thing")
    with pytest.raises(ArtifactError, match=r"data\.bin is damaged: its content is not what was written"):
        verify(tmp_path / "thing", "thing", content=True)
    write(tmp_path / "thing")
    change_manifest(tmp_path / "thing", inputs={"log": "beef"})
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged: it was changed after it was written"):
        verify(tmp_path / "thing", "thing", content=True)


def test_a_failure_of_reading_names_the_damaged_file(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    write(folder)
    for content, expected_error in ((b"c0ntent", ArtifactError), (b"content", RuntimeError)):
        (folder / "data.bin").write_bytes(content)
        with (
            pytest.raises(expected_error, match=r"thing/data\.bin is damaged|cannot parse it"),
            artifact.name_damage({folder: "thing"}),
        ):
            raise RuntimeError("cannot parse it")


@pytest.mark.parametrize(
    "error",
    [
        OSError("100000 requested and 4096 written"),
        RuntimeError("write error in index.faiss: 0 != 1024 (No space left on device)"),
        ValueError("An IO error occurred: 'No space left on device (os error 28)'"),
    ],
)
def test_a_library_that_finds_the_disk_full(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OutputError, match=r"No space left on the disk while writing .*thing"):  # noqa: SIM117
        with write_folder(tmp_path / "thing", kind="thing", config={}, inputs={}):
            raise error
    assert left(tmp_path) == []


def test_another_kind_and_another_schema(tmp_path: Path) -> None:
    write(tmp_path / "thing")
    with pytest.raises(ArtifactError, match="holds 'thing', expected 'model'"):
        read_manifest(tmp_path / "thing", "model")
    file = tmp_path / "thing" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    with pytest.raises(ArtifactError, match="schema version 99 of 'thing', this mmse reads 1"):
        read_manifest(tmp_path / "thing", "thing")


def test_a_dataset_of_a_former_schema_must_be_mined_again(tmp_path: Path) -> None:
    with write_folder(tmp_path / "dataset", kind="dataset", config={}, inputs={}):
        pass
    assert read_manifest(tmp_path / "dataset", "dataset").schema_version == 3
    file = tmp_path / "dataset" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 1}))
    with pytest.raises(ArtifactError, match="schema version 1 of 'dataset', this mmse reads 3") as error_info:
        read_manifest(tmp_path / "dataset", "dataset")
    assert "`mmse run` makes it again" in error_info.value.cure
    assert read_manifest(tmp_path / "dataset", "dataset", any_schema=True).schema_version == 1


def test_a_full_disk(tmp_path: Path) -> None:
    write(tmp_path / "thing", b"old")
    with pytest.raises(OutputError, match="No space left on the disk while writing") as error_info:  # noqa: SIM117
        with write_folder(tmp_path / "thing", kind="thing", config={}, inputs={}):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert error_info.value.exit_code == 1
    assert (tmp_path / "thing" / "data.bin").read_bytes() == b"old"
    assert left(tmp_path) == ["thing"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and a kernel that allows it")
    try:
        write(small / "thing")
        with pytest.raises(OutputError, match="No space left"):
            write(small / "thing", b"x" * 100_000)
        verify(small / "thing", "thing")
        assert left(small) == ["thing"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Cannot write"):
            write(tmp_path / "thing")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=f"Cannot write .*thing: {os.strerror(code)}") as error_info:
        write(tmp_path / "thing")
    assert error_info.value.exit_code == 1
    assert left(tmp_path) == []


def test_a_file_where_the_parent_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        write(tmp_path / "file" / "thing")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        write(tmp_path / ("x" * 250))


def test_files_that_mmse_did_not_make(tmp_path: Path) -> None:
    file_a, file_b = tmp_path / "one", tmp_path / "two"
    file_a.write_text("1")
    file_b.write_text("2")
    expected_fingerprint = artifact.fingerprint_of_files([file_a, file_b])
    assert artifact.fingerprint_of_files([file_b, file_a]) == expected_fingerprint
    os.utime(file_b, (1, 1))
    assert artifact.fingerprint_of_files([file_a, file_b]) != expected_fingerprint


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    draft, target = tmp_path / "draft", tmp_path / "target"
    draft.write_text("new")
    artifact.rename_exclusively(draft, target)
    assert left(tmp_path) == ["target"]
    draft.write_text("newer")
    with pytest.raises(FileExistsError):
        artifact.rename_exclusively(draft, target)
    assert (draft.read_text(), target.read_text()) == ("newer", "new")


def test_a_refusal_within_the_folder_is_in_words(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Read-only"), explain_os_errors(tmp_path / "events"):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "events" / "_open" / "a.rows"))


def test_a_file_that_the_disk_refuses_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_file(tmp_path / "a.json", b"former")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match="No space left"):
        write_file(tmp_path / "a.json", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"former"]
