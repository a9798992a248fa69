import re
from dataclasses import replace

import pytest

from curate.report.strip_chart import families, strip_chart


def test_tasks_come_by_family_in_their_order():
    tasks = ["b/1", "a/1", "b/2", "pooled"]
    assert families(tasks) == {"b": ["b/1", "b/2"], "a": ["a/1"], "pooled": ["pooled"]}


def test_few_tasks_need_no_strip(planted):
    assert strip_chart(planted) is None


@pytest.mark.parametrize("word", ["pattern", "generalization", "neutral"])
def test_as_much_is_coloured_as_windows_have_the_label(shorter_run, word):
    """All windows are as wide, so the widths of a row's cells count them."""
    task = shorter_run.tasks[0]
    drawn = strip_chart(shorter_run).wide
    row = re.search(rf"<title>{task}</title>.*?data-task=", drawn).group(0)
    cells = re.findall(rf'<path d="([^"]*)" class="cell {word} ', row)
    width = sum(float(each) for cell in cells for each in re.findall(r"h([\d.]+)v", cell))
    labels = [window.on(task).label for window in shorter_run.windows]
    one = (1060 - 10 - 210) / len(labels)
    assert round(width / one) == labels.count(word)


def test_a_stronger_effect_is_drawn_darker(shorter_run):
    task, least = shorter_run.tasks[0], shorter_run.rule.minimum

    def degrees(times):
        windows = []
        for window in shorter_run.windows:
            labels = [
                replace(one, label="pattern", strength=-times * least) if one.task == task else one
                for one in window.labels
            ]
            windows.append(replace(window, labels=tuple(labels)))
        drawn = strip_chart(replace(shorter_run, windows=tuple(windows))).wide
        row = re.search(rf"<title>{task}</title>.*?data-task=", drawn).group(0)
        return re.findall(r'class="cell pattern degree-(\d)"', row)

    assert [degrees(times) for times in (1.1, 2.5, 4.5)] == [["0"], ["1"], ["2"]]
