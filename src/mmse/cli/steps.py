"""The commands that make the folders of a run: all steps, or one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from mmse.cli.days import DayOption, parse_since
from mmse.cli.options import Json, RunArgument, Threads, stderr, stdout, use_threads
from mmse.core.config import build, plain_values
from mmse.core.errors import UsageError

if TYPE_CHECKING:
    from mmse.core.artifact import Manifest
    from mmse.pipeline import StepContext
    from mmse.shop import Shop

Config = TypeVar("Config")
ShopFile = Annotated[Path, typer.Argument(help="The shop.toml that names the two tables.", metavar="SHOP.toml")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The run folder. Default: `run` beside shop.toml.")]


def run(shop_file: ShopFile, folder: OutOption = None, threads: Threads = None, since: DayOption = None) -> None:
    """Runs every step that is not up to date: mine, train, embed, index, rank, map, evaluate."""
    from mmse import pipeline
    from mmse.cli.console import progress_on
    from mmse.cli.demo import next_steps, summary
    from mmse.mining.lessons import NO_LOG
    from mmse.shop import read_shop

    use_threads(threads)
    target = folder or shop_file.parent / "run"
    shop = read_shop(shop_file).begin_at(parse_since(since))
    with progress_on(stderr) as listener:
        pipeline.run(shop, target, listener)
    if shop.events is None:
        stdout.print("\n".join(("", *NO_LOG)), markup=False, soft_wrap=True)
    stdout.print(summary(target))
    stdout.print(next_steps(target))


def mine(shop_file: ShopFile, folder: OutOption = None, since: DayOption = None) -> None:
    """Mines the log into the dataset: requests by stage, examination, histories, splits; and what serving needs."""
    from mmse.core.run_folder import DATASET, SERVING
    from mmse.shop import read_shop

    shop = read_shop(shop_file).begin_at(parse_since(since))
    _make(DATASET, shop, folder)
    _make(SERVING, shop, folder)


def train(
    shop_file: ShopFile,
    folder: OutOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was interrupted.")] = False,
    recipe: Annotated[
        str | None, typer.Option(help="Another recipe than the shop's: dssm, my_recipes:FOCAL (see mmse recipes).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    threads: Threads = None,
) -> None:
    """Trains the towers on the dataset and keeps the last weights."""
    from mmse.core.run_folder import MODEL
    from mmse.shop import read_shop
    from mmse.training.distributed import join_team

    use_threads(threads)
    with join_team() as team, _mute_followers(team.leads):
        shop = read_shop(shop_file)
        shop = replace(shop, train=_with_options(shop.train, recipe=recipe, epochs=epochs, seed=seed))
        _make(MODEL, shop, folder, resume=resume)


def embed(
    shop_file: ShopFile,
    folder: OutOption = None,
    as_of: Annotated[str | None, typer.Option(help="What the log may say of items: up to `test` or its `end`.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Embeds this part of the catalogue alone: 0/16 … 15/16, each a process.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Makes the vectors of what all shards have embedded.")] = False,
    threads: Threads = None,
) -> None:
    """Embeds the catalogue with the trained model."""
    from mmse.cli.console import progress_on
    from mmse.core.run_folder import VECTORS, RunFolder
    from mmse.index.embedding_parts import CatalogueShard, embed_shard
    from mmse.pipeline import merge_vectors
    from mmse.shop import read_shop

    if shard is not None and merge:
        raise UsageError("--shard and --merge exclude one another.", "Run every shard, and --merge after the last one.")
    use_threads(threads)
    shop = read_shop(shop_file)
    shop = replace(shop, embed=_with_options(shop.embed, as_of=as_of))
    if shard is None:
        _make(VECTORS, shop, folder, make_folder=merge_vectors if merge else None)
        return
    part = CatalogueShard.parse(shard)
    with progress_on(stderr) as listener:
        counts = embed_shard(RunFolder(folder or shop.base / "run"), shop.embed, part, listener.part)
    stdout.print(f"shard {shard}: {counts.n_embedded} parts embedded, {counts.n_finished} were there", markup=False)


def index(
    shop_file: ShopFile,
    folder: OutOption = None,
    kind: Annotated[str | None, typer.Option(help="exact or ivf.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="The lists of vectors take at most so much, such as 2GB: coarser codes.")
    ] = None,
    recall: Annotated[
        float | None, typer.Option(help="This share of the exact nearest items is found.", min=0.01, max=1.0)
    ] = None,
) -> None:
    """Indexes the catalogue: its vectors, its words, and the columns to filter by."""
    from mmse.core.run_folder import INDEX
    from mmse.shop import read_shop

    shop = read_shop(shop_file)
    _make(INDEX, replace(shop, index=_with_options(shop.index, kind=kind, memory=memory, target_recall=recall)), folder)


def rank(shop_file: ShopFile, folder: OutOption = None) -> None:
    """Learns from the validation window how both channels become one list, and how likely a hit is to be clicked."""
    from mmse.core.run_folder import RANKING
    from mmse.shop import read_shop

    _make(RANKING, read_shop(shop_file), folder)


def map_catalogue(shop_file: ShopFile, folder: OutOption = None) -> None:
    """Draws the catalogue as a map: similar items lie close together."""
    from mmse.core.extras import require_extra
    from mmse.core.run_folder import MAP
    from mmse.shop import read_shop

    require_extra("map")
    _make(MAP, read_shop(shop_file), folder)


def evaluate(
    folder: RunArgument,
    judgements: Annotated[Path | None, typer.Option(help="Human grades: query, item_id, relevance.")] = None,
    relevant_from: Annotated[float | None, typer.Option(help="The grade from which an item is relevant.")] = None,
    split: Annotated[str | None, typer.Option(help="Use only the judgements of this `split`.")] = None,
    as_json: Json = False,
) -> None:
    """Compares our model with the baselines: on the log's test window, or on human judgements."""
    from mmse.cli.console import evaluation_table, progress_on
    from mmse.core.artifact import fingerprint_of_files
    from mmse.core.run_folder import REPORT, RunFolder
    from mmse.evaluation.judgements import evaluate_judged
    from mmse.evaluation.step import PAGE, read_report, write_report
    from mmse.pipeline import make
    from mmse.shop import shop_of

    shop = shop_of(folder)
    if judgements is None and (relevant_from is not None or split is not None):
        raise UsageError("--relevant-from and --split go with --judgements.", "Name the judgements file.")
    with progress_on(stderr) as listener:
        if judgements is None:
            make(REPORT, shop, folder, listener)
            report_folder = RunFolder(folder).report
            evaluation, report = read_report(report_folder), report_folder / PAGE
        else:
            if relevant_from is None:
                raise UsageError(
                    "--judgements needs --relevant-from.", "Give the grade from which an item is relevant."
                )
            evaluation = evaluate_judged(
                folder, judgements, shop.evaluate, relevant_from=relevant_from, split=split, progress=listener.part
            )
            target = folder / f"report-{judgements.name.split('.')[0]}"
            config = {"judgements": str(judgements), "relevant_from": relevant_from, "split": split}
            write_report(folder, target, evaluation, config, {"judgements": fingerprint_of_files([judgements])})
            report = target / PAGE
    if as_json:
        stdout.print_json(
            msgspec.json.encode({"rows": evaluation.rows, "differences": evaluation.differences}).decode()
        )
    else:
        stdout.print(evaluation_table(evaluation))
        if report.is_file():
            stdout.print(f"Report: {report}", markup=False, soft_wrap=True)


