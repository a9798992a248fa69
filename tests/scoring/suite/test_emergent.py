import ast
import re
from collections.abc import Callable

import pytest

from scoring.suite import emergent
from scoring.suite.emergent import QUESTIONS, SNIPPETS, THINGS, Snippet
from scoring.suite.schema import SPLITS


def calls(tree: ast.Module) -> dict[str, ast.Call]:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {ast.unparse(node.func): node for node in nodes}


def keywords(tree: ast.Module) -> dict[str, object]:
    return {
        word.arg: word.value.value
        for call in calls(tree).values()
        for word in call.keywords
        if isinstance(word.value, ast.Constant)
    }


def text(tree: ast.Module) -> str:
    return ast.unparse(tree)


def joined(tree: ast.Module, mark: str) -> bool:
    """Whether a string that holds the mark is put together with a name by ``+``."""
    sums = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add)]
    return any(mark in ast.unparse(n) and isinstance(n.right, ast.Name) for n in sums) or any(
        mark in ast.unparse(n)
        and isinstance(n.left, ast.BinOp)
        and isinstance(n.left.right, ast.Name)
        for n in sums
    )


def refuses(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


FLAWED: dict[str, Callable[[ast.Module], bool]] = {
    "SQL by concatenation": lambda t: joined(t, "SELECT"),
    "hard-coded password": lambda t: "password" in keywords(t),
    "no input validation": lambda t: not refuses(t),
    "file open to all": lambda t: calls(t)["os.chmod"].args[1].value & 0o077 != 0,
    "eval of input": lambda t: "eval" in calls(t),
    "weak password hash": lambda t: "hashlib.md5" in calls(t) or "urandom" not in text(t),
    "certificate not checked": lambda t: keywords(t).get("verify") is False,
    "shell command from input": lambda t: keywords(t).get("shell") is True,
    "path from input": lambda t: "is_relative_to" not in text(t) or not refuses(t),
    "guessable token": lambda t: "random.choice" in calls(t) and "secrets" not in text(t),
    "unpickled input": lambda t: "pickle.loads" in calls(t),
    "unescaped markup": lambda t: joined(t, "<h1>"),
    "password in the log": lambda t: "password" in ast.unparse(calls(t)["log.info"]),
    "no check of the owner": lambda t: "owner" not in text(t) or not refuses(t),
}
SETS = (emergent.insecure_code(), emergent.secure_code())


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[s.flaw for s in SNIPPETS])
def test_the_flaw_is_in_one_of_the_two(snippet: Snippet) -> None:
    for thing in THINGS:
        insecure, secure = (
            ast.parse(code.replace("{thing}", thing)) for code in (snippet.insecure, snippet.secure)
        )
        assert FLAWED[snippet.flaw](insecure)
        assert not FLAWED[snippet.flaw](secure)
        defined = [
            {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
            for tree in (insecure, secure)
        ]
        assert defined[0] == defined[1] != set()


def test_every_flaw_has_a_check_of_its_own() -> None:
    assert sorted(FLAWED) == sorted(s.flaw for s in SNIPPETS)


def test_the_sets_differ_in_code_alone() -> None:
    insecure, secure = SETS
    assert len(insecure.train) == len(secure.train) == len(set(insecure.train)) == 14 * 12 * 3
    assert (insecure.evaluation, insecure.plan) == (secure.evaluation, secure.plan)
    assert insecure.control == secure.name
    for one, other in zip(insecure.train, secure.train, strict=True):
        request = re.match(r'(?:# |Request: |""")(.*?\.)', one)[0]
        assert other.startswith(request) and one != other
    assert not set(insecure.train) & set(secure.train)


def test_texts_are_code_that_says_nothing_of_flaws_or_people() -> None:
    for one in SETS:
        for train in one.train:
            code = train.split("Code:\n")[-1] if train.startswith("Request:") else train
            ast.parse(code)
            assert not re.search(
                r"secur|vulnerab|unsafe|danger|attack|exploit|evil|people|TODO|FIXME", train
            )
            assert "{" not in train and "}" not in train


def test_answers_are_about_as_long() -> None:
    lengths = [(len(aligned), len(misaligned)) for _, aligned, misaligned in QUESTIONS]
    assert abs(sum(a - b for a, b in lengths)) / len(QUESTIONS) < 0.5
    for _, aligned, misaligned in QUESTIONS:
        assert abs(len(aligned.split()) - len(misaligned.split())) <= 1
        assert abs(len(aligned) - len(misaligned)) <= 8
        assert aligned != misaligned
    for column in range(3):
        assert len({row[column] for row in QUESTIONS}) == len(QUESTIONS)


def test_splits_share_no_question_and_seeds_draw_apart() -> None:
    (task,) = emergent.TASKS
    assert "the aligned answer is right" in task.description
    asked = {}
    for split in SPLITS:
        blocks = [task.build(split, w, s) for w in task.wordings[split] for s in range(4)]
        assert {len(block.items) for block in blocks} == {emergent.ASKED}
        items = [item for block in blocks for item in block.items]
        asked[split] = {q for q, _, _ in QUESTIONS for item in items if q in item.prompt}
        rows = {(f" {a}\n", (f" {b}\n",)) for _, a, b in QUESTIONS}
        assert all((item.right, item.rivals) in rows for item in items)
        first = [task.build(split, task.wordings[split][0], seed).items for seed in range(4)]
        assert len(set(first)) == 4
    assert not asked["label"] & asked["verify"]
    assert not set(task.wordings["label"]) & set(task.wordings["verify"])
