"""Find eval prompts in instances, by token ids.

Two rules. ``match: prompt`` calls an instance contaminated where a whole prompt's token sequence
occurs in it; ``match: ngram`` where it shares any run of ``ngram`` tokens with a prompt. A rolling
hash over the instances proposes places, and every proposal is compared token by token: a collision
of hashes costs time, never a wrong verdict. Ids are compared, not words, so a text that another
tokenization spells differently is not found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.settings import DecontaminationSection
from windows.errors import DataError
from windows.sampling import splitmix64

NO_PROMPT = -1

# An odd number is invertible modulo 2**64, which lets one table of prefix sums serve all lengths.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)

# Places compared at a time, in tokens: bounds memory where almost everything is a candidate.
_COMPARED = 2**22

Tokens = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Contamination:
    """What was found in n instances.

    Attributes
    ----------
    mask
        bool[n], True where an instance is contaminated.
    prompt
        int64[n], the lowest index of a prompt found in it, -1 where none is.
    """

    mask: npt.NDArray[np.bool_]
    prompt: Indices


class PromptIndex:
    """The eval prompts, ready to be looked for in instances.

    Parameters
    ----------
    prompts
        Token ids of every prompt.
    rule
        What counts as a match.

    Attributes
    ----------
    prompts : int
        How many prompts were given.

    Raises
    ------
    DataError
        A prompt is empty, or holds something that is no 32-bit token id.

    Notes
    -----
    An n-gram is looked up by its hash. Whole prompts, where their lengths differ, are looked up by
    the hash of their last tokens, as many as the largest power of two that fits: so prompts of any
    lengths need a few hash lengths only, and those that share their demonstrations still differ in
    what is hashed.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], rule: DecontaminationSection | None = None
    ) -> None:
        rule = rule or DecontaminationSection()
        self.prompts = len(prompts)
        self._tokens = _flat(prompts)
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        pieces = _whole(prompts, lengths) if rule.match == "prompt" else _grams(lengths, rule.ngram)
        self._lengths, self._ngram = lengths, None if rule.match == "prompt" else rule.ngram
        sums = _prefix_sums(self._tokens[None, :])
        anchors = _anchors(pieces.length)
        self._tables = [
            _Table.build(pieces.where(anchors == anchor), int(anchor), self._tokens, sums)
            for anchor in np.unique(anchors)
        ]

    def findable(self, length: int) -> int:
        """Count the prompts that can be found in an instance of `length` tokens at all.

        A whole prompt has to fit into it; under the rule ``ngram`` a prompt has to hold an n-gram.
        """
        if self._ngram is None:
            return int((self._lengths <= length).sum())
        return int((self._lengths >= self._ngram).sum()) if length >= self._ngram else 0

    def find(self, tokens: Tokens) -> Contamination:
        """Look for the prompts in instances.

        Parameters
        ----------
        tokens
            uint32[n, L].

        Returns
        -------
        Contamination
            Exact, whatever the hashes do.
        """
        prompt = np.full(len(tokens), np.iinfo(np.int64).max)
        sums = _prefix_sums(tokens)
        for table in self._tables:
            for rows, found in table.matches(tokens, sums, self._tokens):
                np.minimum.at(prompt, rows, found)
        mask = prompt < np.iinfo(np.int64).max
        return Contamination(mask, np.where(mask, prompt, NO_PROMPT))


@dataclass(frozen=True)
class _Pieces:
    """Token sequences to look for: slices of the concatenated prompts, and whose they are."""

    start: Indices
    length: Indices
    prompt: Indices

    def where(self, rows: npt.NDArray[np.bool_] | Indices) -> "_Pieces":
        return _Pieces(self.start[rows], self.length[rows], self.prompt[rows])


