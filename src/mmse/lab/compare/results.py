"""What a grid says: a number for every data set, system and measure, ours against the others, and what failed."""

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

from mmse.core.artifact import writable
from mmse.evaluation.bootstrap import BootstrapConfig, holm
from mmse.evaluation.rows import ALL
from mmse.lab.compare.cells import MEASURED
from mmse.lab.compare.data import DataSet, Kind
from mmse.lab.compare.grid import HOLM_SHARE, Grid
from mmse.lab.compare.measure import KEYS
from mmse.lab.compare.run import Failed, Outcome
from mmse.lab.compare.statistics import Drawn, Measures, Stratum, draw, mean_of, sure, systems_and_gaps

RESULTS = "results.parquet"
DIFFERENCES = "differences.parquet"
POOLED = "mean over shops"
"""What the mean over simulated shops is called in tables."""

Measure = tuple[str, str, int]
"""(target, metric, k)."""

HEADLINES: dict[Kind, tuple[Measure, ...]] = {
    "simulated": (
        ("truth", "order_rate", 10),
        ("off_search", "recall", 100),
        ("truth", "share_of_top", 100),
        ("ordered", "recall", 100),
        ("ordered", "recall", 10),
    ),
    "shop": (
        ("ordered", "recall", 100),
        ("ordered", "recall", 10),
        ("clicked", "recall", 100),
        ("clicked", "ndcg", 10),
    ),
    "judged": (("judged", "recall", 100), ("judged", "recall", 10), ("judged", "mrr", 10)),
}
"""The measures of each kind's table, most telling first; Holm's correction is over these."""


@dataclass(frozen=True)
class Result:
    """A mean over requests and training seeds.

    `low` and `high` bound it over queries, `seed_low` and `seed_high` are the lowest and highest mean of one seed.
    `seeds` counts those behind it, 0 where nothing is trained.
    """

    data: str
    kind: Kind
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
    """`system`, which is ours, minus `versus`, paired by request over the seeds that both have.

    `significant` where the interval leaves 0 out; `holm` where that holds after Holm's correction over all systems of
    the data set, None where the measure is no headline. `mark` is empty, `*`, or `**` where `holm` holds too.
    """

    data: str
    kind: Kind
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
        """How sure it is, in stars."""
        return "" if not self.significant else "**" if self.holm else "*"


@dataclass(frozen=True)
class Training:
    """How long a system trained on a data set, in seconds: the mean, the shortest and the longest seed."""

    data: str
    system: str
    seconds: float
    low: float
    high: float
    steps: int


@dataclass(frozen=True)
class Compared:
    """Everything a grid has to say; `data` are the tables' names in order, the mean over simulated shops first."""

    grid: Grid
    data: list[tuple[str, Kind]]
    results: list[Result]
    gaps: list[Gap]
    training: list[Training]
    failed: list[Outcome]
    cells: int

    def result(self, data: str, system: str, measure: Measure, slice_: str = ALL) -> Result | None:
        """One number, None where it was not measured."""
        return self._results.get((data, system, slice_, *measure))

    def gap(self, data: str, versus: str, measure: Measure, slice_: str = ALL) -> Gap | None:
        """Ours minus `versus`, None where they were not compared."""
        return self._gaps.get((data, versus, slice_, *measure))

    def seconds(self, data: str, system: str) -> Training | None:
        """How long a system trained on a data set, None where it did not."""
        return next((one for one in self.training if (one.data, one.system) == (data, system)), None)

    @property
    def failed_together(self) -> list[tuple[str, Failed, list[str]]]:
        """The cells that failed, by system and cause: where they stand."""
        together: dict[tuple[str, Failed], list[str]] = {}
        for one in self.failed:
            assert one.failed is not None
            together.setdefault((one.cell.system, one.failed), []).append(one.cell.where)
        return [(system, failed, places) for (system, failed), places in together.items()]

    def systems(self, data: str) -> list[str]:
        """The systems of one table: ours first, the others as the grid has them, then what is not trained."""
        found = dict.fromkeys(one.system for one in self.results if one.data == data)
        ours = self.grid.ours
        order = [ours, *(s for s in self.grid.systems if s != ours), *found]
        return [system for system in dict.fromkeys(order) if system in found]

    @cached_property
    def _results(self) -> dict[tuple[str | int, ...], Result]:
        return {(r.data, r.system, r.slice, r.target, r.metric, r.k): r for r in self.results}

    @cached_property
    def _gaps(self) -> dict[tuple[str | int, ...], Gap]:
        return {(g.data, g.versus, g.slice, g.target, g.metric, g.k): g for g in self.gaps}


