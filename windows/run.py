"""A pre-training run as configured, and its windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from windows.batches import BatchSizes
from windows.errors import ConfigError
from windows.fingerprint import DATASET_CLASS
from windows.order import TOKEN_DTYPES, DataOrder

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFile(_Frozen):
    """One token file of a run.

    Attributes
    ----------
    source
        Which part of the training mix it is.
    path
        Where it lies: a path or a URL.
    bytes
        Its size.
    """

    source: str
    path: str
    bytes: Count


class StepMapEntry(_Frozen):
    """From `first_step` on, the batch read next at step ``s`` is ``first_batch + s - first_step``.

    Attributes
    ----------
    first_step
        The first step, counted as in the checkpoints' names, of which this holds.
    first_batch
        The 0-based batch that is read next at that step.
    batch_tokens
        Tokens of a batch from there on.
    exact
        Whether this is known, or only near the truth; then no window it covers can be proved.
    """

    first_step: Count
    first_batch: Count
    batch_tokens: Positive
    exact: bool = True


class TokenizerFields(_Frozen):
    """What the data order's fingerprint and the document bounds need of a tokenizer."""

    vocab_size: Positive
    eos_id: Count
    pad_id: Count
    bos_id: Count | None = None

    @model_validator(mode="after")
    def _ids_in_vocabulary(self) -> Self:
        for name in ("eos_id", "pad_id", "bos_id"):
            value = getattr(self, name)
            if value is not None and value >= self.vocab_size:
                raise ValueError(f"{name} {value} is not below vocab_size {self.vocab_size}")
        return self


