"""The folders that steps write: whole or absent, each with a readable `manifest.json`.

A step writes into a hidden folder next to its target. That folder is renamed to the target only when everything is on
disk, so a killed process leaves the former folder as it was, or none. A hidden folder is locked while its process
lives; the next run of the same step removes one that a killed process left. Process ids say nothing here: containers
that share a disk have the same ones.

A manifest may come from anybody. The files that it names must lie in its folder, and none may be a link.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from mmse import __version__
from mmse.core import drafts
from mmse.core.drafts import sync
from mmse.core.errors import ArtifactError, MmseError, OutputError, SchemaError, UsageError

SCHEMA_VERSIONS = {"dataset": 3, "index": 2}
"""The schema version of each kind of folder, 1 where it is not named."""
MANIFEST = "manifest.json"
_WRITE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_MESSAGE = re.compile(
    rf"{os.strerror(errno.ENOSPC)}|{os.strerror(errno.EDQUOT)}|os error {errno.ENOSPC}\b|"
    r"^\d+ requested and \d+ written"
)
"""How libraries say that a disk is full; the last is NumPy's."""
_FILE_RECORD = re.compile(r"\d+:[0-9a-f]{32}")


@dataclass(frozen=True)
class Manifest:
    """What a step's folder contains and how it was made.

    `inputs` maps the name of each input of the step to its fingerprint; `config` is the step's config as plain JSON;
    `counts` are facts about the content, for people; `files` maps each file to its size and digest; `origin` has the
    version of mmse and the time (`made` in the file); `fingerprint` covers all of these except `counts` and `origin`.
    `left_out` names the files that a copy of the folder does without, `former_files` the size and digest that a file
    had before rows of a person were removed from it (`mmse.core.folder_copy`): the fingerprint is of these.
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
    former_files: Mapping[str, str] = field(default_factory=dict)


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
        drafts.sweep(target)
        folder, lock = drafts.make_draft(target)
    try:
        with explain_os_errors(target):
            draft = Draft(folder)
            yield draft
            _write_manifest(draft, kind=kind, config=config, inputs=inputs)
            drafts.replace_folder(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        drafts.release(lock)


@contextlib.contextmanager
def explain_os_errors(target: Path) -> Iterator[None]:
    """Turns an `OSError` of writing `target` into an `OutputError`; other `OSError`s pass.

    So does whatever a library raises to say that the disk is full.
    """
    try:
        yield
    except MmseError:
        raise
    except Exception as error:
        if says_full(error):
            raise OutputError(
                f"No space left on the disk while writing {target}.",
                "Free some space or choose an output folder on another disk, then run the same command again.",
            ) from error
        if not isinstance(error, OSError):
            raise
        if error.errno in _WRITE_ERRORS and _concerns(error.filename, target):
            raise OutputError(
                f"Cannot write {target}: {error.strerror} ({error.filename}).",
                "Choose an output folder that you may write to.",
            ) from error
        raise


def says_full(error: BaseException) -> bool:
    """Whether an error, of the system or of a library that wrote, says that the disk is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return _FULL_MESSAGE.search(str(error)) is not None


def write_file(path: Path, content: bytes) -> None:
    """Writes a file next to `path`, syncs it and renames it to `path`; raises `OutputError` where that is refused."""
    draft = path.with_name(f".{path.name}.writing")
    with explain_os_errors(path):
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)  # on a full disk it would hold what room there is
            raise
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


