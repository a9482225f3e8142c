"""What the log tells of an item, as numbers that the towers read."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

STATISTICS = 3
"""Numbers per item that come from the log: see `compute_statistics`."""


def compute_statistics(
    counts: Int64[np.ndarray, "n 3"], totals: Int64[np.ndarray, "3"] | None = None
) -> Float32[np.ndarray, "n statistics"]:
    """Smoothed behaviour of each item, from how often it was shown, clicked and ordered.

    `totals` are the sums of the whole shop, where `counts` are those of a part of its items.

    Gives the log click rate, log orders per shown and log orders per click, each relative to the shop's own mean and
    smoothed towards it (by 20 shown, 100 shown, 5 clicks). An item that was never shown has zeros, which is the
    shop's mean. The number of times that an item was shown is not a feature: it reflects the engine's preference and
    would put every new item at a disadvantage.
    """
    impressions, clicks, orders = (counts[:, i].astype(np.float64) for i in range(3))
    all_shown, all_clicks, all_orders = (float(sum_) for sum_ in (counts.sum(axis=0) if totals is None else totals))
    if all_shown == 0:
        return np.zeros((len(counts), STATISTICS), np.float32)
    click_rate = max(all_clicks / all_shown, 1e-6)
    order_rate = max(all_orders / all_shown, 1e-7)
    per_click = max(all_orders / max(all_clicks, 1), 1e-6)
    rates = [
        np.log((clicks + 20 * click_rate) / (impressions + 20) / click_rate),
        np.log((orders + 100 * order_rate) / (impressions + 100) / order_rate),
        np.log((orders + 5 * per_click) / (clicks + 5) / per_click),
    ]
    return np.where(impressions[:, None] > 0, np.stack(rates, axis=1), 0).astype(np.float32)
