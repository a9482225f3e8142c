"""The truth of a simulated shop: the chance of an order, for every request and every item of the catalogue.

It stands apart from the shop's tables. Only evaluation reads it, and only to measure what a log cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32

from mmse.core.artifact import read_manifest, writing
from mmse.core.errors import ArtifactError, UsageError
from mmse.lab.simulator.behaviour import Behaviour, examination
from mmse.lab.simulator.graded import GradedFits
from mmse.lab.simulator.preferences import Fits, Preferences, TreeFits

KIND = "truth"
ARRAYS = "latent.npz"


@dataclass(frozen=True)
class Truth:
    """`examination` is the chance that each position, from the first, is examined by whoever sees the page."""

    item_ids: list[str]
    examination: list[float]
    _request_ids: pa.StringArray
    _intents: Int32[np.ndarray, " n_requests"]
    _shoppers: Int32[np.ndarray, " n_requests"]
    _preferences: Preferences

    @property
    def request_ids(self) -> list[str]:
        """All requests of the log, in order of time."""
        return list(self._request_ids.to_pylist())

    @classmethod
    def open(cls, folder: Path) -> Truth:
        """The truth in `folder`; raises `ArtifactError` where it is missing, damaged or of another kind."""
        manifest = read_manifest(folder, KIND)
        try:
            with np.load(folder / ARRAYS, allow_pickle=False) as stored:
                arrays = dict(stored)
            requests = pq.read_table(folder / "requests.parquet")
            item_ids = pq.read_table(folder / "items.parquet")["item_id"].to_pylist()
            fits = _fits_from({k[5:]: v for k, v in arrays.items() if k.startswith("fits.")}, manifest.config["fits"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{folder} is damaged: {error}.", "Simulate the shop again.") from error
        own = {k: v for k, v in arrays.items() if "." not in k}
        bases = (float(manifest.config["click_base"]), float(manifest.config["order_base"]))
        preferences = Preferences(fits=fits, order_rate=manifest.config["order_rate"], bases=bases, **own)
        ids = requests["request_id"].combine_chunks()
        intents, shoppers = (requests[name].to_numpy().astype(np.int32) for name in ("intent", "shopper"))
        return cls(item_ids, manifest.config["examination"], ids, intents, shoppers, preferences)

    def order_propensity(self, request_ids: list[str]) -> Float32[np.ndarray, "n n_items"]:
        """P(order | examined) by each request's shopper with its intent, of the items in `item_ids`' order.

        That is P(click | examined) · P(order | clicked). Raises `UsageError` for an unknown request.
        """
        return self._over_catalogue(request_ids, orders=True)

    def click_propensity(self, request_ids: list[str]) -> Float32[np.ndarray, "n n_items"]:
        """P(click | examined), otherwise as `order_propensity`."""
        return self._over_catalogue(request_ids, orders=False)

    def _over_catalogue(self, request_ids: list[str], *, orders: bool) -> Float32[np.ndarray, "n n_items"]:
        rows = self._rows(request_ids)
        intents, shoppers = self._intents[rows], self._shoppers[rows]
        stray_click, stray_order = self._preferences.stray()
        elsewhere = stray_click * stray_order if orders else stray_click
        chances = np.full((len(rows), len(self.item_ids)), elsewhere, np.float32)
        for requests, items in self._preferences.fits.related_items(intents):
            for some in np.array_split(requests, -(-len(requests) // 64)):
                odds = self._preferences.log_odds(intents[some, None], shoppers[some, None], items[None, :])
                click, order = self._preferences.chances(odds)
                chances[np.ix_(some, items)] = click * order if orders else click
        return chances

    def _rows(self, request_ids: list[str]) -> np.ndarray:
        found = pc.index_in(pa.array(request_ids, pa.string()), value_set=self._request_ids)
        if found.null_count:
            unknown = request_ids[found.is_null().to_pylist().index(True)]
            raise UsageError(
                f"The truth knows no request {unknown!r}.", "Ask for requests of the shop that this truth belongs to."
            )
        return np.asarray(found.to_numpy(), np.int64)


def write_truth(
    folder: Path, preferences: Preferences, behaviour: Behaviour, *, item_ids: pa.Array, requests: pa.Table
) -> None:
    """Writes a truth folder; `requests` has request_id, intent and shopper (rows of the preferences' arrays)."""
    fits = preferences.fits
    config: dict[str, Any] = {
        "fits": "tree" if isinstance(fits, TreeFits) else "graded",
        "click_base": preferences.bases[0],
        "order_base": preferences.bases[1],
        "order_rate": preferences.order_rate,
        "position_bias": behaviour.position_bias,
        "examination": examination(behaviour).tolist(),
    }
    with writing(folder, kind=KIND, config=config, inputs={}) as draft:
        arrays: dict[str, Any] = {k: v for k, v in vars(preferences).items() if isinstance(v, np.ndarray)}
        arrays |= {f"fits.{name}": array for name, array in fits.arrays().items()}
        np.savez(draft.folder / ARRAYS, allow_pickle=False, **arrays)
        pq.write_table(pa.table({"item_id": item_ids}), draft.folder / "items.parquet")
        pq.write_table(requests, draft.folder / "requests.parquet")
        draft.counts.update(items=len(item_ids), requests=requests.num_rows)


def _fits_from(arrays: dict[str, np.ndarray], kind: str) -> Fits:
    return TreeFits(**arrays) if kind == "tree" else GradedFits(**arrays)
