"""The results of a grid: a number for every data set, system and measure, the differences, and the failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float

from mmse.core.artifact import explain_os_errors
from mmse.evaluation.bootstrap import BootstrapConfig, Estimate, holm
from mmse.evaluation.rows import ALL, Measure
from mmse.lab.compare.cells import MEASURED_FILE
from mmse.lab.compare.data import DataKind
from mmse.lab.compare.grid import HOLM_SHARE, Grid
from mmse.lab.compare.measure import KEYS
from mmse.lab.compare.run import CellFailure, CellOutcome
from mmse.lab.compare.statistics import (
    BootstrapMeans,
    MeasureKey,
    Stratum,
    average,
    bootstrap_means,
    estimate,
    systems_and_gaps,
)

RESULTS = "results.parquet"
DIFFERENCES = "differences.parquet"
MEAN_OVER_SHOPS = "mean over shops"
"""The name of the mean over simulated shops in tables."""

HEADLINES: dict[DataKind, tuple[Measure, ...]] = {
    "simulated": (
        Measure("truth", "order_rate", 10),
        Measure("off_search", "recall", 100),
        Measure("truth", "share_of_top", 100),
        Measure("ordered", "recall", 100),
        Measure("ordered", "recall", 10),
    ),
    "shop": (
        Measure("ordered", "recall", 100),
        Measure("ordered", "recall", 10),
        Measure("clicked", "recall", 100),
        Measure("clicked", "ndcg", 10),
    ),
    "judged": (Measure("judged", "recall", 100), Measure("judged", "recall", 10), Measure("judged", "mrr", 10)),
}
"""The measures of each kind's table, the most important first; Holm's correction covers these."""


@dataclass(frozen=True)
class Result:
    """A mean over requests and training seeds.

    `low` and `high` are its interval over queries, `seed_low` and `seed_high` the lowest and highest mean of one seed.
    `seeds` is the number of training seeds, 0 where nothing is trained.
    """

    data: str
    kind: DataKind
    system: str
    target: str
    slice: str
    metric: str
    k: int
    value: float
    low: float | None
    high: float | None
    queries: int
    seeds: int
    seed_low: float | None
    seed_high: float | None


@dataclass(frozen=True)
class Gap:
    """`system`, the grid's subject, minus `versus`, paired by request over the seeds that both systems have.

    `significant` where the interval excludes 0; `holm` where that holds after Holm's correction over all systems of
    the data set, None where the measure is no headline. `mark` is empty, `*`, or `**` where `holm` holds too.
    """

    data: str
    kind: DataKind
    system: str
    versus: str
    target: str
    slice: str
    metric: str
    k: int
    value: float
    low: float | None
    high: float | None
    p: float | None
    significant: bool
    holm: bool | None

    @property
    def mark(self) -> str:
        """The significance as stars."""
        return "" if not self.significant else "**" if self.holm else "*"


@dataclass(frozen=True)
class Training:
    """The training time of a system on a data set, in seconds: the mean, the shortest and the longest seed."""

    data: str
    system: str
    seconds: float
    low: float
    high: float
    steps: int


@dataclass(frozen=True)
class Comparison:
    """All results of a grid; `data` are the tables' names in order, the mean over simulated shops first."""

    grid: Grid
    data: list[tuple[str, DataKind]]
    results: list[Result]
    gaps: list[Gap]
    training: list[Training]
    failures: list[CellOutcome]
    cells: int

    def result(self, data: str, system: str, measure: Measure, slice_: str = ALL) -> Result | None:
        """One number, None where it was not measured."""
        return self._results.get((data, system, slice_, measure))

    def gap(self, data: str, versus: str, measure: Measure, slice_: str = ALL) -> Gap | None:
        """The subject minus `versus`, None where they were not compared."""
        return self._gaps.get((data, versus, slice_, measure))

    def seconds(self, data: str, system: str) -> Training | None:
        """The training time of a system on a data set, None where it was not trained."""
        return next((row for row in self.training if (row.data, row.system) == (data, system)), None)

    @property
    def grouped_failures(self) -> list[tuple[str, CellFailure, list[str]]]:
        """The failures by system and cause, each with the labels of its cells."""
        groups: dict[tuple[str, CellFailure], list[str]] = {}
        for outcome in self.failures:
            assert outcome.failure is not None
            groups.setdefault((outcome.cell.system, outcome.failure), []).append(outcome.cell.label)
        return [(system, failure, labels) for (system, failure), labels in groups.items()]

    def systems(self, data: str) -> list[str]:
        """The systems of one table: the subject, then the others in the grid's order, then the untrained systems."""
        names = dict.fromkeys(row.system for row in self.results if row.data == data)
        subject = self.grid.subject
        order = [subject, *(system for system in self.grid.systems if system != subject), *names]
        return [system for system in dict.fromkeys(order) if system in names]

    @cached_property
    def _results(self) -> dict[tuple[str, str, str, Measure], Result]:
        return {(r.data, r.system, r.slice, Measure(r.target, r.metric, r.k)): r for r in self.results}

    @cached_property
    def _gaps(self) -> dict[tuple[str, str, str, Measure], Gap]:
        return {(g.data, g.versus, g.slice, Measure(g.target, g.metric, g.k)): g for g in self.gaps}


