"""What the names of checkpoints say: stage, ingredient, step.

Every published form is read alike: ``step20000-tokens84B`` (OLMo 1, Apertus), ``step143000``
(Pythia, PolyPythias), ``longctx-step50`` (Apertus), ``stage1-step50000-tokens210B`` and
``stage2-ingredient1-step11921-tokens101B`` (OLMo 2), ``stage1-step656000`` and
``stage2-step47684-mix-…-from-2T-ckpt`` (OLMo 3, Hybrid).
"""

import re
from dataclasses import dataclass
from decimal import Decimal

_NAME = re.compile(
    r"(?:(?P<stage>[A-Za-z0-9][A-Za-z0-9_-]*?)-)??"
    r"(?:ingredient(?P<ingredient>[0-9]+)-)?"
    r"step(?P<step>0|[1-9][0-9]*)"
    r"(?:-tokens(?P<tokens>[0-9]+(?:\.[0-9]+)?[KMBT]))?"
    r"(?:-(?P<suffix>.+))?"
)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Revision:
    """What the name of a checkpoint says, and no more than that.

    Attributes
    ----------
    name
        The whole name.
    stage
        ``stage1``, ``longctx``; empty where the name tells no stage, which only its run can then.
    ingredient
        Which of several runs of the stage, whose weights were averaged later.
    step
        Optimizer steps of the stage.
    tokens_label
        ``210B``: rounded by its authors, now up and now to the nearest, so nothing is computed
        from it.
    suffix
        What follows: another data mix, or the form in which the folder was written.
    """

    name: str
    stage: str
    ingredient: int | None
    step: int
    tokens_label: str | None
    suffix: str

    def stage_or(self, default: str) -> str:
        """Return the stage, or `default` for a name without, and the ingredient if there is one.

        Every ingredient reads data in an order of its own, so it is a stage of its own:
        ``stage2-ingredient1``.
        """
        stage = self.stage or default
        return stage if self.ingredient is None else f"{stage}-ingredient{self.ingredient}"


def parse_revision(name: str) -> Revision | None:
    """Read the name of a checkpoint; None if it is not the name of one.

    Examples
    --------
    >>> parse_revision("stage2-ingredient1-step11921-tokens101B").stage_or("stage1")
    'stage2-ingredient1'
    >>> parse_revision("main") is None
    True
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    ingredient = match["ingredient"]
    return Revision(
        name=name,
        stage=match["stage"] or "",
        ingredient=None if ingredient is None else int(ingredient),
        step=int(match["step"]),
        tokens_label=match["tokens"],
        suffix=match["suffix"] or "",
    )


def label_fits(label: str, tokens: int) -> bool:
    """Return whether `tokens`, rounded up, down or to the nearest, can read as `label`.

    Examples
    --------
    >>> label_fits("101B", 11921 * 8388608), label_fits("84B", 86_000_000_000)
    (True, False)
    """
    digits, unit = Decimal(label[:-1]), _UNITS[label[-1]]
    last_place = Decimal(unit).scaleb(int(digits.as_tuple().exponent))
    return abs(digits * unit - tokens) < last_place
