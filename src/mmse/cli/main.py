"""The commands. Results go to standard output, progress and failures to standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from mmse import __version__
from mmse.cli.compare import compare
from mmse.cli.cycle import cycle
from mmse.cli.dataset import dataset_app
from mmse.cli.days import DayOption, parse_since
from mmse.cli.doctor import doctor
from mmse.cli.experiment import experiment_app
from mmse.cli.export import export_app
from mmse.cli.forget import forget
from mmse.cli.init import init
from mmse.cli.items import items_app
from mmse.cli.recipes import recipes
from mmse.cli.rules import rules_app
from mmse.cli.serve import Port, events_app, serve
from mmse.cli.verify import verify
from mmse.cli.versions import versions_app
from mmse.core.config import build, plain_values
from mmse.core.errors import MmseError, UsageError
from mmse.core.extras import extra_of

if TYPE_CHECKING:
    from mmse.core.artifact import Manifest
    from mmse.pipeline import StepContext
    from mmse.shop import Shop

Config = TypeVar("Config")
stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)
app = typer.Typer(
    name="mmse",
    help="A shop's items and behaviour log in, product search out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

app.add_typer(dataset_app)
app.add_typer(items_app)
app.add_typer(rules_app)
app.add_typer(versions_app)
app.add_typer(events_app)
app.add_typer(experiment_app)
app.add_typer(export_app)

ShopFile = Annotated[Path, typer.Argument(help="The shop.toml that names the two tables.", metavar="SHOP.toml")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder, made by `mmse run`.", metavar="RUN")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The run folder. Default: `run` beside shop.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of PyTorch. Default: all cores.", min=1)]
INTERRUPT_CODE = 130
"""The exit code into which typer turns Ctrl-C, without a word."""


def main() -> None:
    """Runs the command line and leaves with its exit code: 0 done, 1 failed, 2 wrong usage or input."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=stderr, show_time=False, show_path=False)],
    )
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ and sys.argv[1:2] != ["train"]:
            stderr.quiet = os.environ.get("RANK") != "0"
            raise UsageError("Of all commands only `mmse train` is for several processes.", "Leave torchrun out.")
        app()
    except MmseError as error:
        if debug:
            raise
        stderr.print(
            f"[bold red]error:[/] {escape(error.cause)}\n[bold]to mend it:[/] {escape(error.cure)}", soft_wrap=True
        )
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as left:
        if isinstance(left, SystemExit) and left.code != INTERRUPT_CODE:
            raise
        stderr.print("Interrupted. Finished steps are kept; the same command goes on from there.")
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name)):
            stderr.print(f"[bold red]error:[/] {escape(str(error))}\n[bold]to mend it:[/] {escape(extra.command)}")
            sys.exit(UsageError.exit_code)
        stderr.print(f"[bold red]error:[/] {escape(type(error).__name__)}: {escape(str(error))}", soft_wrap=True)
        message = "This is a fault of mmse. Run the command again with --debug and report what it prints."
        stderr.print(message, soft_wrap=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """A shop's items and behaviour log in, product search out. Any command takes --debug for a full traceback."""
    if version:
        stdout.print(f"mmse {__version__}")
        raise typer.Exit


@app.command(epilog="Examples: mmse demo --out demo · mmse demo --serve")
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where shop and run are written.")] = Path("demo"),
    items: Annotated[int, typer.Option(help="Items of the simulated shop.", min=100)] = 20_000,
    requests: Annotated[int, typer.Option(help="Requests sent; some find nothing.", min=100)] = 62_000,
    seed: Annotated[int, typer.Option(help="Another seed, another shop.", min=0)] = 0,
    threads: Threads = None,
    then_serve: Annotated[bool, typer.Option("--serve", help="Then serves it: a page to search it.")] = False,
    port: Port = 8000,
) -> None:
    """Simulates a shop, runs every step on its log, and shows what was gained."""
    from mmse import pipeline
    from mmse.cli.console import progress_on
    from mmse.cli.demo import next_steps, simulated_shop, summary
    from mmse.core.extras import require_extra
    from mmse.lab.simulator.simulate import SimulatorConfig

    if then_serve:
        require_extra("serve")
    _use_threads(threads)
    start = time.perf_counter()
    config = SimulatorConfig(seed=seed, n_items=items, n_requests=requests)
    with progress_on(stderr) as listener:
        shop = simulated_shop(folder / "shop", config, listener)
        pipeline.run(shop, folder / "run", listener)
    stdout.print(summary(folder / "run"))
    stdout.print(next_steps(folder / "run", time.perf_counter() - start))
    if then_serve:
        serve(folder / "run", port=port, access_log=False)


