from pathlib import Path

import pytest

from windows.errors import ConfigError, DataError
from windows.mixes import MixSection, installed_mix, mix_files, read_sizes, sized

MIX = MixSection(name="toy", base="https://data.test/", tokenizer="org/tok")
TEXT = "# two files\nweb,a/{TOKENIZER}/0.npy\n\nwiki,b/{TOKENIZER}/0.npy\n"


def test_a_mix_is_read_in_its_own_order():
    files = mix_files(MIX, TEXT)
    assert [(file.source, file.path) for file in files] == [
        ("web", "a/org/tok/0.npy"),
        ("wiki", "b/org/tok/0.npy"),
    ]
    assert files[0].address == "https://data.test/a/org/tok/0.npy"


@pytest.mark.parametrize("line", ["web", ",a.npy", "web,"])
def test_a_line_of_another_form_is_refused(line: str):
    with pytest.raises(DataError, match=r"mix toy, line 2: not a line of a mix"):
        mix_files(MIX, f"web,a.npy\n{line}\n")


def test_an_empty_mix_is_refused():
    with pytest.raises(DataError, match="a mix without files"):
        mix_files(MIX, "# nothing\n")


@pytest.mark.parametrize(
    ("name", "files", "sources"),
    [("OLMo-mix-0925-official", 950, 65), ("OLMo-mix-0625-official", 1016, 65)],
)
def test_the_installed_mixes_are_olmo_cores(name: str, files: int, sources: int):
    from olmo_core.data.mixes import DataMix

    text = installed_mix(name)
    assert text is not None
    section = MixSection(name=name, base="https://d.test", tokenizer="allenai/dolma3-tokenizer")
    ours = mix_files(section, text)
    paths, labels = DataMix(name).build("https://d.test", "allenai/dolma3-tokenizer")
    assert [file.address for file in ours] == paths
    assert [file.source for file in ours] == labels
    assert (len(ours), len({file.source for file in ours})) == (files, sources)


def test_a_mix_that_nobody_brings_is_none():
    assert installed_mix("no-such-mix") is None


def manifest(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    return path


def test_sizes_are_found_by_path_or_address(tmp_path: Path):
    text = (
        "# made up\n# for a test\npath,bytes\n"
        "a/org/tok/0.npy,64\nhttps://data.test/b/org/tok/0.npy,128\n"
    )
    found = read_sizes(manifest(tmp_path, text))
    assert found.note == "made up for a test"
    files = sized(mix_files(MIX, TEXT), found, "here")
    assert [(file.source, file.bytes) for file in files] == [("web", 64), ("wiki", 128)]
    assert files[1].path == "https://data.test/b/org/tok/0.npy"


@pytest.mark.parametrize(
    "text",
    ["name,bytes\na,1\n", "path,bytes\na,-1\n", "path,bytes\na,1\na,1\n", "path,bytes\na\n"],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=r"line \d: not a line of a size manifest"):
        read_sizes(manifest(tmp_path, text))


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read; got No such file"):
        read_sizes(tmp_path / "none.csv")


def test_a_file_without_a_size_is_refused(tmp_path: Path):
    found = read_sizes(manifest(tmp_path, "path,bytes\na/org/tok/0.npy,64\n"))
    with pytest.raises(ConfigError, match=r"1 of 2 files of the mix have no size here; got no l"):
        sized(mix_files(MIX, TEXT), found, "here")
