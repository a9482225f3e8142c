"""The truth of a simulated shop: the chance of an order, for every request and every item of the catalogue.

It is a folder beside the shop's tables. Only evaluation reads it, to measure what a log does not show.
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

from mmse.core.artifact import read_manifest, write_folder
from mmse.core.errors import ArtifactError, UsageError
from mmse.lab.simulator.behaviour import Behaviour, examination
from mmse.lab.simulator.graded_fits import GradedFits
from mmse.lab.simulator.preferences import Fits, Preferences, TreeFits

KIND = "truth"
ARRAYS = "latent.npz"


@dataclass(frozen=True)
class Truth:
    """`examination` is the chance, for each position from the first, that whoever sees the page examines it."""

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
            with np.load(folder / ARRAYS, allow_pickle=False) as file:
                arrays = dict(file)
            requests = pq.read_table(folder / "requests.parquet")
            item_ids = pq.read_table(folder / "items.parquet")["item_id"].to_pylist()
            fit_arrays = {key.removeprefix("fits."): array for key, array in arrays.items() if key.startswith("fits.")}
            fits: Fits = (TreeFits if manifest.config["fits"] == "tree" else GradedFits).from_arrays(fit_arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{folder} is damaged: {error}.", "Simulate the shop again.") from error
        fields = {key: array for key, array in arrays.items() if "." not in key}
        bases = (float(manifest.config["click_base"]), float(manifest.config["order_base"]))
        preferences = Preferences(fits=fits, order_rate=manifest.config["order_rate"], bases=bases, **fields)
        ids = requests["request_id"].combine_chunks()
        intents, shoppers = (requests[name].to_numpy().astype(np.int32) for name in ("intent", "shopper"))
        return cls(item_ids, manifest.config["examination"], ids, intents, shoppers, preferences)

    def order_propensity(self, request_ids: list[str]) -> Float32[np.ndarray, "n n_items"]:
        """P(order | examined) by each request's shopper with its intent, of the items in the order of `item_ids`.

        That is P(click | examined) · P(order | clicked). Raises `UsageError` for an unknown request.
        """
        return self._over_catalogue(request_ids, orders=True)

    def click_propensity(self, request_ids: list[str]) -> Float32[np.ndarray, "n n_items"]:
        """P(click | examined), with the same shape and errors as `order_propensity`."""
        return self._over_catalogue(request_ids, orders=False)

    def _over_catalogue(self, request_ids: list[str], *, orders: bool) -> Float32[np.ndarray, "n n_items"]:
        rows = self._rows(request_ids)
        intents, shoppers = self._intents[rows], self._shoppers[rows]
        stray_click, stray_order = self._preferences.stray()
        stray = stray_click * stray_order if orders else stray_click
        chances = np.full((len(rows), len(self.item_ids)), stray, np.float32)
        for requests, items in self._preferences.fits.related_items(intents):
            for block in np.array_split(requests, -(-len(requests) // 64)):
                odds = self._preferences.log_odds(intents[block, None], shoppers[block, None], items[None, :])
                click, order = self._preferences.chances(odds)
                chances[np.ix_(block, items)] = click * order if orders else click
        return chances

    def _rows(self, request_ids: list[str]) -> np.ndarray:
        rows = pc.index_in(pa.array(request_ids, pa.string()), value_set=self._request_ids)
        if rows.null_count:
            unknown = request_ids[rows.is_null().to_pylist().index(True)]
            raise UsageError(
                f"The truth has no request {unknown!r}.", "Use requests of the shop that this truth belongs to."
            )
        return np.asarray(rows.to_numpy(), np.int64)


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
    with write_folder(folder, kind=KIND, config=config, inputs={}) as draft:
        arrays: dict[str, Any] = {k: v for k, v in vars(preferences).items() if isinstance(v, np.ndarray)}
        arrays |= {f"fits.{name}": array for name, array in fits.arrays().items()}
        np.savez(draft.folder / ARRAYS, allow_pickle=False, **arrays)
        pq.write_table(pa.table({"item_id": item_ids}), draft.folder / "items.parquet")
        pq.write_table(requests, draft.folder / "requests.parquet")
        draft.counts.update(items=len(item_ids), requests=requests.num_rows)
