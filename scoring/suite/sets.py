"""Which sets of questions a suite reads beside those that come with the package."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sets:
    """Where sets that do not come with the package are read from.

    Attributes
    ----------
    released
        The authors' released set: a folder, or a data set of the Hub; empty for none.
    released_revision
        The commit to read, for a data set of the Hub.
    revisions
        Names of the Hub's other sets, as of `scoring.suite.hub_sets.SETS`, each with the commit to
        read in place of the pinned one.
    """

    released: str = ""
    released_revision: str | None = None
    revisions: tuple[tuple[str, str], ...] = ()


PINNED = Sets()
"""No released set, and the Hub's other sets at the commits that this project pins."""
