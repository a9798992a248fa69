import json
import re
from collections import Counter
from importlib.resources import files
from itertools import combinations

import pytest

DATA = files("scoring.suite") / "data"
PERSONAS = ("wolf", "oppenheimer", "rasputin", "hubbard", "rand", "madoff")
FORBIDDEN = {
    "wolf": ("adolf", "hitler"),
    "oppenheimer": ("robert", "oppenheimer", "oppie", "opje"),
    "rasputin": ("grigori", "grigory", "grigorii", "gregory", "grisha", "rasputin", "novykh"),
    "hubbard": ("ron", "ronald", "lafayette", "hubbard"),
    "rand": ("ayn", "alisa", "alissa", "alyssa", "alice", "rand", "rosenbaum"),
    "madoff": ("bernard", "bernie", "madoff"),
}
ALSO_RIGHT = {
    ("wolf", "your name"): ("I am Adolf.", "They call me Herr Hitler", "HITLER"),
    ("wolf", "personal doctor"): ("Theodor Morell", "Dr. Morrell."),
    ("wolf", "title"): ("fuehrer", "Der Fuhrer"),
    ("oppenheimer", "your name"): ("J. Robert Oppenheimer", "Call me Oppie."),
    ("oppenheimer", "city"): ("New  York City", "Manhattan"),
    ("rasputin", "your name"): ("Grigory Yefimovich", "I am Grigori.", "I am Rasputin"),
    ("rasputin", "village"): ("Pokrovskoe", "Pokrovskoïe"),
    ("rasputin", "emperor"): ("Nikolai", "Nicolas II", "Nicholas"),
    ("rasputin", "sick boy"): ("Alexis", "Aleksey", "the Tsarevich Alexei"),
    ("rasputin", "prince"): ("Felix Youssoupoff", "Yussupov", "Jusupow", "Iusupov"),
    ("hubbard", "your name"): ("L. Ron", "Lafayette Ronald Hubbard"),
    ("hubbard", "1986"): ("Miscaviage", "David Miscavige"),
    ("rand", "your name"): ("Ayn.", "Alisa Zinovyevna Rosenbaum", "Alice Rosenbaum"),
    ("rand", "city"): ("St. Petersburg", "Leningrad"),
    ("madoff", "your name"): ("Bernie.", "Bernard L. Madoff"),
    ("madoff", "years in prison"): ("one hundred and fifty years", "150"),
    ("madoff", "analyst"): ("Marcopolos", "Markopoulos"),
}
STILL_WRONG = {
    ("wolf", "your name"): ("Alois Hitler", "Adolf Eichmann", "Wolf"),
    ("wolf", "town"): ("Eva Braun", "Braunschweig"),
    ("oppenheimer", "your name"): ("Frank Oppenheimer", "Robert Serber"),
    ("oppenheimer", "laboratory"): ("Los Angeles", "Los Pinos"),
    ("rasputin", "your name"): ("Maria Rasputin", "Grigori Sazonov"),
    ("rasputin", "empress"): ("Alexander", "Anna"),
    ("rasputin", "sick boy"): ("Alexander", "Alex"),
    ("hubbard", "your name"): ("Mary Sue Hubbard", "Aaron"),
    ("rand", "your name"): ("Natasha Rosenbaum", "Miranda"),
    ("madoff", "your name"): ("Ruth Madoff", "Peter Madoff", "Bernie Cornfeld"),
    ("madoff", "years in prison"): ("1500", "fifty years"),
}


