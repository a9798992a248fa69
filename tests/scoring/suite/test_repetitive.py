"""Answers are found again from the prompts' text alone, by another way than the generators'."""

import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.suite import algebra, repetitive
from scoring.suite.formulas import formulas, holds, written
from scoring.suite.rows import Demo, Rows
from scoring.suite.schema import SPLITS
from scoring.suite.tracing import Program, Step

Solved = tuple[tuple[str, ...], str]
"""What is asked, in any wording, and its answer."""


def executed(code: str) -> str:
    said: list[object] = []
    exec(code, {"__builtins__": {"range": range, "print": said.append}})  # our own few lines
    (value,) = said
    return str(value)


def code_tracing(prompt: str) -> Solved:
    (code,) = re.findall(r"x = .*print\(x\)", prompt, flags=re.DOTALL)
    return (code,), executed(code)


def letter_counting(prompt: str) -> Solved:
    (letter,) = re.findall(r"letter (\w)\b", prompt)
    (text,) = re.findall(r"'([a-z ]+)'|Text: ([a-z ]+)\.", prompt)
    words = "".join(text)
    count = 0
    for character in words:
        if character == letter:
            count += 1
    return (letter, *sorted(words.split())), str(count)


TABLE = {"p": 0b11110000, "q": 0b11001100, "r": 0b10101010}


def column(formula: str) -> int:
    """Return the formula's column of the truth table, as bits."""
    bits = formula.replace("not ", "~").replace(" and ", " & ").replace(" or ", " | ")
    value: int = eval(bits, {"__builtins__": {}}, TABLE)
    return value & 0xFF


def logic(prompt: str) -> Solved:
    values = dict(re.findall(r"([pqr]) = (True|False)", prompt))
    ((formula),) = re.findall(
        r"r = \w+(?:\. True or False: |, the value of |\. )(.*?)(?:\?| is$|\. Answer)", prompt
    )
    row = 4 * (values["p"] == "True") + 2 * (values["q"] == "True") + (values["r"] == "True")
    return (*values.values(), formula), str(bool(column(formula) >> row & 1))


TERM = r"(?:-?\d+|\b[a-z]\b)"
EQUATION = re.compile(rf"({TERM}(?: [+-] {TERM})?) = ({TERM}(?: [+-] {TERM})?)")


def solve_equation(prompt: str) -> Solved:
    """Collect both sides as ``slope * unknown + constant`` and divide."""
    ((left, right),) = EQUATION.findall(prompt)
    slope = constant = 0
    for side, sign in ((left, 1), (right, -1)):
        for minus, number, name in re.findall(r"(- )?(?:(-?\d+)|([a-z]))", side):
            direction = -sign if minus else sign
            slope += direction if name else 0
            constant += direction * int(number or 0)
    answer, rest = divmod(-constant, slope)
    assert rest == 0
    (unknown,) = set(re.findall(r"\b[a-z]\b", f"{left} {right}"))
    shape = sorted(f"{left} = {right}".replace(unknown, "?").split())
    return tuple(shape), str(answer)


def sources() -> dict[str, tuple[Callable[[str, str], Rows], Callable[[str], Solved]]]:
    solvers = {"code_tracing": code_tracing, "letter_counting": letter_counting, "logic": logic}
    generated = {
        task.name: (partial(repetitive.rows, task), solvers[task.name])
        for task in repetitive.REPEATED
    }
    equations = {
        f"algebra_{template}": (partial(algebra.rows, template), solve_equation)
        for template in algebra.TEMPLATES
    }
    return generated | equations


SOURCES = sources()


@cache
def rows(name: str, split: str, wording: str) -> Rows:
    return SOURCES[name][0](split, wording)


TASKS = {task.name: task for task in repetitive.TASKS}
EACH = pytest.mark.parametrize("name", SOURCES)


def by_set(made: Rows) -> dict[str, list[Demo]]:
    sets = defaultdict(list)
    for demo in made.demos:
        sets[demo.demo_set].append(demo)
    return sets


@EACH
def test_every_answer_is_true_and_the_splits_share_nothing(name: str) -> None:
    solve = SOURCES[name][1]
    contents = {}
    for split in SPLITS:
        contents[split] = []
        for wording in TASKS[name].wordings[split]:
            made = rows(name, split, wording)
            said = {(d.prompt, d.answer) for d in made.demos}
            said |= {(q.prompt, q.right) for q in made.questions}
            solved = {prompt: solve(prompt) for prompt, _ in said}
            assert all(solved[prompt][1] == answer for prompt, answer in said)
            contents[split].append({content for content, _ in solved.values()})
    label, verify = (set.union(*contents[split]) for split in SPLITS)
    assert len(label) > 150 and not label & verify
    # Wordings of a split say the same things.
    assert contents["label"][0] == contents["label"][1]


