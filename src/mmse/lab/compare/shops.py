"""The data sets of a grid on disk: each shop simulated or found, and mined, unless it is up to date."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mmse.core import artifact
from mmse.core.artifact import fingerprint_of_files, reason_to_make
from mmse.core.config import plain
from mmse.core.errors import UsageError
from mmse.lab.compare.data import DataSet, JudgedSource
from mmse.lab.simulator.judged import simulate_judged
from mmse.lab.simulator.simulate import KIND, MarketConfig, simulate
from mmse.mining.mine import MineConfig
from mmse.pipeline import Listener, mine_stage, read_shop


@dataclass(frozen=True)
class Made:
    """A data set that is there: its groups, and its truth where it is simulated."""

    dataset: Path
    truth: Path | None


def make_shop(data: DataSet, world: int | None, folder: Path, mine: MineConfig, listener: Listener) -> Made:
    """Makes the shop of `data` and its groups in `folder`; `mine` is for simulated shops, a real one has its own.

    Raises what simulating and mining raise, and `UsageError` for a real shop whose log has no test window.
    """
    source = data.seeded(world)
    if isinstance(source, Path):
        shop = read_shop(source)
    else:
        _simulate(source, folder / "shop", listener)
        shop = replace(read_shop(folder / "shop" / "shop.toml"), mine=mine)
    manifest = mine_stage(shop, folder, listener)
    if data.kind != "judged" and not manifest.counts["requests"]["test"]:
        raise UsageError(
            f"{shop.path}: no request is held back for the test, so nothing can be measured on '{data.name}'.",
            "Raise mine.test_share, or bring a longer log.",
        )
    truth = shop.truth if data.kind != "judged" else None
    if truth is not None:
        artifact.read_manifest(truth, "truth")
    return Made(folder / "dataset", truth)


def _simulate(source: MarketConfig | JudgedSource, folder: Path, listener: Listener) -> None:
    inputs: dict[str, str] = {}
    if isinstance(source, MarketConfig):
        config = plain(source)
    else:
        config = {**plain(source.market), "split": source.train_split}
        read = {"items": source.items, "judgements": source.judgements}
        inputs = {name: fingerprint_of_files([path]) for name, path in read.items()}
    why = reason_to_make(folder, KIND, config, inputs)
    listener.stage("shop", why or "up to date: same inputs, same config", why is not None)
    if why is None:
        return
    if isinstance(source, MarketConfig):
        simulate(source, folder, listener.part)
    else:
        simulate_judged(source.market, source.items, source.judgements, folder, source.train_split, listener.part)
