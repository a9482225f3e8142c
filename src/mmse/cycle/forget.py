"""One person taken out of a site or a run: the log of events, datasets, histories of every version, records of cycles.

What was learned from many (weights, vectors, sums) stays until it is made again; `ForgetReport` says so. Each folder is
changed whole, and what tells which rows are the person's goes last: killed, the command is run again.
"""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from mmse.core import artifact, drafts, json_files, locks
from mmse.core.artifact import MANIFEST
from mmse.core.errors import MmseError, OutputError, UsageError
from mmse.core.run_folder import DATASET, INPUTS, SERVING, RunFolder
from mmse.cycle.loop import LOCK, LOG, RUN
from mmse.cycle.record import CYCLES
from mmse.dataset.erasure import REDACTED, erase_from_dataset, erase_from_serving, text_pattern
from mmse.serving.events.erasure import erase_from_events
from mmse.serving.versions import site_file
from mmse.serving.versions.publish import LOCK_LIMIT_S, sweep
from mmse.serving.versions.site import Site, is_site
from mmse.serving.versions.site_file import EVENTS, PUBLISH_LOCK, VERSION_FILE, VERSIONS
from mmse.shop import shop_of
from mmse.text.normalise import normalise


@dataclass(frozen=True)
class FolderTraces:
    """How many rows (or mentions, in a record of a cycle) of the person a folder had."""

    folder: Path
    n_rows: int


@dataclass(frozen=True)
class ForgetReport:
    """What was removed (or would be, of a dry run), by folder, and what remains for people to do, in sentences.

    `n_open_rows` are in segments of the log that a server did not close in time: they are still there.
    """

    folders: Sequence[FolderTraces]
    remainders: Sequence[str]
    n_open_rows: int = 0


def forget(
    paths: Sequence[Path], user_ids: Sequence[str], *, events: Sequence[Path] = (), dry_run: bool = False
) -> ForgetReport:
    """Removes a person from each of `paths`, run folders or sites, and from the folders `events` of logs of their own.

    `user_ids` are all the names that the person has there, such as an id and its hash.

    Raises `UsageError` for an empty id, `ArtifactError` for a path that is neither or is damaged, and `OutputError`
    where the disk refuses or another process is at work there.
    """
    if not all(user_id.strip() for user_id in user_ids):
        raise UsageError("The user_id is empty.", "Give the user_id of the person as the log has it.")
    for path in paths:
        if not (is_site(path) or RunFolder(path).has(DATASET)):
            Site.open(path)  # raises where it is no run either
    reports = [_Erasure(user_id, dry_run).forget(paths, events) for user_id in user_ids]
    return ForgetReport(
        [traces for report in reports for traces in report.folders],
        list(dict.fromkeys(sentence for report in reports for sentence in report.remainders)),
        sum(report.n_open_rows for report in reports),
    )


