"""The command line as a test calls it."""

from __future__ import annotations

import sys

import pytest

from cli.called import Call, Done
from mmse.cli import main


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in this process and gives what it left."""

    def called(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["mmse", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as left:
            code = left.code
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return called
