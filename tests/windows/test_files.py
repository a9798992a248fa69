"""Atomic files: whole or absent, and every failure comes out."""

import errno
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from windows.files import atomic_path, remove, write_atomic

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_and_text_arrive_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "deep" / "a", "ä\n")
    write_atomic(tmp_path / "b", b"old")
    write_atomic(tmp_path / "b", b"new")
    assert (tmp_path / "new/deep/a").read_bytes() == "ä\n".encode()
    assert (tmp_path / "b").read_bytes() == b"new"
    assert names(tmp_path) == ["b", "new"] and names(tmp_path / "new/deep") == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_leaves_the_old_file_and_comes_out_unchanged(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(type(error)) as raised, atomic_path(target) as part:
        part.write_bytes(b"half")
        raise error
    assert raised.value is error
    assert target.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_failed_write_names_its_file(tmp_path: Path) -> None:
    """Python's own writes do not, and a worker's errors come home pickled."""
    for given, named in (((), str(tmp_path / "file")), (("elsewhere",), "elsewhere")):
        with pytest.raises(OSError) as caught, atomic_path(tmp_path / "file") as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device", *given)
        assert pickle.loads(pickle.dumps(caught.value)).filename == named


def test_the_sibling_says_that_it_is_temporary(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.npy") as part:
        assert part.parent == tmp_path and part.name.startswith("a.npy") and part.suffix == ".tmp"
        part.touch()
        with atomic_path(tmp_path / "a.npy") as other:
            assert other != part, "two writers of one file do not write into each other's"
            other.touch()


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with atomic_path(target) as part:
        (part / "deep").mkdir(parents=True)
        (part / "deep/weights").write_bytes(b"w")
        assert not target.exists()
    assert (target / "deep/weights").read_bytes() == b"w"
    with pytest.raises(OSError) as raised, atomic_path(target) as part:
        part.mkdir()
        (part / "other").touch()
    assert raised.value.errno in (errno.ENOTEMPTY, errno.EEXIST)
    assert names(tmp_path) == ["checkpoint"] and names(target) == ["deep"]


def test_a_body_that_makes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_remove_takes_files_folders_links_and_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a").touch()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()
    (tmp_path / "folder/deep").mkdir(parents=True)
    for name in ("link", "file", "folder", "absent"):
        remove(tmp_path / name)
    assert names(tmp_path) == ["kept"] and names(kept) == ["a"]


FULL = """
import errno, resource, signal, sys
from pathlib import Path
from windows.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), bytes(5000))
except OSError as error:
    sys.exit(0 if error.errno == errno.EFBIG else f"{error!r}")
sys.exit("no error")
"""


def test_a_write_beyond_the_limit_comes_out_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, target], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_full_disk_comes_out_and_leaves_room_again(small_disk: Path) -> None:
    with pytest.raises(OSError) as full:
        write_atomic(small_disk / "a", bytes(2_000_000))
    assert full.value.errno == errno.ENOSPC
    assert names(small_disk) == []
    write_atomic(small_disk / "a", bytes(900_000))
