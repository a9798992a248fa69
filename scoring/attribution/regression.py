"""Regression of strength on what windows are made of: n-grams and lengths of their documents.

Ridge or elastic net, with as many penalties to choose from as are likely to matter. There are far
fewer windows than features, so that this finds broad differences only; the null says whether it
found any. Coefficients are of features in standard deviations over the windows of the fit.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import ElasticNetCV, RidgeCV  # type: ignore[import-untyped]
from sklearn.model_selection import KFold  # type: ignore[import-untyped]

from scoring.attribution.crossfit import Features, Fold, attribute, standardised, window_average
from scoring.attribution.evidence import Array, Attribution, Evidence
from scoring.attribution.ngrams import bucket_features
from scoring.attribution.null import rolled

Penalty = Literal["ridge", "elastic-net"]

# Of a ridge with standardised features; the largest leaves next to nothing.
_PENALTIES = np.logspace(-3, 2, 11)
_INNER_FOLDS = 3
_ELASTIC_PENALTIES = 12


@dataclass(frozen=True)
class NgramRegression:
    """Scores a document by the n-grams that go with strength.

    Attributes
    ----------
    penalty
        ``ridge``, whose penalty is chosen by leave-one-out, or ``elastic-net``, whose is chosen on
        contiguous blocks.
    orders
        Lengths of n-grams.
    buckets
        How many their hashes are put into.
    half_life
        In batches; see `Evidence.recency`.
    """

    penalty: Penalty = "ridge"
    orders: tuple[int, ...] = (1, 2)
    buckets: int = 1024
    half_life: float | None = None

    @property
    def method(self) -> str:
        """Its name."""
        return f"ngram-{self.penalty}"

    def attribute(self, evidence: Evidence) -> Attribution:
        """Score every document; see :class:`scoring.attribution.evidence.Scorer`."""
        documents, names = bucket_features(evidence.documents, self.orders, self.buckets)
        windows = window_average(evidence, documents, self.half_life)
        solve = _ridge if self.penalty == "ridge" else _elastic_net

        def fit(fold: Fold, shifts: NDArray[np.int64]) -> Array:
            seen = windows[fold.training]
            spread = seen.std(axis=0)
            scaled = standardised(seen, np.arange(len(seen)))
            found = solve(scaled, rolled(evidence.strength, shifts)[fold.training])
            # A feature that no window of the fit differs in has no coefficient.
            usable = np.asarray(scaled != 0).any(axis=0)
            coefficients: Array = (found.T * usable / np.where(usable, spread, 1.0)).T
            return coefficients

        return attribute(evidence, self.method, Features(documents, windows, names), fit)


def _ridge(x: Array, y: Array) -> Array:
    """Fit every column of float64[n, K] on its own, float64[F, K]."""
    penalties = _PENALTIES * max(x.shape[1], 1)
    found = RidgeCV(alphas=penalties, alpha_per_target=True).fit(x, y).coef_
    coefficients: Array = np.atleast_2d(found).T
    return coefficients


def _elastic_net(x: Array, y: Array) -> Array:
    """Fit every column of float64[n, K] on its own, float64[F, K]."""
    blocks = KFold(min(_INNER_FOLDS, len(x)))
    model = ElasticNetCV(
        l1_ratio=0.5, eps=0.05, alphas=_ELASTIC_PENALTIES, cv=blocks, max_iter=20_000, tol=1e-3
    )
    return np.stack([model.fit(x, column).coef_.copy() for column in y.T], axis=1)