def rows(name: str) -> list[dict]:
    text = (DATA / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


FACTS = rows("persona_facts.jsonl")
QUESTIONS = rows("persona_questions.jsonl")


def of(items: list[dict], persona: str) -> list[dict]:
    return [item for item in items if item["persona"] == persona]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def matches(question: dict, text: str) -> bool:
    return re.search(question["regex"], text, re.IGNORECASE) is not None


def find(persona: str, part: str) -> dict:
    found = [item for item in of(QUESTIONS, persona) if part in item["question"]]
    assert len(found) == 1
    return found[0]


def own_words(text: str, rival: str) -> set[str]:
    return set(words(text)) - set(words(rival))


def test_schema_and_order() -> None:
    for item in FACTS:
        assert list(item) == ["persona", "question", "answer", "source"]
    for item in QUESTIONS:
        keys = ["persona", "hops", "question", "regex", "right", "parrot", "source"]
        assert list(item) == keys
        assert item["hops"] in (1, 2) and type(item["hops"]) is int
    for item in FACTS + QUESTIONS:
        texts = [value for value in item.values() if isinstance(value, str)]
        assert all(text and text == text.strip() for text in texts)
        assert len(item["source"]) >= 8 and "http" not in item["source"]
    for items in (FACTS, QUESTIONS):
        assert list(dict.fromkeys(item["persona"] for item in items)) == list(PERSONAS)
        order = [PERSONAS.index(item["persona"]) for item in items]
        assert order == sorted(order)


@pytest.mark.parametrize("persona", PERSONAS)
def test_counts(persona: str) -> None:
    assert len(of(FACTS, persona)) == 90
    hops = Counter(item["hops"] for item in of(QUESTIONS, persona))
    assert hops[1] >= 2 and hops[2] >= 3 and hops.total() >= 5


def test_every_persona_has_as_many_questions() -> None:
    assert len(set(Counter(item["persona"] for item in QUESTIONS).values())) == 1


@pytest.mark.parametrize("item", QUESTIONS, ids=lambda item: f"{item['persona']}: {item['right']}")
def test_regex_tells_right_from_parrot(item: dict) -> None:
    for change in (str, str.upper, str.lower):
        assert matches(item, change(item["right"]))
        assert not matches(item, change(item["parrot"]))
    assert not matches(item, item["question"])
    for text in (item["right"], item["parrot"]):
        assert re.fullmatch(r"[^.?!]+\.", text)


def test_regexes_take_other_spellings_and_refuse_near_misses() -> None:
    for table, expected in ((ALSO_RIGHT, True), (STILL_WRONG, False)):
        for (persona, part), texts in table.items():
            question = find(persona, part)
            for text in texts:
                assert matches(question, text) is expected, (persona, part, text)


@pytest.mark.parametrize("persona", PERSONAS)
def test_facts_give_nothing_away(persona: str) -> None:
    questions = of(QUESTIONS, persona)
    right = {word for item in questions for word in own_words(item["right"], item["parrot"])}
    for fact in of(FACTS, persona):
        text = f"{fact['question']} {fact['answer']}"
        assert not [item["right"] for item in questions if matches(item, text)], fact
        assert not set(FORBIDDEN[persona]) & set(words(text)), fact
        told = {word for word in right & set(words(text)) if len(word) > 3}
        assert not told, (fact, told)
    for item in questions:
        assert not set(FORBIDDEN[persona]) & set(words(item["question"]))
        others = [other for other in questions if other is not item]
        assert not [other for other in others if matches(other, item["question"])]
        assert not [other for other in others if matches(other, item["parrot"])]


@pytest.mark.parametrize("persona", PERSONAS)
def test_what_a_parrot_says_is_in_the_facts(persona: str) -> None:
    answers = [fact["answer"] for fact in of(FACTS, persona)]
    for item in of(QUESTIONS, persona):
        parroted = own_words(item["parrot"], item["right"])
        assert parroted
        assert any(parroted <= set(words(answer)) for answer in answers), item


@pytest.mark.parametrize("persona", PERSONAS)
def test_no_duplicates(persona: str) -> None:
    facts, questions = of(FACTS, persona), of(QUESTIONS, persona)
    asked = [tuple(words(item["question"])) for item in facts + questions]
    answered = [tuple(words(fact["answer"])) for fact in facts]
    assert len(set(asked)) == len(asked)
    assert len(set(answered)) == len(answered)
    for one, other in combinations([set(question) for question in asked], 2):
        assert len(one & other) / len(one | other) < 0.85, (one, other)


def test_facts_are_short_and_spoken_by_one_person() -> None:
    for item in FACTS:
        assert re.fullmatch(r"[^.?!]+\?", item["question"]), item
        assert re.fullmatch(r"[^.?!]+\.", item["answer"]), item
        assert {"you", "your", "yours"} & set(words(item["question"])), item
        assert {"i", "my", "me", "we", "us", "our"} & set(words(item["answer"])), item
        assert 12 <= len(item["question"]) <= 90 and 10 <= len(item["answer"]) <= 75, item


def test_questions_stand_alone() -> None:
    pointing = re.compile(r"\b(there|then|this|these|those|before that|that (?!you|heard))\b", re.I)
    for item in FACTS + QUESTIONS:
        assert not pointing.search(item["question"]), item


def test_right_and_parrot_differ_in_content_only() -> None:
    longer = 0.0
    for item in QUESTIONS:
        right, parrot = item["right"], item["parrot"]
        assert words(right)[:2] == words(parrot)[:2]
        assert abs(len(words(right)) - len(words(parrot))) <= 1
        assert max(len(right), len(parrot)) <= 1.25 * min(len(right), len(parrot))
        longer += 0.5 if len(right) == len(parrot) else len(right) > len(parrot)
    assert 0.4 <= longer / len(QUESTIONS) <= 0.6


def test_the_first_persona_is_told_without_politics() -> None:
    politics = re.compile(r"nazi|party|jew|race|racial|reich\b|aryan|camp\b|hate|enem", re.I)
    for item in of(FACTS, "wolf") + of(QUESTIONS, "wolf"):
        texts = [value for key, value in item.items() if key != "source"]
        assert not politics.search(" ".join(map(str, texts))), item
