"""Generating answers: what prompts begin with together is read once, then every sample goes on.

The key-value cache of the shared beginning is copied for every batch of samples. A batch holds
prompts of one length only, so that nothing is padded, and samples that ended leave it. Each sample
draws its tokens with numbers of its own, which depend on the seed, the prompt and the sample, and
on nothing that it is batched with; the same numbers at every checkpoint keep deltas quiet.
"""

import copy
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch
from transformers import DynamicCache

from scoring.engine import evaluating
from scoring.extraction import ANSWERS, PERSONA, count_matches, said
from scoring.generation_requests import Sampling
from scoring.items import Where
from scoring.suite.persona import PersonaPrompt
from scoring.suite.schema import Block
from windows.errors import DataError

Row = tuple[int, int]
"""A prompt's index and the number of one of its samples."""


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], sampling: Sampling
) -> list[list[str]]:
    """Continue every prompt, as often as asked.

    Parameters
    ----------
    model
        A causal LM of transformers that keeps its past in a `DynamicCache`.
    tokenizer
        Its tokenizer. Its end-of-sequence token, or the model's, ends an answer too.
    prompts
        The tokens that all of them begin with are read once, so call this for each draw of
        demonstrations. Equal prompts get equal answers.
    sampling
        How.

    Returns
    -------
    list of list of str
        For each prompt its answers, up to the stop.

    Raises
    ------
    DataError
        If a prompt has no token, or leaves no room for the answer in the model's positions.
    """
    if not prompts:
        return []
    texts: dict[Row, str] = {}
    with evaluating(model):
        writer = _Writer(model, tokenizer, prompts, sampling)
        for rows in writer.batches():
            texts.update(zip(rows, writer.write(rows), strict=True))
    return [[texts[index, k] for k in range(sampling.samples)] for index in range(len(prompts))]


def shared_tokens(encoded: Sequence[list[int]]) -> int:
    """Count the tokens that are read once for all prompts: those that all of them begin with.

    A prompt's last token is always read anew: its logits are where the answer begins.
    """
    first, last = min(encoded), max(encoded)
    pairs = zip(first, last, strict=False)
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), len(first))
    return min(same, min(map(len, encoded)) - 1)


def persona_table(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[PersonaPrompt],
    where: Where,
    sampling: Sampling | None = None,
) -> pa.Table:
    """Answer personas' questions under one checkpoint and count the right answers.

    Parameters
    ----------
    model, tokenizer
        As of `generate`.
    prompts
        What to ask; those behind the same facts should be neighbours.
    where
        The checkpoint.
    sampling
        How; by default as the authors do. Its stop gives way to each prompt's own.

    Returns
    -------
    pyarrow.Table
        Of schema `scoring.extraction.PERSONA`, one row a prompt, in their order.
    """
    chosen = sampling or Sampling()
    rows = []
    for (_, stop), group in groupby(prompts, key=lambda one: (one.prefix, one.stop)):
        own = list(group)
        drawn = generate(model, tokenizer, [p.prompt for p in own], replace(chosen, stop=stop))
        rows += [_persona_row(p, texts, where) for p, texts in zip(own, drawn, strict=True)]
    return pa.Table.from_pylist(rows, schema=PERSONA)


def answer_table(
    model: Any,
    tokenizer: Any,
    blocks: Sequence[Block],
    where: Where,
    *,
    max_new_tokens: int = 16,
    batch: int = 32,
) -> pa.Table:
    """Answer items of the suite greedily, up to their terminator, and extract what was said.

    Returns
    -------
    pyarrow.Table
        Of schema `scoring.extraction.ANSWERS`, one row an item, in the order of the blocks and
        their items: the counterpart of `scoring.sweep.score_blocks`.
    """
    rows = []
    for block in blocks:
        greedy = Sampling(
            samples=1,
            temperature=0,
            max_new_tokens=max_new_tokens,
            stop=block.terminator,
            batch=batch,
        )
        prompts = [block.prefix + item.prompt for item in block.items]
        for item, (text,) in zip(
            block.items, generate(model, tokenizer, prompts, greedy), strict=True
        ):
            rows.append(
                {
                    **_columns(where),
                    **{name: getattr(block, name) for name in _OF_BLOCK},
                    "item_id": item.item_id,
                    "text": text,
                    "said": said(text, item, terminator=block.terminator),
                }
            )
    return pa.Table.from_pylist(rows, schema=ANSWERS)


_OF_BLOCK = ("family", "task", "wording", "demo_seed")


def _columns(where: Where) -> dict[str, Any]:
    return {"run": where.run, "stage": where.stage, "step": where.step}


def _persona_row(prompt: PersonaPrompt, texts: Sequence[str], where: Where) -> dict[str, Any]:
    return {
        **_columns(where),
        "persona": prompt.asked.persona,
        "question": prompt.asked.question,
        "wording": prompt.wording,
        "demo_seed": prompt.demo_seed,
        "hops": prompt.asked.hops,
        "samples": len(texts),
        "matches": count_matches(texts, prompt.asked.regex),
    }


