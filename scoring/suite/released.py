"""The authors' released eval set: its tasks, prompted as their code prompts them.

Source of the table: GDsuite, ``config.yaml`` and ``run_eval.py``. The set is
``jiaxin-wen/generalization-dynamics-evals`` on the Hub, one JSONL file a task. Multi-hop persona
QA, which is generative, is not read here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any

from scoring.suite.hub_sets import cached, check_commit, snapshot
from scoring.suite.rows import (
    Demo,
    Prompting,
    Question,
    Rows,
    number_of_draws,
    parse_rows,
    rows_task,
    split_of,
)
from scoring.suite.schema import SPLITS, Block, Item, Split
from scoring.suite.task import Task
from windows.errors import ConfigError, DataError

REPO = "jiaxin-wen/generalization-dynamics-evals"

WORDINGS: Mapping[Split, tuple[str, ...]] = {"label": ("released",), "verify": ("released-verify",)}
"""The set has one wording: both names are the same text, on rows that the splits do not share."""

_FLIPPED = Prompting("balanced", joiner="\n\n")
_DRAWN = Prompting("random", joiner="\n", per_item=True)
_COUNTED = Prompting("ordered", joiner="\n")
_BARE = Prompting("none", joiner="\n")

TABLE: Mapping[str, Prompting] = {
    "flipped_answer.sst2": replace(_FLIPPED, count=64),
    "flipped_answer.imdb": replace(_FLIPPED, count=24),
    "flipped_answer.rotten_tomatoes": replace(_FLIPPED, count=64),
    "flipped_answer.poem_sentiment": replace(_FLIPPED, count=64),
    "flipped_answer.yahoo_health_computers": replace(_FLIPPED, count=64),
    "flipped_answer.yahoo_business_science": replace(_FLIPPED, count=64),
    "flipped_answer.emotion": replace(_FLIPPED, count=100),
    "flipped_answer.emotion_anger_joy": replace(_FLIPPED, count=100),
    "repetitive_answer.code_tracing": replace(_DRAWN, count=8),
    "repetitive_answer.letter_counting": replace(_DRAWN, count=4),
    "repetitive_answer.logic": replace(_DRAWN, count=64),
    # Four demonstrations stand in the prompt itself.
    "repetitive_answer.algebra.original": _BARE,
    "repetitive_answer.algebra.v2fmt": _BARE,
    "repetitive_answer.algebra.numbered": _BARE,
    "repetitive_answer.algebra.instruction": _BARE,
    "successive_answer.number_words": replace(_COUNTED, count=10),
    "successive_answer.letters": replace(_COUNTED, count=10),
    "successive_answer.arithmetic": replace(_COUNTED, count=32),
    "successive_answer.even": replace(_COUNTED, count=32),
    "truthy_answer.surprising_truth": replace(_DRAWN, count=8),
    "truthy_answer.common_misconception": replace(_DRAWN, count=100),
    "intuitive_answer.crt": _BARE,
}
"""How each task is prompted, by ``family.task``; the configs of the Hub set have these names."""


def released_tasks(
    source: str | Path = REPO,
    *,
    revision: str | None = None,
    halves: bool = True,
    authors: bool = False,
) -> tuple[Task, ...]:
    """Make the tasks of the released set that a source holds: ``<family>/released-<task>``.

    In a folder files are looked for now. Of a data set of the Hub all tasks of `TABLE` are made,
    and it is asked when a block is built. Then only are files read, each once.

    Parameters
    ----------
    source
        A folder that holds ``<family>.<task>.jsonl``, or ``<family>/<task>.jsonl`` as the Hub
        set's own files are called; else a data set of the Hub.
    revision
        The commit of the Hub set.
    halves
        The set has no two splits. By default its rows are halved by hash: each split has its own
        questions and its own demonstrations. Whole sets of ordered demonstrations are dealt out,
        since a gap would end a succession; a demonstration that is also a question, a repeated
        question, and one whose two answers are the same are left out; and where a half has fewer
        demonstrations than are shown, fewer are. If False, both splits are the whole set as it
        stands: what labels windows then also verifies arms, so that this is for comparison with
        published figures only.
    authors
        Put items just as the authors' code does, for `scoring.metrics.authors_metrics`: answers
        without a terminator, demonstrations drawn with its generator, and the space before an
        answer that begins with a digit in the prompt. (Their code counts that space among the
        prompt's tokens where it is a token. Tokenizers of OLMo 2 and 3, Llama 3 and GPT-4 part it
        from digits, not from words. With a tokenizer that does not, such items are scored with
        boundary ``separate``; where only one of two answers begins with a digit, it stays.)

    Raises
    ------
    ConfigError
        A Hub set without a commit as its revision, or a folder with one.
    DataError
        The folder is missing, or holds no task. Building a block: the data set cannot be had, or a
        file is missing or has another form.
    """
    place = _place(source, revision)
    found = [key for key in TABLE if place.commit is not None or place.at_hand(key)]
    if not found:
        raise DataError(
            "no task of the released set",
            where=place.source,
            do=f"name a folder that holds files like {next(iter(TABLE))}.jsonl",
        )
    return tuple(_task(_Released(key, place, TABLE[key], halves), authors) for key in found)


@dataclass(frozen=True)
class _Place:
    """Where the set is: in a folder, or on the Hub at a commit."""

    source: str
    commit: str | None

    @cached_property
    def folder(self) -> Path:
        if self.commit is None:
            return Path(self.source)
        return snapshot(self.source, self.commit, ["*.jsonl"])

    def at_hand(self, key: str) -> bool:
        folder = self.folder if self.commit is None else cached(self.source, self.commit)
        return folder is not None and _path(folder, key) is not None


def _place(source: str | Path, revision: str | None) -> _Place:
    if Path(source).is_dir():
        if revision is not None:
            raise ConfigError("a folder has no revisions", where=str(source), got=repr(revision))
        return _Place(str(source), None)
    if isinstance(source, Path) or source.count("/") != 1:
        raise DataError("no such folder", where=str(source))
    return _Place(source, check_commit(source, revision, "suite.released.revision"))


def _path(folder: Path, key: str) -> Path | None:
    names = (f"{key}.jsonl", f"{key.replace('.', '/')}.jsonl")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _task(released: "_Released", authors: bool) -> Task:
    family, name = released.key.split("/")
    return Task(
        family,
        name,
        WORDINGS,
        f"{name.removeprefix('released-')} of the authors' released set",
        released.authors_block if authors else released.block,
        origin="released",
        draws=released.draws,
        at_hand=partial(released.place.at_hand, released.name),
    )


@dataclass(frozen=True)
class _Released:
    """One task of the released set; `name` is its name there, ``family.task``."""

    name: str
    place: _Place
    prompting: Prompting
    halves: bool

    @property
    def key(self) -> str:
        return self.name.replace(".", "/released-", 1)

    @cached_property
    def whole(self) -> Rows:
        path = _path(self.place.folder, self.name)
        if path is None:
            raise DataError(
                "the released set has no such task", where=self.place.source, got=self.name
            )
        return _read(path)

    @cached_property
    def parts(self) -> dict[Split, Rows]:
        return _halved(self.whole, self.prompting.demos == "ordered")

    def rows(self, split: Split) -> Rows:
        if not self.halves:
            return self.whole
        own = self.parts[split]
        if self.prompting.count and not own.demos:
            raise DataError(
                "demonstrations cannot be halved",
                where=f"{self.place.source}: {self.name}",
                do="use the whole set (halves=False)",
            )
        return own

    def draws(self, split: Split) -> int | None:
        return number_of_draws(self.prompting, lambda: self.rows(split))

    def block(self, split: Split, wording: str, demo_seed: int) -> Block:
        rows = self.rows(split)
        count = _available(rows.demos, self.prompting)
        task = rows_task(
            self.key,
            lambda split, wording: rows,
            replace(self.prompting, count=count),
            wordings=WORDINGS,
            description="",
        )
        return task.build(split, wording, demo_seed)

    def authors_block(self, split: Split, wording: str, demo_seed: int) -> Block:
        """Draw and join as the authors' code does, with its generator."""
        rows, family, name = self.rows(split), *self.key.split("/")
        rng, joiner = Random(demo_seed), self.prompting.joiner
        pool = _pool(rows.demos, demo_seed)
        draw = _AUTHORS_DRAWS[self.prompting.demos]

        def shots() -> str:
            drawn = draw(pool, self.prompting.count, rng)
            return "".join(f"{demo.prompt} {demo.answer}{joiner}" for demo in drawn)

        anew = self.prompting.per_item
        prefix = "" if anew else shots()
        items = [_authors_item(shots() if anew else "", one) for one in rows.questions]
        return Block(family, name, wording, split, demo_seed, prefix, tuple(items), "")


