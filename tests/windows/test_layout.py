import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows.errors import ConfigError
from windows.layout import Layout

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=6)


@given(SIZES, st.integers(1, 9))
def test_joined_parts_are_one_stream(sizes: list[int], instance: int):
    layout = Layout(tuple(sizes), instance, joined=True)
    # Where every byte of the stream lies.
    places = [(file, at) for file, size in enumerate(sizes) for at in range(size)]
    assert layout.num_instances == len(places) // instance
    files, offsets = layout.locate(np.arange(layout.num_instances))
    found = list(zip(files.tolist(), offsets.tolist(), strict=True))
    assert found == [places[i * instance] for i in range(layout.num_instances)]
    begun = np.bincount(files, minlength=len(sizes)) if found else np.zeros(len(sizes), int)
    assert layout.instances_by_file.tolist() == begun.tolist()


@given(SIZES, st.integers(1, 9), st.integers(1, 3), st.booleans(), st.data())
def test_overlapping_is_every_instance_with_a_byte_there(
    sizes: list[int], instance: int, chunk: int, joined: bool, data: st.DataObject
):
    layout = Layout(tuple(sizes), instance, 1 if joined else chunk, joined)
    file = data.draw(st.integers(0, len(sizes) - 1))
    start = data.draw(st.integers(0, max(0, sizes[file] - 1)))
    end = data.draw(st.integers(start, sizes[file]))
    if start == end:
        with pytest.raises(ConfigError, match="no bytes of file"):
            layout.overlapping(file, start, end)
        return
    before = np.cumsum([0, *sizes])
    files, offsets = layout.locate(np.arange(layout.num_instances))
    begins = before[files] + offsets
    held = (begins < before[file] + end) & (begins + instance > before[file] + start)
    assert layout.overlapping(file, start, end).tolist() == np.flatnonzero(held).tolist()


def test_a_file_that_is_not_there_overlaps_nothing():
    with pytest.raises(ConfigError, match=r"got 1; choose from \[0, 1\)"):
        Layout((160,), 16).overlapping(1, 0, 4)
