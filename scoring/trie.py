"""Packing many token sequences into few tries, each run as one sequence under an ancestor mask.

The nodes of a trie are numbered in preorder, so the descendants of node i are ``[i, ends[i])`` and
node j is an ancestor of node i, or i itself, where ``j <= i < ends[j]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.encoding import Boundary, Span, encode_spans
from windows.errors import ConfigError

Ints = npt.NDArray[np.int64]
LOGITS_IN_MEMORY = 2**26


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """One trie: what one forward reads, and which of its log-probabilities are wanted.

    Attributes
    ----------
    tokens
        int64[T], in preorder.
    depths
        int64[T], the position of each in its own sequences.
    ends
        int64[T], one past the last descendant of each.
    reads
        int64[R], the nodes whose next-token distribution is wanted, each once.
    rows, targets
        int64[S], for each scored token its index in `reads` and its id, span after span.
    """

    tokens: Ints
    depths: Ints
    ends: Ints
    reads: Ints
    rows: Ints
    targets: Ints


@dataclass(frozen=True, slots=True, eq=False)
class ScoringPlan:
    """How to score many (prompt, candidate) pairs: made once, run on any number of checkpoints.

    Attributes
    ----------
    packs
        What is run, one forward each.
    bounds
        int64[U + 1]: scored token ``bounds[u]`` to ``bounds[u + 1]`` are those of unique span u.
    pairs
        int64[P], the unique span of each pair, in the order of the input.
    n_tokens, n_body
        int64[P], tokens of each candidate with and without its terminator.
    boundaries
        P flags.
    widths
        How many candidates each prompt has.
    longest
        Tokens of the longest sequence that is read.
    """

    packs: tuple[Pack, ...]
    bounds: Ints
    pairs: Ints
    n_tokens: Ints
    n_body: Ints
    boundaries: tuple[Boundary, ...]
    widths: tuple[int, ...]
    longest: int

    @property
    def tokens_read(self) -> int:
        """How many tokens the forwards of this plan read together."""
        return sum(len(pack.tokens) for pack in self.packs)


def plan_scoring(
    tokenizer: Any,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    *,
    terminators: Sequence[str] | None = None,
    token_budget: int = 1024,
) -> ScoringPlan:
    """Encode and pack, once for any number of checkpoints with this tokenizer.

    Parameters
    ----------
    tokenizer
        A tokenizer of transformers.
    prompts, candidates
        As in `PrefixScorer.score`.
    terminators
        For each prompt the suffix of its candidates that their mean probability leaves out.
    token_budget
        The most unique tokens of one forward.

    Raises
    ------
    DataError
        If a prompt or a candidate has no token.
    ConfigError
        If the token budget is not positive.
    """
    if token_budget < 1:
        raise ConfigError("a forward needs tokens", where="token_budget", got=str(token_budget))
    endings = [""] * len(prompts) if terminators is None else terminators
    spans = encode_spans(tokenizer, prompts, candidates, endings)
    max_reads = max(16, LOGITS_IN_MEMORY // len(tokenizer))
    return make_plan(spans, token_budget=token_budget, max_reads=max_reads)


def make_plan(spans: Sequence[Sequence[Span]], *, token_budget: int, max_reads: int) -> ScoringPlan:
    """Find what the spans share and deal them into packs.

    Equal input gives an equal plan, and the order of the input does not change the packs.

    Parameters
    ----------
    spans
        For each prompt, its candidates.
    token_budget
        The most unique tokens of a pack; where one sequence alone takes more than half of that, a
        pack may be twice as long as its first sequence.
    max_reads
        The most positions of a pack whose logits are computed (one span may need more).
    """
    flat = [span for own in spans for span in own]
    unique = sorted({(span.key, span.n_prompt) for span in flat})
    place = {span: index for index, span in enumerate(unique)}
    packs = tuple(_deal(unique, token_budget, max_reads))
    lengths = [len(key) // 4 - n_prompt for key, n_prompt in unique]
    return ScoringPlan(
        packs=packs,
        bounds=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pairs=_ints([place[span.key, span.n_prompt] for span in flat]),
        n_tokens=_ints([span.n_tokens for span in flat]),
        n_body=_ints([span.n_body for span in flat]),
        boundaries=tuple(span.boundary for span in flat),
        widths=tuple(map(len, spans)),
        longest=max((len(key) // 4 - 1 for key, _ in unique), default=0),
    )


def _deal(unique: Sequence[tuple[bytes, int]], token_budget: int, max_reads: int) -> list[Pack]:
    packs: list[Pack] = []
    trie = _Trie()
    for key, n_prompt in unique:
        sequence = np.frombuffer(key, dtype=">u4").astype(np.int64)
        if trie.tokens:
            size = len(trie.tokens) + len(sequence) - 1 - trie.shared(sequence)
            reads = len(trie.row_of) + len(sequence) - n_prompt
            if size > max(token_budget, 2 * trie.first) or reads > max_reads:
                packs.append(trie.pack())
                trie = _Trie()
        trie.add(sequence, n_prompt)
    if trie.tokens:
        packs.append(trie.pack())
    return packs


class _Trie:
    """A trie under construction; sequences come in ascending order.

    The last token of a sequence is only a target: nothing is predicted from it.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.ends: list[int] = []
        self.path: list[int] = []
        self.row_of: dict[int, int] = {}
        self.rows: list[int] = []
        self.targets: list[int] = []
        self.last: Ints = _ints([])
        self.first = 0

    def shared(self, sequence: Ints) -> int:
        """Return how many of the tokens to be read are on the current path already."""
        n = min(len(self.last), len(sequence)) - 1
        differ = np.flatnonzero(self.last[:n] != sequence[:n])
        return int(differ[0]) if len(differ) else n

    def add(self, sequence: Ints, n_prompt: int) -> None:
        shared = self.shared(sequence) if self.tokens else 0
        self._leave(shared)
        new = sequence[shared:-1].tolist()
        self.path += range(len(self.tokens), len(self.tokens) + len(new))
        self.tokens += new
        self.depths += range(shared, shared + len(new))
        self.ends += [0] * len(new)
        for index in range(n_prompt, len(sequence)):
            node = self.path[index - 1]
            self.rows.append(self.row_of.setdefault(node, len(self.row_of)))
        self.targets += sequence[n_prompt:].tolist()
        self.last = sequence
        self.first = self.first or len(sequence) - 1

    def pack(self) -> Pack:
        self._leave(0)
        return Pack(
            tokens=_ints(self.tokens),
            depths=_ints(self.depths),
            ends=_ints(self.ends),
            reads=_ints(list(self.row_of)),
            rows=_ints(self.rows),
            targets=_ints(self.targets),
        )

    def _leave(self, depth: int) -> None:
        for node in self.path[depth:]:
            self.ends[node] = len(self.tokens)
        del self.path[depth:]


def _ints(values: Any) -> Ints:
    return np.asarray(values, dtype=np.int64)
