"""What several commands share: where they print, and the options that they have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False)
RunArgument = Annotated[Path, typer.Argument(help="A run folder, made by `mmse run`.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of PyTorch. Default: all cores.", min=1)]


def use_threads(threads: int | None) -> None:
    """Has PyTorch use so many threads; `None` leaves it as it is."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
