"""The lists of one query by each channel and by both, ranked as a search ranks them from what the channels find."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit

from mmse.index.lexical import Matches
from mmse.ranking.calibration import Form
from mmse.ranking.candidates import Candidates, find_rows
from mmse.ranking.rules import RuleEffects
from mmse.retrieval.query_context import NO_ROWS, QueryContext, QueryNeighbours
from mmse.retrieval.rank import PreparedSearch, RankedBlock, rank
from mmse.schema.search import Channel, Search


@dataclass(frozen=True)
class CalibratedHits:
    """The best hits of one query with their probabilities by each form of calibration, and those of some extra rows."""

    rows: Int64[np.ndarray, " m"]
    probabilities: dict[Form, Float64[np.ndarray, " m"]]
    extra_probabilities: dict[Form, Float64[np.ndarray, " o"]]


@dataclass
class BlockFinds:
    """What the channels find for one query, block by block; each block is searched once.

    `matches` are those of earlier queries with the same words and filter, by the end of the block.
    """

    context: QueryContext
    matches: dict[int, Matches]
    neighbours: dict[int, QueryNeighbours] = field(default_factory=dict)
    candidates: dict[int, Candidates] = field(default_factory=dict)

    def find(self, channel: Channel, end: int) -> Candidates:
        """The candidates of `channel` for the block that ends at place `end`."""
        if channel == "lexical":
            return self.context.gather_candidates(None, self._find_matches(end), end)
        if end not in self.neighbours:
            self.neighbours[end] = self.context.neighbours(end)
        if channel == "vector":
            return self.context.gather_candidates(self.neighbours[end], None, end)
        if end not in self.candidates:
            self.candidates[end] = self.context.gather_candidates(self.neighbours[end], self._find_matches(end), end)
        return self.candidates[end]

    def _find_matches(self, end: int) -> Matches:
        if end not in self.matches:
            self.matches[end] = self.context.matches(end)
        return self.matches[end]


@dataclass
class ChannelRankings:
    """The first `k` hits of one query by any channel."""

    k: int
    finds: BlockFinds
    blocks: dict[Channel, list[RankedBlock]] = field(default_factory=dict)

    def rows(self, channel: Channel) -> Int64[np.ndarray, " n"]:
        """At most `k` item rows, best first, by `channel`."""
        return np.array([hit.row for block in self._rank(channel) for hit in block.hits][: self.k], np.int64)

    def calibrate(self, k: int, extra_rows: Int64[np.ndarray, " o"] = NO_ROWS) -> CalibratedHits:
        """The `k` best hits with their probabilities, and the probabilities of `extra_rows`, any distinct rows."""
        context, first = self.finds.context, self._rank("hybrid")[0]
        rows = np.array([hit.row for hit in first.hits[:k]], np.int64)
        candidates = context.with_rows(context.with_rows(first.scored_candidates.candidates, rows), extra_rows)
        scores, calibrations = context.scores(candidates, "hybrid"), context.ranking.calibrations
        log_odds = {
            form: calibrations[form].log_odds(scores, context.query_count, first.moments) for form in calibrations
        }
        (best, _), (extra, _) = find_rows(candidates.rows, rows), find_rows(candidates.rows, extra_rows)
        return CalibratedHits(
            rows,
            {form: expit(values[best]) for form, values in log_odds.items()},
            {form: expit(values[extra]) for form, values in log_odds.items()},
        )

    def _rank(self, channel: Channel) -> list[RankedBlock]:
        if channel not in self.blocks:
            context = self.finds.context
            search = Search(context.query, self.k, filter=context.filter, channel=channel)
            prepared_search = PreparedSearch(search, RuleEffects(context.query), context)
            self.blocks[channel] = rank(prepared_search, lambda end: self.finds.find(channel, end))
        return self.blocks[channel]
