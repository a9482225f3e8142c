"""The commands of a site's versions: publish, list, go back, experiments."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mmse.serving.versions.publish import ListedVersion

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
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
    without_histories: Annotated[
        bool, typer.Option("--without-histories", help="Publish no shopper's history, and so no user_id.")
    ] = False,
) -> None:
    """Checks a run, copies it into the site and serves it; running servers take it up within a second."""
    from mmse.serving.versions import publish as publishing

    edits: Literal["carry", "discard"] = "discard" if discard_edits else "carry"
    histories = not without_histories
    name = publishing.publish(site, run, arm=arm, note=note, by=who(), edits=edits, histories=histories)
    stdout.print(f"Version {name} is {arm}.")


@versions_app.command("list", epilog="Example: mmse versions list site")
def list_(site: SiteFolder, as_json: Json = False) -> None:
    """Shows every version, oldest first: when it was published, by which arms it is served, and why."""
    import msgspec

    from mmse.serving.versions import site_file
    from mmse.serving.versions.publish import list_versions
    from mmse.serving.versions.site import Site

    listings = list_versions(Site.open(site))
    if as_json:
        history = msgspec.to_builtins(site_file.read_site(site).history)
        stdout.print(json.dumps({"versions": [_plain(listing) for listing in listings], "history": history}, indent=2))
        return
    for listing in listings:
        note = " ".join(listing.version.note.split())
        stdout.print(
            f"{listing.version.name}  {listing.version.at}  {', '.join(listing.arms) or '-':12}  {note}".rstrip()
        )


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

    stdout.print(f"Version {back(Site.open(site), arm, version, note, who())} is {arm} again.")


@versions_app.command(epilog="Example: mmse versions assign site candidate 0004")
def assign(
    site: SiteFolder,
    arm: Annotated[str, typer.Argument(help="'live', or the name of an experiment's arm.", metavar="ARM")],
    version: Annotated[str, typer.Argument(help="A version that was published.", metavar="VERSION")],
    note: Note = "",
) -> None:
    """Serves a version to an arm, which is begun if there is none of that name."""
    from mmse.serving.versions.site import Site, put_in_service

    transfer = put_in_service(Site.open(site), arm, version, note, who())
    stdout.print(f"Version {version} is {arm}.")
    if transfer.n_left_out:
        stdout.print(
            f"{transfer.n_left_out:,} edits do not fit it; they stand with their reasons in {transfer.rejects_file}."
        )


@versions_app.command(epilog="Example: mmse versions drop site candidate")
def drop(
    site: SiteFolder, arm: Annotated[str, typer.Argument(help="The arm to end.", metavar="ARM")], note: Note = ""
) -> None:
    """Ends an experiment's arm; its version stays there."""
    from mmse.serving.experiments import require_unused
    from mmse.serving.versions.site import Site
    from mmse.serving.versions.site import drop_arm as end

    site_state = Site.open(site)
    require_unused(site_state, arm)
    end(site_state, arm, note, who())
    stdout.print(f"There is no arm {arm} any more.")


@versions_app.command(epilog="Example: mmse versions prune site --keep 3")
def prune(
    site: SiteFolder, keep: Annotated[int, typer.Option(help="How many of the newest stay, at least two.", min=1)]
) -> None:
    """Removes old versions; never one that is served, nor the live one before."""
    from mmse.serving.versions import publish as publishing
    from mmse.serving.versions.site import Site

    names = publishing.prune(Site.open(site), keep)
    stdout.print(f"Removed: {', '.join(names)}." if names else "There was nothing to remove.")


def _plain(listing: ListedVersion) -> dict[str, Any]:
    edition = listing.version
    return {
        "version": edition.name,
        "at": edition.at,
        "note": edition.note,
        "fingerprint": edition.fingerprint,
        "arms": list(listing.arms),
    }


def who() -> str:
    """Whoever runs the command, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