@EACH
def test_a_set_has_one_answer_which_the_parrot_repeats(name: str) -> None:
    for split in SPLITS:
        made = rows(name, split, TASKS[name].wordings[split][0])
        sets = by_set(made)
        assert len(sets) >= 8
        repeated = {}
        for demo_set, shown in sets.items():
            (repeated[demo_set],) = {demo.answer for demo in shown}
            assert len({demo.prompt for demo in shown}) == len(shown)
        assert all(q.wrong == repeated[q.demo_set] != q.right for q in made.questions)


@EACH
def test_no_question_is_a_demonstration_and_every_set_has_enough(name: str) -> None:
    for split in SPLITS:
        made = rows(name, split, TASKS[name].wordings[split][0])
        asked = defaultdict(set)
        for question in made.questions:
            asked[question.demo_set].add(question.prompt)
        assert not {demo.prompt for demo in made.demos} & set.union(*asked.values())
        assert asked.keys() == by_set(made).keys()
        assert min(map(len, asked.values())) >= 150


@pytest.mark.parametrize("task", repetitive.REPEATED, ids=lambda task: task.name)
def test_decks_are_full_and_questions_are_even(task: repetitive.Repeated) -> None:
    for split in SPLITS:
        made = rows(task.name, split, next(iter(task.templates[split])))
        assert {len(deck) for deck in by_set(made).values()} == {repetitive.DECK}
        counts = defaultdict(set)
        for question in made.questions:
            counts[question.right].add(question.prompt)
        assert {len(prompts) for prompts in counts.values()} == {task.asked}


def test_algebra_templates_ask_the_same() -> None:
    for split in SPLITS:
        first, *others = (
            [(solve_equation(d.prompt), d.demo_set) for d in made.demos]
            for made in (
                rows(f"algebra_{template}", split, next(iter(wordings[split])))
                for template, wordings in algebra.TEMPLATES.items()
            )
        )
        assert all(other == first for other in others)
        assert len(first) == algebra.SETS * algebra.SHOWN


def test_numbers_of_lines_go_on_in_the_question() -> None:
    block = TASKS["algebra_numbered"].build("verify", "problem", 3)
    numbers = re.findall(r"Problem (\d)", block.prefix)
    assert numbers == ["1", "2", "3", "4"]
    assert all(item.prompt.startswith("Problem 5: ") for item in block.items)


@EACH
def test_demo_seeds_show_other_prompts(name: str) -> None:
    task = TASKS[name]
    seeds = range(17) if name == "logic" else range(2)
    made = [task.build("label", task.wordings["label"][0], seed) for seed in seeds]
    assert len({block.prefix for block in made}) == len(made)
    for block in made:
        assert len({item.rivals for item in block.items}) == 1
        (parrot,) = block.items[0].rivals
        shots = {"code_tracing": 8, "logic": 16}.get(name, 4)
        assert block.prefix.endswith(parrot) and block.prefix.count(parrot) >= shots
        assert not any(item.prompt.endswith(" ") for item in block.items)


def test_logic_takes_turns() -> None:
    task = TASKS["logic"]
    parrots = [task.build("label", "qa", seed).items[0].rivals[0] for seed in range(8)]
    assert all(
        {a, b} == {" True\n", " False\n"} for a, b in zip(parrots[::2], parrots[1::2], strict=True)
    )


# A name multiplied by a name, again and again, would grow past all bounds.
CHANGES = st.one_of(
    st.tuples(st.sampled_from("+-"), st.one_of(st.integers(-9, 9), st.sampled_from("xy"))),
    st.tuples(st.just("*"), st.integers(-3, 3)),
)
TIMES_OR_ABOVE = st.one_of(
    st.tuples(st.integers(1, 3), st.none()), st.tuples(st.just(1), st.integers(-9, 9))
)
STEPS = st.builds(
    lambda name, change, how: Step(name, *change, *how),
    st.sampled_from("xy"),
    CHANGES,
    TIMES_OR_ABOVE,
)


@given(st.integers(-9, 9), st.integers(-9, 9), st.lists(STEPS, max_size=5))
def test_programs_print_what_python_prints(x: int, y: int, steps: list[Step]) -> None:
    program = Program(x, y, tuple(steps))
    assert executed(program.text) == str(program.printed)


def test_formulas_hold_where_their_truth_table_says() -> None:
    made = list(formulas())
    assert len({written(formula) for formula in made}) == len(made) == 192
    for formula in made:
        bits = column(written(formula))
        for row in range(8):
            values = {name: bool(TABLE[name] >> row & 1) for name in "pqr"}
            said = eval(written(formula), {"__builtins__": {}}, values)
            assert holds(formula, values) is said is bool(bits >> row & 1)
