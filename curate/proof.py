"""Whether a window held what its reconstruction says: proved, disproved, or not proved and why.

The embedded run is proved by its trainer's own log. A released run is proved at both ends of a
window by the loader state in the checkpoints' ``train/rank0.pt``: the fingerprint of the data set,
the seed, the epoch, and the batches that were read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from curate.subject import Subject
from windows.checkpoints.trainer_state import (
    FINGERPRINT_VERSION,
    TrainerState,
    prove,
    read_trainer_state,
)
from windows.order_cache import cache_folder
from windows.reading.whole import fetched, fetched_before
from windows.run import Window

PROVED, DISPROVED, NOT_PROVED = "proved", "disproved", "not proved"

_OTHER_VERSION = f"the checkpoints' fingerprints are not of version {FINGERPRINT_VERSION}"


@dataclass(frozen=True)
class Proof:
    """A verdict on a window, and what it rests on or lacks."""

    verdict: str
    why: str


@dataclass(frozen=True)
class LoggedProofs:
    """Proofs by the log of the trainer: batch by batch, whether it trained the same instances."""

    logged: Mapping[int, bool] | None

    def of(self, asked: Window) -> Proof:
        """Judge a window."""
        if self.logged is None:
            return Proof(NOT_PROVED, "there is no log of the instances that were trained")
        batches = range(asked.first_batch, asked.end_batch)
        if not all(self.logged.get(batch, True) for batch in batches):
            return Proof(DISPROVED, "the trainer's log names other instances")
        if all(batch in self.logged for batch in batches):
            return Proof(PROVED, "the trainer's log names the same instances, batch by batch")
        return Proof(NOT_PROVED, "the trainer's log does not reach these batches")


class StateProofs:
    """Proofs by the trainer states of a run's checkpoints.

    Parameters
    ----------
    subject
        The run.
    fingerprint
        Of the reconstruction.
    epoch_batches
        Batches of a whole epoch.
    fetch
        Whether states that are not here may be fetched; else those fetched before are used.
    """

    def __init__(
        self, subject: Subject, fingerprint: str, epoch_batches: int, *, fetch: bool
    ) -> None:
        self._subject = subject
        self._fingerprint = fingerprint
        self._epoch_batches = epoch_batches
        self._fetch = fetch
        self._faults: dict[int, list[str] | None] = {}

    def of(self, asked: Window) -> Proof:
        """Judge a window.

        Raises
        ------
        DataError
            A state is there and cannot be read, or could not be fetched.
        """
        if not self._subject.run.exact_between(asked.first_step, asked.end_step):
            return Proof(NOT_PROVED, "which batch these steps read is not known exactly")
        missing = []
        for step in (asked.first_step, asked.end_step):
            faults = self._at(step)
            if faults == [_OTHER_VERSION]:
                return Proof(NOT_PROVED, _OTHER_VERSION)
            if faults is None:
                missing.append(step)
            elif faults:
                return Proof(DISPROVED, f"checkpoint {step}: {'; '.join(faults)}")
        if missing:
            ends = "both ends" if len(missing) == 2 else "one end"
            return Proof(NOT_PROVED, f"no trainer state of the checkpoint at {ends} {self._hint}")
        return Proof(PROVED, "the trainer states at both ends match")

    def _at(self, step: int) -> list[str] | None:
        """Return what does not match at a checkpoint; None where its state is not at hand."""
        if step not in self._faults:
            self._faults[step] = self._compared(step)
        return self._faults[step]

    def _compared(self, step: int) -> list[str] | None:
        state, run = self._state(step), self._subject.run
        if state is None:
            return None
        if state.fingerprint_version != FINGERPRINT_VERSION:
            return [_OTHER_VERSION]
        return prove(
            state,
            fingerprint=self._fingerprint,
            seed=run.seed,
            epoch=run.epoch,
            batch=run.batch_of_step(step),
            epoch_batches=self._epoch_batches,
        )

    def _state(self, step: int) -> TrainerState | None:
        address = self._address(step)
        if address is None:
            return None
        if "://" not in address:
            path = Path(address)
            return read_trainer_state(path) if path.is_file() else None
        folder = cache_folder() / "trainer-states"
        path_or_none = fetched(address, folder) if self._fetch else fetched_before(address, folder)
        return read_trainer_state(path_or_none) if path_or_none else None

    def _address(self, step: int) -> str | None:
        template = self._subject.given.run.released.trainer_state
        beside = self._subject.given.path.parent
        if template is not None:
            address = template.replace("{step}", str(step))
            return address if "://" in address else str(beside / address)
        folder = self._subject.given.checkpoint_folder
        names = (f"{self._subject.run.stage}-step{step}", f"step{step}")
        found = [folder / name / "train" / "rank0.pt" for name in names] if folder else []
        return next((str(path) for path in found if path.is_file()), None)

    @cached_property
    def _hint(self) -> str:
        template = self._subject.given.run.released.trainer_state
        if template is not None and "://" in template and not self._fetch:
            return "is here (--prove fetches it)"
        return "is here" if template is None else "is where the run file says"


def refuse_disproved(proofs: Mapping[str, Proof]) -> str:
    """Return the line that refuses windows which are disproved; empty where none is."""
    bad = [name for name, proof in proofs.items() if proof.verdict == DISPROVED]
    return f"other instances were read in {', '.join(bad)}" if bad else ""
