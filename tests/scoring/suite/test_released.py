import json
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from scoring.encoding import encode_spans
from scoring.suite.released import REPO, TABLE, released_tasks
from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task
from windows.errors import ConfigError, DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def demo(prompt: str, answer: object, **more: object) -> dict[str, object]:
    return {"split": "demo", "prompt": prompt, "answer": answer, **more}


def test(prompt: str, right: object, wrong: object) -> dict[str, object]:
    return {
        "split": "test",
        "prompt": prompt,
        "correct_answer": right,
        "incorrect_answer": wrong,
        "template": "t0",
    }


test.__test__ = False

NAMES = ("Negative", "Positive")
ROWS: dict[str, list[dict[str, object]]] = {
    "flipped_answer.sst2": [
        *(demo(f"Review: film {i}\nAnswer:", NAMES[1 - i % 2], label=i % 2) for i in range(200)),
        *(test(f"Review: play {i}\nAnswer:", NAMES[1 - i % 2], NAMES[i % 2]) for i in range(30)),
    ],
    "repetitive_answer.letter_counting": [
        *(demo(f"Q: letters of {'x' * 3}{i}? A:", "3") for i in range(40)),
        *(
            test(f"Q: letters of {'x' * (i % 20)}y{i}? A:", str(i % 20 + 10), "3")
            for i in range(40)
        ),
    ],
    "repetitive_answer.algebra.original": [
        test(f"Q: 1 + a = 4. a?\nA: 3\nQ: {i} = 2 + a. a?\nA:", str(i - 2), "3") for i in range(20)
    ],
    "successive_answer.letters": [
        *(
            demo(f"{name} minus {name - i}?", i, demo_set=name - 50)
            for name in range(50, 54)
            for i in range(1, 13)
        ),
        *(test(f"{i + 20} minus {i}?", "20", "11") for i in range(24)),
    ],
    "truthy_answer.surprising_truth": [
        *(demo(f"Claim: {i} is a number. A:", "True" if i % 4 else "False") for i in range(60)),
        *(test(f"Claim: {i} is a colour. A:", "False", "True") for i in range(30)),
    ],
    "intuitive_answer.crt": [
        test(f"A bat and {i} balls?", f"{i}.05", f"{i}.10") for i in range(20)
    ],
}


def write(folder: Path, *, nested: bool) -> Path:
    for key, rows in ROWS.items():
        path = folder / f"{key.replace('.', '/') if nested else key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "evals", nested=False)


def by_key(tasks: tuple[Task, ...]) -> dict[str, Task]:
    return {task.key: task for task in tasks}


def built(task: Task, seeds: int = 4) -> list[Block]:
    return [
        task.build(split, wording, seed)
        for split in SPLITS
        for wording in task.wordings[split]
        for seed in range(seeds)
    ]


def rows_of(key: str, split: str) -> list[dict[str, object]]:
    return [row for row in ROWS[key] if row["split"] == split]


def test_the_table_has_the_papers_22_tasks():
    assert len(TABLE) == 22
    families = [key.partition(".")[0] for key in TABLE]
    counts = {family: families.count(family) for family in dict.fromkeys(families)}
    assert list(counts.values()) == [8, 7, 4, 2, 1]


def test_both_layouts_are_the_same_tasks(folder: Path, tmp_path: Path):
    flat = by_key(released_tasks(folder))
    nested = by_key(released_tasks(str(write(tmp_path / "hub", nested=True))))
    assert list(flat) == list(nested)
    assert list(flat) == [
        "flipped_answer/released-sst2",
        "repetitive_answer/released-letter_counting",
        "repetitive_answer/released-algebra.original",
        "successive_answer/released-letters",
        "truthy_answer/released-surprising_truth",
        "intuitive_answer/released-crt",
    ]
    for key, task in flat.items():
        assert built(task, 2) == built(nested[key], 2)


def test_demonstrations_are_balanced_and_joined_by_a_blank_line(folder: Path):
    task = by_key(released_tasks(folder))["flipped_answer/released-sst2"]
    for block in built(task):
        shown = block.prefix.removesuffix("\n\n").split("\n\n")
        assert len(shown) == len(set(shown)) == 64
        assert sum(text.endswith("Answer: Positive") for text in shown) == 32
        for item in block.items:
            assert re.fullmatch(r"Review: play \d+\nAnswer:", item.prompt)
            assert {item.right, *item.rivals} == {" Negative\n\n", " Positive\n\n"}
    assert len({block.prefix for block in built(task)}) == 8


