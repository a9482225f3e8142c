"""The lists of one query by each channel and by both, ranked as a search ranks them from what the channels find."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit

from mmse.ranking.calibration import Form
from mmse.ranking.candidates import find_rows
from mmse.retrieval.query_context import NO_ROWS, QueryContext
from mmse.retrieval.rank import RankedBlock, rank, rows_of
from mmse.schema.search import Channel, Search


@dataclass(frozen=True)
class CalibratedHits:
    """The best hits of one query with their probabilities by each form of calibration, and those of some extra rows."""

    rows: Int64[np.ndarray, " m"]
    probabilities: dict[Form, Float64[np.ndarray, " m"]]
    extra_probabilities: dict[Form, Float64[np.ndarray, " o"]]


@dataclass
class ChannelRankings:
    """The first `k` hits of one query by any channel."""

    k: int
    context: QueryContext
    blocks: dict[Channel, list[RankedBlock]] = field(default_factory=dict)

    def rows(self, channel: Channel) -> Int64[np.ndarray, " n"]:
        """At most `k` item rows, best first, by `channel`."""
        return rows_of(self._rank(channel))[: self.k]

    def calibrate(self, k: int, extra_rows: Int64[np.ndarray, " o"] = NO_ROWS) -> CalibratedHits:
        """The `k` best hits with their probabilities, and the probabilities of `extra_rows`, any distinct rows."""
        context, first = self.context, self._rank("hybrid")[0]
        rows, candidates = first.rows[:k], context.with_rows(first.candidates, extra_rows)
        scores, calibrations = context.scores(candidates, "hybrid"), context.ranking.calibrations
        log_odds = {
            form: calibrations[form].log_odds(scores, context.query_count, first.moments) for form in calibrations
        }
        extra, _ = find_rows(candidates.rows, extra_rows)
        return CalibratedHits(
            rows,
            {form: expit(values[first.order[:k]]) for form, values in log_odds.items()},
            {form: expit(values[extra]) for form, values in log_odds.items()},
        )

    def _rank(self, channel: Channel) -> list[RankedBlock]:
        if channel not in self.blocks:
            search = Search(self.context.query, self.k, filter=self.context.filter, channel=channel)
            self.blocks[channel] = rank(self.context, search)
        return self.blocks[channel]