@dataclass(frozen=True)
class _TableMeans:
    """One table: its measures, the bootstrap means by column (`systems_and_gaps`), and each seed's means by system."""

    measures: list[MeasureKey]
    columns: Mapping[tuple[str, str], BootstrapMeans]
    by_seed: Mapping[str, Mapping[int | None, Float[np.ndarray, " m"]]]


def compare(grid: Grid, outcomes: Sequence[CellOutcome]) -> Comparison:
    """The results of all cells; those that failed are among the failures."""
    successes = [outcome for outcome in outcomes if outcome.failure is None]
    tables: list[tuple[str, DataKind, _TableMeans]] = []
    mean_parts: dict[str, _TableMeans] = {}
    config = grid.measure.to_bootstrap()
    for number, data in enumerate(grid.data):
        data_outcomes = [outcome for outcome in successes if outcome.cell.data.name == data.name]
        for catalogue in ["", *data.foreign_names]:
            measures, strata = _strata(data_outcomes, catalogue)
            if not strata:
                continue
            means = _table_means(measures, strata, grid.subject, config, number)
            if data.in_mean and not catalogue:
                mean_parts[data.name] = means
            has_truth = any(target == "truth" for _, target, *_ in measures)
            tables.append((catalogue or data.name, "simulated" if has_truth else data.kind, means))
    if len(mean_parts) > 1:
        tables.insert(0, (MEAN_OVER_SHOPS, "simulated", _mean_over_shops(list(mean_parts.values()))))
    results: list[Result] = []
    gaps: list[Gap] = []
    # The rows of the mean over shops are last in the files; its table is the first one shown.
    for name, kind, means in sorted(tables, key=lambda table: table[0] == MEAN_OVER_SHOPS):
        _add_rows(name, kind, means, config.level, results, gaps)
    return Comparison(
        grid,
        [(name, kind) for name, kind, _ in tables],
        results,
        gaps,
        _training(successes, list(mean_parts)),
        [outcome for outcome in outcomes if outcome.failure is not None],
        len(outcomes),
    )


def write_results(comparison: Comparison, folder: Path) -> None:
    """Writes `results.parquet` and `differences.parquet` into `folder`."""
    with explain_os_errors(folder):
        for name, rows in ((RESULTS, comparison.results), (DIFFERENCES, comparison.gaps)):
            table = pa.Table.from_pylist([asdict(row) for row in rows]) if rows else pa.table({})
            pq.write_table(table, folder / f".{name}", compression="zstd")
            (folder / f".{name}").replace(folder / name)


def _strata(outcomes: Sequence[CellOutcome], catalogue: str) -> tuple[list[MeasureKey], list[Stratum]]:
    """The logs of one data set as strata with the same numbers of measures; `catalogue` selects the values."""
    worlds: dict[int | None, list[tuple[CellOutcome, pa.Table]]] = {}
    for outcome in outcomes:
        columns = ["on", "target", "slice", "metric", "query"]
        table = pq.read_table(outcome.folder / MEASURED_FILE, read_dictionary=columns)
        table = table.filter(pc.equal(pc.cast(table["on"], pa.string()), catalogue))
        if len(table):
            worlds.setdefault(outcome.cell.world, []).append((outcome, table))
    keys = [_keys(tables[0][1]) for tables in worlds.values()]
    measures = list(dict.fromkeys(key for world_keys in keys for key in world_keys))
    number = {key: n for n, key in enumerate(measures)}
    strata = []
    for world_keys, tables in zip(keys, worlds.values(), strict=True):
        model_table = tables[0][1]
        values: dict[str, dict[int | None, np.ndarray]] = {}
        for outcome, table in tables:
            assert all(_same(table[name], model_table[name]) for name in ("request", *KEYS)), "cells of one log differ"
            values.setdefault(outcome.cell.system, {})[outcome.cell.seed] = table["value"].to_numpy()
        query = pc.cast(model_table["query"], pa.string()).combine_chunks().dictionary_encode().indices
        strata.append(
            Stratum(
                measures=measures,
                measure=np.fromiter((number[key] for key in world_keys), np.int64, len(world_keys)),
                query=query.to_numpy().astype(np.int64),
                values=values,
            )
        )
    return measures, strata


