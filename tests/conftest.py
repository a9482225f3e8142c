"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mmse.pipeline import run
from mmse.shop import Shop
from shop import make_shop


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
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A small simulated shop, mined into `run` beside it."""
    return make_shop(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_run(small_shop: Shop) -> Path:
    """The run folder of the small shop with every stage done."""
    out = small_shop.base.parent / "run"
    run(small_shop, out)
    return out
