"""Sentiment, topic and emotion sets of the Hub: with flipped labels, and as they are.

A set is read at a pinned commit when one of its blocks is built, not before. What may be read is
the parquet of that commit, from the Hub or from its cache; no code of a repository is run.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from scoring.suite.rows import Demo, Prompting, Question, Rows, rows_task, split_of
from scoring.suite.schema import Split
from scoring.suite.task import Task
from windows.errors import ConfigError, DataError

PER_LABEL = 150
"""At most so many demonstrations, and so many questions, of each label in each split."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"-\d+-of-0*(\d+)\.parquet$")

_TEMPLATES: Mapping[Split, Mapping[str, str]] = {
    "label": {
        "fields": "{kind}: {text}\n{asks}:",
        "question": "{text}\nQ: What is the {asked} of this {thing}?\nA:",
    },
    "verify": {"input-label": "Input: {text}\nLabel:"},
}


@dataclass(frozen=True, slots=True)
class HubSet:
    """A labelled set of the Hub, two of its labels, and how they are asked for.

    Attributes
    ----------
    name
        The task's name.
    repo
        ``organization/name``, or a folder that stands in for it.
    files
        Which parquet files, as a pattern: it names the config and the part.
    text, label
        Columns. Labels are integers.
    answers
        Two labels with the answers that stand for them.
    kind, asks
        What a text is called, and what is asked of it.
    demos
        How many demonstrations are shown, half of each label.
    characters
        The shortest and the longest text that is used.
    revision
        The commit that is read; None where none is known to this project: it has to be given.
    """

    name: str
    repo: str
    files: str
    text: str
    label: str
    answers: tuple[tuple[int, str], tuple[int, str]]
    kind: str
    asks: str
    demos: int
    characters: tuple[int, int]
    revision: str | None = None


_SENTIMENT = ((0, "Negative"), (1, "Positive"))
_YAHOO = HubSet(
    name="yahoo",
    repo="community-datasets/yahoo_answers_topics",
    files="yahoo_answers_topics/test-*.parquet",
    text="question_title",
    label="topic",
    answers=((2, "Health"), (4, "Computers")),
    kind="Question",
    asks="Topic",
    demos=64,
    characters=(20, 200),
    revision="6652a1e7c94f7260a0bfd0c9092dd48e2d536ea1",
)
_EMOTION = HubSet(
    name="emotion",
    repo="dair-ai/emotion",
    files="split/train-*.parquet",
    text="text",
    label="label",
    answers=((0, "Sadness"), (1, "Joy")),
    kind="Message",
    asks="Emotion",
    demos=100,
    characters=(20, 200),
    revision="cab853a1dbdf4c42c2b3ef2173804746df8825fe",
)

# The commits are those that public code pins for these repositories, found in more than one place.
SETS = (
    HubSet(
        name="sst2",
        repo="stanfordnlp/sst2",
        files="data/train-*.parquet",
        text="sentence",
        label="label",
        answers=_SENTIMENT,
        kind="Review",
        asks="Sentiment",
        demos=64,
        # The training part holds phrases too; most of what is longer is a whole sentence.
        characters=(60, 250),
        revision="8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
    ),
    HubSet(
        name="imdb",
        repo="stanfordnlp/imdb",
        files="plain_text/train-*.parquet",
        text="text",
        label="label",
        answers=_SENTIMENT,
        kind="Review",
        asks="Sentiment",
        demos=24,
        characters=(100, 800),
        revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    ),
    HubSet(
        name="rotten_tomatoes",
        repo="cornell-movie-review-data/rotten_tomatoes",
        files="train.parquet",
        text="text",
        label="label",
        answers=_SENTIMENT,
        kind="Review",
        asks="Sentiment",
        demos=64,
        characters=(20, 250),
        revision="aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
    ),
    HubSet(
        name="poem_sentiment",
        repo="google-research-datasets/poem_sentiment",
        # All parts: the training part alone is too small for two halves.
        files="*.parquet",
        text="verse_text",
        label="label",
        answers=_SENTIMENT,
        kind="Verse",
        asks="Sentiment",
        demos=64,
        characters=(10, 250),
    ),
    replace(_YAHOO, name="yahoo_health_computers"),
    replace(_YAHOO, name="yahoo_business_science", answers=((6, "Business"), (1, "Science"))),
    replace(_EMOTION, name="emotion_sadness_joy"),
    replace(_EMOTION, name="emotion_anger_joy", answers=((3, "Anger"), (1, "Joy"))),
)


