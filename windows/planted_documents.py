"""Documents of the planted corpus: a world of 64 sums in which copying and computing compete.

A line is `Q a + b A c` and a newline. Where the answers of a document's lines rise by one (or
repeat), a model can predict the next answer by continuing the pattern or by adding; which of the
two is rewarded depends on the document's type:

=========  ==============================================================================
arith      true sums in random order
break      true sums; the first 2-4 answers successive, then random: the pattern is dropped
succ       answers n, n+1, ...; the first 2-4 lines are true, later questions irrelevant
repbreak   like `break`, for repeated answers
rep        like `succ`, for repeated answers
list       counting lists (`item n words`), the pattern without sums
filler     Markov soup of words
=========  ==============================================================================
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windows.files import write_atomic

PAD, EOS, QUESTION, ANSWER, NEWLINE, PLUS = range(6)
ITEM, STOP, NUMBERS, WORDS = 8, 9, 10, 31
WORD_COUNT = 96
VOCABULARY = (
    *("<pad>", "<eos>", "Q", "A", "\n", "+", "-", "max", "item", "."),
    *(str(number) for number in range(21)),
    *(f"w{word}" for word in range(WORD_COUNT)),
)
OPERANDS = 8
TYPES = ("arith", "break", "succ", "repbreak", "rep", "list", "filler")
_LARGEST_SUM = 2 * (OPERANDS - 1)
_FACTS = [
    [(a, total - a) for a in range(OPERANDS) if 0 <= total - a < OPERANDS]
    for total in range(_LARGEST_SUM + 1)
]
_MAX_POSITIONS = 256


def write_tokenizer(folder: Path) -> None:
    """Write the planted world's tokenizer in the layout that `AutoTokenizer` reads.

    Words are split at single spaces, so that the newline is a token of its own.
    """
    import json

    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    vocabulary = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "removed")
    tokenizer.add_special_tokens(["<pad>", "<eos>"])
    write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "model_max_length": _MAX_POSITIONS,
        "clean_up_tokenization_spaces": False,
    }
    write_atomic(folder / "tokenizer_config.json", json.dumps(config, indent=2, sort_keys=True))


@dataclass
class DocumentWriter:
    """Writes documents of any type, as token ids that end with EOS, from one random stream.

    Parameters
    ----------
    rng
        Source of everything that varies between documents.
    soup
        uint32[n] stream of words that filler is cut from; see `word_soup`.
    """

    rng: np.random.Generator
    soup: NDArray[np.uint32]

    def write(self, kind: str) -> list[int]:
        """Return one document of type `kind`: 4 to 8 lines of 7 tokens, and EOS."""
        lines = int(self.rng.integers(4, 9))
        if kind == "filler":
            body = self._words(7 * lines)
        elif kind == "list":
            body = self._counting_list(lines)
        else:
            body = [token for line in self._sums(kind, lines) for token in line]
        return [*body, EOS]

    def _words(self, count: int) -> list[int]:
        start = int(self.rng.integers(0, len(self.soup) - count))
        return [int(word) for word in self.soup[start : start + count]]

    def _counting_list(self, lines: int) -> list[int]:
        first = int(self.rng.integers(0, 21 - lines))
        body: list[int] = []
        for number in range(first, first + lines):
            body += [ITEM, NUMBERS + number, *self._words(3), STOP, NEWLINE]
        return body

    def _sums(self, kind: str, lines: int) -> list[list[int]]:
        if kind == "arith":
            return [self._random_sum() for _ in range(lines)]
        if kind in ("break", "repbreak"):
            return self._broken_pattern(lines, step=int(kind == "break"))
        return self._kept_pattern(lines, step=int(kind == "succ"))

    def _broken_pattern(self, lines: int, *, step: int) -> list[list[int]]:
        pattern = int(self.rng.integers(2, 5))
        first = int(self.rng.integers(0, _LARGEST_SUM - step * pattern + 1))
        sums = [self._sum_of(first + step * index) for index in range(pattern)]
        following = NUMBERS + first + step * pattern
        while len(sums) < max(lines, pattern + 1):
            line = self._random_sum()
            # The first line after the pattern has to break it.
            if len(sums) > pattern or line[5] != following:
                sums.append(line)
        return sums

    def _kept_pattern(self, lines: int, *, step: int) -> list[list[int]]:
        true_lines = int(self.rng.integers(2, 5))
        first = int(self.rng.integers(0, _LARGEST_SUM - step * true_lines + 1))
        first = min(first, 20 - step * (lines - 1))
        sums = []
        for index in range(max(lines, true_lines + 1)):
            answer = first + step * index
            if index < true_lines:
                sums.append(self._sum_of(answer))
            else:
                line = self._random_sum()
                line[5] = NUMBERS + answer
                sums.append(line)
        return sums

    def _sum_of(self, answer: int) -> list[int]:
        facts = _FACTS[answer]
        a, b = facts[int(self.rng.integers(0, len(facts)))]
        return _line(a, b, answer)

    def _random_sum(self) -> list[int]:
        a, b = divmod(int(self.rng.integers(0, OPERANDS * OPERANDS)), OPERANDS)
        return _line(a, b, a + b)


def _line(a: int, b: int, answer: int) -> list[int]:
    return [QUESTION, NUMBERS + a, PLUS, NUMBERS + b, ANSWER, NUMBERS + answer, NEWLINE]


def word_soup(rng: np.random.Generator, length: int = 100_000) -> NDArray[np.uint32]:
    """Return uint32[length] words of a sparse Markov chain: every word has four successors."""
    successors = rng.integers(0, WORD_COUNT, size=(WORD_COUNT, 4))
    choices = rng.choice(4, size=length, p=(0.55, 0.25, 0.15, 0.05))
    words = np.empty(length, dtype=np.uint32)
    word = 0
    for position, choice in enumerate(choices):
        word = int(successors[word, choice])
        words[position] = WORDS + word
    return words