@final
@dataclass
class _Erasure:
    """The work of one command, and what it has done up to now."""

    user_id: str
    dry_run: bool
    folders: list[FolderTraces] = field(default_factory=list)
    queries: set[str] = field(default_factory=set)
    n_open_rows: int = 0

    def forget(self, paths: Sequence[Path], events: Sequence[Path]) -> ForgetReport:
        """The whole of it: what the person asked is gathered first, and goes last."""
        sites = [path for path in paths if is_site(path)]
        runs = [path for path in paths if not is_site(path)] + [site / RUN for site in sites if (site / RUN).is_dir()]
        logs = [*(path / EVENTS for path in paths), *(run / LOG for run in runs), *events]
        logs = list(dict.fromkeys(log for log in logs if log.is_dir()))
        with contextlib.ExitStack() as stack:
            for site in sites:
                stack.enter_context(_hold_site(site))
            for run in runs:
                stack.enter_context(RunFolder(run).lock())
            self._gather_queries(runs, logs)
            for site in sites:
                self._forget_site(site)
            for run in runs:
                self._forget_run(run)
            for log in logs:
                traces = erase_from_events(log, self.user_id, dry_run=self.dry_run)
                self._add(log, traces.n_rows)
                self.n_open_rows += 0 if self.dry_run else traces.n_open_rows
        remainders = [*_name_sources(runs, logs), *self._name_rest(sites, runs)] if self.folders else []
        return ForgetReport(self.folders, remainders, self.n_open_rows)

    def _gather_queries(self, runs: Sequence[Path], logs: Sequence[Path]) -> None:
        """Finds what the person asked, in the normal form."""
        for run in runs:
            if RunFolder(run).has(DATASET):
                self.queries |= erase_from_dataset(RunFolder(run).dataset, self.user_id, dry_run=True).queries
        for log in logs:
            self.queries.update(map(normalise, erase_from_events(log, self.user_id, dry_run=True).queries))

    def _forget_site(self, site: Path) -> None:
        """The versions of a site, which keep histories, and the records of its cycles, which give examples."""
        if not self.dry_run:
            sweep(site)
        for name in site_file.version_names(site):
            folder = RunFolder(site / VERSIONS / name).serving
            traces = erase_from_serving(folder, self.user_id, self.queries, dry_run=self.dry_run)
            self._add(folder, traces.n_rows)
            if not self.dry_run and _is_newer(folder / MANIFEST, site / VERSIONS / name / VERSION_FILE):
                with locks.take_turn(site):
                    site_file.revise_version(site, name)
        for folder in sorted((site / CYCLES).glob("[0-9]*")):
            self._add(folder, sum(self._forget_text(file) for file in sorted(folder.iterdir()) if file.is_file()))

    def _forget_run(self, run: Path) -> None:
        """The dataset and the histories of a run, and what killed steps left beside them."""
        if not self.dry_run:
            for kind in INPUTS:
                drafts.sweep(run / kind)
        if RunFolder(run).has(SERVING):
            traces = erase_from_serving(RunFolder(run).serving, self.user_id, self.queries, dry_run=self.dry_run)
            self._add(RunFolder(run).serving, traces.n_rows)
        if RunFolder(run).has(DATASET):
            n_rows = erase_from_dataset(RunFolder(run).dataset, self.user_id, dry_run=self.dry_run).n_rows
            self._add(RunFolder(run).dataset, n_rows)

    def _forget_text(self, file: Path) -> int:
        """How often a text names the person, in plain, JSON or HTML; it no longer does."""
        text, n_mentions = file.read_text("utf-8"), 0
        forms = (self.user_id, json.dumps(self.user_id)[1:-1], json.dumps(self.user_id, ensure_ascii=False)[1:-1])
        for form in dict.fromkeys((*forms, html.escape(self.user_id))):
            text, n = text_pattern(form).subn(REDACTED, text)
            n_mentions += n
        if n_mentions and not self.dry_run:
            if file.suffix == ".json":
                json_files.rewrite_json(file, text)
            else:
                artifact.write_file(file, text.encode())
        return n_mentions

    def _add(self, folder: Path, n_rows: int) -> None:
        if n_rows:
            self.folders.append(FolderTraces(folder, n_rows))

    def _name_rest(self, sites: Sequence[Path], runs: Sequence[Path]) -> Iterator[str]:
        """What holds weights and sums over many, and who keeps histories in memory."""
        names = "model/, vectors/, index/, ranking/, map/ and report/"
        for run in runs:
            yield f"{run}: {names} hold weights and sums over all shoppers; the next `mmse run` makes them without."
        for site in sites:
            yield (
                f"{site}: its versions hold weights and sums over all shoppers; publish the next run, then "
                f"`mmse versions prune {site}`. Its servers load the new histories by themselves."
            )
        if any(RunFolder(run).has(SERVING) for run in runs):
            yield "A server of a run folder keeps histories in memory until it is started again."
        yield "Backups, exported tables and logs of --log-queries are yours to look through."


def _is_newer(file: Path, former: Path) -> bool:
    """Whether a file was written after another: also by a command that was killed before it went on."""
    return file.stat().st_mtime_ns > former.stat().st_mtime_ns


@contextlib.contextmanager
def _hold_site(site: Path) -> Iterator[None]:
    """Nobody publishes, and no cycle runs, meanwhile."""
    with contextlib.ExitStack() as stack:
        if (site / CYCLES).is_dir() and not stack.enter_context(locks.try_lock(site / CYCLES / LOCK)):
            raise OutputError(f"A cycle of {site} is running.", "Wait until it has ended, then run this again.")
        stack.enter_context(locks.lock(site / PUBLISH_LOCK, limit_s=LOCK_LIMIT_S))
        yield


def _name_sources(runs: Sequence[Path], logs: Sequence[Path]) -> Iterator[str]:
    """The events tables (or the dataset of another engine) that the runs were made from, which belong to the shop."""
    for run in runs:
        try:
            shop = shop_of(run)
        except MmseError as error:
            yield f"{run}: the shop.toml that it was made from cannot be read ({error.cause}), so look there yourself."
            continue
        sources = [part.source for part in (shop.events.sources or (shop.events,))] if shop.events else []
        sources += [shop.mine.dataset] if shop.mine.dataset else []
        handled = {log.resolve() for log in logs}
        own_sources = [source for source in sources if (shop.base / source).resolve() not in handled]
        if own_sources:
            yield (
                f"The source files of {shop.path} are yours: remove the person there, or the next `mmse mine` brings "
                f"them back: {', '.join(own_sources)}."
            )
