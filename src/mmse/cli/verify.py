"""The command that looks through a run or a site for damage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmse.core.errors import ArtifactError

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)


def verify(
    path: Annotated[Path, typer.Argument(help="A run folder, or a site: every version.", metavar="RUN|SITE")],
) -> None:
    """Reads every file and compares it with its digest; checks lineage, edits, rules and a sample of answers."""
    from mmse.serving.versions.verification import verify_path

    n_parts, damages = 0, []
    for inspection in verify_path(path):
        n_parts += 1
        stdout.print(f"{'damaged' if inspection.problem else 'ok':8} {inspection.subject}")
        if inspection.problem:
            damages.append(inspection)
            stdout.print(f"         {inspection.problem}\n         {inspection.cure}")
    if damages:
        names = ", ".join(inspection.subject for inspection in damages)
        raise ArtifactError(f"{len(damages)} of {n_parts} parts of {path} are damaged: {names}.", damages[0].cure)
    stdout.print(f"All {n_parts} parts of {path} are whole.")
