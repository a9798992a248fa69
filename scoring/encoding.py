"""Where a prompt ends and its candidate begins, in tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from windows.errors import DataError

Boundary = Literal["joined", "separate"]


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate after its prompt.

    Attributes
    ----------
    key
        The tokens of both as big-endian uint32: byte order is token order.
    n_prompt
        How many of them are the prompt; at least 1.
    n_tokens
        How many are the candidate, its terminator included; at least 1.
    n_body
        How many of those stand before the terminator (all of them where the two share a token).
    boundary
        ``joined`` where the two were encoded as one string, ``separate`` where the candidate had to
        be encoded alone, because joining changes the prompt's own tokens.
    """

    key: bytes
    n_prompt: int
    n_tokens: int
    n_body: int
    boundary: Boundary


def encode_spans(
    tokenizer: Any,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    terminators: Sequence[str],
) -> list[list[Span]]:
    """Encode every candidate after its prompt.

    The two are encoded joined, with whatever the tokenizer puts in front by itself. Where the
    prompt's own encoding is a prefix of that, the rest is the candidate; else the candidate is
    encoded alone, without special tokens, and the pair is flagged.

    Parameters
    ----------
    tokenizer
        A tokenizer of transformers.
    prompts
        n strings.
    candidates
        For each prompt, its candidates.
    terminators
        For each prompt the suffix that its candidates end with, to count the tokens before it.

    Raises
    ------
    DataError
        If a prompt or a candidate has no token.
    """
    if len(prompts) != len(candidates):
        raise DataError(
            "every prompt needs its candidates",
            got=f"{len(prompts)} prompts, {len(candidates)} lists of candidates",
        )
    pairs = [(p, c) for p, own in zip(prompts, candidates, strict=True) for c in own]
    endings = [end for end, own in zip(terminators, candidates, strict=True) for _ in own]
    bodies = [c.removesuffix(end) for (_, c), end in zip(pairs, endings, strict=True)]
    whole = _Encoder(tokenizer, special=True)
    whole.learn(prompts)
    whole.learn(p + c for p, c in pairs)
    whole.learn(p + b for (p, _), b in zip(pairs, bodies, strict=True))
    alone = _Encoder(tokenizer, special=False)
    alone.learn(
        s
        for (p, c), b in zip(pairs, bodies, strict=True)
        for s in (c, b)
        if not _starts_with(whole[p + c], whole[p])
    )
    spans = iter(_span(whole, alone, p, c, b) for (p, c), b in zip(pairs, bodies, strict=True))
    return [[next(spans) for _ in own] for own in candidates]


class _Encoder:
    """Encodes each string once, all new ones in one call."""

    def __init__(self, tokenizer: Any, *, special: bool) -> None:
        self.tokenizer = tokenizer
        self.special = special
        self.known: dict[str, list[int]] = {}

    def learn(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            encoded = self.tokenizer(
                new,
                add_special_tokens=self.special,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            self.known.update(zip(new, encoded["input_ids"], strict=True))

    def __getitem__(self, text: str) -> list[int]:
        return self.known[text]


def _span(whole: _Encoder, alone: _Encoder, prompt: str, candidate: str, body: str) -> Span:
    context, joined = whole[prompt], whole[prompt + candidate]
    if _starts_with(joined, context):
        boundary: Boundary = "joined"
        answer = joined[len(context) :]
        said = whole[prompt + body][len(context) :]
    else:
        boundary = "separate"
        answer, said = alone[candidate], alone[body]
    if not context or not answer:
        raise DataError(
            "a prompt and a candidate need at least one token each",
            where=f"prompt ending in {prompt[-40:]!r}",
            got=f"{len(context)} and {len(answer)} tokens, candidate {candidate[:40]!r}",
            do="leave empty ones out",
        )
    return Span(
        key=np.array(context + answer, dtype=">u4").tobytes(),
        n_prompt=len(context),
        n_tokens=len(answer),
        n_body=_shared(answer, said) or len(answer),
        boundary=boundary,
    )


def _starts_with(tokens: list[int], head: list[int]) -> bool:
    return tokens[: len(head)] == head


def _shared(one: list[int], other: list[int]) -> int:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