@dataclass(frozen=True)
class _Seen:
    """One table's means and draws by column (see `systems_and_gaps`), and each seed's means by system."""

    columns: Mapping[tuple[str, str], Drawn]
    by_seed: Mapping[str, Mapping[int | None, Float[np.ndarray, " m"]]]


def compare(grid: Grid, outcomes: Sequence[Outcome]) -> Compared:
    """The numbers of all cells that were made; those that failed are told beside them."""
    made = [one for one in outcomes if one.failed is None]
    results: list[Result] = []
    gaps: list[Gap] = []
    names: list[tuple[str, Kind]] = []
    pooled: list[tuple[DataSet, list[Measures], _Seen]] = []
    config = grid.measure.to_bootstrap()
    for place, data in enumerate(grid.data):
        theirs = [one for one in made if one.cell.data.name == data.name]
        for on in ["", *data.other_names]:
            measures, strata = _strata(theirs, on)
            if not strata:
                continue
            seen = _seen(strata, grid.ours, config, place)
            if data.pooled and not on:
                pooled.append((data, measures, seen))
            kind: Kind = "simulated" if any(target == "truth" for _, target, *_ in measures) else data.kind
            names.append((on or data.name, kind))
            _tell(on or data.name, kind, measures, seen, grid, results, gaps)
    if len(pooled) > 1:
        names.insert(0, (POOLED, "simulated"))
        measures, seen = _pooled(pooled)
        _tell(POOLED, "simulated", measures, seen, grid, results, gaps)
    return Compared(
        grid,
        names,
        results,
        gaps,
        _training(made, grid, [data.name for data, _, _ in pooled]),
        [one for one in outcomes if one.failed is not None],
        len(outcomes),
    )


def write_results(compared: Compared, out: Path) -> None:
    """Writes `results.parquet` and `differences.parquet` into the folder `out`."""
    with writable(out):
        for name, rows in ((RESULTS, compared.results), (DIFFERENCES, compared.gaps)):
            table = pa.Table.from_pylist([asdict(row) for row in rows]) if rows else pa.table({})
            pq.write_table(table, out / f".{name}", compression="zstd")
            (out / f".{name}").replace(out / name)


def _strata(made: Sequence[Outcome], on: str) -> tuple[list[Measures], list[Stratum]]:
    """The logs of one data set as strata that number the same measures; `on` is the catalogue."""
    worlds: dict[int | None, list[tuple[Outcome, pa.Table]]] = {}
    for one in made:
        table = pq.read_table(one.folder / MEASURED, read_dictionary=["on", "target", "slice", "metric", "query"])
        table = table.filter(pc.equal(pc.cast(table["on"], pa.string()), on))
        if len(table):
            worlds.setdefault(one.cell.world, []).append((one, table))
    keys = [_keys(tables[0][1]) for tables in worlds.values()]
    measures = list(dict.fromkeys(key for found in keys for key in found))
    number = {key: n for n, key in enumerate(measures)}
    strata = []
    for found, tables in zip(keys, worlds.values(), strict=True):
        first = tables[0][1]
        values: dict[str, dict[int | None, np.ndarray]] = {}
        for one, table in tables:
            assert all(_same(table[name], first[name]) for name in ("request", *KEYS)), "cells of one log differ"
            values.setdefault(one.cell.system, {})[one.cell.seed] = table["value"].to_numpy()
        query = pc.cast(first["query"], pa.string()).combine_chunks().dictionary_encode().indices
        strata.append(
            Stratum(
                measures=measures,
                measure=np.fromiter((number[key] for key in found), np.int64, len(found)),
                query=query.to_numpy().astype(np.int64),
                values=values,
            )
        )
    return measures, strata


