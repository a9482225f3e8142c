"""Config from TOML into frozen dataclasses; an error names the key and the nearest key that exists."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from mmse.core.errors import UsageError, suggest

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises `UsageError` naming the file and the line."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Give the path of a shop.toml, or make one: mmse demo --help.")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is not valid TOML: it is not UTF-8 (at line {line}).", "Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:  # also a number of ten thousand digits, and brackets by the thousand
        raise UsageError(f"{path} is not valid TOML: {error}.", "Mend that line.") from error


def build(cls: type[T], values: Mapping[str, Any], location: str) -> T:
    """An instance of the config dataclass `cls` from plain values.

    `location` names the file and section for messages. Raises `UsageError` for an unknown key (naming the nearest
    key that exists), a wrong type, or a value that the class's `__post_init__` refuses.
    """
    _check_keys(cls, values, location)
    try:
        return msgspec.convert(dict(values), type=cls)
    except msgspec.ValidationError as error:
        raise UsageError(f"{location}: {_reword(str(error))}.", "Give a value of that kind.") from error


def _check_keys(cls: type, values: Mapping[str, Any], location: str) -> None:
    """Refuses unknown keys, also in nested sections."""
    field_types = get_type_hints(cls)
    for key, value in values.items():
        if key not in field_types:
            cure = suggest(key, field_types, f"Known keys: {', '.join(field_types)}.")
            raise UsageError(f"{location}: there is no key '{key}'.", cure)
        if dataclasses.is_dataclass(field_types[key]) and isinstance(value, Mapping):
            _check_keys(field_types[key], value, f"{location} [{key}]")
        entry_type = next(iter(get_args(field_types[key])), None)
        if isinstance(entry_type, type) and dataclasses.is_dataclass(entry_type) and isinstance(value, list):
            for number, entry in enumerate(value, 1):
                if isinstance(entry, Mapping):
                    _check_keys(entry_type, entry, f"{location} [[{key}]] number {number}")


def plain_values(config: object) -> dict[str, Any]:
    """`config` as values that JSON can hold, as a manifest stores it."""
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    values = msgspec.to_builtins(dataclasses.asdict(config))  # msgspec alone leaves out defaults of what it converted
    assert isinstance(values, dict)
    return values


def require(condition: bool, key: str, value: object, requirement: str) -> None:
    """For `__post_init__`: raises `ValueError`, which tells what `key` is and its `requirement`, unless `condition`."""
    if not condition:
        raise ValueError(f"'{key}' is {value!r}, expected {requirement}")


def _reword(message: str) -> str:
    """Turns msgspec's `Expected int, got str - at $.key` into `'key': expected int, got str`."""
    text, _, path = message.partition(" - at `$")
    key = path.strip("`").lstrip(".")
    return f"'{key}': {text[0].lower()}{text[1:]}" if key else text
