"""BM25 over short texts: the lexical baseline, and how the simulated shop's engine retrieves."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64
from scipy import sparse

from mmse.text.normalise import words

K1: Final = 0.6
B: Final = 0.5
BLOCK_POSTINGS: Final = 20_000_000
"""How many postings are scored at once; each takes about 12 bytes, so this bounds the memory of a search."""


@dataclass(frozen=True)
class Bm25Hits:
    """The best rows of each query, best first; behind the last match rows are -1 and scores 0."""

    rows: Int32[np.ndarray, "n k"]
    scores: Float32[np.ndarray, "n k"]


class Bm25:
    """An index of texts, searched in batches; scores are Robertson and Zaragoza's BM25 with Lucene's idf.

    `ln(1 + (N - df + 0.5) / (df + 0.5)) · tf / (tf + k1 (1 - b + b · length / mean length))`, summed over the
    query's words; a repeated word counts as often as the query has it. The index is one sparse matrix of words by
    texts, so that a batch of queries is a sparse product. The bm25s library scores each query against a dense row of
    all texts: for 12,000 queries over 20,000 titles of a hardware shop, best 200, it took 31 s on one core, this takes
    1.2 s.
    """

    def __init__(self, vocabulary: dict[str, int], weights: sparse.csr_array, n_texts: int) -> None:
        self.vocabulary = vocabulary
        self._weights = weights
        self.n_texts = n_texts

    @classmethod
    def build(cls, texts: Sequence[str], *, k1: float = K1, b: float = B) -> Bm25:
        """An index over `texts`; the row of a text is its index in the sequence. A text, or `texts`, may be empty."""
        vocabulary: dict[str, int] = {}
        counts = _count(texts, vocabulary, grow=True)
        n_texts, n_words = counts.shape
        lengths = counts.sum(axis=1)
        mean_length = max(float(lengths.mean()), 1e-9) if n_texts else 1.0
        frequency = np.bincount(counts.indices, minlength=n_words)
        idf = np.log1p((n_texts - frequency + 0.5) / (frequency + 0.5))
        length_norms = np.repeat(k1 * (1 - b + b * lengths / mean_length), np.diff(counts.indptr))
        counts.data = (idf[counts.indices] * counts.data / (counts.data + length_norms)).astype(np.float32)
        return cls(vocabulary, counts.T.tocsr(), n_texts)

    def search(self, queries: Sequence[str], k: int) -> Bm25Hits:
        """The `k` best texts of every query; equal scores are ordered by row."""
        counts = _count(queries, self.vocabulary, grow=False)
        rows = np.full((len(queries), k), -1, np.int32)
        scores = np.zeros((len(queries), k), np.float32)
        postings = np.diff(self._weights.indptr).astype(np.int64)
        for start, stop in _blocks(counts, postings):
            matches = counts[start:stop] @ self._weights
            for query in range(stop - start):
                begin, end = matches.indptr[query], matches.indptr[query + 1]
                best = _top_k(matches.indices[begin:end], matches.data[begin:end], k)
                rows[start + query, : len(best)] = matches.indices[begin:end][best]
                scores[start + query, : len(best)] = matches.data[begin:end][best]
        return Bm25Hits(rows, scores)

    def pair_scores(self, queries: Sequence[str], rows: Int32[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k"]:
        """The scores of `rows`, some texts for each query; 0 where a row is -1."""
        counts = _count(queries, self.vocabulary, grow=False)
        by_text = self._weights.T.tocsr()
        scores = np.zeros(rows.shape, np.float32)
        for column in range(rows.shape[1]):
            queries_with_row = np.flatnonzero(rows[:, column] >= 0)
            products = counts[queries_with_row].multiply(by_text[rows[queries_with_row, column]])
            scores[queries_with_row, column] = np.asarray(products.sum(axis=1)).ravel()
        return scores


def _count(texts: Sequence[str], vocabulary: dict[str, int], *, grow: bool) -> sparse.csr_array:
    """How often each text has each word of the vocabulary; with `grow` new words join the vocabulary."""
    columns, lengths = array("i"), array("q")
    for text in texts:
        start = len(columns)
        if grow:
            columns.extend([vocabulary.setdefault(word, len(vocabulary)) for word in words(text)])
        else:
            columns.extend([vocabulary[word] for word in words(text) if word in vocabulary])
        lengths.append(len(columns) - start)
    indptr = np.concatenate([[0], np.cumsum(np.array(lengths))])
    if indptr[-1] < np.iinfo(np.int32).max:  # scipy multiplies faster with indices of 32 bits
        indptr = indptr.astype(np.int32)
    shape = (len(lengths), len(vocabulary))
    counts = sparse.csr_array((np.ones(len(columns), np.float32), np.array(columns), indptr), shape=shape)
    counts.sum_duplicates()
    return counts


def _blocks(counts: sparse.csr_array, postings: Int64[np.ndarray, " n_words"]) -> list[tuple[int, int]]:
    """Ranges of queries, each with about `BLOCK_POSTINGS` postings."""
    per_word = np.concatenate([[0], np.cumsum(postings[counts.indices])])
    per_query = per_word[counts.indptr]
    blocks, start = [], 0
    while start < counts.shape[0]:
        stop = int(np.searchsorted(per_query, per_query[start] + BLOCK_POSTINGS, side="right")) - 1
        stop = min(max(stop, start + 1), counts.shape[0])
        blocks.append((start, stop))
        start = stop
    return blocks


def _top_k(rows: Int[np.ndarray, " n"], scores: Float32[np.ndarray, " n"], k: int) -> Int64[np.ndarray, " best"]:
    """Indices of the `k` highest scores, highest first; of equal scores the lower row comes first."""
    indices = np.arange(len(scores))
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        indices = np.flatnonzero(scores >= threshold)
    order = np.lexsort((rows[indices], -scores[indices]))
    return indices[order[:k]]
