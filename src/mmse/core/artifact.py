"""The folders that steps write: whole or absent, each with a readable `manifest.json`.

A step writes into a hidden folder next to its target. That folder is renamed to the target only when everything is on
disk, so a killed process leaves the former folder as it was, or none. The next run of the same step removes the hidden
folder that the killed process left.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmse import __version__
from mmse.core.errors import ArtifactError, OutputError

SCHEMA_VERSIONS = {"dataset": 3}
"""The schema version of each kind of folder, 1 where it is not named."""
MANIFEST = "manifest.json"
_WRITE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What a step's folder contains and how it was made.

    `inputs` maps the name of each input of the step to its fingerprint; `config` is the step's config as plain JSON;
    `counts` are facts about the content, for people; `files` maps each file to its size and digest; `origin` has the
    version of mmse and the time (`made` in the file); `fingerprint` covers all of these except `counts` and `origin`.
    `left_out` names the files that a copy of
    the folder does without (`mmse.core.folder_copy`).
    """

    kind: str
    schema_version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    counts: Mapping[str, Any]
    files: Mapping[str, str]
    fingerprint: str
    origin: Mapping[str, str]
    left_out: Sequence[str] = ()


@dataclass
class Draft:
    """A folder that is being written: put files under `folder` and facts into `counts`."""

    folder: Path
    counts: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def write_folder(target: Path, *, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> Iterator[Draft]:
    """Yields a `Draft`; on a clean exit its folder becomes `target`, on any other exit it is removed.

    Raises `OutputError` where the folder cannot be made or the disk is full. Raises `ArtifactError`, before anything is
    written, where `target` exists and is not a folder that a step wrote.
    """
    if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(
            f"{target} exists and is not a folder that mmse made (it has no {MANIFEST}), so it is not replaced.",
            "Choose another output folder, or move that one away.",
        )
    with explain_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        draft = Draft(target.parent / f".{target.name}.writing-{os.getpid()}")
        draft.folder.mkdir()
    try:
        with explain_os_errors(target):
            yield draft
            _write_manifest(draft, kind=kind, config=config, inputs=inputs)
            _replace(draft.folder, target)
    except BaseException:
        shutil.rmtree(draft.folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def explain_os_errors(target: Path) -> Iterator[None]:
    """Turns an `OSError` of writing `target` into an `OutputError`; other `OSError`s pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"No space left on the disk while writing {target}.",
                "Free some space or choose an output folder on another disk, then run the same command again.",
            ) from error
        if error.errno in _WRITE_ERRORS and _concerns(error.filename, target):
            raise OutputError(
                f"Cannot write {target}: {error.strerror} ({error.filename}).",
                "Choose an output folder that you may write to.",
            ) from error
        raise


def write_file(path: Path, content: bytes) -> None:
    """Writes a file next to `path`, syncs it and renames it to `path`; raises `OutputError` where that is refused."""
    draft = path.with_name(f".{path.name}.writing")
    with explain_os_errors(path):
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync(path.parent)


def rename_exclusively(source: Path, target: Path) -> None:
    """Renames a file to a name that nobody has; raises `FileExistsError`, and changes nothing, where it is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()


def read_manifest(folder: Path, kind: str) -> Manifest:
    """The manifest of `folder`, checked to be of `kind`; raises `ArtifactError` otherwise."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a finished '{kind}' folder: it has no {MANIFEST}.",
            f"Make it with the command that writes '{kind}', or check the path.",
        )
    try:
        values = json.loads(path.read_text("utf-8"))
        manifest = Manifest(origin=values.pop("made"), **values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}.", f"Delete {folder} and run its step again.") from error
    if manifest.kind != kind:
        raise ArtifactError(
            f"{folder} holds '{manifest.kind}', expected '{kind}'.", f"Give the folder that holds '{kind}'."
        )
    version = SCHEMA_VERSIONS.get(kind, 1)
    if manifest.schema_version != version:
        cure = "Mine again: `mmse mine`, or `mmse run`" if kind == "dataset" else "Run its step again"
        raise ArtifactError(
            f"{folder} has schema version {manifest.schema_version} of '{kind}', this mmse reads {version}.",
            f"{cure} with this version.",
        )
    return manifest


def verify(folder: Path, kind: str, *, content: bool = False) -> Manifest:
    """The manifest of `folder`, every file checked against the size in it; raises `ArtifactError` naming the file.

    With `content` every file is read and its digest compared as well.
    """
    manifest = read_manifest(folder, kind)
    for name, record in manifest.files.items():
        if name in manifest.left_out:
            continue
        size = int(record.split(":", 1)[0])
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            state = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
            raise ArtifactError(
                f"{path} is damaged: expected {size} bytes, found {state}.", f"Delete {folder} and run its step again."
            )
        if content and _file_record(path) != record:
            raise ArtifactError(
                f"{path} is damaged: its content is not what was written.", f"Delete {folder} and run its step again."
            )
    return manifest


def reason_to_make(folder: Path, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str | None:
    """Why `folder` has to be made again from `config` and `inputs`, in words; None where it is up to date."""
    if not (folder / MANIFEST).is_file():
        return "not there yet"
    try:
        manifest = verify(folder, kind, content=True)
    except ArtifactError as error:
        return error.cause
    if manifest.origin["mmse"] != __version__:
        return f"it was made by mmse {manifest.origin['mmse']}, this is {__version__}"
    for name in sorted(inputs.keys() | manifest.inputs.keys()):
        if inputs.get(name) != manifest.inputs.get(name):
            return f"its input '{name}' has changed"
    changes = _config_changes(dict(manifest.config), json.loads(json.dumps(config)))
    return f"its config has changed: {changes}" if changes else None


def fingerprint_of_files(paths: list[Path]) -> str:
    """A fingerprint of files that mmse did not make, from path, size and time of change (content is not read)."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _config_changes(former: dict[str, Any], current: dict[str, Any], prefix: str = "") -> str:
    """The keys that differ, at most six, as `key: former → current`."""
    changes = []
    for key in sorted(former.keys() | current.keys()):
        old, new = former.get(key), current.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            changes.append(_config_changes(old, new, f"{prefix}{key}."))
        elif new != old:
            changes.append(f"{prefix}{key}: {old} → {new}")
    return ", ".join(filter(None, changes[:6]))


def _write_manifest(draft: Draft, *, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    files = {}
    for path in sorted(p for p in draft.folder.rglob("*") if p.is_file()):
        sync(path)
        files[path.relative_to(draft.folder).as_posix()] = _file_record(path)
    covered_fields = {
        "kind": kind,
        "schema_version": SCHEMA_VERSIONS.get(kind, 1),
        "config": config,
        "inputs": inputs,
        "files": files,
    }
    canonical = json.dumps(covered_fields, sort_keys=True, ensure_ascii=False)
    origin = {"mmse": __version__, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    fingerprint = hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
    fields = {**covered_fields, "counts": draft.counts, "fingerprint": fingerprint, "made": origin}
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (draft.folder / MANIFEST).write_text(text + "\n", "utf-8")
    sync(draft.folder / MANIFEST)
    sync(draft.folder)


def _file_record(path: Path) -> str:
    """A file as a manifest records it: its size and the digest of its content."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return f"{path.stat().st_size}:{digest}"


def _replace(source: Path, target: Path) -> None:
    former = target.parent / f".{target.name}.former-{os.getpid()}"
    if target.exists():
        target.rename(former)
    try:
        source.rename(target)
    except BaseException:
        if former.exists():
            former.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Removes drafts of killed runs next to `target`; puts a former folder back if its replacement never came."""
    for former in sorted(target.parent.glob(f".{target.name}.former-*")):
        if target.exists():
            shutil.rmtree(former)
        else:
            former.rename(target)
            log.warning("%s was put back: a former run was killed while replacing it", target)
    for draft in target.parent.glob(f".{target.name}.writing-*"):
        owner = draft.name.rsplit("-", 1)[1]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(draft)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _concerns(name: object, target: Path) -> bool:
    """Whether the file that was refused is `target`, above it or next to it, and not a file that the step reads."""
    if name is None:
        return True
    path, target = Path(str(name)).absolute(), target.absolute()
    if target.is_relative_to(path):
        return True
    return path.is_relative_to(target.parent) and path.name.startswith((".", target.name))


def sync(path: Path) -> None:
    """Makes the content of a file, or the renames in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
