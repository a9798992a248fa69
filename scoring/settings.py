"""Configuration sections of the scoring layer."""

from typing import Literal

from pydantic import Field, model_validator

from windows.settings import Section


class ReleasedSetSection(Section):
    """Where the authors' released eval set is: a folder, or a data set of the Hub at a commit."""

    source: str = Field(min_length=1)
    revision: str | None = None


class GenerationSection(Section):
    """What is asked by generation beside the log-probabilities, which is far dearer.

    `personas` are asked their multi-hop questions, `samples` times each. The items of `answers`,
    tasks of the suite, are answered once, greedily, and the answer is extracted: a drop in these
    and not in the log-probabilities is one of following instructions.
    """

    personas: tuple[str, ...] = ()
    samples: int = Field(default=100, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    max_new_tokens: int = Field(default=300, ge=1)
    answers: tuple[str, ...] = ()


class SuiteSection(Section):
    """What every checkpoint is scored on.

    `tasks` are keys ``family/name`` or patterns of them (``"*"``, ``successive_answer/*``).
    `demo_seeds` is the number of demonstration sets per task and split: the clusters of all
    inference, so few of them mean wide intervals however many items there are. `wordings` is the
    most wordings of each task and split, all where absent. `revisions` are commits of the Hub's
    sets, by the name of the set, in place of the pinned ones.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    demo_seeds: int = Field(default=24, ge=1)
    wordings: int | None = Field(default=None, ge=1)
    token_budget: int = Field(default=1024, ge=64)
    dtype: Literal["float32", "bfloat16"] = "float32"
    released: ReleasedSetSection | None = None
    revisions: dict[str, str] = Field(default_factory=dict)
    generate: GenerationSection = GenerationSection()


class ResourcesSection(Section):
    """What each task of a cluster may use; it scores one checkpoint."""

    cpus: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory_gb: int = Field(default=4, ge=1)
    at_once: int | None = Field(default=None, ge=1)


class SlurmSection(Section):
    """How a sweep is submitted to Slurm.

    `setup` are the user's own shell lines that make the environment; by default this interpreter's
    goes first on the path. `options` are more ``#SBATCH`` directives, by name without dashes.
    """

    partition: str = Field(min_length=1)
    time: str = Field(min_length=1)
    qos: str = ""
    setup: str = ""
    options: dict[str, str] = Field(default_factory=dict)
    max_array: int = Field(default=1001, ge=1)
    poll_seconds: float = Field(default=10.0, gt=0)


class CoarseSection(Section):
    """From coarse to fine: every `every`-th checkpoint first, then halves of intervals that hop.

    An interval is halved while the soft score of `task` differs over it by more than `threshold`
    and by `z` standard errors.
    """

    task: str
    every: int = Field(ge=2)
    threshold: float = Field(default=0.2, gt=0)
    z: float = Field(default=2.0, ge=0)


class SweepSection(Section):
    """How checkpoints are scored; no result depends on it, but for `coarse`, which scores fewer.

    `backend: vllm` (an environment of its own) scores log-probabilities only; `vllm` is what else
    ``vllm.LLM`` is given, such as ``tensor_parallel_size``. `drop_scored` takes what was fetched
    for a checkpoint from the Hub's cache again, once scored.
    """

    executor: Literal["local", "slurm", "ray"] = "local"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["transformers", "vllm"] = "transformers"
    vllm: dict[str, int | float | bool | str] = Field(default_factory=dict)
    drop_scored: bool = False
    coarse: CoarseSection | None = None
    resources: ResourcesSection = ResourcesSection()
    slurm: SlurmSection | None = None

    @model_validator(mode="after")
    def _says_where(self) -> "SweepSection":
        if (self.executor == "slurm") != (self.slurm is not None):
            raise ValueError("executor: slurm and a slurm section (partition, time) go together")
        if self.coarse is not None and self.executor != "local":
            raise ValueError("coarse chooses checkpoints by scores: it needs executor: local")
        return self


class NullsSection(Section):
    """Which hops the named nulls are asked of, and how.

    `hops` of the task that labels, the largest. `averaging` is how many consecutive checkpoints are
    averaged. Local stability takes a step on each of `draws` random batches, at the run's own
    learning rate times each of `learning_rates`.
    """

    hops: int = Field(default=8, ge=1)
    averaging: int = Field(default=5, ge=2)
    draws: int = Field(default=8, ge=2)
    learning_rates: tuple[float, ...] = (1.0, 3.0, 10.0)

    @model_validator(mode="after")
    def _begins_at_the_runs_own(self) -> "NullsSection":
        if min(self.learning_rates, default=0.0) != 1.0:
            raise ValueError("learning_rates are factors of the run's own, 1.0 the smallest")
        return self


class LabelsSection(Section):
    """How windows are labelled.

    `task` is the family/name whose labels the mixtures select by. `minimum` is the smallest effect
    of interest, in soft score.
    """

    task: str
    rule: Literal["innovation", "delta"] = "innovation"
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    minimum: float = Field(default=0.05, ge=0)
