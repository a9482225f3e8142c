"""The command that says which recipes there are, whose they are, and where we differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import fill
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mmse.core.config import plain
from mmse.core.errors import UsageError

out = Console(highlight=False, emoji=False)

_SAID = ("paper", "equation", "differs")
_WIDTH = 120


def recipes(
    name: Annotated[str | None, typer.Argument(help="One recipe, whole: mmse, dssm, my_recipes:FOCAL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every value of every recipe.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them as docs/recipes.md has them.")] = False,
) -> None:
    """Lists the recipes to train, with the paper of each; says of one what it does and where we differ."""
    from mmse.model.recipes import ABLATIONS, PUBLISHED

    if markdown:
        out.print(as_markdown(), markup=False, soft_wrap=True, end="")
    elif as_json:
        found = about(name) if name else [about(one) for one in PUBLISHED]
        out.print_json(json.dumps(found, ensure_ascii=False))
    elif name is not None:
        _print_one(about(name))
    else:
        for one, published in PUBLISHED.items():
            out.print(f"[bold]{one}[/]\n  {escape(published.paper)}")
        out.print(f"\nOne of them, whole: mmse recipes dssm\nAblations, for mmse compare: {', '.join(ABLATIONS)}")


def about(name: str) -> dict[str, Any]:
    """What there is to say of a recipe; raises `UsageError` where there is none of that name."""
    from mmse.model.recipes import PUBLISHED, RECIPES

    if name not in RECIPES:
        known = f"Known: {', '.join(RECIPES)}; or module:NAME, one of your own."
        raise UsageError(f"There is no recipe '{name}'.", known)
    said = plain(PUBLISHED[name]) if name in PUBLISHED else {}
    return {"name": name, **{key: said[key] for key in _SAID if said}, "recipe": plain(RECIPES[name])}


def as_markdown() -> str:
    """The recipes and the ablations as `docs/recipes.md` has them."""
    from mmse.model.recipes import ABLATIONS, PUBLISHED

    lines = ["## The recipes", *(line for name in PUBLISHED for line in _section(about(name)))]
    lines += ["## Ablations", "| ablation | `[train]` |", "|---|---|"]
    for name, keys in ABLATIONS.items():
        lines.append(f"| `{name}` | {', '.join(f'`{key} = {_toml(value)}`' for key, value in keys.items())} |")
    return "\n".join(lines) + "\n"


def _section(said: dict[str, Any]) -> Iterator[str]:
    from mmse.model.recipes import Recipe

    yield f"### `{said['name']}`"
    yield fill(f"{said['paper']}.", _WIDTH) + "\n"
    for equation in said["equation"].split(";  "):
        yield f"    {equation}"
    yield "\n" + fill(f"Where we differ: {said['differs']}", _WIDTH) + "\n"
    unlike = _unlike(said["recipe"], plain(Recipe()))
    values = ", ".join(f"`{key} = {_toml(value)}`" for key, value in unlike.items())
    yield fill(f"Values: {values or 'the defaults'}.", _WIDTH) + "\n"


def _unlike(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What is not as in `defaults`, of tables only their keys that are not."""
    return {
        key: _unlike(value, defaults[key]) if isinstance(value, dict) else value
        for key, value in values.items()
        if value != defaults[key]
    }


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def _print_one(said: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    for label in _SAID:
        if label in said:
            table.add_row(Text(label, style="bold"), Text(said[label]))
    for key, value in said["recipe"].items():
        table.add_row(key, Text(_toml(value)))
    out.print(Text(said["name"], style="bold"), table)
