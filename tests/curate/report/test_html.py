import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from curate.report.html import render

SECTIONS = [
    "series",
    "reading",
    "transfer",
    "arms",
    "endpoints",
    "control",
    "mixtures",
    "windows",
    "held",
    "truth",
    "provenance",
]
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Checks nesting while it collects sections, ids, references, captions and visible text."""

    def __init__(self, source):
        super().__init__()
        self.open, self.sections, self.ids, self.labelled = [], [], [], []
        self.tables = self.captions = 0
        self.words, self.elements = [], set()
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(given["id"])
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.ids += [given["id"]] if "id" in given else []
        self.labelled += given.get("aria-labelledby", "").split()
        self.words += [value for value in given.values() if value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def with_every(value, number):
    """Return the data with every measured number replaced; settings of the study are kept."""
    kept = {"alpha", "minimum", "threshold"}
    if is_dataclass(value):
        changed = {
            field.name: with_every(getattr(value, field.name), number)
            for field in fields(value)
            if field.name not in kept
        }
        return replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(with_every(part, number) for part in value)
    return number if isinstance(value, float) else value


def test_all_sections_stand_in_order(planted):
    assert Page(render(planted)).sections == SECTIONS


def test_what_was_not_done_is_absent_and_not_empty(labels_only, planted):
    assert Page(render(labels_only)).sections == ["series", "reading", "windows", "held"]
    bare = Page(render(replace(labels_only, series=(), windows=())))
    assert bare.sections == ["reading"]
    assert not bare.elements & {"script", "dialog"}
    assert "The arms' curves" not in Page(render(labels_only)).text
    unfinished = Page(render(replace(planted, verdict=None)))
    assert "endpoints" not in unfinished.sections
    assert "arms" in unfinished.sections


def test_tables_have_captions_and_drawings_have_names(planted):
    page = Page(render(planted))
    assert page.tables == page.captions == 6
    assert len(page.ids) == len(set(page.ids))
    assert set(page.labelled) <= set(page.ids)
    drawings = re.findall(r"<svg.*?</svg>", render(planted), flags=re.DOTALL)
    named = [ElementTree.fromstring(drawing) for drawing in drawings]
    charts = [drawing for drawing in named if drawing.get("role") == "img"]
    assert len(charts) == 2 * 5
    for chart in charts:
        assert [part.tag for part in chart[:2]] == ["title", "desc"]
        assert all(part.text for part in chart[:2])


def test_the_page_stands_alone(planted):
    source = render(planted)
    page = Page(source)
    assert not page.elements & {"img", "iframe", "object", "embed", "audio", "video"}
    assert "default-src 'none'" in source
    assert not re.search(r"https?://|//[a-z]|url\((?!#)|@import|@font-face", source)
    icon, *links = re.findall(r'\b(?:src|href)="([^"]*)"', source)
    assert icon == "data:,"
    assert all(link.startswith("#") and link[1:] in page.ids for link in links)
    assert not re.search(r'\bstyle="|\bon[a-z]+="', source)
    assert not re.search(r"fetch|XMLHttp|import\(|eval|Function\(", script_of(source))


def script_of(source):
    return re.search(r"<script>(.*?)</script>", source, flags=re.DOTALL).group(1)


def numbers_of(source):
    pattern = r'<script type="application/json" id="numbers">(.*?)</script>'
    return re.search(pattern, source, flags=re.DOTALL).group(1)


def test_only_the_pages_own_script_may_run(planted):
    source = render(planted)
    assert re.findall(r"<script[^>]*>", source) == [
        '<script type="application/json" id="numbers">',
        "<script>",
    ]
    own = base64.b64encode(hashlib.sha256(script_of(source).encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source).group(1)
    assert f"script-src 'sha256-{own}'" in policy
    assert policy.count("'sha256-") == 1 and "unsafe-eval" not in policy


def test_the_scripts_numbers_are_those_of_the_data(planted):
    found = json.loads(numbers_of(render(planted)))
    assert [name for name, *_ in found["windows"]] == [w.name for w in planted.windows]
    (task,) = [each for each in found["tasks"] if each["name"] == planted.primary_task]
    for index, window in enumerate(planted.windows):
        on = window.on(planted.primary_task)
        assert found["words"][task["labels"][index]] == on.label
        assert (index in task["hops"]) == on.hop
        known = task["strength"][index]
        assert known is None if on.strength != on.strength else abs(known - on.strength) < 1e-4
    assert len(found["loss"]) == len(planted.windows)
    at_end = dict(zip(planted.loss.steps, planted.loss.loss, strict=True))
    last = planted.windows[-1].end_step
    assert abs(found["loss"][-1] - at_end[last]) < 1e-4
    assert found["sources"]["names"] == ["web", "math"]


def test_every_window_links_to_what_it_held(planted):
    source = render(planted)
    held = source[source.index('<section id="held"') : source.index('<section id="truth"')]
    for index, window in enumerate(planted.windows):
        row = re.search(rf'<tr id="w{index}">.*?</tr>', held).group(0)
        assert f"modehop what demo --steps {window.first_step}:{window.end_step}" in row
        assert source.count(f'<a href="#w{index}"') >= 1 + 2 * 2, "its name, and in every chart"
    assert "75.0 %" in held and "25.0 %" in held


def test_a_study_named_by_a_path_with_spaces_is_quoted(planted):
    page = Page(render(replace(planted, study=replace(planted.study, file="my study.yaml"))))
    assert "modehop what 'my study.yaml' --steps 340:356" in page.text


def test_where_the_order_is_not_known_no_command_is_offered(planted):
    windows = tuple(replace(window, held=()) for window in planted.windows)
    study = replace(planted.study, file="")
    unknown = replace(planted, study=study, windows=windows, sources=())
    text = Page(render(unknown)).text
    assert "modehop what" not in text
    assert "nobody can tell what a window held" in text


def test_many_tasks_are_shown_in_a_strip_and_by_family(shorter_run):
    source = render(shorter_run)
    page = Page(source)
    strip = re.search(r"<svg[^>]*strip-wide-title.*?</svg>", source, flags=re.DOTALL).group(0)
    assert sorted(set(re.findall(r'data-task="([^"]*)"', strip))) == sorted(shorter_run.tasks)
    assert source.count('<details class="family"') == 5
    drawn = set(re.findall(r'<g class="(?:mode|control)[^"]*" data-task="([^"]*)"', source))
    assert drawn == {series.task for series in shorter_run.series}
    first = source[source.index("series-wide-title") : source.index("<details")]
    tasks = re.findall(r'data-task="([^"]*)"', first)
    assert tasks == ["successive/task00", "normal/task00"] * 2
    header = source[source.index('<table class="windows">') :].partition("</thead>")[0]
    assert re.findall(r'class="group">([a-z/0-9]+)</th>', header) == ["successive/task00", "pooled"]
    assert "Of 53 tasks 2 are here" in page.text


@pytest.mark.slow
def test_a_page_of_a_long_run_is_not_large(long_run):
    assert len(render(long_run).encode()) < 15e6


def test_names_are_text_and_never_markup(planted):
    name = '<b>x</b> "&" {{ 7 * 7 }}'
    task, arm = f"{name}/task", f"arm {name}"
    series = replace(planted.series[0], task=task)
    labels = tuple(replace(label, task=task) for label in planted.windows[0].labels)
    window = replace(planted.windows[0], name=f"window {name}", labels=labels)
    arms = replace(
        planted.arms,
        task=task,
        curves=tuple(replace(curve, arm=arm) for curve in planted.arms.curves),
        summaries=(replace(planted.arms.summaries[0], arm=arm),),
    )
    point = replace(planted.transfer.points[0], window=name)
    hostile = replace(
        planted,
        study=replace(planted.study, name=name),
        primary_task=task,
        series=(series,),
        windows=(window,),
        arms=arms,
        transfer=replace(planted.transfer, points=(point,), sentence=name),
        verdict=replace(planted.verdict, sentences=(name,)),
        mixtures=replace(planted.mixtures, decontamination=name),
        loss=replace(planted.loss, smoothing=name),
    )
    page = Page(render(hostile))
    assert "b" not in page.elements
    assert page.text.count("<b>x</b>") > 15
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), None])
def test_missing_numbers_are_dashes(planted, number):
    page = Page(render(with_every(planted, number)))
    assert page.sections == SECTIONS
    assert not re.search(r"\b(nan|inf|infinity|none,|undefined)\b", page.text, flags=re.IGNORECASE)
    assert "None" not in page.text
    assert "–" in page.text


def test_without_transfer_the_page_says_so_and_claims_nothing(unplanted):
    page = Page(render(unplanted))
    heading = re.search(r"<h1>(.*?)</h1>", render(unplanted)).group(1)
    assert heading.startswith("The labels are not shown to transfer")
    assert "not-transferable" in page.text
    claims = r"\bControlled\b|Primary:|held the mode|moved as|Holm|permutation|primary\b.*p ="
    assert not re.search(claims, page.text)
    assert "Shown for the record. The labels are not shown to carry over" in page.text
    assert "p values are not shown" in page.text
    assert "nothing is tested" not in page.text


def test_an_underpowered_check_does_not_say_that_labels_do_not_carry_over(unplanted):
    transfer = replace(unplanted.transfer, verdict="underpowered")
    text = Page(render(replace(unplanted, transfer=transfer))).text
    assert "too few windows to tell" in text
    assert "do not carry over" not in text


def test_the_check_shows_its_bound_its_interval_and_the_signs(planted):
    text = Page(render(planted)).text
    assert "one-sided 95 % lower bound 0.62, must exceed 0.30" in text
    assert "two-sided 95 % interval [0.58, 0.87]" in text
    assert "has the sign of the strength 80 %" in text
    assert "had been trained on once already" in text


def test_captions_say_no_more_than_is_known(planted):
    text = Page(render(planted)).text
    assert "its 95 % interval over demo seeds" in text
    assert "its own seed and data" not in text
    assert "until the budget was full, not all that the pool holds" in text


def test_texts_from_elsewhere_are_shown_as_sentences(planted):
    lower = replace(
        planted,
        rule=replace(planted.rule, words="the change of the score"),
        mixtures=replace(planted.mixtures, decontamination="an instance is left out"),
    )
    source = render(lower)
    assert "<p>The change of the score.</p>" in source
    assert "<p>An instance is left out.</p>" in source


def test_a_normal_control_is_never_labelled_by_a_mode(with_control):
    source = render(with_control)
    drawings = re.findall(r'<g class="control[ "].*?<g class="loss">', source, flags=re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        assert "window moved" in drawing and "window still" in drawing
        assert not re.search(r"window (pattern|generalization|neutral|undecided)", drawing)
        assert not re.search(r": (pattern|generalization)[,;]", drawing)
    rows = re.findall(r'<tr><th scope="row"><a href="#w\d+">stage1-.*?</tr>', source)
    assert len(rows) == 40
    for row in rows:
        cell = row.split('<td class="group">')[-1]
        assert re.search(r'class="chip (moved|still)"', cell)
        assert not re.search(r"pattern|generalization|arrow (rise|fall)", cell)


def test_without_labels_of_a_control_its_words_are_not_explained(planted):
    assert 'class="chip moved"' not in render(planted)


def test_a_claim_stands_only_with_its_tests(planted):
    page = Page(render(planted))
    assert "Holm" in page.text
    assert "Shown for the record" not in page.text


def test_truth_is_marked_as_truth(planted):
    source = render(planted)
    section = source[source.index('<section id="truth"') : source.index('<section id="provenance"')]
    assert "known only because the corpus is planted; read by no step" in section
    assert "planted" not in source.replace(section, "").replace("planted-", "")


def test_series_with_gaps_and_one_checkpoint_are_drawn(planted):
    one = {name: getattr(planted.series[0], name)[:1] for name in ("steps", "tokens", "mean")}
    alone = replace(planted.series[0], **one, lo=(None,), hi=(None,), hard=(None,))
    assert "series" in Page(render(replace(planted, series=(alone,), windows=()))).sections
    empty = {"steps": (), "tokens": (), "mean": (), "lo": (), "hi": (), "hard": ()}
    none = replace(planted.series[0], **empty)
    assert "series" not in Page(render(replace(planted, series=(none,)))).sections


def test_arms_of_other_names_are_drawn(planted):
    arms = replace(
        planted.arms,
        curves=tuple(replace(curve, arm="my-arm") for curve in planted.arms.curves),
        summaries=(replace(planted.arms.summaries[0], arm="my-arm"),),
    )
    assert "arm-other" in render(replace(planted, arms=arms, verdict=None))


def test_five_sentences_stand_at_the_top(planted, unplanted, labels_only):
    for data in (planted, unplanted, labels_only):
        source = render(data)
        top = source[source.index("<h1>") : source.index("<main>")]
        assert top.count("<li>", 0, top.index("</ol>")) == 5


def test_time_spent_is_not_on_the_page(planted):
    assert render(planted) == render(replace(planted, wall_seconds=1.0))


def test_another_process_writes_the_same_bytes(planted):
    conftest = Path(__file__).with_name("conftest.py")
    code = (
        "import runpy, sys; from curate.report.html import render;"
        f"data = runpy.run_path({str(conftest)!r})['simulated']();"
        "sys.stdout.buffer.write(render(data).encode())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert told.stdout == render(planted).encode()
    assert told.stdout.endswith(b"</html>\n")
