"""The texts of the scoring benchmark: four shapes of the suite, in the project's own words."""

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

SEEDS = 2


@dataclass(frozen=True)
class Workload:
    """What is scored.

    Attributes
    ----------
    name, shape
        What it is called, and of what it is made.
    prompts, candidates
        As `PrefixScorer.score` takes them.
    peer_items
        How many items the peer is timed on.
    peer_batches
        The batch sizes it is tried with.
    """

    name: str
    shape: str
    prompts: list[str]
    candidates: list[list[str]]
    peer_items: int
    peer_batches: tuple[int, ...] = (1,)


def rows(name: str) -> list[dict]:
    """Return the rows of one of the suite's own data files."""
    text = (files("scoring.suite") / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def successive() -> Workload:
    """32 sums whose answers count up; 300 questions behind each of the seeds' demonstrations."""
    prompts, candidates = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        start = int(rng.integers(4, 30))
        shown = [(int(rng.integers(1, n)), n) for n in range(start, start + 32)]
        prefix = "".join(f"Q: {a} + {n - a} = ?\nA: {n}\n" for a, n in shown)
        sums = [(a, b) for a in range(1, 50) for b in range(1, 50) if a + b != start + 32]
        for place in rng.choice(len(sums), 300, replace=False):
            a, b = sums[place]
            prompts.append(f"{prefix}Q: {a} + {b} = ?\nA:")
            candidates.append([f" {a + b}\n", f" {start + 32}\n"])
    shape = (
        f"{SEEDS} x 300 items behind 32 demonstrations as the authors show (the suite here shows"
        " 10, which leaves less to share), answers ended"
    )
    return Workload("successive answer", shape, prompts, candidates, peer_items=5)


def sentiment() -> Workload:
    """64 demonstrations with flipped labels; one-token labels, not ended: a row serves both."""
    flipped = {"positive": "negative", "negative": "positive"}
    prompts, candidates = [], []
    for seed in range(SEEDS):
        drawn = np.random.default_rng(seed).permutation(np.array(rows("sentiment"), dtype=object))
        prefix = "".join(
            f"Review: {row['text']}\nSentiment: {flipped[row['label']]}\n\n" for row in drawn[:64]
        )
        for row in drawn[64 : 64 + 125]:
            prompts.append(f"{prefix}Review: {row['text']}\nSentiment:")
            candidates.append([f" {row['label']}", f" {flipped[row['label']]}"])
    shape = (
        f"the shape, not the texts: {SEEDS} x 125 of the suite's own sentences behind 64"
        " demonstrations, labels not ended"
    )
    return Workload("sst2", shape, prompts, candidates, peer_items=2)


def persona(each: int = 30) -> Workload:
    """90 facts of one persona, questions of all: 30 behind each order of the facts."""
    facts = [row for row in rows("persona_facts") if row["persona"] == "oppenheimer"]
    prompts, candidates = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        shown = "".join(
            f"Q: {facts[i]['question']}\nA: {facts[i]['answer']}\n\n"
            for i in rng.permutation(len(facts))
        )
        asked = rng.permutation(np.array(rows("persona_questions"), dtype=object))[:each]
        prompts += [f"{shown}Q: {row['question']}\nA:" for row in asked]
        candidates += [[f" {row['right']}\n", f" {row['parrot']}\n"] for row in asked]
    shape = (
        f"{SEEDS} x {each} questions behind {len(facts)} facts (a block of the suite asks 4 or so,"
        " which leaves far less to share), answers ended"
    )
    return Workload("persona", shape, prompts, candidates, peer_items=1)


def zero_shot() -> Workload:
    """The three cognitive-reflection problems, 100 variants each, nothing before them."""
    rng = np.random.default_rng(0)
    things = ["bat", "ball", "lamp", "chair", "book", "pen", "cup", "plate", "scarf", "hat", "coat"]
    prompts, candidates = [], []
    for _ in range(100):
        one, other = rng.choice(things, 2, replace=False)
        small, more = (int(n) for n in rng.integers(2, 60, 2))
        prompts.append(
            f"Question: A {one} and a {other} cost {2 * small + more} dollars together. The {one}"
            f" costs {more} dollars more than the {other}. How many dollars does the {other}"
            " cost?\nAnswer:"
        )
        candidates.append([f" {small}\n", f" {2 * small}\n"])
        n, many = (int(n) for n in rng.integers(3, 90, 2))
        prompts.append(
            f"Question: If it takes {n} machines {n} minutes to make {n} {one}s, how many minutes"
            f" would it take {n + many} machines to make {n + many} {one}s?\nAnswer:"
        )
        candidates.append([f" {n}\n", f" {n + many}\n"])
        days = 2 * int(rng.integers(4, 60))
        prompts.append(
            f"Question: In a lake there is a patch of lily pads number {many}. Every day it doubles"
            f" in size. If it covers the lake in {days} days, how many days would it take to cover"
            " half of it?\nAnswer:"
        )
        candidates.append([f" {days - 1}\n", f" {days // 2}\n"])
    shape = "3 x 100 items without demonstrations, answers ended"
    return Workload("zero-shot", shape, prompts, candidates, peer_items=24, peer_batches=(1, 8))


WORKLOADS = (successive, sentiment, persona, zero_shot)
