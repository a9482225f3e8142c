"""Stage folders: whole or absent, each with a readable `manifest.json`.

A stage writes into a hidden folder beside its target; only when everything is on disk is that folder renamed
into place. A killed process therefore leaves the former folder as it was, or none; what it left beside is
swept by the next run of the same stage.
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmse import __version__
from mmse.core.errors import ArtifactError, OutputError

SCHEMA_VERSIONS = {"dataset": 3}
"""The schema version of each kind of folder, 1 where it is not named."""
MANIFEST = "manifest.json"
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What a stage folder says of itself.

    `inputs` maps the name of each thing the stage read to that thing's fingerprint; `config` is the stage's
    config as plain JSON; `counts` are facts about the content, for people; `files` maps each file to its size
    and digest; `fingerprint` covers all of these except `counts` and `made`.
    """

    kind: str
    schema_version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    counts: Mapping[str, Any]
    files: Mapping[str, str]
    fingerprint: str
    made: Mapping[str, str]


@dataclass
class Draft:
    """A stage folder being written: put files under `folder`, facts into `counts`."""

    folder: Path
    counts: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def writing(target: Path, *, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> Iterator[Draft]:
    """Yields a `Draft`; on a clean exit its folder becomes `target`, on any other exit nothing is left.

    Raises `OutputError` where the folder cannot be made or the disk is full, and `ArtifactError` where
    `target` exists and is not a stage folder, before anything is written.
    """
    if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(
            f"{target} exists and is not a folder that mmse made (it has no {MANIFEST}), so it is not replaced.",
            "Choose another output folder, or move that one away.",
        )
    with writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        draft = Draft(target.parent / f".{target.name}.writing-{os.getpid()}")
        draft.folder.mkdir()
    try:
        with writable(target):
            yield draft
            _write_manifest(draft, kind=kind, config=config, inputs=inputs)
            _replace(draft.folder, target)
    except BaseException:
        shutil.rmtree(draft.folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def writable(target: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write `target` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"No space left on the disk while writing {target}.",
                "Free some space or choose an output folder on another disk, then run the same command again.",
            ) from error
        if error.errno in _REFUSED and _on_the_way(error.filename, target):
            raise OutputError(
                f"Cannot write {target}: {error.strerror} ({error.filename}).",
                "Choose an output folder that you may write to.",
            ) from error
        raise


def write_file(path: Path, content: bytes) -> None:
    """Writes a file beside its place, syncs it and renames it there; raises `OutputError` where that is refused."""
    draft = path.with_name(f".{path.name}.writing")
    with writable(path):
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync(path.parent)


def read_manifest(folder: Path, kind: str) -> Manifest:
    """The manifest of `folder`, checked to be of `kind`; raises `ArtifactError` otherwise."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a finished '{kind}' folder: it has no {MANIFEST}.",
            f"Make it with the command that writes '{kind}', or check the path.",
        )
    try:
        manifest = Manifest(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}.", f"Delete {folder} and run its stage again.") from error
    if manifest.kind != kind:
        raise ArtifactError(
            f"{folder} holds '{manifest.kind}', expected '{kind}'.", f"Give the folder that holds '{kind}'."
        )
    version = SCHEMA_VERSIONS.get(kind, 1)
    if manifest.schema_version != version:
        again = "Mine again: `mmse mine`, or `mmse run`" if kind == "dataset" else "Run its stage again"
        raise ArtifactError(
            f"{folder} has schema version {manifest.schema_version} of '{kind}', this mmse reads {version}.",
            f"{again} with this version.",
        )
    return manifest


def verify(folder: Path, kind: str, *, content: bool = False) -> Manifest:
    """`read_manifest`, and every file checked against its recorded size; raises `ArtifactError` naming the file.

    With `content` every file is read and held against its digest as well.
    """
    manifest = read_manifest(folder, kind)
    for name, recorded in manifest.files.items():
        size = int(recorded.split(":", 1)[0])
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
            raise ArtifactError(
                f"{path} is damaged: expected {size} bytes, found {found}.", f"Delete {folder} and run its stage again."
            )
        if content and _recorded(path) != recorded:
            raise ArtifactError(
                f"{path} is damaged: its content is not what was written.", f"Delete {folder} and run its stage again."
            )
    return manifest


def reason_to_make(folder: Path, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str | None:
    """Why `folder` has to be made from `config` and `inputs`, in words; None where it is up to date."""
    if not (folder / MANIFEST).is_file():
        return "not there yet"
    try:
        manifest = verify(folder, kind, content=True)
    except ArtifactError as error:
        return error.cause
    if manifest.made["mmse"] != __version__:
        return f"it was made by mmse {manifest.made['mmse']}, this is {__version__}"
    for name in sorted(inputs.keys() | manifest.inputs.keys()):
        if inputs.get(name) != manifest.inputs.get(name):
            return f"its input '{name}' has changed"
    changed = _changed(json.loads(json.dumps(config)), dict(manifest.config))
    return f"its config has changed: {changed}" if changed else None


def fingerprint_of_files(paths: list[Path]) -> str:
    """A fingerprint of files that mmse did not make, from path, size and time of change (content is not read)."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _changed(now: dict[str, Any], then: dict[str, Any], prefix: str = "") -> str:
    """The first keys that differ, as `key: then → now`."""
    said = []
    for key in sorted(now.keys() | then.keys()):
        new, old = now.get(key), then.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            said.append(_changed(new, old, f"{prefix}{key}."))
        elif new != old:
            said.append(f"{prefix}{key}: {old} → {new}")
    return ", ".join(filter(None, said[:6]))


def _write_manifest(draft: Draft, *, kind: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    files = {}
    for path in sorted(p for p in draft.folder.rglob("*") if p.is_file()):
        sync(path)
        files[path.relative_to(draft.folder).as_posix()] = _recorded(path)
    said = {
        "kind": kind,
        "schema_version": SCHEMA_VERSIONS.get(kind, 1),
        "config": config,
        "inputs": inputs,
        "files": files,
    }
    canonical = json.dumps(said, sort_keys=True, ensure_ascii=False)
    made = {"mmse": __version__, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    fingerprint = hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
    whole = {**said, "counts": draft.counts, "fingerprint": fingerprint, "made": made}
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    (draft.folder / MANIFEST).write_text(text + "\n", "utf-8")
    sync(draft.folder / MANIFEST)
    sync(draft.folder)


def _recorded(path: Path) -> str:
    """What a manifest says of a file: its size and the digest of its content."""
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
    """Removes what killed runs left beside `target`; puts a former folder back if its replacement never came."""
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


def _on_the_way(name: object, target: Path) -> bool:
    """Whether the file that was refused lies at, above or beside `target`, and not at what the stage reads."""
    if name is None:
        return True
    path, place = Path(str(name)).absolute(), target.absolute()
    return place.is_relative_to(path) or (path.is_relative_to(place.parent) and path.name.startswith((".", place.name)))


def sync(path: Path) -> None:
    """Makes what was written in a file, or renamed in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
