"""Imports go down only: the floors of docs/architecture.md, read from every import of the package."""

import ast
import graphlib
from collections.abc import Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "mmse"
FLOORS: dict[int, set[str]] = {
    0: {"core", "__init__"},
    1: {"schema", "text"},
    2: {"sources", "dataset", "client"},
    3: {"mining", "model"},
    4: {"training"},
    5: {"index", "map"},
    6: {"catalogue", "ranking"},
    7: {"retrieval"},
    8: {"evaluation", "experiment", "export", "release"},
    9: {"shop", "pipeline", "serving", "lab.simulator"},
    10: {"cycle", "lab"},
    11: {"cli", "__main__"},
}
STRANGERS = (FLOORS[3], FLOORS[6])
"""These stand on one floor and do not know one another."""


def package_of(parts: Sequence[str]) -> str:
    """The package of a module: its package, or `lab.simulator`, whose truth the pipeline opens."""
    return "lab.simulator" if parts[:2] == ("lab", "simulator") else parts[0].removesuffix(".py")


def floor_of(package: str) -> int:
    return next(floor for floor, packages in FLOORS.items() if package in packages)


def imports() -> list[tuple[Path, str, str]]:
    """Every (file, package it stands in, module of mmse it imports), imports inside functions included."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path == SOURCE / "__init__.py":  # its public names are imported when they are first used
            continue
        package = package_of(path.relative_to(SOURCE).parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, f"{path}: relative import"
                names = [
                    f"{node.module}.{alias.name}" if node.module == "mmse" else node.module for alias in node.names
                ]
            found += [(path, package, name) for name in names if name.split(".")[0] == "mmse"]
    return found


def test_every_file_stands_on_a_floor() -> None:
    packages = {package_of(path.relative_to(SOURCE).parts) for path in SOURCE.rglob("*.py")}
    assert packages == set().union(*FLOORS.values()) - ({"__main__"} - packages)


def test_imports_go_down_only() -> None:
    for path, package, name in imports():
        other = package_of(tuple(name.split(".")[1:])) if "." in name else "__init__"
        other = other if any(other in packages for packages in FLOORS.values()) else "__init__"
        if other == package:
            continue
        assert floor_of(other) <= floor_of(package), f"{path} imports upward: {name}"
        assert not any({other, package} <= those for those in STRANGERS), f"{path}: {package} must not know {other}"


def test_rooms_have_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for _, package, name in imports():
        other = package_of(tuple(name.split(".")[1:])) if "." in name else "__init__"
        if other != package:
            graph.setdefault(package, set()).add(other)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"packages import one another in a circle: {error.args[1]}")


def test_the_package_itself_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, mmse; print([m for m in ('torch', 'duckdb', 'faiss', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
