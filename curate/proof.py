"""Whether a window held what its reconstruction says: proved, disproved, or not proved and why.

The embedded run is proved by its trainer's own log. A released run is proved at both ends of a
window by the loader state in the checkpoints' ``train/rank0.pt``: the fingerprint of the data set,
the seed, the epoch, and the batches that were read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.subject import Subject
from windows.checkpoints.trainer_state import (
    FINGERPRINT_VERSION,
    TRAINER_STATE,
    Rebuilt,
    TrainerState,
    prove,
    read_trainer_state,
)
from windows.errors import DataError
from windows.order import DataOrder
from windows.order_cache import cache_folder
from windows.progress import Reporter
from windows.reading.threads import in_threads
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
    order
        Its rebuilt order.
    fingerprint
        Of the reconstruction.
    """

    def __init__(self, subject: Subject, order: DataOrder, fingerprint: str) -> None:
        self._subject = subject
        self._order = order
        read = order.positions(0, order.num_batches)[1]
        self._rebuilt = Rebuilt(
            fingerprint,
            subject.run.seed,
            subject.run.epoch,
            subject.run.sequence_length,
            read * subject.run.sequence_length,
        )
        self._states: dict[int, TrainerState | None] = {}
        self._missing = ""

    def fetch(self, steps: Collection[int], reporter: Reporter) -> None:
        """Fetch the states of checkpoints, each once; one that cannot be had is only noted."""
        folder = cache_folder() / "trainer-states"
        addresses = [self._address(step) for step in steps]
        remote = [each for each in addresses if each is not None and "://" in each]

        def get(address: str) -> str:
            try:
                fetched(address, folder)
            except DataError as error:
                return f"{error.what}: {error.got}"
            return ""

        faults: list[str] = []
        with reporter.task("fetching trainer states", len(remote)) as advance:

            def done(fault: str) -> None:
                faults.append(fault)
                advance()

            in_threads(get, remote, 8, done=done)
        self._missing = next((fault for fault in faults if fault), "")

    def of(self, asked: Window) -> Proof:
        """Judge a window.

        Raises
        ------
        DataError
            A state is there and cannot be read.
        """
        if self._subject.run.loader != "olmo-core":
            return Proof(NOT_PROVED, "a run with this loader keeps no state that tells its order")
        found = {step: self._state(step) for step in (asked.first_step, asked.end_step)}
        states = {step: state for step, state in found.items() if state is not None}
        if any(each.fingerprint_version != FINGERPRINT_VERSION for each in states.values()):
            return Proof(NOT_PROVED, _OTHER_VERSION)
        exact = self._subject.run.exact_between(asked.first_step, asked.end_step)
        for step, state in states.items():
            faults = self._faults(step, state, exact)
            if faults:
                return Proof(DISPROVED, f"checkpoint {step}: {'; '.join(faults)}")
        if not exact:
            return Proof(NOT_PROVED, _inexact(states))
        if len(states) < 2:
            return Proof(NOT_PROVED, self._lacking("either end" if not states else "one end"))
        return Proof(PROVED, "the trainer states at both ends match")

    def _faults(self, step: int, state: TrainerState, exact: bool) -> list[str]:
        run, batch = self._subject.run, self._subject.run.batch_of_step(step)
        faults = prove(
            state,
            self._rebuilt,
            step=step,
            tokens=self._order.batch_sizes.position(batch) * run.sequence_length,
            batch_tokens=run.instances_per_batch(step) * run.sequence_length,
        )
        # Where step and batch are not known to agree, a difference between them says nothing new.
        return faults if exact else [f for f in faults if " processed" not in f.partition(":")[0]]

    def _state(self, step: int) -> TrainerState | None:
        if step not in self._states:
            self._states[step] = self._read(step)
        return self._states[step]

    def _read(self, step: int) -> TrainerState | None:
        address = self._address(step)
        if address is None:
            return None
        folder = cache_folder() / "trainer-states"
        path = fetched_before(address, folder) if "://" in address else Path(address)
        return read_trainer_state(path) if path is not None and path.is_file() else None

    def _address(self, step: int) -> str | None:
        template = self._subject.given.run.released.trainer_state
        beside = self._subject.given.path.parent
        if template is not None:
            address = template.replace("{step}", str(step))
            return address if "://" in address else str(beside / address)
        folder = self._subject.given.checkpoint_folder
        names = (f"{self._subject.run.stage}-step{step}", f"step{step}")
        found = [folder / name / TRAINER_STATE for name in names] if folder else []
        return next((str(path) for path in found if path.is_file()), None)

    def _lacking(self, ends: str) -> str:
        template = self._subject.given.run.released.trainer_state
        if self._missing:
            return f"no trainer state of the checkpoint at {ends} can be had: {self._missing}"
        if template is None:
            return f"the run has no trainer state of the checkpoint at {ends} that is known here"
        hint = " (--prove fetches it)" if "://" in template else ""
        return f"no trainer state of the checkpoint at {ends} is here{hint}"


def _inexact(states: Mapping[int, TrainerState]) -> str:
    why = "which batch these steps read is not known exactly"
    told = [f"{state.batches_processed:,} at step {step:,}" for step, state in states.items()]
    return f"{why}; the checkpoints say batch {' and '.join(told)}" if told else why


def refuse_disproved(proofs: Mapping[str, Proof]) -> str:
    """Return the line that refuses windows which are disproved; empty where none is."""
    bad = [name for name, proof in proofs.items() if proof.verdict == DISPROVED]
    return f"other instances were read in {', '.join(bad)}" if bad else ""
