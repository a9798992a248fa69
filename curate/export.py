"""Export one mixture for one arm seed: token shards, their provenance, and what they hold.

Everything outside ``logs/`` is a function of the job, to the byte. The folder then holds the token
shards of :mod:`windows.shards` and

- ``mixture.json``: the windows, the counts, decontamination, and the balance of the mixture;
- ``rejects.jsonl``: the instances that decontamination dropped;
- ``README.md``: the data card.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.data_card import data_card
from curate.decontamination import PromptIndex
from curate.mixture import choose_windows, draw
from curate.settings import MixtureSection
from windows.errors import ConfigError, DataError
from windows.files import write_atomic
from windows.identity import hash_file
from windows.order import DataOrder
from windows.run import DataFile, RunConfig, Window
from windows.shards import INSTANCES, MANIFEST, data_files, read_manifest
from windows.tokens import TokenFiles

MIXTURE = "mixture.json"
REJECTS = "rejects.jsonl"
CARD = "README.md"
LOGS = "logs"

SCHEMA = 1

# 1 GiB of uint32.
SHARD_TOKENS = 2**28

# Decimals of the numbers in mixture.json.
_DECIMALS = 6

# Tokens looked at together when documents are counted.
_COUNTED = 2**24


@dataclass(frozen=True)
class ExportJob:
    """One mixture for one arm seed. Small, and safe to send to a worker.

    Attributes
    ----------
    name, mixture, seed
        The mixture's name and recipe, and the arm seed.
    run
        The run it is drawn from.
    data
        Folder of the run's token files with their ``manifest.json``.
    windows
        The study's windows.
    labels, task
        Parquet file of labels, and the task whose labels count.
    prompts
        Token ids of the eval prompts: a JSON file of lists of integers, or the lists themselves.
    shard_tokens
        A shard is closed before it would grow beyond this.
    """

    name: str
    mixture: MixtureSection
    seed: int
    run: RunConfig
    data: Path
    windows: tuple[Window, ...]
    labels: Path
    task: str
    prompts: Path | tuple[tuple[int, ...], ...]
    shard_tokens: int = SHARD_TOKENS


def export_mixture(job: ExportJob, folder: Path) -> None:
    """Write a mixture's shards, provenance, counts and data card into a folder.

    Parameters
    ----------
    job
        What to export.
    folder
        Made if needed; files of an earlier attempt are replaced.

    Raises
    ------
    CheckFailed
        No window carries the label that the mixture selects by.
    ConfigError
        The budget is no whole number of instances, or decontamination could not find anything.
    DataError
        The windows hold too few tokens, or labels, prompts or token files are not what they should
        be.
    """
    _check_budget(job)
    labels = _read_labels(job)
    windows = choose_windows(labels, job.mixture.select, seed=job.seed, name=job.name)
    files = data_files(job.data)
    tokens = TokenFiles(
        [Path(file.path) for file in files],
        sequence_length=job.run.sequence_length,
        token_bytes=job.run.token_bytes,
        expected_bytes=[file.bytes for file in files],
    )
    order = job.run.order(tokens.sizes)
    index = PromptIndex(_read_prompts(job.prompts), job.mixture.decontamination)
    _check_findable(job, index)
    folder.mkdir(parents=True, exist_ok=True)
    pool = _instances_of(job.windows, order, windows)
    drawn = draw(windows, pool, seed=job.seed, repetitions=job.mixture.repetitions)
    _run_steps(job, folder, tokens, order, index, drawn, labels)
    chosen = labels.join(pl.DataFrame({"window": windows}), on="window", maintain_order="right")
    facts = _facts(job, folder, chosen, sum(len(ids) for _, ids in pool.values()))
    facts |= {
        "decontamination": _decontamination(job, folder, index),
        "balance": _balance(folder, job.data, files),
    }
    write_atomic(folder / MIXTURE, json.dumps(facts, indent=2) + "\n")
    write_atomic(folder / CARD, data_card(facts, job.run.tokenizer, read_manifest(folder)))


def balance(folders: Sequence[Path]) -> pl.DataFrame:
    """Compare exported mixtures.

    Parameters
    ----------
    folders
        Of exported mixtures.

    Returns
    -------
    polars.DataFrame
        One row per folder, in their order: `mixture` str; `seed`, `tokens`, `instances`,
        `distinct_instances`, `windows`, `max_repetition`, `rejected_instances` i64; `passes`,
        `mean_documents`, `mean_document_length` f64; and `share of <source>` f64 for every source
        of any of them.

    Raises
    ------
    DataError
        A folder holds no exported mixture.
    """
    facts = [read_mixture(folder) for folder in folders]
    sources = sorted({source for fact in facts for source in fact["balance"]["source_shares"]})
    return pl.DataFrame([_balance_row(fact, sources) for fact in facts], infer_schema_length=None)


def read_mixture(folder: Path) -> dict[str, Any]:
    """Read ``mixture.json`` of an exported mixture.

    Raises
    ------
    DataError
        It is absent, or not of this version.
    """
    path = folder / MIXTURE
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            "no exported mixture", where=str(path), got=_line(error), do="export it first"
        ) from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise DataError(
            f"not an exported mixture of schema {SCHEMA}", where=str(path), do="export it again"
        )
    return facts


def _run_steps(
    job: ExportJob,
    folder: Path,
    tokens: TokenFiles,
    order: DataOrder,
    index: PromptIndex,
    drawn: pl.DataFrame,
    labels: pl.DataFrame,
) -> None:
    # Importing datatrove replaces an application's log handlers: only where a pipeline really runs.
    from curate import pipeline

    source = pipeline.InstanceSource(job.run, tokens, order)
    logs = folder / LOGS / "datatrove"
    shutil.rmtree(logs, ignore_errors=True)
    steps = [
        pipeline.InstanceReader(source, drawn),
        pipeline.Decontaminate(source, index, folder / REJECTS),
        pipeline.TokenCopyWriter(
            source,
            folder,
            dict(labels.select("window", "label").iter_rows()),
            tokens=job.mixture.tokens,
            shard_tokens=job.shard_tokens,
            where=f"mixtures.{job.name}.tokens",
        ),
    ]
    pipeline.InProcessExecutor(steps, logs).run()


def _check_budget(job: ExportJob) -> None:
    length, tokens = job.run.sequence_length, job.mixture.tokens
    if tokens % length:
        below = tokens - tokens % length
        raise ConfigError(
            f"the budget is no whole number of instances of {length} tokens",
            where=f"mixtures.{job.name}.tokens",
            got=str(tokens),
            do=f"use {below} or {below + length}" if below else f"use {length}",
        )


def _check_findable(job: ExportJob, index: PromptIndex) -> None:
    rule = job.mixture.decontamination
    if index.prompts and not index.findable(job.run.sequence_length):
        raise ConfigError(
            "decontamination could not find any eval prompt",
            where=f"mixtures.{job.name}.decontamination",
            got=f"match {rule.match}"
            + (f" with ngram {rule.ngram}" if rule.match == "ngram" else "")
            + f", for instances of {job.run.sequence_length} tokens",
            do="use match: prompt where prompts are short, a smaller ngram where they are long",
        )


def _read_labels(job: ExportJob) -> pl.DataFrame:
    wanted = ["window", "task", "label", "first_batch", "strength"]
    try:
        table = pl.read_parquet(job.labels, columns=wanted).filter(pl.col("task") == job.task)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            "labels cannot be read", where=str(job.labels), got=_line(error), do="label again"
        ) from error
    if odd := {window.name for window in job.windows} ^ set(table["window"]):
        raise DataError(
            f"the labels of {job.task} are not those of the study's windows",
            where=str(job.labels),
            got=f"{len(table)} labels, {len(job.windows)} windows, first apart {min(odd)}",
            do="label the study's windows again",
        )
    return table


def _read_prompts(prompts: Path | tuple[tuple[int, ...], ...]) -> Sequence[Sequence[int]]:
    if not isinstance(prompts, Path):
        return prompts
    try:
        found = json.loads(prompts.read_bytes())
        return [[int(token) for token in prompt] for prompt in found]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            "eval prompts cannot be read",
            where=str(prompts),
            got=_line(error),
            do="write a JSON list of lists of token ids",
        ) from error


def _line(error: Exception) -> str:
    # polars appends the query plan.
    return (str(error).splitlines() or [type(error).__name__])[0]


def _instances_of(
    windows: Sequence[Window], order: DataOrder, chosen: Sequence[str]
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]]:
    by_name = {window.name: window for window in windows}
    return {name: _batches_and_instances(by_name[name], order) for name in chosen}


def _batches_and_instances(
    window: Window, order: DataOrder
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    batches = np.arange(window.first_batch, window.end_batch)
    spans = [order.positions(int(batch), int(batch) + 1) for batch in batches]
    instances = order.instances(window.first_batch, window.end_batch)
    return np.repeat(batches, [end - start for start, end in spans]), instances


def _facts(job: ExportJob, folder: Path, chosen: pl.DataFrame, pool: int) -> dict[str, Any]:
    rows = pl.read_parquet(folder / INSTANCES, columns=["window", "instance"])
    repetitions = rows["instance"].value_counts()["count"].to_numpy()
    taken = dict(rows["window"].value_counts().iter_rows())
    return {
        "schema": SCHEMA,
        "mixture": job.name,
        "seed": job.seed,
        "run": job.run.name,
        "data_manifest_sha256": hash_file(job.data / MANIFEST),
        "task": job.task,
        "select": job.mixture.select.model_dump(mode="json"),
        "repetitions": job.mixture.repetitions,
        "windows": [
            {
                "window": name,
                "label": label,
                "strength": _finite(strength),
                "instances": taken.get(name, 0),
            }
            for name, label, strength in chosen.select("window", "label", "strength").iter_rows()
        ],
        "tokens": len(rows) * job.run.sequence_length,
        "instances": len(rows),
        "distinct_instances": len(repetitions),
        "max_repetition": int(repetitions.max()),
        "passes": round(len(rows) / pool, _DECIMALS),
    }


def _finite(strength: float | None) -> float | None:
    if strength is None or not math.isfinite(strength):
        return None
    return round(strength, _DECIMALS)


def _decontamination(job: ExportJob, folder: Path, index: PromptIndex) -> dict[str, Any]:
    lines = (folder / REJECTS).read_text(encoding="utf-8").splitlines()
    rejects = [json.loads(line) for line in lines]
    rule = job.mixture.decontamination
    return {
        "match": rule.match,
        "ngram": rule.ngram if rule.match == "ngram" else None,
        "prompts": index.prompts,
        "findable_prompts": index.findable(job.run.sequence_length),
        "rejected_instances": len(rejects),
        "rejected_documents": sum(reject["documents"] for reject in rejects),
        "prompts_found": len({reject["prompt"] for reject in rejects}),
    }


def _balance(folder: Path, data: Path, files: Sequence[DataFile]) -> dict[str, Any]:
    """Describe the exported tokens, from what lies on the disk."""
    from curate.pipeline import count_documents

    manifest = read_manifest(folder)
    documents = instances = 0
    for shard in manifest.shards:
        stored = np.memmap(folder / shard.path, dtype=f"<u{manifest.token_bytes}", mode="r")
        rows = np.asarray(stored).reshape(-1, manifest.sequence_length)
        instances += len(rows)
        for part in np.array_split(rows, 1 + rows.size // _COUNTED):
            documents += int(count_documents(part, manifest.eos_id).sum())
    table = pl.read_parquet(folder / INSTANCES, columns=["file"])
    counts = dict(table["file"].value_counts().iter_rows())
    paths = [Path(file.path).relative_to(data).as_posix() for file in files]
    return {
        "mean_documents": round(documents / instances, _DECIMALS),
        "mean_document_length": round(instances * manifest.sequence_length / documents, _DECIMALS),
        "source_shares": _shares([file.source for file in files], counts, instances),
        "file_shares": _shares(paths, counts, instances),
    }


def _shares(names: Sequence[str], counts: Mapping[int, int], total: int) -> dict[str, float]:
    sums = dict.fromkeys(sorted(set(names)), 0)
    for number, name in enumerate(names):
        sums[name] += counts.get(number, 0)
    return {name: round(count / total, _DECIMALS) for name, count in sums.items()}


def _balance_row(facts: Mapping[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    found = facts["balance"]
    shares = {f"share of {source}": found["source_shares"].get(source, 0.0) for source in sources}
    return {
        "mixture": facts["mixture"],
        "seed": facts["seed"],
        "tokens": facts["tokens"],
        "instances": facts["instances"],
        "distinct_instances": facts["distinct_instances"],
        "windows": len(facts["windows"]),
        "max_repetition": facts["max_repetition"],
        "rejected_instances": facts["decontamination"]["rejected_instances"],
        "passes": facts["passes"],
        "mean_documents": found["mean_documents"],
        "mean_document_length": found["mean_document_length"],
        **shares,
    }
