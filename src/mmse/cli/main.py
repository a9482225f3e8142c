"""The commands. Results go to standard output, progress and failures to standard error."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler
from rich.markup import escape

from mmse import __version__
from mmse.cli.compare import compare
from mmse.cli.cycle import cycle
from mmse.cli.dataset import dataset_app
from mmse.cli.doctor import doctor
from mmse.cli.experiment import experiment_app
from mmse.cli.export import export_app
from mmse.cli.forget import forget
from mmse.cli.init import init
from mmse.cli.items import items_app
from mmse.cli.options import Threads, stderr, stdout, use_threads
from mmse.cli.recipes import recipes
from mmse.cli.rules import rules_app
from mmse.cli.search import search
from mmse.cli.serve import Port, events_app, serve
from mmse.cli.simulate import simulate
from mmse.cli.steps import embed, evaluate, index, map_catalogue, mine, rank, run, train
from mmse.cli.verify import verify
from mmse.cli.versions import versions_app
from mmse.core.errors import MmseError, UsageError
from mmse.core.extras import extra_of

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
    use_threads(threads)
    start = time.perf_counter()
    config = SimulatorConfig(seed=seed, n_items=items, n_requests=requests)
    with progress_on(stderr) as listener:
        shop = simulated_shop(folder / "shop", config, listener)
        pipeline.run(shop, folder / "run", listener)
    stdout.print(summary(folder / "run"))
    stdout.print(next_steps(folder / "run", time.perf_counter() - start))
    if then_serve:
        serve(folder / "run", port=port, access_log=False)


app.command(
    epilog="Examples: mmse simulate myshop --n-items 5000 --preset titles_alone · "
    "mmse simulate judged --items items.csv --judgements judgements.csv --split train"
)(simulate)
app.command(epilog="Examples: mmse run shop.toml --out run · mmse run shop.toml --since 90d")(run)
app.command(epilog="Examples: mmse mine shop.toml --out run · mmse mine shop.toml --since 2026-11-29")(mine)
app.command(
    epilog="Examples: mmse train shop.toml --out run --resume · torchrun --nproc-per-node 2 -m mmse train shop.toml"
)(train)
app.command(epilog="Examples: mmse embed shop.toml --as-of end · mmse embed shop.toml --shard 0/16")(embed)
app.command(epilog="Example: mmse index shop.toml --kind exact")(index)
app.command(epilog="Example: mmse rank shop.toml --out run")(rank)
app.command("map", epilog="Example: mmse map shop.toml --out run")(map_catalogue)
app.command(
    epilog='Examples: mmse search run "wireless headphones" -k 5 · '
    'mmse search run tent --filter "price=..100" --filter "category=Outdoor" --cap brand=2 --min-probability 0.1'
)(search)
app.command(
    epilog="Examples: mmse evaluate run · mmse evaluate run --judgements grades.csv --relevant-from 2.5 --split dev"
)(evaluate)
app.command(epilog="Examples: mmse init exports · mmse init exports --column events.query=city --make-events")(init)
app.command(epilog="Examples: mmse doctor shop.toml · mmse doctor shop.toml --json")(doctor)
app.command(epilog="Examples: mmse recipes · mmse recipes dssm")(recipes)
app.command(epilog="Example: mmse compare grid.toml --out compared --workers 2")(compare)
app.command(epilog="Examples: mmse cycle site shop.toml · mmse cycle site shop.toml --accept prices")(cycle)
app.command(epilog="Examples: mmse verify run · mmse verify site")(verify)
app.command(epilog="Examples: mmse forget u17 site · mmse forget u17 site run --dry-run")(forget)
app.command(epilog="Examples: mmse serve run · mmse serve site --workers 4 --token-file token.txt")(serve)
