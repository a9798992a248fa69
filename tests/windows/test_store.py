"""The store: identity, reuse, what an artefact may hold, and what checking one finds."""

import contextlib
import errno
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from windows.errors import ConfigError, StoreError
from windows.files import write_atomic
from windows.store import Artefact, Recipe, Store, verify

CONFIG = {"seed": 1, "windows": {"every": 16}}


def recipe(**changes: Any) -> Recipe:
    return replace(Recipe("scores", "tiny", 1, {"seed": 1}), **changes)


def write(files: dict[str, bytes]) -> Callable[[Path], None]:
    def make(part: Path) -> None:
        for name, data in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(data)

    return make


def refuse(part: Path) -> None:
    raise AssertionError("an artefact that is there is not made again")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


@pytest.fixture
def built(store: Store) -> Artefact:
    payload = {"a.bin": b"alpha", "deep/b.bin": b"beta", "logs/times.txt": b"9 s"}
    return store.build(recipe(), write(payload), config=CONFIG)[0]


def test_an_artefact_is_where_the_layout_says_and_complete(store: Store, built: Artefact) -> None:
    assert built.path == store.root / "scores" / f"tiny-{built.id[:12]}"
    assert sorted(path.name for path in built.path.parent.iterdir()) == [built.path.name]
    assert (built.path / "config.yaml").read_text() == "seed: 1\nwindows:\n  every: 16\n"
    assert store.list() == [built] and store.open(built.path) == built
    assert verify(built.path) == []


def test_coreutils_checks_the_sums(built: Artefact) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=built.path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    names = [line[66:] for line in (built.path / "SHA256SUMS").read_text().splitlines()]
    assert names == ["a.bin", "config.yaml", "deep/b.bin"]


def test_the_same_recipe_is_reused_without_making(store: Store, built: Artefact) -> None:
    assert store.build(recipe(), refuse, config=CONFIG) == (built, True)
    assert store.find(recipe()) == built


def test_a_label_bears_no_identity(store: Store, built: Artefact) -> None:
    assert store.build(recipe(label="renamed"), refuse, config=CONFIG) == (built, True)


@pytest.mark.parametrize(
    "other",
    [
        recipe(kind="labels"),
        recipe(version=2),
        recipe(parameters={"seed": 2}),
        recipe(parameters={"seed": 1.0}),
        recipe(parameters={"seed": 1, "more": None}),
    ],
)
def test_what_bears_identity_does(store: Store, built: Artefact, other: Recipe) -> None:
    assert store.identify(other) != built.id
    assert store.find(other) is None


def test_a_parents_content_bears_identity_its_id_does_not(store: Store, built: Artefact) -> None:
    child = recipe(kind="labels", parents=(built,))
    same_content = replace(built, id="0" * 64, label="elsewhere")
    other_content = replace(built, content="0" * 64)
    assert store.identify(child) == store.identify(replace(child, parents=(same_content,)))
    assert store.identify(child) != store.identify(replace(child, parents=(other_content,)))
    made, _ = store.build(child, write({"c": b"c"}), config=CONFIG)
    assert made.parents == (built.id,)


def test_an_attempt_resumes_where_the_one_before_it_failed(store: Store) -> None:
    def fail(part: Path) -> None:
        (part / "first").write_bytes(b"1")
        (part / "second.tmp").write_bytes(b"half")
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        store.build(recipe(), fail, config=CONFIG)
    assert store.list() == [] and store.find(recipe()) is None

    seen = []

    def resume(part: Path) -> None:
        seen.extend(sorted(path.name for path in part.iterdir()))
        (part / "second").write_bytes(b"2")

    artefact, reused = store.build(recipe(), resume, config=CONFIG)
    assert seen == ["first"] and not reused
    assert verify(artefact.path) == []


def test_logs_and_record_are_outside_the_content(tmp_path: Path) -> None:
    contents = {
        Store(tmp_path / name)
        .build(recipe(), write({"a": b"1", "logs/x": name.encode()}), config=CONFIG)[0]
        .content
        for name in ("here", "there")
    }
    assert len(contents) == 1


def test_the_record_says_who_made_it_from_what(built: Artefact) -> None:
    record = json.loads((built.path / "record.json").read_text())
    assert record["parameters"] == {"seed": 1} and record["content"] == built.content
    assert {"created", "host", "argv", "python", "packages", "commit"} <= set(record)


def damage_flip(path: Path) -> None:
    (path / "deep/b.bin").write_bytes(b"betb")


def damage_remove(path: Path) -> None:
    (path / "a.bin").unlink()


def damage_add(path: Path) -> None:
    (path / "deep/new").write_bytes(b"")


