"""Everything this project refuses, in one line a user can act on.

::

    ModehopError            exit 2
    ├── ConfigError         a study, run or option says something that cannot be
    ├── DataError           token files, shards, manifests or checkpoints are not what they claim
    ├── StoreError          an artefact is missing, damaged or in use
    ├── WorkerError         a worker process died
    └── CheckFailed         exit 1: the question was answered, and the answer is no
"""


class ModehopError(Exception):
    """A refusal: what is wrong, where, what was found there, and what to do.

    Parameters
    ----------
    what
        The fault, a short clause without a full stop.
    where
        The file, dotted configuration path or argument it was found in.
    got
        The offending value, as the user would recognise it.
    do
        What to change, an imperative clause.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", got: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.got = got
        self.do = do

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.got:
            parts.append(f"got {self.got}")
        if self.do:
            parts.append(self.do)
        return "; ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments do not survive Exception's own pickling, and workers send refusals home.
        return _rebuild, (type(self), self.what, self.where, self.got, self.do)


def _rebuild(kind: type[ModehopError], what: str, where: str, got: str, do: str) -> ModehopError:
    return kind(what, where=where, got=got, do=do)


class ConfigError(ModehopError):
    """A study, run or option says something that cannot be."""


class DataError(ModehopError):
    """Token files, shards, manifests or checkpoints are not what they claim."""


class StoreError(ModehopError):
    """An artefact is missing, damaged or in use."""


class WorkerError(ModehopError):
    """A worker process died or could not be started."""


class CheckFailed(ModehopError):
    """The question was answered, and the answer is no."""

    exit_code = 1