def test_demonstrations_of_an_item_are_drawn_for_it(folder: Path):
    tasks = by_key(released_tasks(folder))
    counts = {
        "repetitive_answer/released-letter_counting": 4,
        "truthy_answer/released-surprising_truth": 8,
    }
    for key, count in counts.items():
        for block in built(tasks[key], 2):
            heads = {item.prompt.rpartition("\n")[0] for item in block.items}
            assert block.prefix == "" and len(heads) > len(block.items) / 2
            assert {item.prompt.count("\n") for item in block.items} == {count}


def test_a_succession_stays_whole_and_set_0_is_one_of_the_sets(folder: Path):
    for halves in (True, False):
        task = by_key(released_tasks(folder, halves=halves))["successive_answer/released-letters"]
        for split in SPLITS:
            sets = []
            for seed in range(4):
                block = task.build(split, task.wordings[split][0], seed)
                lines = block.prefix.splitlines()
                answers = [int(line.rpartition("? ")[2]) for line in lines]
                assert answers == list(range(1, 11))
                (name,) = {line.split()[0] for line in lines}
                sets.append(int(name) - 50)
            own = [0, 2] if split == "label" else [1, 3]
            assert sets == ([*own, *own] if halves else [0, 1, 2, 3])


@pytest.mark.parametrize("authors", [True, False])
def test_the_halves_share_neither_questions_nor_demonstrations(folder: Path, authors: bool):
    for task in released_tasks(folder, authors=authors):
        texts = {
            split: {
                part.strip()
                for block in built(task, 8)
                if block.split == split
                for text in (block.prefix, *(item.prompt for item in block.items))
                for part in re.split(r"(?=Q: letters|Claim: |Review: |\b5\d minus )", text)
                if part.strip()
            }
            for split in SPLITS
        }
        assert texts["label"] and texts["verify"]
        assert not texts["label"] & texts["verify"], task.key


@pytest.mark.parametrize("authors", [True, False])
@pytest.mark.parametrize("halves", [True, False])
def test_demo_seeds_repeat_after_as_many_as_there_are(folder: Path, authors: bool, halves: bool):
    for task in released_tasks(folder, authors=authors, halves=halves):
        ordered = {"successive_answer/released-letters": 2 if halves else 4}
        bare = {
            "repetitive_answer/released-algebra.original": 1,
            "intuitive_answer/released-crt": 1,
        }
        most = {**ordered, **bare}.get(task.key)
        for split in SPLITS:
            assert task.draws(split) == most
            made = [task.build(split, task.wordings[split][0], seed) for seed in range(6)]
            told = {(block.prefix, *(item.item_id for item in block.items)) for block in made}
            assert len(told) == (most or 6)
        assert task.origin == "released" and task.at_hand()


def test_the_whole_set_is_asked_where_figures_are_compared(folder: Path):
    for task in released_tasks(folder, halves=False):
        key = task.key.replace("/released-", ".")
        for block in built(task, 1):
            assert len(block.items) == len(rows_of(key, "test"))