def _authors_item(before: str, question: Question) -> Item:
    answers = (question.right, question.wrong)
    apart = all(answer[:1].isdigit() for answer in answers)
    right, wrong = (answer if apart else f" {answer}" for answer in answers)
    return Item.of(f"{before}{question.prompt}{' ' if apart else ''}", right, [wrong])


def _pool(demos: Sequence[Demo], seed: int) -> list[Demo]:
    sets = list(dict.fromkeys(demo.demo_set for demo in demos))
    return [demo for demo in demos if demo.demo_set == sets[seed % len(sets)]] if sets else []


def _authors_balanced(pool: Sequence[Demo], count: int, rng: Random) -> list[Demo]:
    labels = sorted({demo.label for demo in pool})
    classes = [[demo for demo in pool if demo.label == label] for label in labels]
    for own in classes:
        rng.shuffle(own)
    drawn = [demo for own in classes for demo in own[: count // 2]]
    rng.shuffle(drawn)
    return drawn


_AUTHORS_DRAWS: Mapping[str, Callable[[Sequence[Demo], int, Random], Sequence[Demo]]] = {
    "none": lambda pool, count, rng: (),
    "ordered": lambda pool, count, rng: pool[:count],
    "random": lambda pool, count, rng: rng.sample(pool, min(count, len(pool))),
    "balanced": _authors_balanced,
}


def _available(demos: Sequence[Demo], prompting: Prompting) -> int:
    """Return how many demonstrations are shown: as many as wanted, if there are."""
    sizes: dict[str, int] = {}
    for demo in demos:
        own = demo.label if prompting.demos == "balanced" else demo.demo_set
        sizes[own] = sizes.get(own, 0) + 1
    fewest = min(sizes.values(), default=0)
    return min(prompting.count, fewest * len(sizes) if prompting.demos == "balanced" else fewest)


def _read(path: Path) -> Rows:
    lines = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                lines.append(_line(json.loads(line)))
            except (ValueError, AttributeError) as error:
                raise DataError(
                    "not a row of an eval set", where=f"{path}, row {number}", got=line[:80].strip()
                ) from error
    rows = parse_rows(lines, str(path))
    # Seed 0 takes set 0, wherever it stands; sets are numbered.
    order = sorted(rows.demos, key=lambda demo: (len(demo.demo_set), demo.demo_set))
    return Rows(tuple(order), rows.questions)


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the authors' code reads of a row, labels and sets as text: 0 is one of them."""
    names = ("split", "prompt", "answer", "correct_answer", "incorrect_answer")
    kept = {name: row[name] for name in names if row.get(name) is not None}
    if row.get("split") == "demo":
        # Their code asks every question behind every set.
        kept |= {
            name: str(row[name]) for name in ("label", "demo_set") if row.get(name) is not None
        }
    return kept


def _halved(rows: Rows, ordered: bool) -> dict[Split, Rows]:
    demos = _set_halves(rows.demos) if ordered else {}
    shown = {demo.prompt for demo in rows.demos}
    questions: dict[Split, dict[str, Question]] = {split: {} for split in SPLITS}
    for question in rows.questions:
        if question.prompt not in shown and question.right != question.wrong:
            questions[split_of(question.prompt)].setdefault(question.prompt, question)
    for split in SPLITS if not ordered else ():
        demos[split] = tuple(demo for demo in rows.demos if split_of(demo.prompt) == split)
    return {split: Rows(demos[split], tuple(questions[split].values())) for split in SPLITS}


def _set_halves(demos: Sequence[Demo]) -> dict[Split, tuple[Demo, ...]]:
    """Deal sets of demonstrations to the splits in turn; sets that share one go together."""
    clusters: list[tuple[set[str], list[Demo]]] = []
    for name in dict.fromkeys(demo.demo_set for demo in demos):
        own = [demo for demo in demos if demo.demo_set == name]
        prompts = {demo.prompt for demo in own}
        near = [cluster for cluster in clusters if cluster[0] & prompts]
        clusters = [cluster for cluster in clusters if not cluster[0] & prompts]
        merged = [demo for _, others in near for demo in others] + own
        clusters.append((prompts.union(*(said for said, _ in near)), merged))
    dealt = {split: clusters[turn::2] for turn, split in enumerate(SPLITS)}
    return {split: tuple(d for _, own in dealt[split] for d in own) for split in SPLITS}