def _same(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    """Whether two columns have the same values, perhaps with different dictionaries."""
    return bool(a.equals(b)) or bool(pc.cast(a, pa.string()).equals(pc.cast(b, pa.string())))


def _keys(table: pa.Table) -> list[MeasureKey]:
    columns = [table[name].to_pylist() for name in KEYS]
    return list(zip(*columns, strict=True))


def _table_means(
    measures: list[MeasureKey], strata: Sequence[Stratum], subject: str, config: BootstrapConfig, number: int
) -> _TableMeans:
    parts: dict[tuple[str, str], list[BootstrapMeans]] = {}
    by_seed: dict[str, dict[int | None, np.ndarray]] = {}
    for i, stratum in enumerate(strata):
        columns = systems_and_gaps(stratum, subject)
        means = bootstrap_means(stratum, list(columns.values()), config, number * 1_000 + i)
        for key, column_means in zip(columns, means, strict=True):
            parts.setdefault(key, []).append(column_means)
        for system, values in stratum.values.items():
            for seed, column in values.items():
                by_seed.setdefault(system, {})[seed] = _means(stratum, column)
    whole = {key: average(column_parts) for key, column_parts in parts.items() if len(column_parts) == len(strata)}
    return _TableMeans(measures, whole, by_seed)


def _means(stratum: Stratum, column: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " m"]:
    n = len(stratum.measures)
    sums = np.bincount(stratum.measure, weights=column, minlength=n)
    counts = np.bincount(stratum.measure, minlength=n)
    means: np.ndarray = np.divide(sums, counts, out=np.full(n, np.nan), where=counts > 0)
    return means


def _mean_over_shops(parts: Sequence[_TableMeans]) -> _TableMeans:
    """The mean over simulated shops with equal weights, of the measures and columns that all of them have."""
    measures = [key for key in parts[0].measures if all(key in part.measures for part in parts)]
    indices = [np.array([part.measures.index(key) for key in measures]) for part in parts]
    columns = {}
    for key in parts[0].columns:
        if all(key in part.columns for part in parts):
            shops = [part.columns[key] for part in parts]
            columns[key] = average(
                [BootstrapMeans(s.mean[i], s.draws[:, i], s.queries[i]) for s, i in zip(shops, indices, strict=True)]
            )
    by_seed: dict[str, dict[int | None, np.ndarray]] = {}
    for system in {system for system, versus in columns if not versus}:
        for seed in set.intersection(*(set(part.by_seed[system]) for part in parts)):
            means = [part.by_seed[system][seed][i] for part, i in zip(parts, indices, strict=True)]
            by_seed.setdefault(system, {})[seed] = np.mean(means, axis=0)
    return _TableMeans(measures, columns, by_seed)


def _add_rows(
    name: str, kind: DataKind, table: _TableMeans, level: float, results: list[Result], gaps: list[Gap]
) -> None:
    """Adds one table's results and differences."""
    for i, (_, target, slice_, metric, k) in enumerate(table.measures):
        estimates: list[tuple[str, str, Estimate]] = []
        for (system, versus), means in table.columns.items():
            number = estimate(means, i, level, is_gap=bool(versus))
            if number is None:
                continue
            if versus:
                estimates.append((system, versus, number))
                continue
            seed_means = [column[i] for seed, column in table.by_seed.get(system, {}).items() if seed is not None]
            spread = (float(min(seed_means)), float(max(seed_means))) if seed_means else (None, None)
            columns = (number.value, number.low, number.high, number.queries)
            results.append(Result(name, kind, system, target, slice_, metric, k, *columns, len(seed_means), *spread))
        is_headline = slice_ == ALL and Measure(target, metric, k) in HEADLINES[kind]
        p_values = [1.0 if number.p is None else number.p for _, _, number in estimates]
        holm_results = holm(p_values, HOLM_SHARE) if is_headline else [None] * len(estimates)
        for (system, versus, number), holm_result in zip(estimates, holm_results, strict=True):
            interval = (number.value, number.low, number.high, number.p, number.significant)
            gaps.append(Gap(name, kind, system, versus, target, slice_, metric, k, *interval, holm_result))


def _training(outcomes: Sequence[CellOutcome], mean_shops: Sequence[str]) -> list[Training]:
    times: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for outcome in outcomes:
        if outcome.manifest is None or outcome.cell.seed is None:
            continue
        data = outcome.cell.data
        names = [data.name, *data.foreign_names]
        if len(mean_shops) > 1 and data.name in mean_shops:
            names.append(MEAN_OVER_SHOPS)
        counts = outcome.manifest.counts
        for name in names:
            times.setdefault((name, outcome.cell.system), []).append((counts["train_seconds"], counts["steps"]))
    return [_summarise_training(data, system, rows) for (data, system), rows in times.items()]


def _summarise_training(data: str, system: str, rows: Sequence[tuple[float, int]]) -> Training:
    seconds, steps = zip(*rows, strict=True)
    return Training(data, system, float(np.mean(seconds)), min(seconds), max(seconds), round(float(np.mean(steps))))
