"""Names and values from outside enter SQL only through these."""

from __future__ import annotations

from collections.abc import Iterable


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """`texts` as SQL strings with commas between them."""
    return ", ".join(map(literal, texts))


def json_path(*keys: str) -> str:
    """The path of a member of a JSON object, by its keys from outside in."""
    return "$" + "".join('."' + key.replace('"', '\\"') + '"' for key in keys)
