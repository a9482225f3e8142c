"""Runs to edit, exact and IVF, made once from the small shop; every test writes into a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalogue.live_shop import copy_run, make_run
from mmse.model.encoder import Encoder
from mmse.pipeline import Listener, Shop, embed_stage, train_stage


@pytest.fixture(scope="session")
def stages(small_shop: Shop) -> Path:
    """The run folder of the small shop with the stages that edits need; where it has them, they are not made again."""
    out = small_shop.base.parent / "run"
    train_stage(small_shop, out, Listener())
    embed_stage(small_shop, out, Listener())
    return out


@pytest.fixture(scope="session")
def encoder(stages: Path) -> Encoder:
    return Encoder.open(stages / "model")


@pytest.fixture(scope="session")
def exact_run(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(stages, tmp_path_factory.mktemp("live") / "exact", "exact")


@pytest.fixture(scope="session")
def ivf_run(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(stages, tmp_path_factory.mktemp("live") / "ivf", "ivf")


@pytest.fixture
def run(exact_run: Path, tmp_path: Path) -> Path:
    return copy_run(exact_run, tmp_path / "run")


@pytest.fixture(params=["exact", "ivf"])
def either_run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source: Path = request.getfixturevalue(f"{request.param}_run")
    return copy_run(source, tmp_path / "run")


@pytest.fixture
def fresh(exact_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Gives another unedited run at each call."""
    return lambda: copy_run(exact_run, tmp_path_factory.mktemp("fresh") / "run")
