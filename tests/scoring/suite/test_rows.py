import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.suite.rows import Demo, Prompting, Question, Rows, parse_rows, rows_task, split_of
from windows.errors import ConfigError, DataError

WORDINGS = {"label": ("plain",), "verify": ("terse",)}


def rows(split: str, wording: str) -> Rows:
    demos = [
        Demo(f"{split} {wording} d{i}:", f"a{i}", label="pn"[i % 2], group=f"g{i}")
        for i in range(12)
    ]
    questions = [Question(f"{split} q{i}:", f"r{i}", f"w{i}", group=f"g{i}") for i in range(20)]
    return Rows(tuple(demos), tuple(questions))


def task(prompting: Prompting, source=rows):
    return rows_task("family/toy", source, prompting, wordings=WORDINGS, description="toy")


def test_a_block_is_demonstrations_and_then_a_test():
    block = task(Prompting("ordered", 2)).build("label", "plain", 0)
    assert block.prefix == "label plain d0: a0\nlabel plain d1: a1\n"
    assert (block.key, block.terminator) == ("family/toy", "\n")
    # What the demonstrations are about is not asked.
    assert [item.prompt for item in block.items] == [f"label q{i}:" for i in range(2, 20)]
    assert (block.items[0].right, block.items[0].rivals) == (" r2\n", (" w2\n",))


@given(st.integers(0, 50), st.sampled_from(["balanced", "random"]))
def test_a_draw_depends_on_its_seed_alone(seed: int, how: str):
    made = task(Prompting(how, 4))
    block, again = (made.build("label", "plain", seed) for _ in range(2))
    assert block == again
    shown = [part for part in block.prefix.split("\n") if part]
    assert len(set(shown)) == 4
    if how == "balanced":
        assert sum(int(part.split(" d")[1].split(":")[0]) % 2 for part in shown) == 2
    asked = {item.prompt.split("q")[1] for item in block.items}
    assert not asked & {f"{part.split(' d')[1].split(':')[0]}:" for part in shown}


def test_seeds_draw_apart():
    made = task(Prompting("random", 4))
    assert len({made.build("label", "plain", seed).prefix for seed in range(30)}) == 30


def test_demonstrations_of_an_item_are_its_own():
    block = task(Prompting("random", 3, per_item=True, joiner="\n")).build("verify", "terse", 1)
    assert block.prefix == ""
    heads = {item.prompt.rpartition("\n")[0] for item in block.items}
    assert len(heads) > 15
    for number, item in enumerate(block.items):
        assert item.prompt.endswith(f"verify q{number}:")
        assert f"d{number}:" not in item.prompt
        assert item.prompt.count("\n") == 3


def test_sets_take_turns_and_have_their_own_questions():
    def by_set(split: str, wording: str) -> Rows:
        demos = [Demo(f"{name}{i}", str(i), demo_set=name) for name in "xyz" for i in range(3)]
        questions = [Question(f"{name}?", "r", name, demo_set=name) for name in "xyz"]
        return Rows(tuple(demos), (*questions, Question("any?", "r", "w")))

    made = task(Prompting("ordered", 2, joiner=" "), by_set)
    for seed, name in enumerate("xyzx"):
        block = made.build("label", "plain", seed)
        assert block.prefix == f"{name}0 0 {name}1 1 "
        assert [item.prompt for item in block.items] == [f"{name}?", "any?"]


@pytest.mark.parametrize("how", ["balanced", "random", "ordered"])
def test_too_few_demonstrations_are_refused(how: str):
    with pytest.raises(ConfigError, match="too few demonstrations"):
        task(Prompting(how, 40)).build("label", "plain", 0)


def test_what_cannot_be_balanced_is_refused():
    with pytest.raises(ConfigError, match="cannot be balanced; got 3 over 2 labels"):
        task(Prompting("balanced", 3)).build("label", "plain", 0)


def test_released_rows_are_read():
    lines = [
        {"split": "demo", "prompt": "p:", "answer": 3, "label": "pos", "demo_set": 2},
        {"split": "demo", "prompt": "p:", "answer": 0, "label": None, "demo_set": 0},
        {"split": "test", "prompt": "q:", "correct_answer": "r", "incorrect_answer": "w", "x": 1},
    ]
    found = parse_rows(lines, "here")
    assert found.demos == (Demo("p:", "3", "pos", "2"), Demo("p:", "0", "", "0"))
    assert found.questions == (Question("q:", "r", "w"),)


@pytest.mark.parametrize(
    "line", [{}, {"split": "demo", "prompt": "p"}, {"split": "test", "prompt": "p"}, {"split": "x"}]
)
def test_rows_of_another_form_are_refused(line: dict[str, str]):
    with pytest.raises(DataError, match=r"here, row 2: not a row of an eval set"):
        parse_rows([{"split": "demo", "prompt": "", "answer": ""}, line], "here")


def test_texts_fall_into_both_halves():
    halves = [split_of(f"text {i}") for i in range(400)]
    assert 160 < halves.count("label") < 240
    assert halves == [split_of(f"text {i}") for i in range(400)]
