"""One turn of the daily loop: what shoppers did and what the shop sells now become the next version, or a refusal.

    site/events, the shop's tables → examined → mined → compared with what is served → trained … → compared → published

A turn that finds something wrong publishes nothing: what is served goes on being served. So does a turn that is killed;
the next one goes on from its finished steps. `mmse.release` has the checks, `mmse.cycle.record` what is written down.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, final

from mmse.catalogue import transfer
from mmse.core import locks
from mmse.core.artifact import explain_os_errors, read_manifest
from mmse.core.errors import MmseError, OutputError, SchemaError
from mmse.core.findings import Finding, sort_findings
from mmse.core.folder_copy import link_file
from mmse.core.run_folder import DATASET, SEARCH, RunFolder
from mmse.cycle.page import write_page
from mmse.cycle.record import (
    CYCLES,
    CycleRecord,
    Outcome,
    StepTime,
    folder_of,
    next_number,
    read_records,
    record_of,
    write_record,
)
from mmse.mining.checkup import examine_log
from mmse.pipeline import STEPS, Listener, run
from mmse.release.answers import StageRecall, compare_answers
from mmse.release.catalogue_changes import compare_catalogues
from mmse.release.traffic import LogState, compare_days, read_log_state
from mmse.schema.http import LIVE
from mmse.serving.events import segments
from mmse.serving.events.inspection import require_whole_log
from mmse.serving.events.rows import SCHEMA
from mmse.serving.versions import publish as publishing
from mmse.serving.versions.site import Site
from mmse.serving.versions.site_file import EVENTS, SITE_FILE, VERSIONS, Version, utc_time
from mmse.shop import Shop, read_shop
from mmse.sources.config import EventsConfig

RUN, LOG, LOCK = "run", "log", ".lock"
TOO_FEW = "too_few_clicks"
"""The finding of a log that is too short to learn from."""


@dataclass(frozen=True)
class CycleOptions:
    """How a cycle is run: in which run folder (`site/run` if None), for which arm, and how many versions stay.

    `accept` names findings that would refuse a version and are right this time. With `edits` `discard` the tables have
    the edits of the version that is served. `by` is who runs it, for the history. The log is read from `first_day` on,
    all of it where that is None.
    """

    run: Path | None = None
    arm: str = LIVE
    keep: int = 5
    accept: Sequence[str] = ()
    edits: Literal["carry", "discard"] = "carry"
    by: str = ""
    first_day: str | None = None


def run_cycle(site: Path, shop_file: Path, options: CycleOptions, listener: Listener | None = None) -> CycleRecord:
    """Takes the site's new exposures and the shop's tables, and publishes a version if nothing speaks against it.

    The record and a page for people are written in every case but that of a wrong folder or shop.toml, for which this
    raises `UsageError`, and of another cycle that is running, `OutputError`.
    """
    read_shop(shop_file).begin_at(options.first_day)  # what is wrong is told before anything is made
    publishing.require_publishable(site, options.arm)
    with explain_os_errors(site):
        for name in (VERSIONS, CYCLES):
            (site / name).mkdir(parents=True, exist_ok=True)
    with locks.try_lock(site / CYCLES / LOCK) as is_free:
        if not is_free:
            raise OutputError(f"Another cycle of {site} is running.", "Wait until it has ended.")
        return _Cycle(site, shop_file, options, listener or Listener()).turn()


@final
@dataclass
class _Cycle:
    """A turn of the loop, and what it has found up to now."""

    site: Path
    shop_file: Path
    options: CycleOptions
    listener: Listener
    findings: list[Finding] = field(default_factory=list)
    steps: list[StepTime] = field(default_factory=list)
    recalls: list[StageRecall] = field(default_factory=list)
    log: LogState | None = None
    version: str | None = None
    start: float = field(default_factory=time.monotonic)
    at: str = field(default_factory=utc_time)

    def turn(self) -> CycleRecord:
        """The whole turn, and its record, which is written."""
        current, records = self._current(), read_records(self.site)
        try:
            outcome = self._work(current, record_of(records, current.name) if current else None)
            return self._record(outcome, self._summary(outcome, current), current, records)
        except MmseError as error:
            return self._record("failed", f"{error.cause} {error.cure}", current, records)
        except Exception as error:
            self._record("failed", f"A fault of mmse: {type(error).__name__}: {error}", current, records)
            raise

    def _record(
        self, outcome: Outcome, summary: str, current: Version | None, records: Sequence[CycleRecord]
    ) -> CycleRecord:
        """Writes what the turn did, and its page."""
        record = CycleRecord(
            number=next_number(self.site),
            at=self.at,
            seconds=time.monotonic() - self.start,
            outcome=outcome,
            summary=summary,
            arm=self.options.arm,
            version=self.version,
            former=current.name if current else None,
            items=self._count_items(),
            log=self.log,
            recalls=self.recalls,
            findings=sort_findings(self.findings),
            steps=self.steps,
        )
        write_record(self.site, record)
        write_page(folder_of(self.site, record.number), record, records)
        return record

    def _count_items(self) -> int:
        """The items of the dataset, also of one that is to be made again."""
        if not self._run.has(DATASET):
            return 0
        return int(read_manifest(self._run.dataset, DATASET, any_schema=True).counts["items"])

    @property
    def _run(self) -> RunFolder:
        return RunFolder(self.options.run or self.site / RUN)

    def _current(self) -> Version | None:
        """What the arm serves now, or the live version; None where the site serves nothing yet."""
        if not (self.site / SITE_FILE).is_file():
            return None
        arms = Site.open(self.site).state().arms
        return arms.get(self.options.arm, arms[LIVE])

    def _work(self, current: Version | None, former: CycleRecord | None) -> Outcome:
        shop = self._examine()
        if shop is None:
            return "refused"
        self._make(shop, [DATASET])
        self.log = read_log_state(self._run.dataset)
        if current is not None:
            edits = transfer.pending_edits(current.run)
            self._add(compare_catalogues(current.run, self._run.dataset, edits, shop.release))
        self._add(compare_days(self._run.dataset, former.log if former else None, shop.release))
        if self._is_blocked():
            return "refused"
        self._make(shop, [kind for kind in STEPS if kind != DATASET])
        if current is not None and _is_same(self._run, RunFolder(current.run)):
            return "unchanged"
        comparison = compare_answers(
            self._run.path,
            current.run if current and self._can_search(current) else None,
            former.recalls if former else [],
            shop.release,
            self.listener.part,
        )
        self.recalls = comparison.recalls
        self._add(comparison.findings)
        if self._is_blocked():
            return "refused"
        self.version = publishing.publish(
            self.site,
            self._run.path,
            arm=self.options.arm,
            note="mmse cycle",
            by=self.options.by,
            edits=self.options.edits,
            histories=shop.serving.histories,
        )
        publishing.prune(Site.open(self.site), self.options.keep)
        return "published"

    def _examine(self) -> Shop | None:
        """The shop as it is now, None where something in its tables blocks.

        A log of the site's own that is too short to learn from is left aside: the catalogue alone is searched.
        """
        bare_shop = read_shop(self.shop_file).begin_at(self.options.first_day)
        log = self._take_events(bare_shop)
        shop = read_shop(self.shop_file, log).begin_at(self.options.first_day)
        checkup = examine_log(shop.items, shop.events, shop.mine, base=shop.base, progress=self.listener.part)
        is_short = any(finding.severity == "blocks" and finding.name == TOO_FEW for finding in checkup.findings)
        if is_short and log is not None and bare_shop.events is None:
            n = checkup.totals.n_requests if checkup.totals else 0
            cause = f"The site has logged {n:,} requests, too few to learn from: the catalogue alone is searched."
            self._add([Finding("short_log", "notes", cause, "Wait for more shoppers.")])
            return bare_shop
        self.findings += checkup.findings
        return None if self._is_blocked() else shop

    def _take_events(self, shop: Shop) -> Path | None:
        """Links the site's sealed events into the run folder, so that they stay the same.

        None where there are none, or `shop` reads them itself.
        """
        folder, log = self.site / EVENTS, self._run.path / LOG
        if not folder.is_dir() or (shop.events is not None and _reads(shop.events, folder, shop.base)):
            return None
        segments.seal_orphans(folder, SCHEMA)
        require_whole_log(folder)
        with explain_os_errors(log):
            shutil.rmtree(log, ignore_errors=True)
            files = segments.sealed_files(folder)
            for file in files:
                target = log / file.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_file(file, target)
        return log if files else None

    def _can_search(self, current: Version) -> bool:
        """Whether this mmse can search the version that is served; says so where it cannot."""
        try:
            for kind in SEARCH:
                RunFolder(current.run).manifest(kind)
        except SchemaError as error:
            cause = f"Its answers are not compared with those of version {current.name}. {error.cause}"
            self._add([Finding("former_schema", "notes", cause, "From the next version on they are.")])
            return False
        return True

    def _make(self, shop: Shop, kinds: Sequence[str]) -> None:
        with _time_steps(self.listener, self.steps) as listener:
            run(replace(shop, baselines=(), truth=None), self._run.path, listener, kinds)

    def _add(self, findings: Sequence[Finding]) -> None:
        """Adds findings of release checks; what is accepted warns and blocks no more."""
        for finding in findings:
            is_accepted = finding.severity == "blocks" and finding.name in self.options.accept
            self.findings.append(
                replace(finding, severity="warns", cure="It was accepted.") if is_accepted else finding
            )

    def _is_blocked(self) -> bool:
        return any(finding.severity == "blocks" for finding in self.findings)

    def _summary(self, outcome: Outcome, current: Version | None) -> str:
        if outcome == "published":
            succession = f", in place of {current.name}" if current else ", the first one"
            return f"Version {self.version} is {self.options.arm}{succession}."
        still = f"version {current.name} goes on being served" if current else "nothing is served yet"
        if outcome == "unchanged":
            return f"Nothing has changed since the last version; {still}."
        names = list(dict.fromkeys(finding.name for finding in self.findings if finding.severity == "blocks"))
        cure = "Mend what is found and run the cycle again"
        if self.steps:  # the doctor had no objection, and what the release checks say may be right
            cure += f"; or, if it is right, accept it: {' '.join(f'--accept {name}' for name in names)}"
        return f"No version was published because of {', '.join(names)}; {still}. {cure}."


def _is_same(run_folder: RunFolder, current: RunFolder) -> bool:
    """Whether a run is the one that is served."""
    manifests = [
        (run_folder.manifest(kind), read_manifest(current.path / kind, kind, any_schema=True)) for kind in SEARCH
    ]
    return all(manifest.fingerprint == served.fingerprint for manifest, served in manifests)


def _reads(events: EventsConfig, folder: Path, base: Path) -> bool:
    """Whether a source of `events` lies in `folder`."""
    paths = [(base / part.source).resolve() for part in (events.sources or (events,))]
    return any(folder.resolve() in (path, *path.parents) for path in paths)


@contextmanager
def _time_steps(listener: Listener, steps: list[StepTime]) -> Iterator[Listener]:
    """A listener that also notes each step with its seconds into `steps`."""
    starts: list[tuple[str, str, float]] = []

    def step(name: str, reason: str, runs: bool) -> None:
        starts.append((name, reason, time.monotonic()))
        listener.step(name, reason, runs)

    try:
        yield replace(listener, step=step)
    finally:
        ends = [start for _, _, start in starts[1:]] + [time.monotonic()]
        steps += [StepTime(name, reason, end - start) for (name, reason, start), end in zip(starts, ends, strict=True)]