def read_manifest(folder: Path, kind: str, *, any_schema: bool = False) -> Manifest:
    """The manifest of `folder`, checked to be of `kind`; raises `ArtifactError` otherwise.

    Raises `SchemaError` where the folder is of another schema version, unless `any_schema` is as good: what a folder
    was made from can be told of each.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a finished '{kind}' folder: it has no {MANIFEST}.",
            f"Make it with the command that writes '{kind}', or check the path.",
        )
    try:
        values = json.loads(path.read_text("utf-8"))
        manifest = msgspec.convert(values | {"origin": values.pop("made")}, Manifest)
        _check_files({**manifest.files, **manifest.former_files})
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}.", "Look after that file.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} is damaged: {error}.", _remake_cure(folder)) from error
    if manifest.kind != kind:
        raise ArtifactError(
            f"{folder} holds '{manifest.kind}', expected '{kind}'.", f"Give the folder that holds '{kind}'."
        )
    version = SCHEMA_VERSIONS.get(kind, 1)
    if manifest.schema_version != version and not any_schema:
        raise SchemaError(
            f"{folder} has schema version {manifest.schema_version} of '{kind}', this mmse reads {version}.",
            "`mmse run` makes it again. In place of a site's version, publish the new run; the edits go along.",
        )
    return manifest


def verify(folder: Path, kind: str, *, content: bool = False) -> Manifest:
    """The manifest of `folder`, every file checked against the size in it; raises `ArtifactError` naming the file.

    With `content` every file is read and its digest compared as well, and so is the manifest's own. A folder without
    files is refused, and so is a file that is a link.
    """
    manifest = read_manifest(folder, kind)
    names = [name for name in manifest.files if name not in manifest.left_out]
    if not names:
        raise ArtifactError(f"{folder / MANIFEST} is damaged: it names no file.", _remake_cure(folder))
    for name in names:
        _verify_file(folder, name, manifest.files[name], content=content)
    if content and _fingerprint(manifest) != manifest.fingerprint:
        reason = "it was changed after it was written (its fingerprint is another)"
        raise ArtifactError(f"{folder / MANIFEST} is damaged: {reason}.", _remake_cure(folder))
    return manifest


@contextlib.contextmanager
def name_damage(folders: Mapping[Path, str]) -> Iterator[None]:
    """Where reading `folders` (each with its kind) fails, raises `ArtifactError` for the file whose content is damaged.

    Sizes alone are checked before reading, and a library says little of what it cannot read. Where every file is what
    was written, the failure goes on.
    """
    try:
        yield
    except (OutputError, UsageError):
        raise
    except Exception as error:
        for folder, kind in folders.items():
            try:
                verify(folder, kind, content=True)
            except ArtifactError as damage:
                raise damage from error
        raise


def own_file(folder: Path, name: str) -> Path:
    """The file `name` of an artifact's folder; raises `ArtifactError` where it is a link, or lies behind one."""
    path = folder / name
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), name):  # noqa: PTH118
        raise ArtifactError(
            f"{path} is a link to {os.path.realpath(path)}: expected a file in {folder} itself.",
            "If you trust where it leads, put a copy of that file there.",
        )
    return path


def _verify_file(folder: Path, name: str, record: str, *, content: bool) -> None:
    path, size = own_file(folder, name), int(record.split(":", 1)[0])
    if not path.is_file() or path.stat().st_size != size:
        state = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
        raise ArtifactError(f"{path} is damaged: expected {size} bytes, found {state}.", _remake_cure(folder))
    if content and file_record(path) != record:
        raise ArtifactError(f"{path} is damaged: its content is not what was written.", _remake_cure(folder))


def _check_files(files: Mapping[str, str]) -> None:
    """Raises `ValueError` for the name of a file that is not in the folder, and for a record that is none."""
    for name, record in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or name in (".", MANIFEST) or "\0" in name:
            raise ValueError(f"it names {name!r}, which is no file in this folder")
        if not _FILE_RECORD.fullmatch(record):
            raise ValueError(f"the size and digest of {name!r} are {record!r}")


def _remake_cure(folder: Path) -> str:
    return f"Delete {folder} and run its step again."


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
        files[path.relative_to(draft.folder).as_posix()] = file_record(path)
    covered_fields = {
        "kind": kind,
        "schema_version": SCHEMA_VERSIONS.get(kind, 1),
        "config": json.loads(json.dumps(config)),
        "inputs": inputs,
        "files": files,
    }
    origin = {"mmse": __version__, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    fields = {**covered_fields, "counts": draft.counts, "fingerprint": _digest_fields(covered_fields), "made": origin}
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (draft.folder / MANIFEST).write_text(text + "\n", "utf-8")
    sync(draft.folder / MANIFEST)
    sync(draft.folder)


def _fingerprint(manifest: Manifest) -> str:
    """The fingerprint that `manifest` has to have."""
    fields = {name: getattr(manifest, name) for name in ("kind", "schema_version", "config", "inputs")}
    return _digest_fields({**fields, "files": {**manifest.files, **manifest.former_files}})


def _digest_fields(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def file_record(path: Path) -> str:
    """A file as a manifest records it: its size and the digest of its content."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return f"{path.stat().st_size}:{digest}"


def _concerns(name: object, target: Path) -> bool:
    """Whether the file that was refused is `target`, in it, above it or next to it, and not one that the step reads."""
    if name is None:
        return True
    path, target = Path(str(name)).absolute(), target.absolute()
    if target.is_relative_to(path) or path.is_relative_to(target):
        return True
    return path.is_relative_to(target.parent) and path.name.startswith((".", target.name))
