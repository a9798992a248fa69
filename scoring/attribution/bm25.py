"""BM25: documents that look like the right answers, less those that look like the pattern's.

Terms are n-grams of token ids, since a right and a pattern answer may differ in one token. For the
query texts Q of one kind a document d scores the mean over Q of

    sum over terms t of q:  idf(t) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|))

with f the count of t in d, |d| the document's tokens, and idf(t) = log(1 + (N - n + 1/2) /
(n + 1/2)) of the n among N documents that hold t (Robertson and Zaragoza 2009, with the idf that
Lucene uses, which is never negative). A term counts as often as the query holds it. Strengths are
not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scoring.attribution.crossfit import Features, Fold, attribute, window_average
from scoring.attribution.evidence import NO_WINDOW, Array, Attribution, Documents, Evidence
from scoring.attribution.ngrams import hashed, ngrams
from windows.errors import DataError


@dataclass(frozen=True)
class Bm25:
    """Scores a document by its likeness to texts of the eval.

    Attributes
    ----------
    right, pattern
        Token ids of eval items with the right answer, and with the pattern's.
    orders
        Lengths of the n-grams that are terms.
    k1, b
        Saturation of a term's count, and how far long documents are held back.
    """

    right: tuple[tuple[int, ...], ...]
    pattern: tuple[tuple[int, ...], ...]
    orders: tuple[int, ...] = (1, 2, 3)
    k1: float = 1.2
    b: float = 0.75

    @property
    def method(self) -> str:
        """Its name."""
        return "bm25"

    def attribute(self, evidence: Evidence) -> Attribution:
        """Score every document; see :class:`scoring.attribution.evidence.Scorer`.

        Raises
        ------
        DataError
            A kind of query is missing.
        """
        found = self.scores(evidence.documents)[:, None]

        def fit(fold: Fold, shifts: NDArray[np.int64]) -> Array:
            return np.ones((1, len(shifts)))

        return attribute(
            evidence, self.method, Features(found, window_average(evidence, found)), fit
        )

    def scores(self, documents: Documents) -> Array:
        """Return float64[D]: the mean over right queries less that over pattern queries."""
        kinds = [_query(queries, self.orders) for queries in (self.right, self.pattern)]
        terms = np.unique(np.concatenate([hashes for hashes, _ in kinds]))
        weights = np.zeros(len(terms))
        for (hashes, counts), sign in zip(kinds, (1.0, -1.0), strict=True):
            weights[np.searchsorted(terms, hashes)] += sign * counts
        scored: Array = self._weighted(documents, terms) @ weights
        return scored

    def _weighted(self, documents: Documents, terms: NDArray[np.uint64]) -> sparse.csr_array:
        """Return float64[D, T]: how much every term of the queries counts in every document."""
        counts = _counts(documents, self.orders, terms)
        lengths = documents.lengths
        within = documents.window != NO_WINDOW
        known = within if within.any() else np.ones(len(lengths), dtype=bool)
        holding = (counts[known] > 0).sum(axis=0)
        idf = np.log1p((known.sum() - holding + 0.5) / (holding + 0.5))
        held_back = self.k1 * (1 - self.b + self.b * lengths / lengths[known].mean())
        cells = counts.tocoo()
        row, column = cells.coords
        value = idf[column] * cells.data * (self.k1 + 1) / (cells.data + held_back[row])
        return sparse.csr_array((value, (row, column)), shape=counts.shape)


def _query(
    queries: Sequence[Sequence[int]], orders: Sequence[int]
) -> tuple[NDArray[np.uint64], Array]:
    """Return the terms of some queries, and how often the mean query holds each."""
    if not queries:
        raise DataError("BM25 needs queries of both kinds", do="name a task with items")
    found = [
        hashed(np.lib.stride_tricks.sliding_window_view(np.array(query, dtype=np.uint32), order))
        for query in queries
        for order in orders
        if len(query) >= order
    ]
    hashes, counts = np.unique(np.concatenate(found), return_counts=True)
    return hashes, counts / len(queries)


def _counts(
    documents: Documents, orders: Sequence[int], terms: NDArray[np.uint64]
) -> sparse.csr_array:
    """Return float64[D, T]: how often every document holds every term."""
    total = sparse.csr_array((len(documents.row), len(terms)))
    for document, grams in ngrams(documents, orders):
        hashes = hashed(grams)
        at = np.minimum(np.searchsorted(terms, hashes), len(terms) - 1)
        known = terms[at] == hashes
        total += sparse.coo_array(
            (np.ones(known.sum()), (document[known], at[known])), shape=total.shape
        )
    return total
