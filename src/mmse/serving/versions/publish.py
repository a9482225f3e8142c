"""A run published as a version of a site: copied, checked as a whole and searched, before anybody is served from it.

Stage folders never change once they are made, so the copy is links where the disk allows. It is made beside its place
and renamed, so a version is whole or absent; what a killed publisher left is swept by the next.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmse.catalogue import transfer
from mmse.core import artifact, locks
from mmse.core.artifact import MANIFEST, Manifest
from mmse.core.errors import ArtifactError, UsageError
from mmse.retrieval.retriever import Retriever
from mmse.schema.http import LIVE
from mmse.serving.versions import site_file as sitefile
from mmse.serving.versions.site import Site, go_live, is_site, require_arm
from mmse.serving.versions.site_file import PUBLISHING, RULES, SERVING, VERSION, VERSIONS, Edition, Published
from mmse.training.targets import read_logged

STAGES = ("dataset", "model", "vectors", "index", "ranking")
MORE = ("map", "report")
"""What is published as well, where it is there and was made from the same stage folders."""

ASKED = 5
LEAST_KEPT = 2
WAIT_S = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A version that is there, and the arms that serve it."""

    edition: Edition
    arms: tuple[str, ...]


def publish(
    folder: Path,
    run: Path,
    *,
    arm: str = LIVE,
    note: str = "",
    by: str = "",
    edits: Literal["carry", "discard"] = "carry",
) -> str:
    """Puts `run` into the site in `folder`, which is made, and lets `arm` serve it; gives the version's name.

    The edits that were made on the live version go along, unless they are to be discarded (when the tables have them).
    Raises `ArtifactError` where the run is damaged, its folders do not fit one another, or a search of its own log
    finds nothing; then nothing has changed.
    """
    require_arm(arm)
    _require_place(folder, arm)
    with artifact.writable(folder):
        (folder / VERSIONS).mkdir(parents=True, exist_ok=True)
    with locks.alone(folder / PUBLISHING, limit_s=WAIT_S):
        _served(folder)  # a damaged site is not published into
        _sweep(folder)
        name = f"{max(map(int, sitefile.names(folder)), default=0) + 1:04}"
        draft, place = folder / VERSIONS / f".{name}.writing", folder / VERSIONS / name
        fresh_rules = False
        try:
            with artifact.writable(draft):
                made = _copied(run, draft)
                fresh_rules = _rules(folder, run, draft)
            if own := transfer.pending(run):
                with transfer.receiving(draft) as receiver:
                    receiver.take(own.values())
            _require_answers(draft)
            fingerprint = made["index"].fingerprint
            sitefile.write(draft / VERSION, Published(sitefile.now(), by, note, fingerprint, str(run.absolute())))
            with artifact.writable(place):
                draft.rename(place)
                artifact.sync(place.parent)
            edition = sitefile.read_edition(folder, name)
            with transfer.receiving(place) as receiver, locks.turn(folder):
                go_live(folder, arm, edition, receiver, "publish", keep=edits == "carry", note=note, by=by)
        except BaseException:
            if name not in _served(folder):
                for left in (draft, place, *([folder / RULES] if fresh_rules else [])):
                    shutil.rmtree(left, ignore_errors=True)
            raise
    return name


def prune(site: Site, keep: int) -> list[str]:
    """Removes all but the newest `keep` versions, and gives their names; never one that an arm serves or served last.

    Two are kept at least: servers may still be answering from the one before.
    """
    site.require_versions()
    with locks.alone(site.path / PUBLISHING, limit_s=WAIT_S):
        _sweep(site.path)
        with locks.turn(site.path):
            serving = sitefile.read_serving(site.path)
            names = sitefile.names(site.path)
            kept = {*serving.arms.values(), *serving.before(LIVE)[:1], *names[-max(keep, LEAST_KEPT) :]}
            removed = [name for name in names if name not in kept]
            with artifact.writable(site.path / VERSIONS):
                for name in removed:
                    (site.path / VERSIONS / name).rename(site.path / VERSIONS / f".{name}.removing")
        _sweep(site.path)
    return removed


def versions(site: Site) -> list[Listed]:
    """Every version that is there, oldest first."""
    site.require_versions()
    arms = sitefile.read_serving(site.path).arms
    return [
        Listed(sitefile.read_edition(site.path, name), tuple(sorted(arm for arm, its in arms.items() if its == name)))
        for name in sitefile.names(site.path)
    ]