def _make(
    name: str,
    shop: Shop,
    folder: Path | None,
    *,
    resume: bool = True,
    make_folder: Callable[[StepContext], Manifest] | None = None,
) -> None:
    """Makes one folder of the run, and prints what its manifest counts."""
    from mmse.cli.console import progress_on
    from mmse.pipeline import make

    with progress_on(stderr) as listener:
        manifest = make(name, shop, folder, listener, resume=resume, make_folder=make_folder)
    for key, value in manifest.counts.items():
        if key == "lessons":
            stdout.print("\n".join(value), markup=False, soft_wrap=True)
        elif key == "trials":  # what the lists of the index were chosen from
            lines = (", ".join(f"{name.replace('_', ' ')} {part}" for name, part in trial.items()) for trial in value)
            stdout.print("\n".join(f"{'tried':>28}  {line}" for line in lines), markup=False)
        elif key not in ("recipe", "warnings"):  # the manifest has it whole, it would fill a screen; it was logged
            stdout.print(f"{key.replace('_', ' '):>28}  {value}", markup=False)


@contextmanager
def _mute_followers(speaks: bool) -> Iterator[None]:
    """Where this process does not speak for its team, nothing inside is printed; what is raised is, further out."""
    stdout.quiet = stderr.quiet = not speaks
    try:
        yield
    finally:
        stdout.quiet = stderr.quiet = False


def _with_options(config: Config, **options: object) -> Config:
    """`config` with the options that were given; raises `UsageError` for a value it refuses."""
    values = {key: value for key, value in options.items() if value is not None}
    return build(type(config), plain_values(config) | values, "option")
