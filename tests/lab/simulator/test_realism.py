from __future__ import annotations

from pathlib import Path

import pytest

from mmse.core.errors import ArtifactError
from mmse.lab.simulator.realism import TITLES, realism_figure
from mmse.lab.simulator.simulate import SimulatorConfig, simulate


def test_the_page_is_self_contained_and_says_that_it_is_simulated(tmp_path: Path) -> None:
    simulate(SimulatorConfig(n_items=300, n_requests=400), tmp_path / "it's a shop")
    page = realism_figure(tmp_path / "it's a shop")
    assert "Simulated behaviour" in page
    assert all(title in page for title in TITLES)
    assert "<script src=" not in page


def test_a_folder_that_is_no_shop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a finished 'shop'"):
        realism_figure(tmp_path)