def damage_config(path: Path) -> None:
    (path / "config.yaml").write_text("seed: 2\n")


def damage_parameters(path: Path) -> None:
    record = path / "record.json"
    record.write_text(record.read_text().replace('"seed": 1', '"seed": 2'))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (damage_flip, "changed: deep/b.bin"),
        (damage_remove, "missing: a.bin"),
        (damage_add, "added: deep/new"),
        (damage_config, "changed: config.yaml"),
        (damage_parameters, "the id in record.json is not that of its parameters"),
    ],
)
def test_verify_finds(built: Artefact, damage: Callable[[Path], None], fault: str) -> None:
    damage(built.path)
    faults = verify(built.path)
    assert len(faults) == 1 and fault in faults[0]


def test_verify_finds_sums_that_were_made_to_fit(store: Store, built: Artefact) -> None:
    damage_flip(built.path)
    subprocess.run(
        "sha256sum a.bin config.yaml deep/b.bin > SHA256SUMS", shell=True, cwd=built.path
    )
    assert verify(built.path) == ["changed: SHA256SUMS is not the one that record.json states"]
    with pytest.raises(StoreError, match="the checksums are not"):
        store.find(recipe())


def test_a_folder_without_a_record_does_not_exist(store: Store, built: Artefact) -> None:
    (built.path / "record.json").unlink()
    assert store.list() == [] and store.find(recipe()) is None
    assert "there is no record.json" in verify(built.path)[0]
    with pytest.raises(StoreError, match=r"there is no record\.json"):
        store.open(built.path)
    again, reused = store.build(recipe(), write({"a.bin": b"new"}), config=CONFIG)
    assert not reused and verify(again.path) == [] and not (again.path / "deep").exists()


def leave_tmp(part: Path) -> None:
    (part / "x.tmp").write_bytes(b"")


def leave_link(part: Path) -> None:
    (part / "link").symlink_to("/etc/hostname")


def leave_folder_link(part: Path) -> None:
    (part / "link").symlink_to("/etc")


def leave_newline(part: Path) -> None:
    (part / "a\nb").write_bytes(b"")


def leave_record(part: Path) -> None:
    (part / "record.json").write_bytes(b"{}")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (leave_tmp, "temporary file"),
        (leave_link, "its own bytes"),
        (leave_folder_link, "its own bytes"),
        (leave_newline, "SHA256SUMS cannot state"),
        (leave_record, "the store's own"),
    ],
)
def test_what_an_artefact_cannot_hold(
    store: Store, make: Callable[[Path], None], fault: str
) -> None:
    with pytest.raises(StoreError, match=fault):
        store.build(recipe(), make, config=CONFIG)
    assert store.list() == []


@pytest.mark.parametrize("label", ["", "a/b", "../x", ".hidden", "x.part", "x.tmp", "y" * 101])
def test_a_label_is_part_of_a_folders_name(store: Store, label: str) -> None:
    with pytest.raises(ConfigError, match="not a label"):
        store.build(recipe(label=label), refuse, config=CONFIG)


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": Path("/a")}, {1: "x"}, {"x": {1, 2}}])
def test_nothing_unstable_is_hashed(store: Store, bad: Any) -> None:
    with pytest.raises(ConfigError, match="parameters"):
        store.build(recipe(parameters=bad), refuse, config=CONFIG)
    with pytest.raises(ConfigError, match="config"):
        store.build(recipe(), refuse, config=bad)
    assert not store.root.exists()


def test_a_damaged_record_is_refused_in_one_line(store: Store, built: Artefact) -> None:
    (built.path / "record.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        store.find(recipe())


def test_a_full_disk_comes_out_unchanged_and_leaves_no_record(small_disk: Path) -> None:
    store = Store(small_disk / "out")

    def fill(part: Path) -> None:
        write_atomic(part / "small", b"kept for the next attempt")
        write_atomic(part / "large", bytes(2_000_000))

    with pytest.raises(OSError) as full:
        store.build(recipe(), fill, config=CONFIG)
    assert full.value.errno == errno.ENOSPC and type(full.value) is OSError
    assert store.list() == []
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["small"]


def test_a_disk_that_fills_while_the_record_is_written_leaves_no_artefact(small_disk: Path) -> None:
    store = Store(small_disk / "out")

    def fill(part: Path) -> None:
        with (part / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    with pytest.raises(OSError) as full:
        store.build(recipe(), fill, config=CONFIG)
    assert full.value.errno == errno.ENOSPC
    assert store.list() == []
    artefact, _ = store.build(recipe(), lambda part: (part / "ballast").unlink(), config=CONFIG)
    assert verify(artefact.path) == []
