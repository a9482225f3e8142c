"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import type_checks

type_checks.install()  # before the project is imported, whose functions it decorates

from mmse.core import locks  # noqa: E402
from mmse.pipeline import run  # noqa: E402
from mmse.shop import Shop  # noqa: E402
from order import rank  # noqa: E402
from shop import make_shop  # noqa: E402

WAIT_S = 300.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.path.name))


@pytest.fixture(scope="session")
def judged_data() -> Path:
    """A folder of real catalogues with human judgements, which the project does not ship."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MMSE_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no judged data at {folder}: set MMSE_DATA to a folder with homedepot/ and crowdflower/")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Training is bit-reproducible on one thread only, and two cores serve two test processes better so."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small shop lies: one folder for all test processes, of which the first makes what it needs."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def small_shop(small_folder: Path) -> Shop:
    """A small simulated shop, mined into `run` beside it. Tests that write into either copy it first."""
    with locks.lock(small_folder / "lock", limit_s=WAIT_S):
        return make_shop(small_folder)


@pytest.fixture(scope="session")
def small_run(small_folder: Path, small_shop: Shop) -> Path:
    """The run folder of the small shop with every stage done; what is done already is left as it is."""
    with locks.lock(small_folder / "lock", limit_s=WAIT_S):
        run(small_shop, small_folder / "run")
    return small_folder / "run"