@app.command(
    epilog="Examples: mmse simulate myshop --n-items 5000 --preset titles_alone · "
    "mmse simulate judged --items items.csv --judgements judgements.csv --split train"
)
def simulate(
    folder: Annotated[Path, typer.Argument(help="The shop folder to write.", metavar="OUT")],
    n_items: Annotated[int, typer.Option(help="Items of a made-up catalogue.", min=100)] = 20_000,
    n_requests: Annotated[int, typer.Option(help="Requests to a made-up catalogue.", min=100)] = 60_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", help="A shop that differs in kind, such as titles_alone; may be given several times."),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="A real catalogue, instead of a made-up one.")] = None,
    judgements: Annotated[
        Path | None, typer.Option(help="Human grades of its items: query, item_id, relevance.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Use only the judgements of this `split`.")] = None,
    requests_per_query: Annotated[int, typer.Option(help="Requests per judged query, on average.", min=1)] = 12,
) -> None:
    """Writes a shop whose truth is known: items, a behaviour log, shop.toml, and the truth apart."""
    from mmse.cli.console import progress_on
    from mmse.core.artifact import read_manifest
    from mmse.core.config import build
    from mmse.lab.simulator.judged_shop import JudgedConfig, simulate_judged
    from mmse.lab.simulator.simulate import KIND, SimulatorConfig
    from mmse.lab.simulator.simulate import simulate as simulate_shop

    if (items is None) != (judgements is None):
        raise UsageError("--items and --judgements go together.", "Give both, or neither for a made-up catalogue.")
    if items is not None and presets:
        raise UsageError("--preset is for made-up catalogues.", "Leave it out, or --items and --judgements.")
    with progress_on(stderr) as listener:
        if items is not None and judgements is not None:
            judged_config = JudgedConfig(seed=seed, requests_per_query=requests_per_query)
            simulate_judged(judged_config, items, judgements, folder, split, listener.part)
        else:
            values = {"seed": seed, "n_items": n_items, "n_requests": n_requests, "presets": presets or []}
            config = build(SimulatorConfig, values, "mmse simulate")
            simulate_shop(config, folder, listener.part)
    for name, value in read_manifest(folder, KIND).counts.items():
        stdout.print(
            f"{name.replace('_', ' '):>28}  {value:,.4g}"
            if isinstance(value, float)
            else f"{name.replace('_', ' '):>28}  {value:,}"
        )
    stdout.print(f"\nThe behaviour is simulated. Next: mmse run {folder / 'shop.toml'}", markup=False, soft_wrap=True)


@app.command(epilog="Examples: mmse run shop.toml --out run · mmse run shop.toml --since 90d")
def run(shop_file: ShopFile, folder: OutOption = None, threads: Threads = None, since: DayOption = None) -> None:
    """Runs every step that is not up to date: mine, train, embed, index, rank, map, evaluate."""
    from mmse import pipeline
    from mmse.cli.console import progress_on
    from mmse.cli.demo import next_steps, summary
    from mmse.mining.lessons import NO_LOG
    from mmse.shop import read_shop

    _use_threads(threads)
    target = folder or shop_file.parent / "run"
    shop = read_shop(shop_file).begin_at(parse_since(since))
    with progress_on(stderr) as listener:
        pipeline.run(shop, target, listener)
    if shop.events is None:
        stdout.print("\n".join(("", *NO_LOG)), markup=False, soft_wrap=True)
    stdout.print(summary(target))
    stdout.print(next_steps(target))


@app.command(epilog="Examples: mmse mine shop.toml --out run · mmse mine shop.toml --since 2026-11-29")
def mine(shop_file: ShopFile, folder: OutOption = None, since: DayOption = None) -> None:
    """Mines the log into the dataset: requests by stage, examination, histories, splits; and what serving needs."""
    from mmse.core.run_folder import DATASET, SERVING
    from mmse.shop import read_shop

    shop = read_shop(shop_file).begin_at(parse_since(since))
    _make(DATASET, shop, folder)
    _make(SERVING, shop, folder)


@app.command(
    epilog="Examples: mmse train shop.toml --out run --resume · torchrun --nproc-per-node 2 -m mmse train shop.toml"
)
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

    _use_threads(threads)
    with join_team() as team, _mute_followers(team.leads):
        shop = read_shop(shop_file)
        shop = replace(shop, train=_with_options(shop.train, recipe=recipe, epochs=epochs, seed=seed))
        _make(MODEL, shop, folder, resume=resume)


@app.command(epilog="Examples: mmse embed shop.toml --as-of end · mmse embed shop.toml --shard 0/16")
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
    _use_threads(threads)
    shop = read_shop(shop_file)
    shop = replace(shop, embed=_with_options(shop.embed, as_of=as_of))
    if shard is None:
        _make(VECTORS, shop, folder, make_folder=merge_vectors if merge else None)
        return
    part = CatalogueShard.parse(shard)
    with progress_on(stderr) as listener:
        counts = embed_shard(RunFolder(folder or shop.base / "run"), shop.embed, part, listener.part)
    stdout.print(f"shard {shard}: {counts.n_embedded} parts embedded, {counts.n_finished} were there", markup=False)


@app.command(epilog="Example: mmse index shop.toml --kind exact")
def index(
    shop_file: ShopFile,
    folder: OutOption = None,
    kind: Annotated[str | None, typer.Option(help="exact or ivf.")] = None,
) -> None:
    """Indexes the catalogue: its vectors, its words, and the columns to filter by."""
    from mmse.core.run_folder import INDEX
    from mmse.shop import read_shop

    shop = read_shop(shop_file)
    _make(INDEX, replace(shop, index=_with_options(shop.index, kind=kind)), folder)


