"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def judged_data() -> Path:
    """A folder of real catalogues with human judgements, which the project does not ship."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MMSE_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no judged data at {folder}: set MMSE_DATA to a folder with homedepot/ and crowdflower/")
    return folder
