r"""The suite's tests in the embedded run's world of small sums.

A line of that world is ``Q a + b A c \n`` with a and b in 0..7: 64 facts, answers 0..14. The facts
are dealt into two halves, one for labelling windows and one for verifying arms; demonstrations and
questions of a block come from one half only. No two demo seeds of a task show the same
demonstrations as long as there are enough.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, pairwise, permutations, product
from typing import NamedTuple

import numpy as np

from scoring.suite.schema import Block, Item, Split
from windows.errors import ConfigError

TERMINATOR = " \n"
OPERANDS = range(8)
ANSWERS = range(15)
STARTS = range(6)
DEMOS = 3
SOUP_WORDS = 96

WORDINGS: dict[Split, tuple[str, ...]] = {
    "label": ("plain", "after-end", "after-long-text"),
    "verify": ("after-text",),
}
_WORDS = {"after-end": 0, "after-text": 6, "after-long-text": 24}
"""How many words of another document, and its end, stand before the first demonstration. The world
knows one way to write a sum: what can be worded otherwise is what stands before."""


class Fact(NamedTuple):
    """A true sum."""

    a: int
    b: int

    @property
    def answer(self) -> int:
        """The sum of the two operands."""
        return self.a + self.b


Hand = tuple[Fact, ...]


def facts(split: Split) -> tuple[Fact, ...]:
    """Return the 32 facts of one half, in ascending order.

    The facts of an answer go to the halves in turn; where their number is odd the halves take turns
    in getting one more, so that both have 32 facts and differ by at most one at every answer.
    """
    return _halves()[split]


@cache
def _halves() -> dict[Split, tuple[Fact, ...]]:
    halves: dict[Split, list[Fact]] = {"label": [], "verify": []}
    odd = 0
    for answer in ANSWERS:
        same = [Fact(a, answer - a) for a in OPERANDS if answer - a in OPERANDS]
        order = _rng("facts", str(answer)).permutation(len(same))
        for turn, index in enumerate(order):
            halves["label" if (turn + odd) % 2 == 0 else "verify"].append(same[index])
        odd += len(same) % 2
    return {split: tuple(sorted(half)) for split, half in halves.items()}


def successive(split: Split, wording: str, demo_seed: int) -> Block:
    """Three demonstrations whose answers count up; a parrot counts on."""
    hand = _hand("successive_answer", split, wording, demo_seed)
    follows = hand[-1].answer + 1
    return _block("successive_answer", (split, wording, demo_seed), hand, [follows])


def repetitive(split: Split, wording: str, demo_seed: int) -> Block:
    """Three demonstrations with one answer; a parrot repeats it."""
    hand = _hand("repetitive_answer", split, wording, demo_seed)
    return _block("repetitive_answer", (split, wording, demo_seed), hand, [hand[-1].answer])


def normal(split: Split, wording: str, demo_seed: int) -> Block:
    """Three demonstrations without a pattern; every other answer is a rival."""
    hand = _hand("normal_control", split, wording, demo_seed)
    return _block("normal_control", (split, wording, demo_seed), hand, None)


def _block(
    family: str, where: tuple[Split, str, int], hand: Hand, parrot: Sequence[int] | None
) -> Block:
    split, wording, demo_seed = where
    words = _words(family, split, wording, demo_seed)
    lines = [f"Q {fact.a} + {fact.b} A{_answer(fact.answer)} " for fact in hand]
    asked = [fact for fact in facts(split) if fact not in hand]
    if parrot is not None:
        asked = [fact for fact in asked if fact.answer not in parrot]
    return Block(
        family=family,
        task="addition",
        wording=wording,
        split=split,
        demo_seed=demo_seed,
        prefix=words + "".join(lines),
        frame=words,
        items=tuple(_item(fact, parrot) for fact in asked),
        terminator=TERMINATOR,
    )


def _item(fact: Fact, parrot: Sequence[int] | None) -> Item:
    others = [answer for answer in ANSWERS if answer != fact.answer]
    wrong = others if parrot is None else parrot
    return Item.of(f"Q {fact.a} + {fact.b} A", _answer(fact.answer), map(_answer, wrong))


def _answer(value: int) -> str:
    return f" {value}{TERMINATOR}"


def _words(family: str, split: Split, wording: str, demo_seed: int) -> str:
    if wording not in _WORDS:
        return ""
    rng = _rng("words", family, split, wording, str(demo_seed))
    words = [f"w{index}" for index in rng.integers(SOUP_WORDS, size=_WORDS[wording])]
    return " ".join([*words, "<eos>", ""])


def _hand(family: str, split: Split, wording: str, demo_seed: int) -> Hand:
    """Draw a seed's demonstrations: the same ones whatever the number of seeds asked for."""
    hands = _HANDS[family](split, wording)
    hand = next(islice(hands, demo_seed, None), None)
    if hand is None:
        raise ConfigError(
            "there are not so many different draws of demonstrations",
            where="suite.demo_seeds",
            got=f"demo seed {demo_seed} of {family}/addition",
            do="ask for fewer demo seeds",
        )
    return hand


def _successive_hands(split: Split, wording: str) -> Iterator[Hand]:
    of = _by_answer(split)
    decks = {
        start: list(product(*(of[start + step] for step in range(DEMOS))))
        for start in STARTS
        if all(of[start + step] for step in range(DEMOS))
    }
    return _deal(decks, "successive_answer", split, wording)


def _repetitive_hands(split: Split, wording: str) -> Iterator[Hand]:
    decks = {
        answer: list(permutations(same, DEMOS))
        for answer, same in sorted(_by_answer(split).items())
        if len(same) >= DEMOS
    }
    return _deal(decks, "repetitive_answer", split, wording)


def _deal(decks: dict[int, list[Hand]], family: str, split: Split, wording: str) -> Iterator[Hand]:
    """Take one hand from every deck in turn, in a seeded order, until all decks are used up.

    A deck may hold one set of facts in several orders: sets not shown yet come first.
    """
    shuffled: list[list[Hand]] = []
    for value, deck in decks.items():
        rng = _rng("demos", family, split, wording, str(value))
        hands = [deck[index] for index in rng.permutation(len(deck))]
        seen: dict[frozenset[Fact], int] = defaultdict(int)
        rounds = []
        for hand in hands:
            rounds.append(seen[frozenset(hand)])
            seen[frozenset(hand)] += 1
        shuffled.append([hands[index] for index in np.argsort(rounds, kind="stable")])
    for turn in range(max(map(len, shuffled))):
        yield from (hands[turn] for hands in shuffled if turn < len(hands))


def _normal_hands(split: Split, wording: str) -> Iterator[Hand]:
    rng = _rng("demos", "normal_control", split, wording)
    half = facts(split)
    seen: set[Hand] = set()
    while True:
        hand = tuple(half[index] for index in rng.choice(len(half), DEMOS, replace=False))
        if hand not in seen and _patternless(hand):
            seen.add(hand)
            yield hand


def _patternless(hand: Hand) -> bool:
    answers = [fact.answer for fact in hand]
    counts_up = any(after == before + 1 for before, after in pairwise(answers))
    return len(set(answers)) == len(answers) and not counts_up


_HANDS = {
    "successive_answer": _successive_hands,
    "repetitive_answer": _repetitive_hands,
    "normal_control": _normal_hands,
}


def _by_answer(split: Split) -> dict[int, list[Fact]]:
    groups: dict[int, list[Fact]] = defaultdict(list)
    for fact in facts(split):
        groups[fact.answer].append(fact)
    return groups


def _rng(*words: str) -> np.random.Generator:
    digest = hashlib.sha256("\x1f".join(("addition", *words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
