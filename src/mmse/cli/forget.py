"""The command that removes one person from sites and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmse.core.errors import OutputError

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)


def forget(
    user: Annotated[str, typer.Argument(help="The user_id of the person, as the log has it.", metavar="USER")],
    paths: Annotated[list[Path], typer.Argument(help="Run folders and sites.", metavar="PATH...")],
    events: Annotated[
        list[Path] | None, typer.Option(help="A folder of events that is not in PATH/events (mmse serve --events).")
    ] = None,
    user_salt_file: Annotated[
        Path | None, typer.Option(help="The salt with which ids are hashed: what has the id or its hash goes.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Says what would go, and changes nothing.")] = False,
) -> None:
    """Removes one person: from the log of events, the datasets, and the histories of every version.

    Killed in the middle, it is run again. It ends with what it cannot do: your own source files, weights and sums.
    """
    from mmse.cycle.forget import forget as forget_person
    from mmse.schema.user_ids import UserSalt

    ids = [user]
    if user_salt_file is not None:
        ids.append(UserSalt.read(user_salt_file).hash_id(user) or user)
    report = forget_person(paths, ids, events=events or [], dry_run=dry_run)
    if not report.folders:
        stdout.print(f"Nothing of '{user}' was found in {', '.join(map(str, paths))}.")
        return
    verb = "would go" if dry_run else "gone"
    for traces in report.folders:
        stdout.print(f"{traces.n_rows:>10,} rows {verb} {traces.folder}")
    stdout.print("\nWhat remains:\n" + "\n".join(f"- {remainder}" for remainder in report.remainders))
    if report.n_open_rows:
        raise OutputError(
            f"{report.n_open_rows:,} rows are in segments of the log that a server holds open; they are still there.",
            "Run the same command again in five minutes, when it has sealed them, or once it has ended.",
        )