def _same(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    """Whether two columns say the same, be it by different dictionaries."""
    return bool(a.equals(b)) or bool(pc.cast(a, pa.string()).equals(pc.cast(b, pa.string())))


def _keys(table: pa.Table) -> list[Measures]:
    columns = [table[name].to_pylist() for name in KEYS]
    return list(zip(*columns, strict=True))


def _seen(strata: Sequence[Stratum], ours: str, config: BootstrapConfig, place: int) -> _Seen:
    parts: dict[tuple[str, str], list[Drawn]] = {}
    by_seed: dict[str, dict[int | None, np.ndarray]] = {}
    for number, stratum in enumerate(strata):
        columns = systems_and_gaps(stratum, ours)
        drawn = draw(stratum, list(columns.values()), config, place * 1_000 + number)
        for key, one in zip(columns, drawn, strict=True):
            parts.setdefault(key, []).append(one)
        for system, values in stratum.values.items():
            for seed, column in values.items():
                by_seed.setdefault(system, {})[seed] = _means(stratum, column)
    whole = {key: mean_of(found) for key, found in parts.items() if len(found) == len(strata)}
    return _Seen(whole, by_seed)


def _means(stratum: Stratum, column: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " m"]:
    n = len(stratum.measures)
    above, below = np.bincount(stratum.measure, weights=column, minlength=n), np.bincount(stratum.measure, minlength=n)
    means: np.ndarray = np.divide(above, below, out=np.full(n, np.nan), where=below > 0)
    return means


def _pooled(parts: Sequence[tuple[DataSet, list[Measures], _Seen]]) -> tuple[list[Measures], _Seen]:
    """The mean over simulated shops, each of the same weight, of what all of them have."""
    shared = [key for key in parts[0][1] if all(key in measures for _, measures, _ in parts)]
    places = [np.array([measures.index(key) for key in shared]) for _, measures, _ in parts]
    columns = {}
    for key in parts[0][2].columns:
        if all(key in seen.columns for _, _, seen in parts):
            found = [seen.columns[key] for _, _, seen in parts]
            columns[key] = mean_of(
                [Drawn(d.mean[at], d.draws[:, at], d.queries[at]) for d, at in zip(found, places, strict=True)]
            )
    by_seed: dict[str, dict[int | None, np.ndarray]] = {}
    for system in {system for system, versus in columns if not versus}:
        seeds = set.intersection(*(set(seen.by_seed[system]) for _, _, seen in parts))
        for seed in seeds:
            means = [seen.by_seed[system][seed][at] for (_, _, seen), at in zip(parts, places, strict=True)]
            by_seed.setdefault(system, {})[seed] = np.mean(means, axis=0)
    return shared, _Seen(columns, by_seed)


def _tell(
    name: str, kind: Kind, measures: Sequence[Measures], seen: _Seen, grid: Grid, results: list[Result], gaps: list[Gap]
) -> None:
    """Adds one table's results and differences."""
    level = grid.measure.to_bootstrap().level
    for at, (_, target, slice_, metric, k) in enumerate(measures):
        where = (target, slice_, metric, k)
        found = []
        for (system, versus), drawn in seen.columns.items():
            one = sure(drawn, at, level, gap=bool(versus))
            if one is None:
                continue
            if versus:
                found.append((system, versus, one))
                continue
            means = [means[at] for seed, means in seen.by_seed.get(system, {}).items() if seed is not None]
            spread = (float(min(means)), float(max(means))) if means else (None, None)
            results.append(
                Result(name, kind, system, *where, one.value, one.low, one.high, one.queries, len(means), *spread)
            )
        headline = slice_ == ALL and (target, metric, k) in HEADLINES[kind]
        held = holm([1.0 if one.p is None else one.p for _, _, one in found], HOLM_SHARE) if headline else []
        for n, (system, versus, one) in enumerate(found):
            gaps.append(
                Gap(
                    name,
                    kind,
                    system,
                    versus,
                    *where,
                    one.value,
                    one.low,
                    one.high,
                    one.p,
                    one.significant,
                    held[n] if headline else None,
                )
            )


def _training(made: Sequence[Outcome], grid: Grid, pooled: Sequence[str]) -> list[Training]:
    found: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for one in made:
        if one.manifest is None or one.cell.seed is None:
            continue
        said = (one.manifest.counts["train_seconds"], one.manifest.counts["steps"])
        names = [one.cell.data.name, *one.cell.data.other_names]
        for name in names + ([POOLED] if len(pooled) > 1 and one.cell.data.name in pooled else []):
            found.setdefault((name, one.cell.system), []).append(said)
    return [_trained(data, system, said) for (data, system), said in found.items()]


def _trained(data: str, system: str, said: Sequence[tuple[float, int]]) -> Training:
    seconds, steps = [one[0] for one in said], [one[1] for one in said]
    return Training(data, system, float(np.mean(seconds)), min(seconds), max(seconds), round(float(np.mean(steps))))
