"""Which checkpoints may score a document: those that have not just trained on it.

Checkpoints stand at the windows' edges, W + 1 of them; the one at edge e has just trained on window
e - 1, and the one at edge 0 on none. It may score what a fit that saw its window may score; fresh
documents may be scored by all.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.crossfit import Fold


def allowed(fold: Fold, edges: Iterable[int]) -> NDArray[np.int64]:
    """Return the positions, in `edges`, of those whose checkpoints may score a fold."""
    seen = {-1, *fold.training.tolist()}
    return np.array([at for at, e in enumerate(edges) if e - 1 in seen], dtype=np.int64)
