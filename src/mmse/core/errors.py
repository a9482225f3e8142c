"""What can go wrong for a user, each with its cause and its cure.

    MmseError
    ├── UsageError        the command, an option or a key of shop.toml is wrong
    ├── TableError        a table of the user is missing, unreadable or malformed
    ├── ArtifactError     a folder of a run is missing, damaged or does not fit the others
    │   └── SchemaError   it was written in a form that this mmse does not read
    ├── OutputError       the result cannot be written (permission, full disk)
    ├── StoreError        a vector store on another machine or in another process does not answer, or refuses
    ├── ProcessLost       another process of a training run has gone (training/distributed.py)
    ├── Refused           a request to the server is not answered (serving/failures.py)
    └── ServiceError      a server did not answer the client, or refused (client/)

Mistakes in our own logic are `assert`s and never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmseError(Exception):
    """A failure that a user can repair: `cause` names what was expected, found and where; `cure` tells what to do."""

    exit_code = 2

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause, cure)
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.cause}\n{self.cure}"


class UsageError(MmseError):
    """The command line or `shop.toml` asks for something that does not exist or is impossible."""


class TableError(MmseError):
    """A table is missing, cannot be read, lacks a column, or has too many bad rows."""


class ArtifactError(MmseError):
    """A folder of a run is missing, damaged, of another kind, or made from other inputs."""


class SchemaError(ArtifactError):
    """A folder of a run was made by a mmse that wrote it in another form: it is whole, and has to be made again."""


class OutputError(MmseError):
    """The output cannot be written: no permission, or no space left."""

    exit_code = 1


class StoreError(MmseError):
    """A vector store does not answer, or refuses what it should do."""

    exit_code = 1


def suggest(name: str, options: Iterable[str], fallback: str) -> str:
    """A cure for a misspelt `name`: the nearest of `options` as a question, or `fallback` where none is near."""
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else fallback
