"""What checkpoints are asked by generation, beside log-probabilities: personas, extracted answers.

Importing this module does not import torch.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoring.extraction import ANSWERS, PERSONA
from scoring.items import ANSWERS_FOLDER, PERSONA_FOLDER, Where, checkpoint_folder, task_file
from scoring.suite.persona import PERSONAS, WORDINGS, PersonaPrompt, persona_prompts
from scoring.suite.schema import Split
from scoring.sweep import SweepRequest
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError
from windows.identity import content_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are drawn.

    Attributes
    ----------
    samples
        How many for each prompt.
    temperature
        Divides the logits; 0 takes the likeliest token every time.
    max_new_tokens
        The most tokens of an answer.
    stop
        The text that ends an answer, and is cut off with what follows; empty for none.
    seed
        Of all draws.
    batch
        The most answers that are written at a time. Each needs a copy of its prompt's cache.
    """

    samples: int = 100
    temperature: float = 1.0
    max_new_tokens: int = 300
    stop: str = "\nQ:"
    seed: int = 0
    batch: int = 32

    def __post_init__(self) -> None:
        least = {"samples": 1, "max_new_tokens": 1, "batch": 1, "temperature": 0}
        for name, bound in least.items():
            # Negated, so that nan is refused too.
            if not bound <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    "not a way to sample",
                    where=f"sampling.{name}",
                    got=str(getattr(self, name)),
                    do=f"use a number of at least {bound}",
                )


AS_THE_AUTHORS = Sampling()


@dataclass(frozen=True, slots=True)
class PersonaRequest:
    """Personas' questions, answered freely and counted: a table of schema `PERSONA` each.

    Attributes
    ----------
    split
        ``label`` or ``verify``.
    demo_seeds
        Orders of each persona's facts.
    personas
        Whom to ask.
    wordings
        At most the first so many wordings of the split; None for all.
    sampling
        How; its stop gives way to each wording's own.

    Raises
    ------
    ConfigError
        There is no such persona.
    """

    split: Split
    demo_seeds: int
    personas: tuple[str, ...] = PERSONAS
    wordings: int | None = None
    sampling: Sampling = AS_THE_AUTHORS

    def __post_init__(self) -> None:
        if unknown := set(self.personas) - set(PERSONAS):
            raise ConfigError(
                "no such persona",
                where="personas",
                got=", ".join(map(repr, sorted(unknown))),
                do=f"use some of {', '.join(PERSONAS)}",
            )

    @property
    def tables(self) -> tuple[str, ...]:
        """One table a persona."""
        return tuple(dict.fromkeys(self.personas))

    @property
    def schema(self) -> pa.Schema:
        """That of persona counts."""
        return PERSONA

    def prompts(self, persona: str) -> tuple[PersonaPrompt, ...]:
        """Return what one persona is asked; neighbours stand behind the same facts."""
        return _persona_prompts(self, persona)

    def path(self, out: Path, checkpoint: Checkpoint, name: str) -> Path:
        """Return where a persona's counts lie: in a folder beside the item scores."""
        return checkpoint_folder(out, checkpoint) / PERSONA_FOLDER / f"{name}.parquet"

    def fingerprint(self, name: str) -> str:
        """Return the identity of a persona's prompts and of how answers are drawn."""
        return _persona_fingerprint(self, name)

    def table(self, model: Any, tokenizer: Any, name: str, where: Where) -> pa.Table:
        """Ask a persona's questions."""
        from scoring.generation import persona_table

        return persona_table(model, tokenizer, self.prompts(name), where, self.sampling)


@lru_cache(maxsize=16)
def _persona_prompts(request: PersonaRequest, persona: str) -> tuple[PersonaPrompt, ...]:
    wordings = WORDINGS[request.split][: request.wordings]
    made = persona_prompts(request.split, demo_seeds=request.demo_seeds, wordings=wordings)
    return tuple(prompt for prompt in made if prompt.asked.persona == persona)


@lru_cache(maxsize=64)
def _persona_fingerprint(request: PersonaRequest, persona: str) -> str:
    return content_id({"prompts": request.prompts(persona), "sampling": request.sampling})


@dataclass(frozen=True, slots=True)
class AnswersRequest:
    """Items answered greedily, the answer extracted: a table of schema `ANSWERS` a task.

    Attributes
    ----------
    items
        Whose items; `scoring.extraction.agreement` puts the two tables of each beside each other.
    max_new_tokens
        The most tokens of an answer.
    batch
        As of `Sampling`.
    """

    items: SweepRequest
    max_new_tokens: int = 16
    batch: int = 32

    @property
    def tables(self) -> tuple[str, ...]:
        """One table a task."""
        return self.items.tables

    @property
    def schema(self) -> pa.Schema:
        """That of extracted answers."""
        return ANSWERS

    def path(self, out: Path, checkpoint: Checkpoint, name: str) -> Path:
        """Return where a task's answers lie: in a folder beside the item scores."""
        return checkpoint_folder(out, checkpoint) / ANSWERS_FOLDER / task_file(name)

    def fingerprint(self, name: str) -> str:
        """Return the identity of a task's blocks and of how they are answered."""
        how = {"max_new_tokens": self.max_new_tokens, "batch": self.batch}
        return content_id({"items": self.items.fingerprint(name), **how})

    def table(self, model: Any, tokenizer: Any, name: str, where: Where) -> pa.Table:
        """Answer a task's items."""
        from scoring.generation import answer_table

        return answer_table(
            model,
            tokenizer,
            self.items.blocks(name),
            where,
            max_new_tokens=self.max_new_tokens,
            batch=self.batch,
        )
