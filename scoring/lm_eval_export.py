"""Tasks of the suite as tasks of lm-evaluation-harness: a YAML file, and its items as JSON lines.

Run there with ``lm_eval --include_path FOLDER --tasks NAME``, its ``acc`` is the hard score. Its
log-likelihoods are those of `scoring.engine.PrefixScorer` wherever an answer's boundary is
``joined``; where it is ``separate``, the harness cuts the joined encoding at the prompt's length.
Checked against lm-evaluation-harness 0.4.13.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from scoring.suite.registry import blocks as suite_blocks
from scoring.suite.schema import Block, Split
from scoring.suite.sets import PINNED, Sets
from windows.errors import ConfigError, DataError
from windows.files import write_atomic

TAG = "modehop"


def export_tasks(
    keys: Sequence[str],
    folder: Path,
    *,
    split: Split,
    demo_seeds: int,
    wordings: int | None = None,
    sets: Sets = PINNED,
) -> list[str]:
    """Write tasks of the suite as tasks of lm-evaluation-harness, each as `export_task` does.

    Nothing is written unless all of them can be.

    Parameters
    ----------
    keys
        ``family/name`` of each.
    folder
        Where to; what is there under these names is replaced.
    split, demo_seeds, wordings, sets
        As of `scoring.suite.registry.blocks`.

    Returns
    -------
    list of str
        The tasks' names in the harness, in the order of `keys`. All have the tag `TAG`.

    Raises
    ------
    ConfigError, DataError
        As `scoring.suite.registry.blocks` and `export_task` do.
    """
    made = [
        suite_blocks(key, split=split, demo_seeds=demo_seeds, wordings=wordings, sets=sets)
        for key in keys
    ]
    for each in made:
        _check(each)
    return [export_task(each, folder) for each in made]


def export_task(blocks: Sequence[Block], folder: Path) -> str:
    """Write the blocks of one task and split as a task of lm-evaluation-harness.

    Makes ``<name>.jsonl``, one line an item, and ``<name>.yaml``, which names it by its absolute
    path: the harness reads data relative to wherever it is started. The right answer stands last,
    so that a tie goes to the parrot there too.

    Parameters
    ----------
    blocks
        Blocks of one task and one split.
    folder
        Where to; what is there under this name is replaced.

    Returns
    -------
    str
        The task's name in the harness: ``modehop_<family>_<task>_<split>``.

    Raises
    ------
    ConfigError
        If there is no block, or they are of several tasks or splits.
    DataError
        If a prompt is empty or ends in a blank, which the harness would score as of the answer.
    """
    name = _name(blocks)
    _check(blocks)
    lines = [_line(block, index) for block in blocks for index in range(len(block.items))]
    data = folder.resolve() / f"{name}.jsonl"
    write_atomic(data, "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines))
    config = {
        "task": name,
        "tag": TAG,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "target",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0, "family": blocks[0].family, "split": blocks[0].split},
    }
    write_atomic(folder / f"{name}.yaml", yaml.safe_dump(config, sort_keys=False))
    return name


def _name(blocks: Sequence[Block]) -> str:
    found = sorted({(block.key, block.split) for block in blocks})
    if len(found) != 1:
        raise ConfigError(
            "an exported task is one task in one split",
            where="lm-eval export",
            got=", ".join(f"{key} {split}" for key, split in found) or "no block",
            do="export each by itself",
        )
    ((key, split),) = found
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{TAG}_{key}_{split}")


def _check(blocks: Sequence[Block]) -> None:
    for block in blocks:
        for item in block.items:
            prompt = block.prefix + item.prompt
            if prompt != prompt.rstrip() or not prompt:
                raise DataError(
                    "the harness would score the end of this prompt as a part of the answer",
                    where=f"{block.key}, item {item.item_id}",
                    got=repr(prompt[-20:]),
                    do="end prompts with a sign that is seen, and begin answers with the blank",
                )


def _line(block: Block, index: int) -> dict[str, object]:
    item = block.items[index]
    prompt = block.prefix + item.prompt
    return {
        "item_id": item.item_id,
        "wording": block.wording,
        "demo_seed": block.demo_seed,
        "prompt": prompt,
        "choices": [*item.rivals, item.right],
        "target": len(item.rivals),
    }
