"""Variances borrowed between windows: empirical Bayes for a scaled inverse chi-square prior.

With sixteen demo seeds a window's own variance has fifteen degrees of freedom, and the windows that
look most significant are those whose variance came out small by luck. All windows of a series are
measured on the same items, so their variances are alike; the prior says how alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from windows.errors import DataError


@dataclass(frozen=True)
class Moderated:
    """Shrunken variances.

    Attributes
    ----------
    prior_variance
        Location of the prior.
    prior_df
        Its degrees of freedom: 0 leaves the variances as they were, infinity pools them.
    variances
        float64 of shape (W,): posterior means, in the inputs' units.
    df
        Degrees of freedom of a t statistic that uses them.
    """

    prior_variance: float
    prior_df: float
    variances: NDArray[np.float64]
    df: float


def moderate(variances: NDArray[np.float64], df: float) -> Moderated:
    """Shrink sample variances towards their common prior.

    The prior is fitted by matching the mean and variance of the log variances, whose exponentials
    follow a scaled F distribution under the model (Smyth 2004, Statistical Applications in Genetics
    and Molecular Biology 3(1), section 6.2). Posterior:
    (d0 s0^2 + d s^2) / (d0 + d). The degrees of freedom are capped at W * df, all the data there
    are. Neighbouring windows share a checkpoint, so the log variances are not quite independent:
    the fitted prior is a little less certain than it would be.

    Parameters
    ----------
    variances
        float64 of shape (W,), each with `df` degrees of freedom. Zeros are lifted to 1e-5 of the
        median before the fit, since the fit takes logarithms.
    df
        Degrees of freedom of every variance, positive.

    Returns
    -------
    Moderated
        With one window or no variance at all there is nothing to borrow: prior_df is 0 and the
        variances are returned as they are.

    Raises
    ------
    DataError
        If there is no variance, one is negative or not finite, or `df` is not positive.
    """
    raw = np.asarray(variances, dtype=np.float64)
    if raw.size == 0 or not np.isfinite(raw).all() or (raw < 0).any() or not df > 0:
        raise DataError(
            "variances must be finite and not negative, with positive degrees of freedom",
            got=f"{raw.size} variances with {df} degrees of freedom",
            do="score with at least two demo seeds",
        )
    if raw.size == 1 or not raw.any():
        return Moderated(float(raw.mean()), 0.0, raw.copy(), float(df))
    prior_variance, prior_df = _fit_prior(raw, df)
    if np.isinf(prior_df):
        posterior = np.full_like(raw, prior_variance)
    else:
        posterior = (prior_df * prior_variance + df * raw) / (prior_df + df)
    return Moderated(prior_variance, prior_df, posterior, float(min(df + prior_df, df * raw.size)))


def _fit_prior(raw: NDArray[np.float64], df: float) -> tuple[float, float]:
    centre = np.median(raw) or raw.max()
    lifted = np.maximum(raw, 1e-5 * centre)
    logs = np.log(lifted) - digamma(df / 2) + np.log(df / 2)
    excess = float(np.var(logs, ddof=1) - polygamma(1, df / 2))
    if excess <= 0:
        return float(lifted.mean()), float("inf")
    half = _inverse_trigamma(excess)
    return float(np.exp(logs.mean() + digamma(half) - np.log(half))), 2 * half


def _inverse_trigamma(value: float) -> float:
    # 1/y < trigamma(y) < 1/(y - 1/2) brackets the root for every positive value.
    low, high = 1 / value, 0.5 + 1 / value
    return float(brentq(lambda y: float(polygamma(1, y)) - value, low, high, xtol=1e-12))
