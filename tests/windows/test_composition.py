import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import windows.composition as module
from windows.composition import SourceCounter
from windows.layout import Layout


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.sampled_from(["web", "code", "wiki"])),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 5),
    st.booleans(),
)
def test_counts_are_those_of_looking_at_every_file(
    files: list[tuple[int, str]], shift: int, joined: bool
):
    layout = Layout(tuple(size for size, _ in files), 3, joined=joined)
    ids = np.arange(layout.num_instances, dtype=np.uint32)
    sources = [source for _, source in files]
    counter = SourceCounter(layout, sources)
    kept, module._SHIFT = module._SHIFT, shift
    try:
        names = [counter.names[i] for i in counter.source_of(ids)]
        counts = dict(zip(counter.names, counter.counts(ids[::2]), strict=True))
    finally:
        module._SHIFT = kept
    located, _ = layout.locate(ids.astype(np.int64))
    assert names == [sources[file] for file in located]
    assert counts == {name: names[::2].count(name) for name in counter.names}
