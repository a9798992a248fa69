"""OLMo-core's repetition filter: which instances are read, and keep their place, without loss.

An instance in which a pattern of a few tokens repeats too often is trained on with all its labels
masked. It still fills its position of the order and counts in its batch's tokens. Source:
``InstanceFilterConfig``, ``NumpyDatasetBase._validate_instance`` and
``utils.find_periodic_sequences`` of ai2-olmo-core 3.0, which the tests run beside this module.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from windows.errors import ConfigError
from windows.settings import Section

# Tokens looked at together, so that what is compared stays in the processor's cache.
_BLOCK = 1 << 18


class RepetitionFilter(Section):
    """The filter's settings, as a run had them.

    Attributes
    ----------
    min_period, max_period
        Length of the repeated patterns in tokens, both ends included.
    max_count
        From how many repetitions on an instance is masked.
    """

    min_period: int = Field(default=1, ge=1)
    max_period: int = 13
    max_count: int = 32

    def masked(self, tokens: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell which instances had their loss masked; see the function `masked`."""
        return masked(
            tokens,
            min_period=self.min_period,
            max_period=self.max_period,
            max_count=self.max_count,
        )


def masked(
    tokens: npt.NDArray[np.uint32],
    *,
    min_period: int = 1,
    max_period: int = 13,
    max_count: int = 32,
) -> npt.NDArray[np.bool_]:
    """Tell which instances had their loss masked.

    A pattern of `p` tokens repeats `c` times in a row where ``(c - 1) * p`` neighbouring tokens
    each equal the token `p` places before. OLMo-core cannot see fewer than three repetitions, so a
    smaller `max_count` means three.

    Parameters
    ----------
    tokens
        Instances, ``[n, L]``.
    min_period, max_period
        Length of the repeated patterns in tokens, both ends included; where the first exceeds the
        second nothing is masked.
    max_count
        From how many repetitions on an instance is masked.

    Returns
    -------
    bool[n]

    Raises
    ------
    ConfigError
        `min_period` is below 1.
    """
    if min_period < 1:
        raise ConfigError(
            "no pattern is that short", where="min_period", got=str(min_period), do="use 1 or more"
        )
    count, length = tokens.shape
    found = np.zeros(count, dtype=np.bool_)
    rows = max(1, _BLOCK // max(1, length))
    for start in range(0, count, rows):
        block = tokens[start : start + rows]
        for period in range(min_period, max_period + 1):
            same = block[:, period:] == block[:, :-period]
            found[start : start + rows] |= _has_run(same, (max(max_count, 3) - 1) * period)
    return found


def _has_run(same: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    """Tell which rows hold `length` True in a row, bool[n].

    A run of ``a + b`` begins where a run of `a` begins and another `b` places on, for any ``b`` up
    to ``a``; so the length that is known to be held doubles at every step.
    """
    held = 1
    while held < length and same.any():
        step = min(held, length - held)
        same = same[:, step:] & same[:, :-step]
        held += step
    found: npt.NDArray[np.bool_] = np.any(same, axis=1)
    return found
