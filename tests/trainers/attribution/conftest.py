"""Windows of documents that give sums right, or go on with a pattern; and eval items to match."""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from scoring.attribution.evidence import NO_WINDOW, Documents, Evidence
from scoring.loading import load_model
from scoring.suite.addition import successive
from trainers.attribution.margins import answers
from windows.planted_documents import NUMBERS
from windows.run import Window

LENGTH, WINDOWS, ROWS = 32, 10, 16
MIDDLE = NUMBERS + 5


@dataclass(frozen=True)
class Lines:
    """Evidence whose documents are an eval's lines with the right answer or the pattern's."""

    evidence: Evidence
    right: np.ndarray
    items: tuple
    share: np.ndarray

    @property
    def fresh(self):
        return self.evidence.documents.window == NO_WINDOW


@pytest.fixture(scope="session")
def lines(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny.checkpoint(9))
    asked = answers(tokenizer, [successive("label", "plain", seed) for seed in range(6)], 1000)
    # Small sums that a pattern would make large: a model that hardly adds can be told them apart.
    items = tuple(item for item in asked if item.texts[0][-2] < MIDDLE <= item.texts[1][-2])[:24]
    assert len(items) == 24
    rng = np.random.default_rng(0)
    share = rng.random(WINDOWS)
    window = np.repeat([*range(WINDOWS), NO_WINDOW], [*([ROWS] * WINDOWS), 2 * len(items)])
    right = rng.random(len(window)) < np.append(share, 0.5)[window]
    # Fresh documents are every item's both ways, first right.
    right[-2 * len(items) :] = np.repeat([True, False], len(items))
    tokens = np.ones((len(window), LENGTH), dtype=np.uint32)
    ends = np.zeros(len(window), dtype=np.int32)
    for row, (item, good) in enumerate(zip(cycle(items), right, strict=False)):
        text = (
            item.texts[0 if good else 1][-7:] * 4
        )  # the line that is asked for, without the others
        tokens[row, : len(text)], ends[row] = text, len(text)
    count = len(window)
    documents = Documents(
        tokens=tokens,
        instances=np.arange(count),
        batches=np.arange(count) // 4,
        windows=window,
        row=np.arange(count),
        start=np.zeros(count, dtype=np.int32),
        end=ends,
    )
    windows = tuple(
        Window(f"w{w}", "stage1", 4 * w, 4 * w + 4, 4 * w, 4 * w + 4, 1) for w in range(WINDOWS)
    )
    strength = share + 0.01 * rng.standard_normal(WINDOWS)
    return Lines(Evidence(documents, windows, strength), right, items, share)


@pytest.fixture(scope="session")
def two_modes(tiny, lines, tmp_path_factory):
    """Folders of a checkpoint trained on right documents, and of one trained on the others."""
    return {
        good: _trained(tiny, lines, good, tmp_path_factory.mktemp("mode") / "stage1-step1")
        for good in (True, False)
    }


def _trained(tiny, lines, good, folder: Path) -> Path:
    model, tokenizer = load_model(tiny.checkpoint(9))
    own = torch.from_numpy(lines.evidence.documents.tokens[lines.right == good].astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(15):
        model(input_ids=own[:64], labels=own[:64]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
