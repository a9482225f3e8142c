"""What can go wrong for a user, each with its cause and its cure.

    MmseError
    ├── UsageError        the command, an option or a key of shop.toml is wrong
    ├── TableError        a table the user brought is missing, unreadable or malformed
    ├── ArtifactError     a stage folder is missing, damaged or does not fit the others
    ├── OutputError       the result cannot be written (permission, full disk)
    ├── ProcessLost       another process of a training run has gone (training/distributed.py)
    ├── Refused           a request to the server is not answered (serving/failures.py)
    └── ServiceError      a server did not answer the client, or refused (client/)

Mistakes in our own logic are `assert`s and never one of these.
"""

from __future__ import annotations


class MmseError(Exception):
    """A failure a user can mend: `cause` says what was expected and found where, `cure` what to do."""

    exit_code = 2

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause, cure)
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.cause}\n{self.cure}"


class UsageError(MmseError):
    """The command line or `shop.toml` asks for something that does not exist or cannot be."""


class TableError(MmseError):
    """A table is missing, cannot be read, lacks a column, or has too many bad rows."""


class ArtifactError(MmseError):
    """A stage folder is missing, damaged, of another kind, or made from something else."""


class OutputError(MmseError):
    """The output cannot be written: no permission, or no space left."""

    exit_code = 1
