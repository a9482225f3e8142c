"""The data sets of a grid on disk: simulates the shops that are simulated, and mines all that are not up to date."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mmse.core import artifact
from mmse.core.artifact import fingerprint_of_files, reason_to_make
from mmse.core.config import plain_values
from mmse.core.errors import UsageError
from mmse.core.run_folder import DATASET, RunFolder
from mmse.lab.compare.data import DataSet, JudgedSource
from mmse.lab.simulator.judged_shop import simulate_judged
from mmse.lab.simulator.simulate import KIND, SimulatorConfig, simulate
from mmse.mining.mine import MineConfig
from mmse.pipeline import UP_TO_DATE, Listener, make
from mmse.shop import read_shop


@dataclass(frozen=True)
class MinedShop:
    """A shop's dataset on disk, and its truth where it is simulated."""

    dataset: Path
    truth: Path | None


def make_shop(data: DataSet, world: int | None, folder: Path, mine_config: MineConfig, listener: Listener) -> MinedShop:
    """Makes the shop of `data` and its dataset in `folder`; `mine` is for simulated shops, a real one has its own.

    Raises what simulating and mining raise, and `UsageError` for a real shop whose log has no test window.
    """
    source = data.with_seed(world)
    if isinstance(source, Path):
        shop = read_shop(source)
    else:
        _simulate(source, folder / "shop", listener)
        shop = replace(read_shop(folder / "shop" / "shop.toml"), mine=mine_config)
    manifest = make(DATASET, shop, folder, listener)
    if data.kind != "judged" and not manifest.counts["requests"]["test"]:
        raise UsageError(
            f"{shop.path}: no request is held back for the test, so nothing can be measured on '{data.name}'.",
            "Raise mine.test_share, or use a longer log.",
        )
    truth = shop.truth if data.kind != "judged" else None
    if truth is not None:
        artifact.read_manifest(truth, "truth")
    return MinedShop(RunFolder(folder).dataset, truth)


def _simulate(source: SimulatorConfig | JudgedSource, folder: Path, listener: Listener) -> None:
    inputs: dict[str, str] = {}
    if isinstance(source, SimulatorConfig):
        config = plain_values(source)
    else:
        config = {**plain_values(source.simulator), "split": source.train_split}
        files = {"items": source.items, "judgements": source.judgements}
        inputs = {name: fingerprint_of_files([path]) for name, path in files.items()}
    reason = reason_to_make(folder, KIND, config, inputs)
    listener.step("shop", reason or UP_TO_DATE, reason is not None)
    if reason is None:
        return
    if isinstance(source, SimulatorConfig):
        simulate(source, folder, listener.part)
    else:
        simulate_judged(source.simulator, source.items, source.judgements, folder, source.train_split, listener.part)