class RunConfig(_Frozen):
    """A pre-training run: its data order, its schedule, its checkpoints.

    Attributes
    ----------
    name
        The run's name in every table.
    stage
        The stage this data order belongs to, as in the checkpoints' names.
    sequence_length, max_sequence_length
        Tokens of an instance; the longest sequence planned for, as the run set it, or None.
    token_bytes
        Bytes of one token id: 1, 2 or 4.
    seed, epoch
        Of the data loader; epochs count from 1.
    step_map
        How checkpoint steps map to batches; more than one entry where the batch size changed, or
        where step and batch index part (skipped or repeated batches).
    tokenizer
        Its ids.
    loader
        How instances were chosen: ``olmo-core`` shuffles them by seed and epoch, ``preshuffled``
        reads one stream from front to back, ``unknown`` is an order that cannot be rebuilt.
    dataset_class
        OLMo-core's class of the data set.
    overlap
        Tokens that an instance shares with the next or that are only predicted: an instance trains
        on ``sequence_length - overlap``.
    files
        The token files in the run's order, where they are not described by a manifest in `data`.
    data
        Folder of the token files with their ``manifest.json``, if they are local.
    checkpoints
        Folder of the checkpoints, if they are local.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
    stage: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = "stage1"
    sequence_length: Positive
    max_sequence_length: Positive | None = None
    token_bytes: int = 4
    seed: int
    epoch: Positive = 1
    step_map: Annotated[tuple[StepMapEntry, ...], Field(min_length=1)]
    tokenizer: TokenizerFields
    loader: Literal["olmo-core", "preshuffled", "unknown"] = "olmo-core"
    dataset_class: str = DATASET_CLASS
    overlap: Count = 0
    files: tuple[DataFile, ...] = ()
    data: str | None = None
    checkpoints: str | None = None

    @model_validator(mode="after")
    def _steps_ascend(self) -> Self:
        if self.step_map[0].first_batch != 0:
            raise ValueError("step_map must begin at first_batch 0")
        if any(a.first_step >= b.first_step for a, b in pairwise(self.step_map)):
            raise ValueError("step_map must ascend in first_step")
        return self

    @model_validator(mode="after")
    def _lengths_divide(self) -> Self:
        length = self.sequence_length
        if (self.max_sequence_length or length) % length:
            raise ValueError(f"max_sequence_length is no multiple of sequence_length {length}")
        for entry in self.step_map:
            if entry.batch_tokens % length:
                raise ValueError(f"batch_tokens is no multiple of sequence_length {length}")
        return self

    @model_validator(mode="after")
    def _ids_fit(self) -> Self:
        if self.token_bytes not in TOKEN_DTYPES:
            raise ValueError(f"token_bytes is {self.token_bytes}; use 1, 2 or 4")
        if self.tokenizer.vocab_size > 256**self.token_bytes:
            raise ValueError(f"vocab_size {self.tokenizer.vocab_size} needs ids of more bytes")
        return self

    def batch_of_step(self, step: int) -> int:
        """Return the batch that is read next at checkpoint `step`.

        Where the map does not jump, the checkpoint has consumed exactly the batches before it.

        Raises
        ------
        ConfigError
            The stage begins after `step`.
        """
        entry = self._entry(step)
        return entry.first_batch + step - entry.first_step

    def steps_of_batch(self, batch: int) -> tuple[int, ...]:
        """Return the steps at which `batch` is read next, the inverse of `batch_of_step`.

        Training from checkpoint ``s`` to ``s + 1`` consumes it, for each ``s`` returned: one, but
        none for a skipped batch and several for a repeated one.
        """
        ends = [entry.first_step for entry in self.step_map[1:]]
        steps = (entry.first_step + batch - entry.first_batch for entry in self.step_map)
        return tuple(
            step
            for step, entry, end in zip(steps, self.step_map, [*ends, None], strict=True)
            if entry.first_step <= step and (end is None or step < end)
        )

    def instances_per_batch(self, step: int) -> int:
        """Return how many instances the batch holds that is read next at checkpoint `step`.

        Raises
        ------
        ConfigError
            The stage begins after `step`.
        """
        return self._entry(step).batch_tokens // self.sequence_length

    def last_step(self, num_batches: int) -> int:
        """Return the step of the checkpoint that has consumed all `num_batches` batches.

        Entries of the step map that begin behind them are never reached.
        """
        last = [entry for entry in self.step_map if entry.first_batch <= num_batches][-1]
        return last.first_step + num_batches - last.first_batch

    @property
    def batch_changes(self) -> tuple[int, ...]:
        """The steps at which the size of a batch changes."""
        return tuple(
            b.first_step for a, b in pairwise(self.step_map) if a.batch_tokens != b.batch_tokens
        )

    def order(self, file_bytes: Sequence[int] | None = None) -> DataOrder:
        """Rebuild the run's data order.

        Parameters
        ----------
        file_bytes
            Sizes of the token files in the run's order; by default those of `files`.

        Raises
        ------
        ConfigError, DataError
            As `DataOrder.from_sizes`.
        """
        sizes = tuple(file.bytes for file in self.files) if file_bytes is None else file_bytes
        if self.loader == "unknown":
            raise ConfigError(
                f"the order in which run {self.name} read its data cannot be rebuilt",
                where="loader",
                got=self.loader,
                do="ask for its windows only: steps, batches and tokens",
            )
        if self.loader == "preshuffled":
            return DataOrder.sequential(
                sizes,
                sequence_length=self.sequence_length,
                batch_tokens=self._batch_tokens,
                token_bytes=self.token_bytes,
            )
        return DataOrder.from_sizes(
            sizes,
            sequence_length=self.sequence_length,
            batch_tokens=self._batch_tokens,
            seed=self.seed,
            epoch=self.epoch,
            max_sequence_length=self.max_sequence_length,
            token_bytes=self.token_bytes,
        )

    @property
    def batch_sizes(self) -> BatchSizes:
        """How many instances each batch reads."""
        return BatchSizes.from_tokens(self._batch_tokens, self.sequence_length)

    @property
    def _batch_tokens(self) -> list[tuple[int, int]]:
        sizes = [(entry.first_batch, entry.batch_tokens) for entry in self.step_map]
        return [sizes[0], *(b for a, b in pairwise(sizes) if a[1] != b[1])]

    def exact_between(self, first_step: int, end_step: int) -> bool:
        """Tell whether the batches of steps ``[first_step, end_step)`` are known exactly."""
        ends = [entry.first_step for entry in self.step_map[1:]]
        return all(
            entry.exact
            for entry, end in zip(self.step_map, [*ends, None], strict=True)
            if entry.first_step < end_step and (end is None or end > first_step)
        )

    def _entry(self, step: int) -> StepMapEntry:
        past = [entry for entry in self.step_map if entry.first_step <= step]
        if not past:
            raise ConfigError(
                f"{self.stage} of run {self.name} begins at step {self.step_map[0].first_step}",
                where="step",
                got=str(step),
                do="ask for a later step",
            )
        return past[-1]


@dataclass(frozen=True)
class Window:
    """The training data consumed between two checkpoints.

    Attributes
    ----------
    name
        ``<stage>-<first_step>:<end_step>``.
    first_step, end_step
        The checkpoints at its ends.
    first_batch, end_batch
        The batches consumed, half-open.
    tokens
        Their tokens.
    """

    name: str
    stage: str
    first_step: int
    end_step: int
    first_batch: int
    end_batch: int
    tokens: int


def window(run: RunConfig, order: DataOrder, first_step: int, end_step: int) -> Window:
    """Describe the window between the checkpoints `first_step` and `end_step`.

    Raises
    ------
    ConfigError
        The range is empty, not within the run, or jumps over batches on its way.
    """
    _check_range(run, order, first_step, end_step)
    return span(run, first_step, end_step)


def span(run: RunConfig, first_step: int, end_step: int) -> Window:
    """Describe a window by the step map alone, wherever the run's data end.

    Raises
    ------
    ConfigError
        The stage begins after `first_step`, or the map jumps over batches on its way.
    """
    first = run.batch_of_step(first_step)
    end = run.batch_of_step(end_step - 1) + 1
    if end - first != end_step - first_step:
        raise ConfigError(
            f"the step map of run {run.name} skips or repeats batches within the window",
            where="steps",
            got=f"{first_step}:{end_step}",
            do="end one window and begin the next where the map jumps",
        )
    instances = run.batch_sizes.position(end) - run.batch_sizes.position(first)
    return Window(
        name=f"{run.stage}-{first_step}:{end_step}",
        stage=run.stage,
        first_step=first_step,
        end_step=end_step,
        first_batch=first,
        end_batch=end,
        tokens=instances * (run.sequence_length - run.overlap),
    )


def jumps(run: RunConfig) -> tuple[int, ...]:
    """Return the steps at which the batch read next is not the one after the last."""
    return tuple(
        b.first_step
        for a, b in pairwise(run.step_map)
        if b.first_batch - a.first_batch != b.first_step - a.first_step
    )


def cut_at_jumps(run: RunConfig, first_step: int, end_step: int, every: int) -> list[Window]:
    """Cut steps ``[first_step, end_step)`` into windows of `every` steps, and at every jump.

    So the windows tile the steps exactly, whatever the step map does. A window that ends at a jump
    has no checkpoint there.
    """
    grid = range(first_step, end_step, every)
    edges = sorted({*grid, end_step, *(s for s in jumps(run) if first_step < s < end_step)})
    return [span(run, a, b) for a, b in pairwise(edges)]


def tile(
    run: RunConfig, order: DataOrder, first_step: int, end_step: int, every: int
) -> list[Window]:
    """Cut steps ``[first_step, end_step)`` into windows of `every` steps.

    Returns
    -------
    list of Window
        In order, each beginning where the one before it ends; the last is shorter where `every`
        does not divide the range.

    Raises
    ------
    ConfigError
        `every` is not positive, the range is empty or not within the run, or a window jumps.
    """
    if every < 1:
        raise ConfigError(
            "a window needs a step", where="every", got=str(every), do="use 1 or more"
        )
    _check_range(run, order, first_step, end_step)
    return [
        window(run, order, start, min(start + every, end_step))
        for start in range(first_step, end_step, every)
    ]


def _check_range(run: RunConfig, order: DataOrder, first_step: int, end_step: int) -> None:
    begin, last = run.step_map[0].first_step, run.last_step(order.num_batches)
    if not begin <= first_step < end_step <= last:
        raise ConfigError(
            f"no window of run {run.name}, whose {run.stage} ends at step {last}",
            where="steps",
            got=f"{first_step}:{end_step}",
            do=f"choose a range within {begin}:{last}",
        )
