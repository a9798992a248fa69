"""Build the order of a run of OLMo 3's size, and ask it questions, beside numpy's own shuffle.

    python tests/bench/order.py --out DIR [--instances 724007936] [--rounds 1]

Every figure is of a process of its own: wall time, and peak resident memory as the kernel counts
it. The peer shuffles the same ids with `numpy.random.Generator.shuffle`, writes them with `tofile`
and waits for the disk; the cache does that, hashes what it wrote, and writes its record.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace as replace_fields
from pathlib import Path

import numpy as np
from results import measured_by, replace

from windows.layout import Layout
from windows.order import DataOrder
from windows.order_cache import OrderCache
from windows.permutation import Kept
from windows.progress import Reporter

SEED, LENGTH, BATCH = 34521, 8192, 1024
STEPS = 1000


def order(instances: int) -> DataOrder:
    """Return the order of one file with that many instances."""
    return DataOrder.from_sizes(
        [instances * LENGTH * 4], sequence_length=LENGTH, batch_tokens=BATCH * LENGTH, seed=SEED
    )


def cache(out: Path) -> OrderCache:
    """Return a cache that keeps an order of any size."""
    return OrderCache(out / "orders", Reporter(quiet=True), kept_from=1)


def peer(out: Path, instances: int) -> dict:
    """Shuffle and write with numpy alone."""
    ids = np.arange(instances, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(SEED + 1)).shuffle(ids)
    with (out / "peer.u32").open("wb") as file:
        ids.tofile(file)
        file.flush()
        os.fsync(file.fileno())
    return {}


def build(out: Path, instances: int) -> dict:
    """Keep the order."""
    cache(out).kept(order(instances))
    return {}


def invert(out: Path, instances: int) -> dict:
    """Keep the inverse as well."""
    cache(out).kept(order(instances), inverse=True)
    return {}


def same(out: Path, instances: int) -> dict:
    """Compare the two files, byte for byte."""
    kept = cache(out).kept(order(instances)).kept
    ours, theirs = (np.memmap(path, "<u4", "r") for path in (kept.order, out / "peer.u32"))
    step = 1 << 24
    equal = all(
        (ours[i : i + step] == theirs[i : i + step]).all() for i in range(0, instances, step)
    )
    return {"equal": bool(equal), "bytes": kept.order.stat().st_size}


def ask(out: Path, instances: int) -> dict:
    """Ask for windows and for instances, cached pages warm after the first."""
    whole = cache(out).kept(order(instances))
    scan = replace_fields(whole, kept=Kept(whole.kept.order))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, whole.num_batches - STEPS, 21).tolist()
    some = rng.integers(0, instances, 1000)
    windows = [timed(lambda s=start: whole.instances(s, s + STEPS)) for start in starts]
    again = [timed(lambda s=start: whole.instances(s, s + STEPS)) for start in starts]
    layout = Layout(whole.file_bytes, whole.instance_bytes)
    ids = whole.instances(starts[0], starts[0] + STEPS).astype(np.int64)
    locate = [timed(lambda: layout.locate(ids)) for _ in range(5)]
    by_scan = [timed(lambda: scan.batch_of(some)) for _ in range(3)]
    by_inverse = [timed(lambda: whole.batch_of(some)) for _ in range(3)]
    assert (scan.batch_of(some) == whole.batch_of(some)).all()
    return {
        "window cold": statistics.median(windows),
        "window": statistics.median(again),
        "locate": statistics.median(locate),
        "scan": statistics.median(by_scan),
        "inverse": statistics.median(by_inverse),
    }


def timed(call: object) -> float:
    """Return the seconds a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


PARTS = {each.__name__: each for each in (peer, build, invert, same, ask)}


def apart(name: str, options: argparse.Namespace) -> dict:
    """Run one part in a process of its own; add its wall time and peak memory."""
    command = [sys.executable, __file__, "--out", str(options.out)]
    command += ["--instances", str(options.instances), "--part", name]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    found = json.loads(text)
    print(name, found, f"{time.perf_counter() - started:.1f} s", flush=True)
    return {**found, "wall": time.perf_counter() - started, "peak": usage.ru_maxrss * 1024}


def report(instances: int, rounds: list[dict[str, dict]]) -> str:
    """Lay out the figures, each beside numpy's own where there is one."""
    ratios = [each["build"]["wall"] / each["peer"]["wall"] for each in rounds]
    last = rounds[-1]
    gb = 1e9

    def line(what: str, part: str, ratio: str) -> str:
        walls = ", ".join(f"{each[part]['wall']:.1f}" for each in rounds)
        return f"| {what} | {walls} | {last[part]['peak'] / gb:.2f} | {ratio} |"

    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    asked = last["ask"]
    return "\n".join(
        [
            f"## The order of {instances:,} instances\n",
            measured_by("order.py") + f" numpy {np.__version__}; files equal byte for byte:"
            f" {last['same']['equal']} ({last['same']['bytes']:,} bytes).\n",
            "| | wall s | peak GB | ratio to numpy |",
            "| --- | --- | --- | --- |",
            line("numpy: arange, shuffle, tofile, fsync", "peer", "1"),
            line("the order kept: the same, hashed, recorded", "build", shown),
            line("its inverse kept as well", "invert", "-"),
            "",
            f"From the kept order, {STEPS:,}-step window ({STEPS * BATCH:,} ids): "
            f"{asked['window cold'] * 1e3:.1f} ms at first, {asked['window'] * 1e3:.1f} ms again;"
            f" files and offsets of its ids {asked['locate'] * 1e3:.0f} ms. `batch_of` for 1,000"
            f" ids: {asked['scan']:.2f} s by one pass, {asked['inverse'] * 1e3:.1f} ms by the"
            " inverse.",
        ]
    )


def main() -> None:
    """Measure, or be one of the parts that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--instances", type=int, default=724_007_936)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part", choices=PARTS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.out, options.instances)))
        return
    rounds = []
    for _ in range(options.rounds):
        shutil.rmtree(options.out, ignore_errors=True)
        options.out.mkdir(parents=True)
        rounds.append({name: apart(name, options) for name in PARTS})
    replace("order", report(options.instances, rounds))


if __name__ == "__main__":
    main()
