"""N-grams of token ids: hashes of all of them, and features of documents made of hash buckets.

An n-gram lies within one document. Its hash covers its length and every token with its place.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scoring.attribution.evidence import Documents
from windows.sampling import splitmix64


def ngrams(
    documents: Documents, orders: Sequence[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
    """Yield all n-grams of each length: int64[m], whose documents they lie in, and uint32[m, n]."""
    owner = documents.owner()
    for order in orders:
        count = owner.shape[1] - order + 1
        if count < 1:
            continue
        first = owner[:, :count]
        inside = (first == owner[:, order - 1 :]) & (first >= 0)
        parts = [documents.tokens[:, at : at + count][inside] for at in range(order)]
        yield first[inside], np.stack(parts, axis=1)


def hashed(grams: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Hash n-grams uint32[m, n] to uint64[m]."""
    order = grams.shape[1]
    state = np.full(len(grams), order, dtype=np.uint64)
    for part in grams.T:
        state = splitmix64(state ^ part.astype(np.uint64), order)
    return state


def bucket_features(
    documents: Documents, orders: Sequence[int], buckets: int
) -> tuple[Any, tuple[str, ...]]:
    """Describe documents by rates of n-gram buckets a token, and by length.

    Returns
    -------
    features
        Sparse float64[D, buckets + 1]; the last column is the log of the length.
    names
        Of the columns: a bucket is called after the commonest n-gram in it, as token ids.
    """
    lengths = documents.lengths.astype(np.float64)
    rates = sparse.csr_array((len(lengths), buckets))
    best = _Best(buckets)
    for document, grams in ngrams(documents, orders):
        hashes = hashed(grams)
        bucket = (hashes % np.uint64(buckets)).astype(np.int64)
        rates += sparse.coo_array((1 / lengths[document], (document, bucket)), shape=rates.shape)
        best.learn(hashes, bucket, grams)
    whole = sparse.hstack([rates, sparse.csr_array(np.log(lengths)[:, None])], format="csr")
    return whole, (*best.names, "log length")


class _Best:
    """Finds the commonest n-gram of every bucket."""

    def __init__(self, buckets: int) -> None:
        self.names = [f"bucket {bucket}" for bucket in range(buckets)]
        self._counts = np.zeros(buckets, dtype=np.int64)

    def learn(
        self, hashes: NDArray[np.uint64], bucket: NDArray[np.int64], grams: NDArray[np.uint32]
    ) -> None:
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        slots = bucket[first]
        order = np.lexsort((counts, slots))
        # The last of a bucket's run is its commonest.
        ends = order[np.flatnonzero(np.diff(slots[order], append=-1))]
        for at in ends[counts[ends] > self._counts[slots[ends]]].tolist():
            self._counts[slots[at]] = counts[at]
            self.names[slots[at]] = " ".join(map(str, grams[first[at]].tolist()))
