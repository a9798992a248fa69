"""The same scores from vLLM: one short request for each distribution that a plan reads.

Token ids are this project's own (`scoring.encoding`); vLLM gets no text. Each read node of a plan's
tries becomes a request: the tokens that lead to it, one token to generate, and the ids whose
log-probabilities are wanted there (``logprob_token_ids``: exact, and before any sampling setting).
vLLM's prefix cache then computes shared prefixes once, but for the last, unfilled block of each.

``prompt_logprobs``, the usual way, is not used: a request that asks for it does not read the prefix
cache, so every demonstration block would be computed again for every candidate. Read in vLLM 0.32
(``SamplingParams.__post_init__`` sets ``skip_reading_prefix_cache``, which
``KVCacheManager.prefix_cache_lookup_enabled`` obeys) and held by a test where vLLM is installed.

vLLM pins a torch of its own and so wants an environment of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scoring.engine import PairScores, per_pair
from scoring.trie import ScoringPlan, plan_scoring
from windows.checkpoints.folder import validate
from windows.errors import ConfigError, DataError

AT_ONCE = 4096
"""Requests handed over in one call: what bounds the memory that their token lists take."""

MOST_WANTED = 128
"""The most ids that vLLM takes in one request's ``logprob_token_ids``."""


class Request(NamedTuple):
    """The tokens of a context and the ids wanted right after it: row `row` of pack `pack`."""

    pack: int
    row: int
    context: list[int]
    wanted: list[int]


class VllmScorer:
    """Scores candidates under vLLM, with the calls of `scoring.engine.PrefixScorer`.

    Scores equal that class's within float rounding. Unlike there, the last bits may depend on what
    vLLM batches together, unless its environment variable ``VLLM_BATCH_INVARIANT`` is set.

    Parameters
    ----------
    model
        The folder of a checkpoint, for `start_engine`; or a ``vllm.LLM`` that runs already, with
        ``enable_prefix_caching=True``.
    tokenizer
        A tokenizer of transformers; by default the engine's own.

    Raises
    ------
    ConfigError
        If vLLM is absent or too old, or the engine returns something other than log-probabilities.
    DataError
        As `start_engine` does.
    """

    def __init__(self, model: Any, tokenizer: Any = None) -> None:
        self._vllm = _import_vllm()
        self.llm = start_engine(Path(model)) if isinstance(model, str | Path) else model
        self.tokenizer = self.llm.get_tokenizer() if tokenizer is None else tokenizer
        if (mode := self.llm.model_config.logprobs_mode) != "raw_logprobs":
            raise ConfigError(
                "this engine returns something other than the model's log-probabilities",
                where="logprobs_mode",
                got=str(mode),
                do="start it with logprobs_mode='raw_logprobs'",
            )

    def score(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the log-probability in nats of every candidate after its prompt.

        Parameters, boundary and refusals are those of `PrefixScorer.score`.
        """
        plan = plan_scoring(self.tokenizer, prompts, candidates)
        scores = iter(self.run(plan).logprob.tolist())
        return [[next(scores) for _ in range(width)] for width in plan.widths]

    def run(self, plan: ScoringPlan) -> PairScores:
        """Run a plan.

        Raises
        ------
        DataError
            If a sequence leaves no room in the engine's context for the token that vLLM generates.
        """
        if plan.longest >= (limit := self.llm.model_config.max_model_len):
            raise DataError(
                "a prompt with its candidate is longer than the engine can read",
                got=f"{plan.longest} tokens of at most {limit - 1}",
                do="use fewer demonstrations or shorter prompts, or raise max_model_len",
            )
        said: dict[tuple[int, int, int], float] = {}
        waiting = requests_of(plan)
        while batch := list(islice(waiting, AT_ONCE)):
            said.update(self._ask(batch))
        return per_pair(plan, per_token(plan, said))

    def close(self) -> None:
        """End the engine and its processes."""
        self.llm.llm_engine.engine_core.shutdown()

    def _ask(self, batch: Sequence[Request]) -> Iterator[tuple[tuple[int, int, int], float]]:
        outputs = self.llm.generate(
            [{"prompt_token_ids": request.context} for request in batch],
            [
                self._vllm.SamplingParams(
                    temperature=0.0,
                    max_tokens=1,
                    logprob_token_ids=request.wanted,
                    detokenize=False,
                )
                for request in batch
            ],
            use_tqdm=False,
        )
        for request, output in zip(batch, outputs, strict=True):
            found = output.outputs[0].logprobs[0]
            for token in request.wanted:
                yield (request.pack, request.row, token), found[token].logprob


def start_engine(path: Path, *, dtype: str = "float32", **options: Any) -> Any:
    """Start vLLM on a checkpoint's folder: as data, without running its code.

    Parameters
    ----------
    path
        The folder, as transformers saves models.
    dtype
        Of weights and cache. The output layer runs in float32 anyway, as under `PrefixScorer`.
    options
        What else ``vllm.LLM`` takes, such as ``tensor_parallel_size`` and ``max_model_len``.

    Raises
    ------
    ConfigError
        If vLLM is absent or too old.
    DataError
        If a file is absent or cut short, or vLLM cannot run what the folder holds.
    """
    vllm = _import_vllm()
    validate(path)
    try:
        return vllm.LLM(
            str(path),
            dtype=dtype,
            trust_remote_code=False,
            load_format="safetensors",
            enable_prefix_caching=True,
            hf_overrides={"head_dtype": "float32"},
            **options,
        )
    except Exception as error:
        raise DataError(
            "vLLM cannot start on this checkpoint",
            where=str(path),
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="read what vLLM printed before this; it may want other options or more memory",
        ) from error


def requests_of(plan: ScoringPlan) -> Iterator[Request]:
    """Yield what a plan reads, each context with the ids that are wanted after it.

    What shares a prefix is adjacent. A context comes again for ids beyond the first `MOST_WANTED`.
    """
    for index, pack in enumerate(plan.packs):
        for row, node in enumerate(pack.reads.tolist()):
            path = np.flatnonzero(pack.ends[: node + 1] > node)
            context = pack.tokens[path].tolist()
            wanted = np.unique(pack.targets[pack.rows == row]).tolist()
            for first in range(0, len(wanted), MOST_WANTED):
                yield Request(index, row, context, wanted[first : first + MOST_WANTED])


def per_token(
    plan: ScoringPlan, said: Mapping[tuple[int, int, int], float]
) -> npt.NDArray[np.float64]:
    """Return nats float64[S] of a plan's scored tokens, in the order of its bounds.

    Parameters
    ----------
    plan
        The plan.
    said
        By pack, row and id, the log-probability of the id after the row's context.
    """
    found: Iterable[float] = (
        said[index, row, target]
        for index, pack in enumerate(plan.packs)
        for row, target in zip(pack.rows.tolist(), pack.targets.tolist(), strict=True)
    )
    return np.fromiter(found, dtype=np.float64)


def _import_vllm() -> Any:
    try:
        vllm = import_module("vllm")
        if hasattr(vllm.SamplingParams, "logprob_token_ids"):
            return vllm
        got = f"vllm {vllm.__version__}, whose SamplingParams has no logprob_token_ids"
    except ImportError as error:
        got = str(error)
    raise ConfigError(
        "this environment has no vLLM that can score",
        got=got,
        do="make it one of its own: pip install 'vllm>=0.32', and this project beside it with "
        "pip install --no-deps",
    )