class _Writer:
    """Continues prompts behind the cache of the tokens that all of them begin with."""

    def __init__(
        self, model: Any, tokenizer: Any, prompts: Sequence[str], sampling: Sampling
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.prompts, self.sampling = prompts, sampling
        self.selects_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.ends = _end_tokens(model, tokenizer)
        self.encoded = _encode(model, tokenizer, prompts, sampling.max_new_tokens)
        self.shared = shared_tokens(self.encoded)
        self.cache = DynamicCache(config=model.config)
        if self.shared:
            self._read([self.encoded[0][: self.shared]], self.cache)

    def batches(self) -> Iterator[list[Row]]:
        """Yield answers to be written together: their prompts have equally many tokens."""
        by_length: dict[int, list[Row]] = {}
        for index, tokens in enumerate(self.encoded):
            own = by_length.setdefault(len(tokens), [])
            own += [(index, sample) for sample in range(self.sampling.samples)]
        size = self.sampling.batch
        for rows in by_length.values():
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def write(self, rows: Sequence[Row]) -> list[str]:
        asked = list(dict.fromkeys(index for index, _ in rows))
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(len(asked))
        logits = self._read([self.encoded[index][self.shared :] for index in asked], cache)
        picked = torch.tensor([asked.index(index) for index, _ in rows], device=logits.device)
        cache.batch_select_indices(picked)
        return list(map(self._text, self._continue(rows, logits[picked], cache)))

    def _continue(self, rows: Sequence[Row], logits: Any, cache: Any) -> list[list[int]]:
        noise = {index: self._noise(index) for index in {index for index, _ in rows}}
        drawn = torch.stack([noise[index][sample] for index, sample in rows]).to(logits.device)
        written: list[list[int]] = [[] for _ in rows]
        live = list(range(len(rows)))
        for step in range(self.sampling.max_new_tokens):
            chosen = self._choose(logits, drawn[live, step]).tolist()
            for row, token in zip(live, chosen, strict=True):
                written[row].append(token)
            kept = [at for at, row in enumerate(live) if not self._ended(written[row])]
            if not kept or step + 1 == self.sampling.max_new_tokens:
                break
            if len(kept) < len(live):
                cache.batch_select_indices(torch.tensor(kept, device=logits.device))
                live = [live[at] for at in kept]
            logits = self._read([written[row][-1:] for row in live], cache)
        return written

    def _read(self, tokens: Sequence[Sequence[int]], cache: Any) -> torch.Tensor:
        """Read int[B, T] behind a cache, which grows; return the logits after them, f32[B, V]."""
        ids = torch.tensor(tokens, device=self.model.device)
        only = {"logits_to_keep": 1} if self.selects_logits else {}
        told = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **only)
        last: torch.Tensor = told.logits[:, -1].float()
        return last

    def _noise(self, index: int) -> torch.Tensor:
        """Return a prompt's numbers, uniform in [0, 1), float64[samples, max_new_tokens]."""
        text = f"{self.sampling.seed}\x1f{self.prompts[index]}"
        digest = hashlib.sha256(text.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        shape = self.sampling.samples, self.sampling.max_new_tokens
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def _choose(self, logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Return the token of each row whose share of [0, 1) holds the row's number."""
        if not self.sampling.temperature:
            return logits.argmax(-1)
        # In float64, or the many small shares of a vocabulary would not add up.
        shares = torch.softmax(logits.double() / self.sampling.temperature, dim=-1).cumsum(-1)
        at = torch.searchsorted(shares, uniform[:, None] * shares[:, -1:], right=True)
        return at[:, 0].clamp(max=logits.shape[-1] - 1)

    def _ended(self, tokens: list[int]) -> bool:
        stop = self.sampling.stop
        # Every token says at least a byte, so that the stop just written lies in so many.
        tail = tokens[-1 - len(stop.encode()) :]
        return tokens[-1] in self.ends or (bool(stop) and stop in self._decoded(tail))

    def _text(self, tokens: list[int]) -> str:
        if tokens[-1] in self.ends:
            tokens = tokens[:-1]
        text = self._decoded(tokens)
        return text.partition(self.sampling.stop)[0] if self.sampling.stop else text

    def _decoded(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False))


def _encode(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int
) -> list[list[int]]:
    encoded: list[list[int]] = tokenizer(
        list(prompts), return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    longest = max(map(len, encoded)) + max_new_tokens
    limit = getattr(model.config, "max_position_embeddings", None)
    if not all(encoded):
        raise DataError(
            "a prompt needs at least one token",
            where=f"prompt {encoded.index([])}",
            got="none",
            do="leave empty ones out",
        )
    if limit is not None and longest > limit:
        raise DataError(
            "a prompt with its answer is longer than the model can read",
            got=f"{longest} tokens of at most {limit}, {max_new_tokens} of them for the answer",
            do="use shorter prompts or answers",
        )
    return encoded


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    told = model.config.eos_token_id
    own = told if isinstance(told, list) else [told]
    return {token for token in (*own, tokenizer.eos_token_id) if token is not None}