def hub_tasks(
    sets: Iterable[HubSet] = SETS, *, revisions: Mapping[str, str] | None = None
) -> tuple[Task, ...]:
    """Make two tasks of every set: ``flipped_answer/<name>`` and ``normal_control/<name>``.

    Flipped, every demonstration shows the other label, and so does the right answer: the parrot
    says what it remembers of such texts. The control shows and asks for the labels as they are.

    Nothing is read before a block is built; building one raises `DataError` where the set is
    neither in the Hub's cache nor to be had, and `ConfigError` where it has no revision.

    Parameters
    ----------
    sets
        Which sets.
    revisions
        Commits to read in place of a set's own, by the set's name.

    Raises
    ------
    ConfigError
        A revision is given of none of the sets.
    """
    given = revisions or {}
    named = {one.name: one for one in sets}
    for name in given:
        if name not in named:
            raise ConfigError(
                "no set of the Hub of that name",
                where="suite.revisions",
                got=repr(name),
                do=f"did you mean {get_close_matches(name, named, n=1, cutoff=0.0)[0]!r}?",
            )
    pinned = [replace(one, revision=given.get(one.name, one.revision)) for one in named.values()]
    return tuple(_task(one, flipped) for flipped in (True, False) for one in pinned)


def check_commit(repo: str, revision: str | None, setting: str) -> str:
    """Return the revision of a data set, which has to be a commit: a branch may move.

    Raises
    ------
    ConfigError
        It is none; the message names the setting of a study that gives one.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            "a data set of the Hub is read at a commit",
            where=repo,
            got="no revision" if revision is None else repr(revision),
            do=f"write the 40 hexadecimal digits of one as {setting}",
        )
    return revision


def cached(repo: str, revision: str | None) -> Path | None:
    """Return the folder of a data set at a commit in the Hub's cache; None where it is not there.

    The Hub is not asked; of the data set's files some may be missing.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repo, repo_type="dataset", revision=revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def snapshot(repo: str, revision: str, patterns: list[str]) -> Path:
    """Return the folder that holds a data set's files at a commit, fetching what is not cached.

    Raises
    ------
    DataError
        The files are neither in the Hub's cache nor to be had.
    """
    try:
        return _fetched(repo, revision, patterns)
    except Exception as error:
        raise DataError(
            "this data set is neither in the Hub's cache nor to be had",
            where=f"{repo}@{revision[:12]}",
            got=" ".join(f"{type(error).__name__} {error}".split())[:120],
            do="fetch it once where the Hub can be reached",
        ) from error


