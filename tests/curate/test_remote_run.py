"""A run whose files lie on a server that fails: asked by HEAD, read in ranges, and kept."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from curate.cli import main
from windows.order_cache import CACHE_VARIABLE
from windows.permutation import shuffled
from windows.planted_documents import write_tokenizer

SERVER = Path(__file__).parents[1] / "windows" / "reading" / "server.py"
LENGTH, BATCH, EOS = 8, 4, 1
SIZES = {"web/0.npy": 331, "web/1.npy": 90, "wiki/0.npy": 165}


def load_server() -> Any:
    spec = importlib.util.spec_from_file_location("faulty_server", SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    served = tmp_path / "served"
    start = 0
    for name, size in SIZES.items():
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        tokens = (2 + np.arange(start, start + size) % 120).astype("<u4")
        tokens[6::7] = EOS
        tokens.tofile(served / name)
        start += size
    lines = [f"{name.split('/')[0]},{name}" for name in SIZES]
    (served / "mix.txt").write_text("\n".join(lines) + "\n")
    with load_server().FaultyServer(served) as running:
        write_run(tmp_path, running.url)
        yield running


def write_run(folder: Path, url: str) -> None:
    run = {
        "name": "far",
        "sequence_length": LENGTH,
        "seed": 7,
        "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH}],
        "tokenizer": {"vocab_size": 127, "eos_id": EOS, "pad_id": 0},
        "windows": {"every": 5},
        "mix": {"name": "toy", "base": url, "tokenizer": "x", "list": f"{url}/mix.txt"},
    }
    (folder / "far.yaml").write_text(yaml.safe_dump(run))


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_a_window_is_read_back_exactly_whatever_the_server_does(
    capsys: pytest.CaptureFixture[str], server: Any, tmp_path: Path
) -> None:
    assert ask(capsys, "windows", "./far.yaml", "--dry-run")["sizes_to_ask_for"] == 3
    assert [each.method for each in server.requests] == ["GET"]
    found = ask(capsys, "windows", "./far.yaml")
    instances = sum(size // LENGTH for size in SIZES.values())
    assert found["instances"] == instances
    # Every file once by HEAD, the list once; then both are known.
    asked = len(server.requests)
    assert ask(capsys, "windows", "./far.yaml") == found
    assert len(server.requests) == asked
    # No tokenizer is here: nothing is shown as text, and the line says what to do.
    assert main(["what", "./far.yaml", "--steps", "0:5", "--sample", "4", "--quiet"]) == 2
    assert "name text_tokenizer in the run file" in capsys.readouterr().err
    arguments = sampled(tmp_path, 20)
    dry = ask(capsys, *arguments, "--dry-run")["cost"]
    server.fail("status", 500, times=2)
    server.fail("reset", 9, times=2)
    server.fail("cut", 5)
    read = ask(capsys, *arguments)
    assert dry["instances"] == 20 == dry["cached"] + dry["requests"]
    order = shuffled(instances, 8)[: 5 * BATCH]
    stream = {name: np.fromfile(tmp_path / "served" / name, "<u4") for name in SIZES}
    assert sorted(each["instance"] for each in read["documents"]) == sorted(order.tolist())
    for each in read["documents"]:
        name = each["path"].removeprefix(f"{server.url}/")
        tokens = stream[name][each["first_token"] :][: each["end"] - each["start"]]
        shown = " ".join(each["text"].split())
        assert len(tokens) == each["end"] - each["start"]
        assert shown
    again = ask(capsys, *arguments)
    assert again == read
    assert ask(capsys, *arguments, "--dry-run")["cost"]["requests"] == 0


def test_what_a_server_lacks_is_one_line(capsys: pytest.CaptureFixture[str], server: Any) -> None:
    (Path("served") / "web/1.npy").unlink()
    assert main(["windows", "./far.yaml", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "web/1.npy" in err


def test_a_whole_window_is_not_fetched_by_accident(
    capsys: pytest.CaptureFixture[str], server: Any
) -> None:
    arguments = ["what", "./far.yaml", "--steps", "0:5", "--sample", "20", "--quiet"]
    assert main([*arguments, "--max-remote-bytes", "100"]) == 2
    err = capsys.readouterr().err
    assert "640 bytes in 20 requests" in err
    assert "raise max_remote_bytes" in err
    assert not any(span for _, span in server.ranges())


def test_a_damaged_entry_of_the_cache_is_named_and_put_away(
    capsys: pytest.CaptureFixture[str], server: Any, tmp_path: Path
) -> None:
    arguments = sampled(tmp_path, 6)
    read = ask(capsys, *arguments)
    entries = [path for path in (tmp_path / "cache" / "instances").rglob("*") if path.is_file()]
    entry = max(entries, key=lambda path: path.stat().st_size)
    data = bytearray(entry.read_bytes())
    data[3] ^= 1
    entry.write_bytes(data)
    assert main([*arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(entry) in err
    assert ask(capsys, *arguments) == read


def sampled(folder: Path, count: int) -> list[str]:
    """Ask for a sample, with a tokenizer to show it."""
    (folder / "tokenizer").mkdir()
    write_tokenizer(folder / "tokenizer")
    tokenizer = ["--set", "text_tokenizer=./tokenizer"]
    return ["what", "./far.yaml", "--steps", "0:5", "--sample", str(count), *tokenizer]


def test_a_full_disk_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], server: Any, tmp_path: Path
) -> None:
    arguments = sampled(tmp_path, 20)
    ask(capsys, "windows", "./far.yaml")
    cache = tmp_path / "cache" / "instances"
    cache.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(cache)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted, which root can: {done.stderr.strip()}")
    try:
        assert main([*arguments, "--quiet"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "No space left on device" in err
        assert [path for path in cache.rglob("*.tmp") if path.is_file()] == []
    finally:
        subprocess.run(["umount", str(cache)], check=True)
    assert len(ask(capsys, *arguments)["documents"]) == 20
