"""Log-probabilities of many candidates after many prompts, every shared prefix computed once.

All pairs of a pack lie in one sequence as a token trie; a 4D mask lets every token see its own
ancestors only, and its position id is its depth. The packing is torch-free (`scoring.trie`) and
does not depend on the weights, so that a plan is made once for all checkpoints.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from scoring.encoding import Boundary
from scoring.trie import Pack, ScoringPlan, plan_scoring
from windows.errors import ConfigError, DataError

NARROW = (torch.bfloat16, torch.float16)


class SpanScore(NamedTuple):
    """One candidate's score: nats over all its tokens, and the mean probability of its body."""

    logprob: float
    n_tokens: int
    mean_p: float
    boundary: Boundary


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """The scores of a plan's P pairs: nats float64[P], mean token probability float64[P]."""

    logprob: npt.NDArray[np.float64]
    mean_p: npt.NDArray[np.float64]


class PrefixScorer:
    """Scores candidates under a causal language model of transformers.

    Parameters
    ----------
    model
        Any causal LM whose attention runs as ``sdpa`` or ``eager`` and is full or sliding.
    tokenizer
        Its tokenizer.
    token_budget
        The most unique tokens of one forward. Attention is dense over them.

    Raises
    ------
    ConfigError
        If the model's attention cannot take the ancestor mask.
    """

    def __init__(self, model: Any, tokenizer: Any, *, token_budget: int = 1024) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.token_budget = token_budget
        self.masks = _Masks(model)
        self.selects_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def score(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the log-probability in nats of every candidate after its prompt.

        Prompt and candidate are encoded joined where the prompt's own encoding is a prefix of
        that, else apart. Sums run over all tokens of the candidate. Equal inputs give equal
        results, and reordering the inputs only reorders the results.

        Parameters
        ----------
        prompts
            n strings; equal beginnings are found and computed once.
        candidates
            For each prompt, its candidates; end them with a terminator, so that none is a token
            prefix of another.

        Raises
        ------
        DataError
            If a prompt or a candidate has no token, or both exceed the model's positions.
        """
        return [[span.logprob for span in own] for own in self.score_spans(prompts, candidates)]

    def score_spans(
        self,
        prompts: Sequence[str],
        candidates: Sequence[Sequence[str]],
        *,
        terminator: str = "",
    ) -> list[list[SpanScore]]:
        """Score as `score` does, and tell how: token counts, boundary, probability of the body.

        Parameters
        ----------
        prompts, candidates
            As in `score`.
        terminator
            The suffix of the candidates whose tokens the mean probability leaves out.
        """
        plan = plan_scoring(
            self.tokenizer,
            prompts,
            candidates,
            terminators=[terminator] * len(prompts),
            token_budget=self.token_budget,
        )
        scores = self.run(plan)
        spans = map(
            SpanScore,
            scores.logprob.tolist(),
            plan.n_tokens.tolist(),
            scores.mean_p.tolist(),
            plan.boundaries,
        )
        return [[next(spans) for _ in range(width)] for width in plan.widths]

    def run(self, plan: ScoringPlan) -> PairScores:
        """Run a plan.

        Raises
        ------
        DataError
            If a sequence exceeds the model's positions.
        """
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and plan.longest > limit:
            raise DataError(
                "a prompt with its candidate is longer than the model can read",
                got=f"{plan.longest} tokens of at most {limit}",
                do="use fewer demonstrations or shorter prompts",
            )
        with evaluating(self.model), _output_in_float32(self.model):
            parts = [self._read(pack) for pack in plan.packs]
        return per_pair(plan, np.concatenate([np.zeros(0), *parts]))

    def _read(self, pack: Pack) -> npt.NDArray[np.float64]:
        device = self.model.device
        reads = torch.from_numpy(pack.reads).to(device)
        inputs: dict[str, Any] = {
            "input_ids": torch.from_numpy(pack.tokens).to(device)[None],
            "position_ids": torch.from_numpy(pack.depths).to(device)[None],
            "attention_mask": self.masks.of(pack),
            "use_cache": False,
        }
        if self.selects_logits:
            logits = self.model(**inputs, logits_to_keep=reads).logits[0]
        else:
            logits = self.model(**inputs).logits[0, reads]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        rows, targets = torch.from_numpy(pack.rows), torch.from_numpy(pack.targets)
        wanted = logprobs[rows.to(device), targets.to(device)]
        return np.asarray(wanted.cpu().numpy(), dtype=np.float64)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Hold a model in evaluation mode, without gradients, and put its own mode back."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


@contextmanager
def _output_in_float32(model: Any) -> Iterator[None]:
    """Widen a narrow output layer: rounded logits err most where a model is sure.

    What the model does to its logits (softcapping, scaling) stays its own.
    """
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.weight.dtype not in NARROW:
        yield
        return
    wide = copy.deepcopy(head).float()
    wide.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))
    model.set_output_embeddings(wide)
    try:
        yield
    finally:
        model.set_output_embeddings(head)


def per_pair(plan: ScoringPlan, tokens: npt.NDArray[np.float64]) -> PairScores:
    """Sum the log-probabilities of answer tokens, float64 in the plan's order, pair by pair."""
    starts = plan.bounds[plan.pairs]
    sums = np.concatenate([[0.0], np.cumsum(np.exp(tokens))])
    body = sums[starts + plan.n_body] - sums[starts]
    unique = np.add.reduceat(tokens, plan.bounds[:-1]) if len(tokens) else tokens
    return PairScores(logprob=unique[plan.pairs], mean_p=body / plan.n_body)


class _Masks:
    """Makes the masks that a model's layers ask for: one for all, or one for each kind of layer."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.eager = config._attn_implementation == "eager"
        self.device, self.dtype = model.device, model.dtype
        self.window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        if not kinds:
            kinds = {"full_attention" if self.window is None else "sliding_attention"}
        self.kinds = sorted(kinds)
        _check_model(model, self.kinds, self.window)

    def of(self, pack: Pack) -> Any:
        """Return one mask where all layers want the same, else a mask for each kind by its name."""
        ends = torch.from_numpy(pack.ends).to(self.device)
        nodes = torch.arange(len(ends), device=self.device)
        full = (nodes[None, :] <= nodes[:, None]) & (nodes[:, None] < ends[None, :])
        masks = {"full_attention": full}
        if "sliding_attention" in self.kinds:
            depths = torch.from_numpy(pack.depths).to(self.device)
            # As transformers counts: a token sees itself and window - 1 tokens before it.
            masks["sliding_attention"] = full & (depths[None, :] > depths[:, None] - self.window)
        ready = {kind: self._ready(masks[kind]) for kind in self.kinds}
        return ready if len(ready) > 1 else ready[self.kinds[0]]

    def _ready(self, mask: torch.Tensor) -> torch.Tensor:
        if not self.eager:
            return mask[None, None]
        hidden = torch.finfo(self.dtype).min
        return torch.zeros_like(mask, dtype=self.dtype).masked_fill_(~mask, hidden)[None, None]


def _check_model(model: Any, kinds: Sequence[str], window: int | None) -> None:
    accepted = inspect.signature(model.forward).parameters
    implementation = model.config._attn_implementation
    fault, do = "", "load a full- or sliding-attention model with attn_implementation='sdpa'"
    if implementation not in ("sdpa", "eager"):
        fault = f"attention {implementation!r}"
    elif implementation == "sdpa" and getattr(model.config, "attn_logit_softcapping", None):
        fault = "capped attention logits, which sdpa leaves out"
        do = "load it with attn_implementation='eager'"
    elif unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        fault = f"layers of kind {', '.join(sorted(unknown))}"
    elif "sliding_attention" in kinds and window is None:
        fault = "sliding layers without a sliding_window"
    elif missing := {"position_ids", "attention_mask"} - set(accepted):
        fault = f"a forward without {', '.join(sorted(missing))}"
    if fault:
        raise ConfigError(
            "this model cannot be scored by packing",
            where=type(model).__name__,
            got=fault,
            do=do,
        )
