"""Config from TOML into frozen dataclasses, with errors that name the key and the nearest known one."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from mmse.core.errors import UsageError

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises `UsageError` naming the file and the line."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Give the path of a shop.toml, or make one: mmse demo --help.")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", "Mend that line.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is not valid TOML: it is not UTF-8 (at line {line}).", "Save it as UTF-8.") from error


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the config dataclass `cls` from plain values.

    `where` names the file and section for messages. Raises `UsageError` for an unknown key (naming the nearest
    known one), a wrong type, or a value that the class's `__post_init__` refuses.
    """
    _check_keys(cls, values, where)
    try:
        return msgspec.convert(dict(values), type=cls)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_readable(str(error))}.", "Give a value of that kind.") from error


def _check_keys(cls: type, values: Mapping[str, Any], where: str) -> None:
    """Refuses unknown keys, those of sections within sections too."""
    known = get_type_hints(cls)
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"Did you mean '{close[0]}'?" if close else f"Known keys: {', '.join(known)}."
            raise UsageError(f"{where}: there is no key '{key}'.", hint)
        if dataclasses.is_dataclass(known[key]) and isinstance(value, Mapping):
            _check_keys(known[key], value, f"{where} [{key}]")


def plain(config: object) -> dict[str, Any]:
    """`config` as JSON-ready values, as it stands in a manifest."""
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    values = msgspec.to_builtins(dataclasses.asdict(config))  # msgspec alone leaves out defaults of what it converted
    assert isinstance(values, dict)
    return values


def require(condition: bool, key: str, found: object, expected: str) -> None:
    """For `__post_init__`: raises `ValueError` saying that `key` should be `expected`."""
    if not condition:
        raise ValueError(f"'{key}' is {found!r}, expected {expected}")


def _readable(message: str) -> str:
    """Msgspec says `Expected int, got str - at $.key`; people read `key: expected int, got str`."""
    text, _, path = message.partition(" - at `$")
    key = path.strip("`").lstrip(".")
    return f"'{key}': {text[0].lower()}{text[1:]}" if key else text
