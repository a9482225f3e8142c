"""Runs to edit, exact and IVF, made once from the small shop; every test writes into a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalogue.live_runs import copy_run, make_run
from mmse.model.encoder import Encoder


@pytest.fixture(scope="session")
def encoder(small_run: Path) -> Encoder:
    return Encoder.open(small_run / "model")


@pytest.fixture(scope="session")
def exact_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_run, tmp_path_factory.mktemp("live") / "exact", "exact")


@pytest.fixture(scope="session")
def ivf_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_run, tmp_path_factory.mktemp("live") / "ivf", "ivf")


@pytest.fixture
def run(exact_run: Path, tmp_path: Path) -> Path:
    return copy_run(exact_run, tmp_path / "run")


@pytest.fixture(params=["exact", "ivf"])
def either_run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source: Path = request.getfixturevalue(f"{request.param}_run")
    return copy_run(source, tmp_path / "run")


@pytest.fixture
def copy_unedited(exact_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes another unedited run at each call."""
    return lambda: copy_run(exact_run, tmp_path_factory.mktemp("copy") / "run")
