"""The commands of a site's versions: publish, list, go back, experiments."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mmse.serving.versions.publish import Listed

out = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
versions_app = typer.Typer(
    name="versions",
    help="Puts runs into service without a pause, and takes them out again: a site is what a server watches.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

SiteFolder = Annotated[
    Path, typer.Argument(help="The folder that a server watches (docs/versions.md).", metavar="SITE")
]
Arm = Annotated[str, typer.Option(help="Whose version: 'live', or an experiment's.")]
Note = Annotated[str, typer.Option(help="Why, for the history.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@versions_app.command(epilog='Example: mmse versions publish site run --note "trained on June"')
def publish(
    site: SiteFolder,
    run: Annotated[Path, typer.Argument(help="A run folder, made by `mmse run`.", metavar="RUN")],
    arm: Arm = "live",
    note: Note = "",
    discard_edits: Annotated[
        bool, typer.Option("--discard-edits", help="Leave the live version's edits behind: the tables have them.")
    ] = False,
) -> None:
    """Checks a run, copies it into the site and serves it; running servers take it up within a second."""
    from mmse.serving.versions import publish as publishing

    name = publishing.publish(site, run, arm=arm, note=note, by=who(), edits="discard" if discard_edits else "carry")
    out.print(f"Version {name} is {arm}.")


@versions_app.command("list", epilog="Example: mmse versions list site")
def list_(site: SiteFolder, as_json: Json = False) -> None:
    """Shows every version, oldest first: when it was published, by which arms it is served, and why."""
    from mmse.serving.versions import site_file as sitefile
    from mmse.serving.versions.publish import versions
    from mmse.serving.versions.site import Site

    found = versions(Site.open(site))
    if as_json:
        history = [asdict(step) for step in sitefile.read_serving(site).history]
        out.print(json.dumps({"versions": [_plain(one) for one in found], "history": history}, indent=2))
        return
    for one in found:
        note = " ".join(one.edition.note.split())
        out.print(f"{one.edition.name}  {one.edition.at}  {', '.join(one.arms) or '-':12}  {note}".rstrip())


@versions_app.command(epilog="Examples: mmse versions rollback site · mmse versions rollback site 0003")
def rollback(
    site: SiteFolder,
    version: Annotated[str | None, typer.Argument(help="Default: the version before.", metavar="VERSION")] = None,
    arm: Arm = "live",
    note: Note = "",
) -> None:
    """Serves the version before again, with every edit since; once more goes back one further."""
    from mmse.serving.versions.site import Site
    from mmse.serving.versions.site import rollback as back

    out.print(f"Version {back(Site.open(site), arm, version, note, who())} is {arm} again.")


@versions_app.command(epilog="Example: mmse versions assign site candidate 0004")
def assign(
    site: SiteFolder,
    arm: Annotated[str, typer.Argument(help="'live', or the name of an experiment's arm.", metavar="ARM")],
    version: Annotated[str, typer.Argument(help="A version that was published.", metavar="VERSION")],
    note: Note = "",
) -> None:
    """Serves a version to an arm, which is begun if there is none of that name."""
    from mmse.serving.versions.site import Site, put_in_service

    carried = put_in_service(Site.open(site), arm, version, note, who())
    out.print(f"Version {version} is {arm}.")
    if carried.left_out:
        out.print(f"{carried.left_out:,} edits do not fit it; they stand with their reasons in {carried.aside}.")


@versions_app.command(epilog="Example: mmse versions drop site candidate")
def drop(
    site: SiteFolder, arm: Annotated[str, typer.Argument(help="The arm to end.", metavar="ARM")], note: Note = ""
) -> None:
    """Ends an experiment's arm; its version stays there."""
    from mmse.serving.experiments import require_unneeded
    from mmse.serving.versions.site import Site
    from mmse.serving.versions.site import drop as end

    opened = Site.open(site)
    require_unneeded(opened, arm)
    end(opened, arm, note, who())
    out.print(f"There is no arm {arm} any more.")


@versions_app.command(epilog="Example: mmse versions prune site --keep 3")
def prune(
    site: SiteFolder, keep: Annotated[int, typer.Option(help="How many of the newest stay, at least two.", min=1)]
) -> None:
    """Removes old versions; never one that is served, nor the live one before."""
    from mmse.serving.versions import publish as publishing
    from mmse.serving.versions.site import Site

    removed = publishing.prune(Site.open(site), keep)
    out.print(f"Removed: {', '.join(removed)}." if removed else "There was nothing to remove.")


def _plain(one: Listed) -> dict[str, Any]:
    edition = one.edition
    return {
        "version": edition.name,
        "at": edition.at,
        "note": edition.note,
        "fingerprint": edition.fingerprint,
        "arms": list(one.arms),
    }


def who() -> str:
    """Whoever runs the command, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
