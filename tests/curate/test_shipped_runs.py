"""The run files that come with the package, held against what their authors published."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from curate.run_file import GivenRun, load_run
from curate.shipped import shipped
from windows.checkpoints.catalogs import count_tokens
from windows.checkpoints.revisions import label_fits, parse_revision
from windows.mixes import MixFile, installed_mix, mix_files
from windows.repetition import RepetitionFilter
from windows.run import RunConfig, cut_at_jumps, jumps, span

EMBEDDED = {"tiny", "tiny-iid"}
FROM_OLMO_CORE = ("olmo3-32b", "olmo3-7b", "olmo-hybrid-7b", "olmo2-1b", "olmo2-7b", "olmo2-32b")
RELEASED = (*FROM_OLMO_CORE, "apertus-8b", "apertus-70b", "pythia-160m")
HOSTS = {
    "huggingface.co",
    "olmo-checkpoints.org",
    "olmo-data.org",
    "raw.githubusercontent.com",
}

MILLION, BILLION, TRILLION = 10**6, 10**9, 10**12


def given(name: str) -> GivenRun:
    return load_run(shipped("runs")[name])


def config(name: str) -> RunConfig:
    return given(name).run.order_config


def tokens(name: str, step: int) -> int | None:
    run = config(name)
    return count_tokens([run])(run.stage, step)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


# --- Every file -----------------------------------------------------------------------------------


def test_the_runs_that_are_shipped() -> None:
    assert set(shipped("runs")) == {*RELEASED, *EMBEDDED}
    assert {name for name in shipped("runs") if given(name).run.embedded} == EMBEDDED


@pytest.mark.parametrize("name", RELEASED)
def test_a_run_is_named_as_its_file(name: str) -> None:
    run = given(name).run
    assert (run.name, run.stage, run.epoch) == (name, "stage1", 1)
    assert run.windows is not None and run.windows.stage == run.stage
    assert run.text_tokenizer and run.released.hub
    assert run.checkpoints is None and run.data is None


@pytest.mark.parametrize("name", RELEASED)
def test_addresses_are_public_and_do_not_move(name: str) -> None:
    addresses = [text for text in texts(given(name).resolved()) if "://" in text]
    assert {urlsplit(address).netloc for address in addresses} <= HOSTS
    assert all(address.startswith("https://") for address in addresses)
    for address in addresses:
        if "githubusercontent" in address or "/resolve/" in address:
            assert re.search(r"/[0-9a-f]{40}/", address), address


@pytest.mark.parametrize("name", RELEASED)
def test_a_remark_is_one_sentence_and_holds_of_a_window(name: str) -> None:
    run = given(name).run
    assert run.remarks and run.windows
    for remark in run.remarks:
        assert re.fullmatch(r"[A-Za-z].*[^.]\.", remark.says)
        assert not re.search(r"[.?!] +[A-Z]", remark.says)
        assert remark.end_step is None or remark.first_step < remark.end_step
        assert remark.touches(run.windows.first_step, run.windows.end_step or 10**9)


@pytest.mark.parametrize("name", RELEASED)
def test_the_windows_tile_the_steps(name: str) -> None:
    run, grid = config(name), given(name).run.windows
    assert grid is not None
    end = grid.end_step or grid.first_step + 20 * grid.every
    windows = cut_at_jumps(run, grid.first_step, end, grid.every)
    edges = [each.first_step for each in windows]
    assert edges == sorted({*range(grid.first_step, end, grid.every), *jumps(run)})
    assert [each.end_step for each in windows] == [*edges[1:], end]
    total = tokens(name, end) or 0
    before = tokens(name, grid.first_step) or 0
    stored = run.sequence_length
    assert sum(each.tokens for each in windows) == (total - before) // stored * (
        stored - run.overlap
    )


# --- OLMo's: tokens as published ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step", "published"),
    [
        # Column Tokens Seen of the tables of checkpoints: step x batch.
        ("olmo3-7b", 1_413_814, 5_929_965_715_456),  # x 8,192 x 512
        ("olmo3-7b", 1000, 4_194_304_000),
        ("olmo3-32b", 656_000, 5_502_926_848_000),  # x 8,192 x 1,024
        ("olmo3-32b", 679_000, 5_695_864_832_000),
        ("olmo-hybrid-7b", 1_414_078, 5_931_073_011_712),  # x 8,192 x 512
    ],
)
def test_tokens_are_those_of_the_tables(name: str, step: int, published: int) -> None:
    assert tokens(name, step) == published


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("olmo2-1b", "stage1-step10000-tokens21B"),
        ("olmo2-1b", "stage1-step1907359-tokens4001B"),
        ("olmo2-7b", "stage1-step1000-tokens5B"),
        ("olmo2-7b", "stage1-step300000-tokens1259B"),
        ("olmo2-7b", "stage1-step928646-tokens3896B"),
        ("olmo2-32b", "stage1-step721901-tokens6056B"),
    ],
)
def test_tokens_fit_the_revisions_names(name: str, revision: str) -> None:
    said = parse_revision(revision)
    assert said is not None and said.tokens_label is not None
    count = tokens(name, said.step)
    # Theirs are rounded up.
    assert label_fits(said.tokens_label, count or 0)
    assert -(-(count or 0) // BILLION) == int(said.tokens_label[:-1])


@pytest.mark.parametrize("name", FROM_OLMO_CORE)
def test_ids_and_filter_are_olmo_cores(name: str) -> None:
    from olmo_core.data import TokenizerConfig

    run, theirs = given(name).run, TokenizerConfig.dolma2()
    ours = run.tokenizer
    assert (ours.vocab_size, ours.eos_id) == (theirs.vocab_size, theirs.eos_token_id)
    assert (ours.pad_id, ours.bos_id) == (theirs.pad_token_id, theirs.bos_token_id)
    assert run.token_bytes == 4 and run.loader == "olmo-core"
    unfiltered = name in ("olmo3-7b", "olmo2-32b")
    expected = None if unfiltered else RepetitionFilter(min_period=1, max_period=13, max_count=32)
    assert run.repetition_filter == expected


@pytest.mark.parametrize(
    ("name", "seed", "length", "batch", "chunk"),
    [
        ("olmo3-32b", 34522, 8192, 1024, 1),
        ("olmo3-7b", 34522, 8192, 512, 1),
        ("olmo-hybrid-7b", 34522, 8192, 512, 1),
        ("olmo2-32b", 34522, 4096, 2048, 2),
        # The trainer before OLMo-core counts epochs from 0: PCG64(6198 + 0).
        ("olmo2-7b", 6198, 4096, 1024, 1),
        ("olmo2-1b", 6198, 4096, 512, 1),
    ],
)
def test_the_order_is_one_shuffle_with_the_trainers_seed(
    name: str, seed: int, length: int, batch: int, chunk: int
) -> None:
    run = config(name)
    file_bytes = [4 * (length * count + 17) for count in (3000, 2, 4001, 2998)]
    order = run.order(file_bytes)
    counts = [count // chunk * chunk for count in (3000, 2, 4001, 2998)]
    assert (order.num_instances, order.num_batches) == (sum(counts), sum(counts) // batch)
    ids = np.arange(sum(counts) // chunk, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(ids)
    expected = (ids[:, None] * chunk + np.arange(chunk)).reshape(-1)[: order.num_batches * batch]
    assert np.array_equal(order.instances(0, order.num_batches), expected)


@pytest.mark.parametrize(
    ("large", "small"), [("olmo3-32b", "olmo-hybrid-7b"), ("olmo2-7b", "olmo2-1b")]
)
def test_two_runs_read_the_same_order_in_batches_of_other_sizes(large: str, small: str) -> None:
    one, two = given(large).run, given(small).run
    assert one.mix == two.mix
    for field in ("seed", "epoch", "sequence_length", "max_sequence_length", "tokenizer"):
        assert getattr(one, field) == getattr(two, field)
    assert one.repetition_filter == two.repetition_filter
    sizes = [4 * one.sequence_length * count + 4 for count in (2500, 1600)]
    a, b = config(large).order(sizes), config(small).order(sizes)
    assert b.num_batches // 2 == a.num_batches > 2
    for batch in range(a.num_batches):
        assert np.array_equal(a.instances(batch, batch + 1), b.instances(2 * batch, 2 * batch + 2))


# --- OLMo's: the mixes ----------------------------------------------------------------------------


def files_of(name: str) -> tuple[MixFile, ...]:
    mix = given(name).run.mix
    assert mix is not None and mix.list is None and mix.sizes is None
    text = installed_mix(mix.name)
    assert text is not None
    return mix_files(mix, text)


@pytest.mark.parametrize(
    ("name", "count", "distinct", "sources"),
    [
        ("olmo3-32b", 950, 950, 65),
        ("olmo3-7b", 1016, 1016, 65),
        ("olmo-hybrid-7b", 950, 950, 65),
        ("olmo2-1b", 1122, 1117, 7),
        ("olmo2-7b", 1122, 1117, 7),
        ("olmo2-32b", 1122, 1117, 7),
    ],
)
def test_the_files_are_those_of_the_installed_mix(
    name: str, count: int, distinct: int, sources: int
) -> None:
    from olmo_core.data import DataMix, TokenizerName

    mix, ours = given(name).run.mix, files_of(name)
    assert mix is not None
    paths, labels = DataMix(mix.name).build(mix.base, TokenizerName.dolma2)
    assert [file.address for file in ours] == paths
    assert [file.source for file in ours] == labels
    assert (len(paths), len(set(paths)), len(set(labels))) == (count, distinct, sources)


@pytest.mark.parametrize(
    ("name", "internal"), [("olmo3-32b", "OLMo-mix-0925"), ("olmo3-7b", "OLMo-mix-0625")]
)
def test_the_public_list_has_the_names_and_groups_of_the_one_that_was_read(
    name: str, internal: str
) -> None:
    mix, ours, text = given(name).run.mix, files_of(name), installed_mix(internal)
    assert mix is not None and text is not None
    theirs = mix_files(mix, text)

    def base(file: MixFile) -> str:
        return file.path.rsplit("/", 1)[-1]

    assert [base(file) for file in ours] == [base(file) for file in theirs]
    # Groups are named otherwise, but begin and end at the same files.
    pairs = {(a.source, b.source) for a, b in zip(ours, theirs, strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    pdfs = sum("olmocr_science_pdfs" in file.path for file in ours)
    assert pdfs == {"olmo3-32b": 66, "olmo3-7b": 132}[name]


# --- Where step and batch part, and where epochs end ----------------------------------------------


def test_the_32b_never_takes_a_step_for_a_batch() -> None:
    run = config("olmo3-32b")
    assert not any(entry.exact for entry in run.step_map)
    assert (run.batch_of_step(232_999), run.batch_of_step(233_000)) == (232_999, 226_000)
    assert jumps(run) == (233_000,)
    assert run.steps_of_batch(230_000) == (230_000, 237_000)
    # The Hybrid's epoch ended at 1,414,078 batches, half as large; the last step is well before it.
    assert run.batch_of_step(679_000) == 672_000 < 1_414_078 // 2
    assert "226,000" in given("olmo3-32b").run.remarks[0].says


@pytest.mark.parametrize("name", [name for name in RELEASED if name != "olmo3-32b"])
def test_elsewhere_the_step_is_the_batch(name: str) -> None:
    run = config(name)
    assert jumps(run) == () and run.step_map[0].exact
    assert all(entry.first_step == entry.first_batch for entry in run.step_map)


def test_the_7b_ends_where_its_files_do() -> None:
    """Its public files are not what it read: an end step would be refused, or be wrong."""
    run = given("olmo3-7b").run
    assert run.windows is not None and run.windows.end_step is None
    instances = 1_413_814 * 512
    order = run.order_config.order([instances * 8192 * 4])
    assert run.order_config.last_step(order.num_batches) == 1_413_814
    assert any(remark.touches(596_500, 596_501) for remark in run.remarks[1:])


def test_the_grids_of_olmo_2_end_within_the_first_epoch() -> None:
    """The 7B's epoch ended with step 928,646, which bounds the instances that all three read."""
    least, most = 928_646 * 1024, 928_647 * 1024 - 1
    assert (least, most) == (950_933_504, 950_934_527)
    # The 32B leaves an odd last instance of a file aside: at most one of each of 1,122 files.
    ends = {
        "olmo2-7b": {least // 1024, most // 1024},
        "olmo2-1b": {least // 512, most // 512},
        "olmo2-32b": {(least - len(files_of("olmo2-32b"))) // 2048, most // 2048},
    }
    assert ends == {
        "olmo2-7b": {928_646},
        "olmo2-1b": {1_857_292, 1_857_293},
        "olmo2-32b": {464_322, 464_323},
    }
    for name, last in ends.items():
        run = given(name).run
        assert run.windows is not None
        every, end = run.windows.every, run.windows.end_step
        assert end == (928_646 if name == "olmo2-7b" else min(last) // every * every)
        if name != "olmo2-7b":
            assert all(str(step) in run.remarks[0].says for step in last)


# --- Apertus --------------------------------------------------------------------------------------

SAMPLES = 3_662_109_375
APERTUS_8B = """
    step50000-tokens210B step950000-tokens3990B step1000000-tokens4200B step1194000-tokens5014B
    step1432000-tokens6014B step1670000-tokens7014B step1678000-tokens7047B step1700000-tokens7232B
    step1750000-tokens7652B step2000000-tokens9752B step2300000-tokens12272B
    step2600000-tokens14792B step2627139-tokens15T
"""
APERTUS_70B = """
    step25000-tokens210B step250000-tokens2100B step500000-tokens4200B step525000-tokens4420B
    step550000-tokens4840B step800000-tokens9040B step1150000-tokens14920B step1155828-tokens15T
"""


@pytest.mark.parametrize(
    ("name", "before", "samples_before", "last"),
    [
        ("apertus-8b", 1024, 1_718_272_000, 2_627_139),
        ("apertus-70b", 2048, 1_072_164_864, 1_155_828),
    ],
)
def test_apertus_ends_where_its_samples_do(
    name: str, before: int, samples_before: int, last: int
) -> None:
    """The training script gives samples, the last revision steps: they meet in this step map."""
    run, grid = given(name).run, given(name).run.windows
    assert grid is not None and grid.end_step == last and SAMPLES == 15 * TRILLION // 4096
    first, second = run.step_map
    assert first.batch_tokens == before * 4096 and second.batch_tokens == 2 * first.batch_tokens
    assert (first.exact, second.exact) == (True, name == "apertus-8b")
    assert second.first_step * before == samples_before
    read = samples_before + (last - second.first_step) * 2 * before
    assert read <= SAMPLES < read + 2 * before
    assert tokens(name, last) == read * 4096
    assert span(run.order_config, 0, last).tokens == read * 4096


@pytest.mark.parametrize(
    ("name", "revisions"), [("apertus-8b", APERTUS_8B), ("apertus-70b", APERTUS_70B)]
)
def test_the_revisions_of_apertus_count_in_round_millions(name: str, revisions: str) -> None:
    change = config(name).step_map[1].first_step
    for revision in revisions.split():
        said = parse_revision(revision)
        assert said is not None and said.tokens_label is not None
        label = int(said.tokens_label[:-1]) * (TRILLION if revision.endswith("T") else BILLION)
        true = tokens(name, said.step) or 0
        assert abs(label - true) < 0.0015 * true + 5 * BILLION
        if name == "apertus-8b" and revision.endswith("B"):
            counted = (said.step + max(0, said.step - change)) * 42 * MILLION // 10
            assert label == counted // BILLION * BILLION


# --- Pythia ---------------------------------------------------------------------------------------


def test_pythia_reads_every_byte_of_its_files() -> None:
    run = given("pythia-160m").run
    names = [file.path.rsplit("/", 1)[-1] for file in run.files]
    assert names == [f"document-{part:05d}-of-00020.bin" for part in range(21)]
    assert len({file.path.rsplit("/", 1)[0] for file in run.files}) == 1
    # The last part is published as 39,168,000 ids of two bytes, the others as 30 GB.
    assert [file.bytes for file in run.files] == 20 * [30 * BILLION] + [2 * 39_168_000]
    rows = 143_000 * 1024
    assert sum(file.bytes for file in run.files) == rows * 2049 * 2 == 600_078_336_000
    order = run.order_config.order()
    assert (order.num_instances, order.num_batches) == (rows, 143_000)
    assert np.array_equal(order.instances(142_999, 143_000), np.arange(rows - 1024, rows))
    # The row behind the first part's 7,320,644 whole ones begins in it and ends in the next.
    file, offset = order.locate([7_320_643, 7_320_644, 7_320_645])
    assert file.tolist() == [0, 0, 1]
    assert offset.tolist() == [29_999_995_014, 29_999_999_112, 3210]


def test_pythia_trains_on_its_published_tokens() -> None:
    run = config("pythia-160m")
    assert run.step_map[0].batch_tokens == 1024 * 2049
    assert span(run, 0, 1).tokens == 1024 * 2048 == 2_097_152
    assert span(run, 0, 143_000).tokens == 143_000 * 2_097_152 == 299_892_736_000
