"""The data card of an exported mixture."""

from collections.abc import Mapping
from typing import Any

from windows.run import TokenizerFields
from windows.shards import Manifest

_CARD = """\
# {mixture}, arm seed {seed}

{tokens} tokens in {instances} training instances of {length} tokens, copied from the pre-training
data of run `{run}`. They are in the order in which an arm is to read them: block by block, one
window after another.

## How it was selected

{selection} Each block shuffles one window's instances by a hash of (seed, instance); a second pass
over the windows is shuffled anew. {repetition}

| window | label of {task} | strength | instances |
|---|---|---|---|
{windows}

## Decontamination

{decontamination}

## What it holds

{documents} documents per instance on average, cut ones included, of {document_length} tokens.

| source | share of the instances |
|---|---|
{sources}

## Files

- {shards}: token ids, headerless little-endian `{dtype}`; beside each the bounds of
  its documents, `.csv.gz` (`start,end,id,source,file,instance`).
- `manifest.json`: the shards with their SHA-256.
- `instances.parquet`: for every instance, in order, where it was read: window, batch, file, byte.
- `mixture.json`: what this page says, for programs. `rejects.jsonl`: what decontamination dropped.

In an artefact of the store, `SHA256SUMS` covers every one of them: `sha256sum -c SHA256SUMS`.

## Reading it with OLMo-core

From this folder. The type has to be given: OLMo-core would guess it from the vocabulary's size. The
paths have to be absolute, or it looks for the bounds in the root folder.

```python
from pathlib import Path

from olmo_core.data import NumpyDatasetDType, NumpyFSLDatasetConfig, TokenizerConfig

dataset = NumpyFSLDatasetConfig(
    paths=[str(Path(f"part-{{shard:05d}}.npy").resolve()) for shard in range({number})],
    dtype=NumpyDatasetDType.{dtype},
    sequence_length={length},
    tokenizer=TokenizerConfig(
        vocab_size={vocab_size}, eos_token_id={eos_id}, pad_token_id={pad_id}, bos_token_id={bos_id}
    ),
).build()
```

Its data loader shuffles instances; keep their order where it matters.
"""


def data_card(facts: Mapping[str, Any], tokenizer: TokenizerFields, manifest: Manifest) -> str:
    """Write the data card, Markdown.

    Parameters
    ----------
    facts
        What ``mixture.json`` holds.
    tokenizer
        The run's.
    manifest
        Of the exported shards.
    """
    found = facts["balance"]
    paths = [shard.path for shard in manifest.shards]
    return _CARD.format(
        mixture=facts["mixture"],
        seed=facts["seed"],
        run=facts["run"],
        task=facts["task"],
        tokens=f"{facts['tokens']:,}",
        instances=f"{facts['instances']:,}",
        length=manifest.sequence_length,
        selection=_selection(facts),
        repetition=_repetition(facts),
        windows="\n".join(_window_row(window) for window in facts["windows"]),
        decontamination=_decontamination(facts["decontamination"]),
        documents=f"{found['mean_documents']:.2f}",
        document_length=f"{found['mean_document_length']:.1f}",
        sources="\n".join(f"| {name} | {s:.4f} |" for name, s in found["source_shares"].items()),
        shards=f"`{paths[0]}`" if len(paths) == 1 else f"`{paths[0]}` ... `{paths[-1]}`",
        dtype=manifest.dtype,
        number=len(paths),
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        bos_id=tokenizer.bos_id,
    )


def _selection(facts: Mapping[str, Any]) -> str:
    rule, number = facts["select"], len(facts["windows"])
    if rule["by"] == "label":
        return (
            f"The {number} strongest windows labelled {rule['label']} (asked for:"
            f" {rule['windows']})."
        )
    if rule["by"] == "any":
        return f"All {number} windows, whatever their labels, in random order until the budget."
    return f"{number} windows chosen at random, whatever their labels, anew for every arm seed."


def _repetition(facts: Mapping[str, Any]) -> str:
    return (
        f"The budget is {facts['passes']:.2f} passes over the chosen windows; no instance occurs"
        f" more often than {facts['max_repetition']} (allowed: {facts['repetitions']})."
    )


def _window_row(window: Mapping[str, Any]) -> str:
    strength = "" if window["strength"] is None else f"{window['strength']:+.3f}"
    return f"| {window['window']} | {window['label']} | {strength} | {window['instances']:,} |"


def _decontamination(found: Mapping[str, Any]) -> str:
    what = (
        "the whole token sequence of an eval prompt occurs in it"
        if found["match"] == "prompt"
        else f"it shares {found['ngram']} tokens in a row with an eval prompt"
    )
    return (
        f"An instance is dropped where {what}. Of {found['prompts']:,} prompts"
        f" {found['findable_prompts']:,} could be found by this rule."
        f" {found['prompts_found']:,} were, in {found['rejected_instances']:,} instances"
        f" ({found['rejected_documents']:,} documents)."
    )