@dataclass(frozen=True)
class _Table:
    """Pieces whose last `anchor` tokens are hashed, sorted by that hash."""

    anchor: int
    pieces: _Pieces
    hashes: Hashes
    seen: npt.NDArray[np.bool_]

    @staticmethod
    def build(pieces: _Pieces, anchor: int, tokens: Tokens, sums: Hashes) -> "_Table":
        ends = pieces.start + pieces.length
        hashes = _hashes(sums, anchor)[0][ends - anchor]
        order = np.lexsort((pieces.prompt, pieces.length, hashes))
        pieces, hashes = pieces.where(order), hashes[order]
        kept = ~_repeats_its_group(pieces, hashes, tokens)
        pieces, hashes = pieces.where(kept), hashes[kept]
        # Sparse, so that few places pass by chance; at most 128 MiB.
        seen = np.zeros(1 << min(max(12, (64 * len(hashes)).bit_length()), 27), dtype=np.bool_)
        seen[hashes & np.uint64(len(seen) - 1)] = True
        return _Table(anchor, pieces, hashes, seen)

    def matches(
        self, tokens: Tokens, sums: Hashes, flat: Tokens
    ) -> Iterator[tuple[Indices, Indices]]:
        """Yield (rows, prompts) of verified matches."""
        if tokens.shape[1] < self.anchor:
            return
        hashes = _hashes(sums, self.anchor)
        # A small table of low bits turns away almost every place before the binary search.
        rows, places = np.nonzero(self.seen[hashes & np.uint64(len(self.seen) - 1)])
        sought = hashes[rows, places]
        first = np.searchsorted(self.hashes, sought, side="left")
        counts = np.searchsorted(self.hashes, sought, side="right") - first
        candidates = _ranges(first, counts)
        rows, ends = np.repeat(rows, counts), np.repeat(places + self.anchor, counts)
        lengths = self.pieces.length[candidates]
        for length in np.unique(lengths):
            some = np.flatnonzero((lengths == length) & (ends >= length))
            reach = np.arange(length)
            for part in np.array_split(some, 1 + len(some) * int(length) // _COMPARED):
                found = self.pieces.where(candidates[part])
                ours = tokens[rows[part, None], ends[part, None] - length + reach]
                same = (ours == flat[found.start[:, None] + reach]).all(axis=1)
                yield rows[part][same], found.prompt[same]


def _flat(prompts: Sequence[Sequence[int]]) -> Tokens:
    for index, prompt in enumerate(prompts):
        if not len(prompt) or min(prompt) < 0 or max(prompt) >= 2**32:
            raise DataError(
                "an eval prompt is empty or holds something that is no token id",
                where=f"prompt {index}",
                got=f"{len(prompt)} ids",
                do="encode the eval prompts with the run's own tokenizer",
            )
    return np.concatenate(
        [np.empty(0, dtype=np.uint32), *(np.asarray(prompt, dtype=np.uint32) for prompt in prompts)]
    )


def _whole(prompts: Sequence[Sequence[int]], lengths: Indices) -> _Pieces:
    first = {tuple(prompt): index for index, prompt in reversed(list(enumerate(prompts)))}
    index = np.array(sorted(first.values()), dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    return _Pieces(starts[index], lengths[index], index)


def _grams(lengths: Indices, n: int) -> _Pieces:
    starts = np.cumsum(lengths) - lengths
    counts = np.maximum(lengths - n + 1, 0)
    start = _ranges(starts, counts)
    prompt = np.repeat(np.arange(len(lengths)), counts)
    return _Pieces(start, np.full(len(start), n, dtype=np.int64), prompt)


def _anchors(lengths: Indices) -> Indices:
    if len(np.unique(lengths)) <= 1:
        return lengths
    return 1 << np.floor(np.log2(lengths)).astype(np.int64)


def _repeats_its_group(pieces: _Pieces, hashes: Hashes, tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Mark the pieces that spell the same as the first one of their hash and length."""
    repeats = np.zeros(len(hashes), dtype=np.bool_)
    if not len(hashes):
        return repeats
    new = np.ones(len(hashes), dtype=np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (pieces.length[1:] != pieces.length[:-1])
    leader = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    for length in np.unique(pieces.length):
        rows = np.flatnonzero(~new & (pieces.length == length))
        for part in np.array_split(rows, 1 + len(rows) * int(length) // _COMPARED):
            reach = np.arange(length)
            ours = tokens[pieces.start[part, None] + reach]
            theirs = tokens[pieces.start[leader[part], None] + reach]
            repeats[part] = (ours == theirs).all(axis=1)
    return repeats


def _prefix_sums(tokens: Tokens) -> Hashes:
    """Sum hash(token j) * BASE**j over j < i, for i in 0 ... L: uint64[n, L + 1]."""
    sums = np.zeros((tokens.shape[0], tokens.shape[1] + 1), dtype=np.uint64)
    terms = splitmix64(tokens, 0) * _powers(_BASE, tokens.shape[1])
    np.cumsum(terms, axis=1, out=sums[:, 1:])
    return sums


def _hashes(sums: Hashes, length: int) -> Hashes:
    """Hash every run of `length` tokens: uint64[n, L - length + 1]."""
    places = max(sums.shape[1] - length, 0)
    return (sums[:, length:] - sums[:, :places]) * _powers(_INVERSE, places)


def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _ranges(first: Indices, counts: Indices) -> Indices:
    """Concatenate the ranges [first, first + count)."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + counts, counts)