def _require_place(folder: Path, arm: str) -> None:
    if is_site(folder):
        first = not (folder / SERVING).exists()
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        Site.open(folder).require_versions()
        raise AssertionError("only a run folder is no site")
    else:
        first = True
    if first and arm != LIVE:
        raise UsageError(
            f"{folder} serves nothing yet, and '{arm}' would be its first arm.", f"Publish for '{LIVE}' first."
        )


def _served(folder: Path) -> set[str]:
    """The versions that some arm serves."""
    return set(sitefile.read_serving(folder).arms.values()) if (folder / SERVING).exists() else set()


def _copied(run: Path, draft: Path) -> dict[str, Manifest]:
    """The stage folders of `run` in `draft`, linked or copied; raises `ArtifactError` where they are not whole."""
    made = {}
    draft.mkdir()
    try:
        for kind in STAGES:
            made[kind] = _stage(run / kind, draft / kind, kind)
            _require_fit(made, kind, run)
        for kind in MORE:
            if (run / kind / MANIFEST).is_file():
                _add_if_sound(run / kind, draft / kind, made)
        if (run / "shop.json").is_file():
            shutil.copyfile(run / "shop.json", draft / "shop.json")
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{run} changed while it was copied: {error.filename} is gone.",
            "Let `mmse run` finish it, then publish again.",
        ) from error
    artifact.sync(draft)
    return made


def _stage(source: Path, target: Path, kind: str) -> Manifest:
    manifest = artifact.read_manifest(source, kind)
    target.mkdir()
    for name in (*manifest.files, MANIFEST):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _link(source / name, target / name)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        artifact.sync(folder)
    return artifact.verify(target, kind, content=True)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the disk has none; to where the source leads, if it is a symlink."""
    try:
        os.link(source.resolve(), target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _require_fit(made: dict[str, Manifest], kind: str, run: Path) -> None:
    """Raises `ArtifactError` where a stage folder was not made from those that it stands beside."""
    for name, then in made[kind].inputs.items():
        if name in made and made[name].fingerprint != then:
            raise ArtifactError(
                f"{run / kind} was not made from {run / name} as it is now (fingerprint {then}, now "
                f"{made[name].fingerprint}).",
                "Let `mmse run` finish it, then publish again.",
            )


def _add_if_sound(source: Path, target: Path, made: dict[str, Manifest]) -> None:
    """Takes in what the search does not need; what is damaged or of another model is left out, with a word."""
    kind = str(json.loads((source / MANIFEST).read_text("utf-8"))["kind"])
    try:
        found = _stage(source, target, kind)
        _require_fit(made | {kind: found}, kind, source.parent)
    except ArtifactError as error:
        shutil.rmtree(target, ignore_errors=True)
        log.warning("%s is left out: %s", source, error.cause)


def _rules(folder: Path, run: Path, draft: Path) -> bool:
    """Lets `draft` show the site's rules; the first version brings them along, which is said by true."""
    fresh = not (folder / RULES).exists()
    if fresh:
        beside = folder / f".{RULES}.writing"
        shutil.rmtree(beside, ignore_errors=True)
        if (run / RULES).is_dir():
            shutil.copytree(run / RULES, beside)
        else:
            beside.mkdir()
        beside.rename(folder / RULES)
    (draft / RULES).symlink_to(Path("..") / ".." / RULES)
    return fresh


def _require_answers(draft: Path) -> None:
    """Opens the copy and asks it what its log asked; raises `ArtifactError` where it has no answer to anything."""
    retriever = Retriever.open(draft)
    try:
        problem = retriever.rulebook.status().problem if retriever.rulebook else None
        if problem:
            raise ArtifactError(
                f"The rules of the site do not fit this run: {problem}",
                "Publish rules that fit both (`mmse rules publish`), then publish the run.",
            )
        queries = _logged_queries(draft / "dataset")
        if queries and not any(retriever.search(query, 10) for query in queries):
            raise ArtifactError(
                f"The run finds nothing for any of {len(queries)} queries of its own log, such as '{queries[0]}'.",
                "Look at the run: `mmse search RUN QUERY`, `mmse items status RUN`.",
            )
    finally:
        if retriever.catalogue is not None:
            retriever.catalogue.close()


def _logged_queries(dataset: Path) -> Sequence[str]:
    for split in ("valid", "train"):
        found = read_logged(dataset, split, ASKED, clicked_only=False).queries
        if found:
            return list(dict.fromkeys(found))
    return []


def _sweep(folder: Path) -> None:
    """Removes what was begun and not ended; for who alone may publish."""
    for path in (folder / VERSIONS).iterdir():
        if path.name.startswith(".") and path.name.endswith((".writing", ".removing")):
            shutil.rmtree(path)