def _fetched(repo: str, revision: str, patterns: list[str]) -> Path:
    from httpx import TransportError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    fetch = partial(
        snapshot_download, repo, repo_type="dataset", revision=revision, allow_patterns=patterns
    )
    # Given a commit, the client may ask the Hub which files it has though all are here.
    try:
        return Path(fetch())
    except (TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        return Path(fetch(local_files_only=True))


def _task(hub_set: HubSet, flipped: bool) -> Task:
    family = "flipped_answer" if flipped else "normal_control"
    names = " or ".join(answer.lower() for _, answer in hub_set.answers)
    task = rows_task(
        f"{family}/{hub_set.name}",
        lambda split, wording: _rows(hub_set, flipped, split, wording),
        Prompting("balanced", hub_set.demos),
        wordings={split: tuple(templates) for split, templates in _TEMPLATES.items()},
        description=f"{hub_set.repo}: {names}, "
        + ("labels swapped in demonstrations and right answers" if flipped else "as labelled"),
    )
    return replace(task, origin="hub", at_hand=partial(_at_hand, hub_set))


def _rows(hub_set: HubSet, flipped: bool, split: Split, wording: str) -> Rows:
    template = _TEMPLATES[split][wording]
    (_, one), (_, two) = hub_set.answers
    other = {one: two, two: one}
    demos, questions = [], []
    for label, texts in _texts(hub_set)[split].items():
        right, wrong = (other[label], label) if flipped else (label, other[label])
        prompts = [_worded(hub_set, template, text) for text in texts]
        shown = min(PER_LABEL, len(prompts) // 2)
        demos += [Demo(prompt, right, label=label) for prompt in prompts[:shown]]
        asked = prompts[shown : shown + PER_LABEL]
        questions += [Question(prompt, right, wrong, label=label) for prompt in asked]
    return Rows(tuple(demos), tuple(questions))


def _worded(hub_set: HubSet, template: str, text: str) -> str:
    return template.format(
        kind=hub_set.kind,
        thing=hub_set.kind.lower(),
        asks=hub_set.asks,
        asked=hub_set.asks.lower(),
        text=text,
    )


@lru_cache(maxsize=len(SETS))
def _texts(hub_set: HubSet) -> dict[Split, dict[str, list[str]]]:
    """Read a set: its usable texts by split and answer, ordered by hash."""
    answers = dict(hub_set.answers)
    labels: dict[str, set[str | None]] = defaultdict(set)
    low, high = hub_set.characters
    for row in _read(hub_set):
        text = " ".join(str(row[hub_set.text]).replace("<br />", " ").split())
        if low <= len(text) <= high:
            labels[text].add(answers.get(row[hub_set.label]))
    found: dict[Split, dict[str, list[str]]] = {
        split: {answer: [] for answer in sorted(answers.values())} for split in _TEMPLATES
    }
    for text in sorted(labels, key=lambda text: hashlib.sha256(text.encode()).digest()):
        # A text that has two labels has no right answer.
        if len(labels[text]) == 1 and (answer := labels[text].pop()) is not None:
            found[split_of(text)][answer].append(text)
    return found


def _read(hub_set: HubSet) -> Iterable[Mapping[str, Any]]:
    paths = _paths(_folder(hub_set), hub_set)
    if not _is_complete(paths):
        raise DataError(
            "files of this data set are missing",
            where=hub_set.repo,
            got=f"{len(paths)} files {hub_set.files}",
            do="fetch it again",
        )
    from datasets import load_dataset  # type: ignore[import-untyped]

    columns = [hub_set.text, hub_set.label]
    try:
        # Given a repository and a revision, `datasets` offline takes whatever revision it prepared
        # last. Given files, it reads those; streaming, it keeps no copy of them.
        rows = load_dataset(
            "parquet",
            data_files=[str(path) for path in paths],
            split="train",
            columns=columns,
            streaming=True,
        )
        return list(rows)
    except Exception as error:
        raise DataError(
            "cannot read this data set",
            where=hub_set.repo,
            got=" ".join(f"{type(error).__name__} {error}".split())[:160],
            do=f"see that it has the columns {columns[0]} and {columns[1]}",
        ) from error


def _folder(hub_set: HubSet) -> Path:
    local = Path(hub_set.repo)
    if local.is_dir():
        return local
    commit = check_commit(hub_set.repo, hub_set.revision, f"suite.revisions.{hub_set.name}")
    return snapshot(hub_set.repo, commit, [hub_set.files])


def _at_hand(hub_set: HubSet) -> bool:
    local = Path(hub_set.repo)
    folder = local if local.is_dir() else cached(hub_set.repo, hub_set.revision)
    return folder is not None and _is_complete(_paths(folder, hub_set))


def _paths(folder: Path, hub_set: HubSet) -> list[Path]:
    found = sorted(folder.rglob("*.parquet"))
    return [p for p in found if fnmatchcase(p.relative_to(folder).as_posix(), hub_set.files)]


def _is_complete(paths: list[Path]) -> bool:
    """Whether there is a file, and no shard of those that the names tell of is missing."""
    shards: dict[str, list[int]] = defaultdict(list)
    for path in paths:
        if told := _SHARD.search(path.name):
            shards[str(path.parent / path.name[: told.start()])].append(int(told[1]))
    return bool(paths) and all(len(counts) == counts[0] for counts in shards.values())
