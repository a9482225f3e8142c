"""`import mmse` is quick and offers its public names; the docs name every package, step and command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mmse
from mmse.core.run_folder import COMMANDS, INPUTS
from mmse.pipeline import STEPS

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_public_names_are_imported_when_they_are_used() -> None:
    for name in mmse.__all__:
        assert getattr(mmse, name) is not None
        assert name in dir(mmse)


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys, mmse; print(sorted({'torch', 'numpy', 'duckdb', 'msgspec', 'rich'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_the_steps_are_those_of_the_run_folder_and_of_the_docs() -> None:
    assert STEPS.keys() == INPUTS.keys() == COMMANDS.keys()
    for kind, command in COMMANDS.items():
        row = next(line for line in ARCHITECTURE.splitlines() if line.startswith(f"| `{kind}/`"))
        assert command in row


def test_every_package_stands_in_the_docs() -> None:
    for path in (ROOT / "src" / "mmse").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"`{path.name}/`" in ARCHITECTURE, path.name