@app.command(epilog="Example: mmse rank shop.toml --out run")
def rank(shop_file: ShopFile, folder: OutOption = None) -> None:
    """Learns from the validation window how both channels become one list, and how likely a hit is to be clicked."""
    from mmse.core.run_folder import RANKING
    from mmse.shop import read_shop

    _make(RANKING, read_shop(shop_file), folder)


@app.command("map", epilog="Example: mmse map shop.toml --out run")
def map_catalogue(shop_file: ShopFile, folder: OutOption = None) -> None:
    """Draws the catalogue as a map: similar items lie close together."""
    from mmse.core.extras import require_extra
    from mmse.core.run_folder import MAP
    from mmse.shop import read_shop

    require_extra("map")
    _make(MAP, read_shop(shop_file), folder)


@app.command(
    epilog='Examples: mmse search run "wireless headphones" -k 5 · '
    'mmse search run tent --filter "price=..100" --filter "category=Outdoor" --cap brand=2 --min-probability 0.1'
)
def search(
    folder: RunArgument,
    query: Annotated[str, typer.Argument(help="What a shopper would type.")],
    k: Annotated[int, typer.Option("-k", "--hits", help="How many hits.", min=1)] = 10,
    user: Annotated[str | None, typer.Option(help="A user_id of the log: its history counts.")] = None,
    user_salt_file: Annotated[
        Path | None, typer.Option(help="The salt with which the run's ids are hashed ([mine] user_salt_file).")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="brand=Bosch, price=10..20, or JSON (docs/search.md); all of several must hold."),
    ] = None,
    min_probability: Annotated[float, typer.Option(help="Leave out hits less likely to be clicked.")] = 0.0,
    target_precision: Annotated[
        float | None, typer.Option(help="As many hits as are clicked that often on average.")
    ] = None,
    cap: Annotated[list[str] | None, typer.Option(help="brand=2: at most two hits of a brand.")] = None,
    boost: Annotated[
        list[str] | None, typer.Option(help="1.5:brand=Bosch: multiplies the odds of what the filter lets through.")
    ] = None,
    channel: Annotated[str, typer.Option(help="hybrid, vector, lexical or rrf.")] = "hybrid",
    offset: Annotated[int, typer.Option(help="So many hits are skipped: the next page.", min=0)] = 0,
    sort: Annotated[
        str | None, typer.Option(help="Orders the relevant hits by a number: price, or -rating from high to low.")
    ] = None,
    correct: Annotated[bool, typer.Option(help="Corrects misspelt words.")] = True,
    all_variants: Annotated[
        bool, typer.Option("--all-variants", help="Shows every item of an item_group, not the best one alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Searches a run: hits, how likely each is, and why it stands where it stands."""
    from mmse.cli import search_options as asking
    from mmse.cli.console import answer_table
    from mmse.ranking.calibration import NO_PROBABILITIES
    from mmse.retrieval.retriever import Retriever
    from mmse.schema.user_ids import UserSalt

    query, user = _as_text(query), _as_text(user) if user is not None else None
    if user_salt_file is not None:
        user = UserSalt.read(user_salt_file).hash_id(user)
    retriever = Retriever.open(folder)
    request = asking.search_of(
        retriever.kinds,
        query,
        k,
        user,
        filters=filters or [],
        caps=cap or [],
        boosts=boost or [],
        channel=channel,
        min_probability=min_probability,
        target_precision=target_precision,
        offset=offset,
        sort=sort,
        correct=correct,
        all_variants=all_variants,
    )
    answer = retriever.answer(request)
    if as_json:
        stdout.print_json(json.dumps({"query": query, "user_id": user} | asking.plain_answer(answer), default=str))
    else:
        stdout.print(answer_table(query, answer))
        if not retriever.ranking.calibration.is_learned:
            stdout.print(NO_PROBABILITIES, style="dim", soft_wrap=True)


@app.command(
    epilog="Examples: mmse evaluate run · mmse evaluate run --judgements grades.csv --relevant-from 2.5 --split dev"
)
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


app.command(epilog="Examples: mmse init exports · mmse init exports --column events.query=city --make-events")(init)
app.command(epilog="Examples: mmse doctor shop.toml · mmse doctor shop.toml --json")(doctor)
app.command(epilog="Examples: mmse recipes · mmse recipes dssm")(recipes)
app.command(epilog="Example: mmse compare grid.toml --out compared --workers 2")(compare)
app.command(epilog="Examples: mmse cycle site shop.toml · mmse cycle site shop.toml --accept prices")(cycle)
app.command(epilog="Examples: mmse verify run · mmse verify site")(verify)
app.command(epilog="Examples: mmse forget u17 site · mmse forget u17 site run --dry-run")(forget)
app.command(epilog="Examples: mmse serve run · mmse serve site --workers 4 --token-file token.txt")(serve)


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


def _as_text(argument: str) -> str:
    """`argument` with `?` for what is no text: a terminal may send any bytes, and JSON has no place for them."""
    return argument.encode("utf-8", "replace").decode("utf-8")


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