def test_what_the_halves_leave_out(folder: Path):
    more = [
        test("Review: film 0\nAnswer:", "Positive", "Negative"),
        test("Review: equal\nAnswer:", "Positive", "Positive"),
        *[test("Review: twice\nAnswer:", "Positive", "Negative")] * 2,
    ]
    with (folder / "flipped_answer.sst2.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)
    counts = []
    for halves in (True, False):
        task = by_key(released_tasks(folder, halves=halves))["flipped_answer/released-sst2"]
        prompts = [item.prompt for block in built(task, 8) for item in block.items]
        names = ("equal", "twice", "film 0")
        counts.append([sum(f" {name}\n" in prompt for prompt in prompts) for name in names])
    (equal, twice, shown), whole = counts
    assert (equal, twice, shown) == (0, 8, 0)
    # A demonstration is not asked behind itself; where another was drawn, it is.
    assert whole[:2] == [16, 32] and 0 < whole[2] < 16


def authors_prompts(key: str, strategy: str, k: int, joiner: str, seed: int) -> list[str]:
    """What the authors' description gives: the order of draws is theirs, the code is not."""
    generator, pool = random.Random(seed), rows_of(key, "demo")
    if pool and "demo_set" in pool[0]:
        pool = [row for row in pool if row["demo_set"] == seed % 4]

    def block() -> list[dict[str, object]]:
        if strategy == "random":
            return generator.sample(pool, min(k, len(pool)))
        if strategy == "balanced":
            zero, one = ([row for row in pool if row["label"] == label] for label in (0, 1))
            generator.shuffle(zero)
            generator.shuffle(one)
            both = zero[: k // 2] + one[: k // 2]
            generator.shuffle(both)
            return both
        return pool[:k]

    drawn = block() if strategy != "random" else []
    prompts = []
    for row in rows_of(key, "test"):
        shown = block() if strategy == "random" else drawn
        parts = [f"{one['prompt']} {one['answer']}" for one in shown]
        prompts.append(joiner.join([*parts, str(row["prompt"])]))
    return prompts


@pytest.mark.parametrize(
    ("key", "strategy", "k", "joiner"),
    [
        ("flipped_answer.sst2", "balanced", 64, "\n\n"),
        ("repetitive_answer.letter_counting", "random", 4, "\n"),
        ("repetitive_answer.algebra.original", "none", 0, "\n"),
        ("successive_answer.letters", "ordered", 10, "\n"),
        ("truthy_answer.surprising_truth", "random", 8, "\n"),
        ("intuitive_answer.crt", "none", 0, "\n"),
    ],
)
def test_prompts_are_the_authors_own(folder: Path, key: str, strategy: str, k: int, joiner: str):
    tasks = by_key(released_tasks(folder, halves=False, authors=True))
    task = tasks[key.replace(".", "/released-", 1)]
    for seed in range(5):
        block = task.build("label", "released", seed)
        wanted = authors_prompts(key, strategy, k, joiner, seed)
        assert block.terminator == ""
        assert len(block.items) == len(wanted)
        for item, prompt, row in zip(block.items, wanted, rows_of(key, "test"), strict=True):
            whole = [f"{prompt} {row[name]}" for name in ("correct_answer", "incorrect_answer")]
            put = block.prefix + item.prompt
            assert [put + item.right, put + item.rivals[0]] == whole


class CL100K:
    """A byte-level BPE that splits text as the tokenizers of OLMo 2 and GPT-4 do."""

    PATTERN = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )

    def __init__(self, texts: list[str]) -> None:
        self.bpe = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(self.PATTERN), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self.bpe.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        self.bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=600, initial_alphabet=alphabet, show_progress=False
        )
        self.bpe.train_from_iterator(texts, trainer)

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [self.encode(text) for text in texts]}

    def encode(self, text: str) -> list[int]:
        return self.bpe.encode(text).ids


def test_spans_are_the_authors_own_where_digits_stand_apart(folder: Path):
    prompts = [row["prompt"] for rows in ROWS.values() for row in rows]
    tokenizer = CL100K([f"{prompt} -1 True False Positive Negative" for prompt in prompts])
    apart = mixed = 0
    for task in released_tasks(folder, halves=False, authors=True):
        block = task.build("label", "released", 0)
        prompts = [block.prefix + item.prompt for item in block.items]
        answers = [(item.right, *item.rivals) for item in block.items]
        spans = encode_spans(tokenizer, prompts, answers, terminators=[""] * len(prompts))
        for prompt, own, found in zip(prompts, answers, spans, strict=True):
            bare = prompt.removesuffix(" ")
            apart += bare != prompt
            mixed += len({answer.strip().isdigit() for answer in own}) == 2
            for answer, span in zip(own, found, strict=True):
                whole = tokenizer.encode(prompt + answer)
                start = len(tokenizer.encode(bare + " "))
                if whole[:start] != tokenizer.encode(bare + " "):
                    start = len(tokenizer.encode(bare))
                # In a mixed pair the space before the digits is one token of the answer.
                start -= answer[0] == " " and answer.strip().isdigit()
                assert span.boundary == "joined"
                assert span.n_tokens == span.n_body == len(whole) - start
                assert span.n_prompt == start
    assert (apart, mixed) == (40 + 18 + 24 + 20, 2)


