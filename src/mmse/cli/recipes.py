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

from mmse.core.config import plain_values
from mmse.core.errors import UsageError

stdout = Console(highlight=False, emoji=False)

_FACTS = ("paper", "equation", "differs")
_WIDTH = 120


def recipes(
    name: Annotated[str | None, typer.Argument(help="One recipe, whole: mmse, dssm, my_recipes:FOCAL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every value of every recipe.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them as docs/recipes.md has them.")] = False,
) -> None:
    """Lists the recipes to train, with the paper of each; says of one what it does and where we differ."""
    from mmse.model.recipes import ABLATIONS, BUILT_IN

    if markdown:
        stdout.print(as_markdown(), markup=False, soft_wrap=True, end="")
    elif as_json:
        document = about(name) if name else [about(recipe_name) for recipe_name in BUILT_IN]
        stdout.print_json(json.dumps(document, ensure_ascii=False))
    elif name is not None:
        _print_recipe(about(name))
    else:
        for recipe_name, source in BUILT_IN.items():
            stdout.print(f"[bold]{recipe_name}[/]\n  {escape(source.paper)}")
        stdout.print(f"\nOne of them, whole: mmse recipes dssm\nAblations, for mmse compare: {', '.join(ABLATIONS)}")


def about(name: str) -> dict[str, Any]:
    """What there is to say of a recipe; raises `UsageError` where there is none of that name."""
    from mmse.model.recipes import BUILT_IN, RECIPES

    if name not in RECIPES:
        hint = f"Known: {', '.join(RECIPES)}; or module:NAME, one of your own."
        raise UsageError(f"There is no recipe '{name}'.", hint)
    facts = plain_values(BUILT_IN[name]) if name in BUILT_IN else {}
    return {"name": name, **{key: facts[key] for key in _FACTS if facts}, "recipe": plain_values(RECIPES[name])}


def as_markdown() -> str:
    """The recipes and the ablations as `docs/recipes.md` has them."""
    from mmse.model.recipes import ABLATIONS, BUILT_IN

    lines = ["## The recipes", *(line for name in BUILT_IN for line in _section(about(name)))]
    lines += ["## Ablations", "| ablation | `[train]` |", "|---|---|"]
    for name, keys in ABLATIONS.items():
        lines.append(f"| `{name}` | {', '.join(f'`{key} = {_toml(value)}`' for key, value in keys.items())} |")
    return "\n".join(lines) + "\n"


def _section(facts: dict[str, Any]) -> Iterator[str]:
    from mmse.model.recipes import Recipe

    yield f"### `{facts['name']}`"
    yield fill(f"{facts['paper']}.", _WIDTH) + "\n"
    for equation in facts["equation"].split(";  "):
        yield f"    {equation}"
    yield "\n" + fill(f"Where we differ: {facts['differs']}", _WIDTH) + "\n"
    unlike = _differences(facts["recipe"], plain_values(Recipe()))
    values = ", ".join(f"`{key} = {_toml(value)}`" for key, value in unlike.items())
    yield fill(f"Values: {values or 'the defaults'}.", _WIDTH) + "\n"


def _differences(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What is not as in `defaults`, of tables only their keys that are not."""
    return {
        key: _differences(value, defaults[key]) if isinstance(value, dict) else value
        for key, value in values.items()
        if value != defaults[key]
    }


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def _print_recipe(facts: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    for label in _FACTS:
        if label in facts:
            table.add_row(Text(label, style="bold"), Text(facts[label]))
    for key, value in facts["recipe"].items():
        table.add_row(key, Text(_toml(value)))
    stdout.print(Text(facts["name"], style="bold"), table)
