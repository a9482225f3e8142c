"""The commands of a live catalogue: items in, out and changed, without a rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mmse.core.errors import UsageError
from mmse.core.json_files import parse_json

if TYPE_CHECKING:
    from mmse.catalogue.edits import Edit

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
items_app = typer.Typer(
    name="items",
    help="Puts items in, changes or takes them out while the run is searched; nothing is built again.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Run = Annotated[Path, typer.Argument(help="A run folder, made by `mmse run`.", metavar="RUN")]
Shop = Annotated[Path, typer.Argument(help="A run folder, or a site: all that it serves.", metavar="RUN|SITE")]
Item = Annotated[str, typer.Argument(help="The item_id.", metavar="ITEM")]


@items_app.command(epilog="Example: mmse items apply run edits.jsonl")
def apply(
    path: Shop, file: Annotated[Path, typer.Argument(help="One edit a line (docs/live.md).", metavar="EDITS.jsonl")]
) -> None:
    """Applies a file of upserts, changes and deletes: all of them, or none where one is wrong."""
    from mmse.catalogue.edits import parse_edit

    if not file.is_file():
        raise UsageError(f"There is no file {file}.", "Give a file with one edit a line, in JSON.")
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    _apply(path, [parse_edit(line, f"{file}, line {number}") for number, line in enumerate(lines, 1)])


@items_app.command("set", epilog="Example: mmse items set run i00016942 price=9.99 available=false")
def set_(
    path: Shop, item: Item, values: Annotated[list[str], typer.Argument(help="column=value", metavar="COLUMN=VALUE…")]
) -> None:
    """Changes some columns of an item, such as its price or whether it is available."""
    from mmse.catalogue.edits import Change

    _apply(path, [Change(item, dict(_value(said) for said in values))])


@items_app.command(epilog="Example: mmse items delete run i00016942 i00010414")
def delete(path: Shop, items: Annotated[list[str], typer.Argument(help="The item_ids.", metavar="ITEM…")]) -> None:
    """Takes items out of the catalogue."""
    from mmse.catalogue.edits import Delete

    _apply(path, [Delete(item) for item in items])


@items_app.command(epilog="Example: mmse items compact run")
def compact(path: Shop) -> None:
    """Folds all edits into the index, which searches a little faster then; nothing is lost if it is interrupted."""
    from mmse.catalogue.live_catalogue import LiveCatalogue

    for run in _runs(path):
        with LiveCatalogue.open(run, writable=True) as catalogue:
            outcome = catalogue.compact()
            messages = {"nothing": "There was nothing to fold.", "busy": "Another process folds them at this moment."}
            stdout.print(messages.get(outcome, f"Folded; {len(catalogue.snapshot()):,} items."))


@items_app.command(epilog="Example: mmse items status run")
def status(path: Shop) -> None:
    """Says how many items there are and how many edits are not yet folded into the index."""
    from mmse.catalogue.live_catalogue import LiveCatalogue

    with LiveCatalogue.open(_runs(path)[0]) as catalogue:
        snapshot = catalogue.snapshot()
        stdout.print(
            f"{len(snapshot):,} items, version {snapshot.version}; "
            f"{snapshot.n_changed:,} changed since the index was made."
        )
        if catalogue.problem:
            stdout.print(catalogue.problem)


@items_app.command("carry-over", epilog="Example: mmse items carry-over run")
def carry_over(run: Run) -> None:
    """After the index was made again: applies the edits of the former one to it."""
    from mmse.catalogue import carry_over as carry

    _require_run(run)
    transfer = carry(run)
    stdout.print(f"{transfer.n_carried:,} edited items were carried over.")
    if transfer.n_left_out:
        stdout.print(
            f"{transfer.n_left_out:,} no longer fit; they stand with their reasons in {transfer.rejects_file}."
        )


@items_app.command(epilog="Example: mmse items discard run")
def discard(run: Run) -> None:
    """After the index was made again: drops the edits of the former one."""
    from mmse.catalogue import discard as drop

    _require_run(run)
    stdout.print(f"The edits of {drop(run):,} items were dropped.")


def _apply(path: Path, edits: list[Edit]) -> None:
    from mmse.catalogue.live_catalogue import LiveCatalogue
    from mmse.serving.versions.site import Site, is_site

    if is_site(path):
        applied_edits = Site.open(path).apply(edits)
        other_versions = sorted(name for name in applied_edits.catalogue_versions if name != applied_edits.version)
        suffix = f", and version {', '.join(other_versions)}" if other_versions else ""
        stdout.print(f"{len(edits):,} edits applied to version {applied_edits.version}, which is live{suffix}.")
        return
    with LiveCatalogue.open(path, writable=True) as catalogue:
        version = catalogue.apply(edits)
        stdout.print(f"{len(edits):,} edits applied; {len(catalogue.snapshot()):,} items, version {version}.")


def _runs(path: Path) -> list[Path]:
    """The run folder `path`, or those that the site in it serves, the live one first."""
    from mmse.serving.versions.site import Site, is_site

    return [edition.run for edition in Site.open(path).state().versions] if is_site(path) else [path]


def _require_run(path: Path) -> None:
    from mmse.serving.versions.site import is_site

    if is_site(path):
        raise UsageError(
            f"{path} is a site, where edits go along with each version.",
            "To leave them behind: `mmse versions publish SITE RUN --discard-edits`.",
        )


def _value(assignment: str) -> tuple[str, Any]:
    """A column and its value: JSON where it is some (a number, true, null), text where it is not."""
    column, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"{assignment!r} has no '='.", "Write column=value, such as price=9.99.")
    try:
        return column, parse_json(text)
    except ValueError:
        return column, text