def test_datasets_reads_the_same_rows(folder: Path, tmp_path: Path):
    """The set's card names a config for each task, with one part called items."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    configs = [
        f"- config_name: {key}\n  data_files:\n  - split: items\n    path: {key}.jsonl"
        for key in ROWS
    ]
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(configs) + "\n---\n")
    for key in ("flipped_answer.sst2", "successive_answer.letters"):
        loaded = load_dataset(str(folder), key, split="items", cache_dir=str(tmp_path / "cache"))
        told = [{name: v for name, v in row.items() if v is not None} for row in loaded]
        assert told == ROWS[key]
        again = tmp_path / "again"
        again.mkdir(exist_ok=True)
        loaded.to_json(again / f"{key}.jsonl")
    one, two = by_key(released_tasks(folder)), by_key(released_tasks(again))
    assert len(two) == 2
    assert all(built(one[key], 2) == built(task, 2) for key, task in two.items())


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    place = cache / repo_folder_name(repo_id=REPO, repo_type="dataset")
    write(place / "snapshots" / COMMIT, nested=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_the_hub_set_is_read_offline_from_the_cache(
    hub_cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found, wanted = by_key(released_tasks(revision=COMMIT)), by_key(released_tasks(folder))
    assert len(found) == len(TABLE)
    assert [key for key, task in found.items() if task.at_hand()] == list(wanted)
    assert [built(found[key], 1) for key in wanted] == [built(t, 1) for t in wanted.values()]
    with pytest.raises(DataError, match=r"^jiaxin-wen/.*: the released set has no such task; got"):
        built(found["flipped_answer/released-imdb"])
    absent = released_tasks(revision="f" * 40)
    assert not any(task.at_hand() for task in absent)
    with pytest.raises(DataError, match="neither in the Hub's cache nor to be had") as error:
        built(absent[0])
    assert "\n" not in str(error.value)


def test_the_cache_serves_where_the_hub_cannot_be_reached(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        key = "intuitive_answer/released-crt"
        assert built(by_key(released_tasks(REPO, revision=COMMIT))[key])
        with pytest.raises(DataError, match="neither in the Hub's cache nor to be had"):
            built(by_key(released_tasks(REPO, revision="f" * 40))[key])


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12]])
def test_what_is_no_commit_is_refused(revision: str | None):
    with pytest.raises(ConfigError, match=f"{REPO}: a data set of the Hub is read at a commit"):
        released_tasks(revision=revision)


def test_refusals_of_folders(folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="no revisions"):
        released_tasks(folder, revision=COMMIT)
    with pytest.raises(DataError, match="no such folder"):
        released_tasks(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no task of the released set"):
        released_tasks(tmp_path / "empty")


@pytest.mark.parametrize("line", ["{", "[1]", '{"split": "test", "prompt": "x"}', "3"])
def test_a_file_of_another_form_is_refused_in_one_line(folder: Path, line: str):
    with (folder / "intuitive_answer.crt.jsonl").open("a") as file:
        file.write(f"\n{line}\n")
    task = by_key(released_tasks(folder))["intuitive_answer/released-crt"]
    with pytest.raises(DataError, match=r"crt\.jsonl, row 2\d: not a row of an eval set") as error:
        task.build("label", "released", 0)
    assert "\n" not in str(error.value)


def test_demonstrations_that_share_a_row_go_to_one_half(folder: Path):
    path = folder / "successive_answer.letters.jsonl"
    rows = [
        demo(f"is {i}?" if i else f"{name} minus {name}?", i, demo_set=name)
        for name in (0, 1)
        for i in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, test("is 20?", "20", "11")]))
    task = by_key(released_tasks(folder))["successive_answer/released-letters"]
    for name in (0, 1):
        prefix = task.build("label", "released", name).prefix
        assert prefix.startswith(f"{name} minus {name}? 0\nis 1? 1\n")
    with pytest.raises(DataError, match="demonstrations cannot be halved"):
        task.build("verify", "released-verify", 0)


def test_fewer_demonstrations_are_shown_where_a_half_has_fewer(folder: Path):
    path = folder / "flipped_answer.sst2.jsonl"
    few = [row for row in ROWS["flipped_answer.sst2"] if row["split"] == "test"]
    few += rows_of("flipped_answer.sst2", "demo")[:80]
    path.write_text("".join(json.dumps(row) + "\n" for row in few))
    task = by_key(released_tasks(folder))["flipped_answer/released-sst2"]
    for block in built(task, 1):
        shown = block.prefix.removesuffix("\n\n").split("\n\n")
        positive = sum(text.endswith("Positive") for text in shown)
        assert 20 < len(shown) < 64 and positive * 2 == len(shown)


def test_importing_is_light():
    code = (
        "import sys, scoring.suite.released;"
        "sys.exit(any(n in sys.modules for n in ('torch', 'datasets', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
