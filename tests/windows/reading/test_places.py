from pathlib import Path

import pytest

from windows.errors import ConfigError
from windows.reading.places import file_name, place


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Path("a/b.npy"), Path("a/b.npy")),
        ("a/b.npy", Path("a/b.npy")),
        ("file:///a/b%20c.npy", Path("/a/b c.npy")),
        ("file://localhost/a", Path("/a")),
        ("https://host/a.npy?x=1", "https://host/a.npy?x=1"),
        ("s3://bucket/a/b.npy", "s3://bucket/a/b.npy"),
        ("hf://datasets/a/b/c.npy", "hf://datasets/a/b/c.npy"),
    ],
)
def test_paths_and_addresses_are_told_apart(given: Path | str, found: Path | str):
    assert place(given) == found
    assert type(place(given)) is type(found) or isinstance(found, Path)


@pytest.mark.parametrize("given", ["http://", "://a", "http://[::1/a.npy"])
def test_half_an_address_is_refused(given: str):
    with pytest.raises(ConfigError, match="not the address of a file"):
        place(given)


def test_a_name_is_the_last_part():
    assert file_name("https://host/a/b.npy?token=c/d") == "b.npy"
    assert file_name(Path("a/b.npy")) == "b.npy"
