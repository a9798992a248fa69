import io
from dataclasses import replace

import pytest
from rich.console import Console

from curate.report import table


def printed(thing, width=160):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(thing)
    return console.file.getvalue()


def test_the_overview_holds_headline_tables_and_tests(planted):
    shown = printed(table.overview(planted))
    assert shown.startswith("Controlled:")
    for title in ("Labels", "Do the labels transfer", "Arms on", "Endpoints"):
        assert title in shown


def test_without_transfer_no_test_is_printed(unplanted):
    shown = printed(table.overview(unplanted))
    assert "The labels are not shown to transfer" in shown
    assert "Endpoints" not in shown
    assert "Holm" not in shown


def test_labels_alone_print_labels_alone(labels_only):
    shown = printed(table.overview(labels_only))
    assert "Labels" in shown
    assert "Arms" not in shown


def test_the_window_table_has_a_row_a_window(planted):
    shown = printed(table.window_table(planted))
    assert sum(window.name in shown for window in planted.windows) == len(planted.windows)
    assert "nan" not in shown
    other = printed(table.window_table(planted, "repetitive/addition"))
    assert "repetitive/addition" in other


def test_a_normal_control_moved_or_not_and_has_no_mode(with_control):
    labels = printed(table.label_table(with_control)).splitlines()
    columns = "task pattern generalization neutral undecided moved still hops"
    assert " ".join(labels[1].split()) == columns
    (control,) = [line.split() for line in labels if line.startswith("normal/addition")]
    of_mode = with_control.label_counts("successive/addition")
    moved = of_mode["pattern"] + of_mode["generalization"]
    assert control[1:3] == [str(moved), str(len(with_control.windows) - moved)]
    shown = printed(table.window_table(with_control, "normal/addition"))
    assert "moved" in shown and "still" in shown
    assert "pattern" not in shown and "generalization" not in shown


def test_brackets_are_not_taken_for_markup(planted):
    name = "[bold]x[/bold]"
    window = replace(planted.windows[2], name=name)
    shown = printed(table.window_table(replace(planted, windows=(window,))))
    assert name in shown
    assert "[" in shown.splitlines()[-1].removeprefix(name), "the interval keeps its brackets"


def test_numbers_are_those_of_the_page(planted):
    assert "+0.95" in printed(table.endpoint_table(planted))
    assert "327,680" in printed(table.mixture_table(planted.mixtures))
    transfer = printed(table.transfer_table(planted.transfer))
    for number in ("0.62", "[0.58, 0.87]"):
        assert number in transfer


@pytest.mark.parametrize("width", [80, 100])
def test_narrow_terminals_keep_the_headline(planted, width):
    shown = printed(table.overview(planted), width)
    assert max(len(line) for line in shown.splitlines()) <= width
