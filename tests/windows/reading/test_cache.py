import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from windows.errors import ConfigError, DataError
from windows.reading.cache import RangeCache, RangeKey

ENTRY = 32 + 8


def key(number: int, url: str = "https://host/a.npy") -> RangeKey:
    return RangeKey(url, 800, 8 * number, 8)


def data(number: int) -> bytes:
    return number.to_bytes(8, "little")


def fill(cache: RangeCache, numbers: range) -> None:
    for number in numbers:
        cache.put(key(number), data(number))
        # Put in order, whatever the clock of the file system.
        os.utime(cache._path(key(number).name), (number, number))


def test_bytes_come_back_by_their_whole_key(tmp_path: Path):
    cache = RangeCache(tmp_path / "cache")
    assert cache.get(key(1)) is None
    assert not cache.holds(key(1))
    cache.put(key(1), data(1))
    assert cache.holds(key(1))
    assert RangeCache(tmp_path / "cache").get(key(1)) == data(1)
    others = [
        key(2),
        key(1, "https://host/b.npy"),
        key(1)._replace(size=801),
        key(1)._replace(length=4),
    ]
    assert [cache.get(other) for other in others] == [None] * 4


@pytest.mark.parametrize("byte", [0, 31, 32, 39])
def test_any_flipped_bit_is_refused_and_put_away(tmp_path: Path, byte: int):
    cache = RangeCache(tmp_path)
    cache.put(key(1), data(1))
    (path,) = tmp_path.glob("??/*")
    stored = bytearray(path.read_bytes())
    stored[byte] ^= 1
    path.write_bytes(stored)
    with pytest.raises(DataError, match=f"{path}: an entry of the cache was damaged"):
        cache.get(key(1))
    assert cache.get(key(1)) is None
    cache.put(key(1), data(1))
    assert cache.get(key(1)) == data(1)


def test_an_entry_under_the_name_of_another_is_refused(tmp_path: Path):
    cache = RangeCache(tmp_path)
    cache.put(key(1), data(1))
    other = cache._path(key(2).name)
    other.parent.mkdir(exist_ok=True)
    cache._path(key(1).name).rename(other)
    with pytest.raises(DataError, match="damaged"):
        cache.get(key(2))


@pytest.mark.parametrize("left", [0, 20, 33])
def test_an_entry_cut_short_by_a_crash_is_none(tmp_path: Path, left: int):
    cache = RangeCache(tmp_path)
    cache.put(key(1), data(1))
    (path,) = tmp_path.glob("??/*")
    os.truncate(path, left)
    assert cache.get(key(1)) is None
    assert not path.exists()


def test_the_least_recently_used_go_first(tmp_path: Path):
    cache = RangeCache(tmp_path, limit_bytes=10 * ENTRY)
    fill(cache, range(10))
    assert cache.get(key(0)) == data(0)
    assert cache.make_room(3 * ENTRY, set()) == 3 * ENTRY
    assert [number for number in range(10) if not cache.holds(key(number))] == [1, 2, 3]


def test_what_is_needed_stays(tmp_path: Path):
    cache = RangeCache(tmp_path, limit_bytes=10 * ENTRY)
    fill(cache, range(10))
    needed = {key(number).name for number in range(8)}
    assert cache.make_room(4 * ENTRY, needed) == 2 * ENTRY
    assert [number for number in range(10) if not cache.holds(key(number))] == [8, 9]


def test_the_limit_holds_over_many_calls_and_reopenings(tmp_path: Path):
    for number in range(40):
        if number % 7 == 0:
            cache = RangeCache(tmp_path, limit_bytes=6 * ENTRY)
        assert cache.make_room(ENTRY, set()) == ENTRY
        cache.put(key(number), data(number))
        os.utime(cache._path(key(number).name), (number, number))
        assert len(list(tmp_path.glob("??/*"))) <= 6
    assert [number for number in range(40) if cache.holds(key(number))] == list(range(34, 40))


def test_a_cache_of_no_size_keeps_nothing(tmp_path: Path):
    assert RangeCache(tmp_path, limit_bytes=0).make_room(ENTRY, set()) == 0
    with pytest.raises(ConfigError, match="limit_bytes"):
        RangeCache(tmp_path, limit_bytes=-1)


def test_what_killed_processes_left_goes_and_what_is_being_written_stays(tmp_path: Path):
    cache = RangeCache(tmp_path, limit_bytes=10 * ENTRY)
    fill(cache, range(2))
    folder = next(tmp_path.glob("??"))
    old, new = folder / "a.1-00.tmp", folder / "b.2-00.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.make_room(ENTRY, set())
    assert not old.exists()
    assert new.exists()


WRITER = """
import sys
from pathlib import Path
from windows.reading.cache import RangeCache, RangeKey

cache = RangeCache(Path(sys.argv[1]), limit_bytes=20 * 40)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(300):
    number = turn % 37
    key = RangeKey("https://host/a.npy", 800, 8 * number, 8)
    found = cache.get(key)
    assert found in (None, number.to_bytes(8, "little")), found
    if found is None:
        assert cache.make_room(40, {key.name}) == 40
        cache.put(key, number.to_bytes(8, "little"))
"""


def test_two_processes_share_a_folder(tmp_path: Path):
    command = [sys.executable, "-W", "error", "-c", WRITER, tmp_path / "cache"]
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)
    ]
    for each in writers:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    ended = [each.communicate("go\n", timeout=60) for each in writers]
    assert [(out, err) for out, err in ended] == [("", "")] * 2
    cache = RangeCache(tmp_path / "cache", limit_bytes=20 * ENTRY)
    for number in range(37):
        assert cache.get(key(number)) in (None, data(number))
    assert cache.make_room(ENTRY, set()) == ENTRY
    assert len(list((tmp_path / "cache").glob("??/*"))) <= 20


def test_a_folder_that_cannot_be_is_named(tmp_path: Path, refused: Callable[..., str]):
    (tmp_path / "cache").write_text("a file")
    cache = RangeCache(tmp_path / "cache")
    line = refused(lambda: cache.put(key(1), data(1)), OSError)
    assert str(tmp_path / "cache") in line
