"""A query in the numbers that another engine needs for it: the vector, the words, and what a word weighs.

    score = vector · item + weight · BM25(words, item) / most

is the hybrid (`mmse.ranking.fusion`) without what is remembered of the query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mmse.core.errors import ArtifactError
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import Filter
from mmse.schema.search import Search

LEAST_SCORE = 1e-6


@dataclass(frozen=True)
class RemoteQuery:
    """A query as `RemoteQuery.of` gives it: `stems` of its words, and each word of each field with what it adds.

    `word_weights` has, by the hash of field and stem, the share of the score that a field full of the word would add;
    `boosts` are those of the fields, and `boost` makes of a sum of BM25 scores by the fields its share of the score.
    """

    text: str
    vector: Float32[np.ndarray, " width"]
    stems: list[str]
    word_weights: Mapping[int, float]
    boosts: Mapping[str, float]
    boost: float
    filter: Filter | None

    @classmethod
    def of(cls, retriever: Retriever, search: Search) -> RemoteQuery:
        """What the run searches for where it is asked `search`: corrected, and by its rules' words.

        Raises `ArtifactError` where the weights of words are not known, as after many edits.
        """
        context = retriever.context(search)
        words = context.lexical_query.words
        if words is None:
            words = context.snapshot.lexical.parse(context.query, context.ranking.boosts).words
        if words is None and context.lexical_query.tantivy_query is not None:
            raise ArtifactError("The index does not know what its words weigh.", "Fold the edits: mmse items compact.")
        share = context.weight / max(context.lexical_query.max_score, LEAST_SCORE)
        return cls(
            text=context.query,
            vector=context.vector,
            stems=context.snapshot.lexical.stems(context.query),
            word_weights={word.word: word.weight * share for word in words or ()},
            boosts={field: boost for field, boost in context.ranking.boosts.items() if boost > 0},
            boost=share,
            filter=context.filter,
        )
