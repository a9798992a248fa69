"""What a released checkpoint says of its own data order: OLMo-core's ``train/rank0.pt``.

The file is a pickle inside a zip archive, as ``torch.save`` writes it. It is read as data
(`windows.checkpoints.inert_pickle`): torch is not needed, and nothing in the file is executed.
Source of its contents: ``state_dict`` of ``olmo_core.train.trainer.Trainer`` and of
``olmo_core.data.data_loader.NumpyFSLDataLoader``, ai2-olmo-core 3.0.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windows.checkpoints.inert_pickle import MOST_BYTES, read_inert
from windows.errors import DataError

TRAINER_STATE = "train/rank0.pt"
FINGERPRINT_VERSION = "v2.0"
"""Of the dataset fingerprints that `windows.order` rebuilds."""

# How torch.save began a file before 1.6: the pickled number 0x1950a86a20f9469cfc6c.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class TrainerState:
    """Where a run stood when it wrote a checkpoint.

    Attributes
    ----------
    dataset_fingerprint, fingerprint_version
        Identify names and sizes of the token files.
    seed, epoch
        Of the data loader; epochs count from 1.
    trainer_epoch
        Of the trainer, which is one ahead of its loader once an epoch has ended.
    batches_processed, tokens_processed
        Of this epoch; 0 once it has ended.
    dataset_type
        ``fsl`` for instances of fixed length.
    sequence_length, max_target_sequence_length
        Tokens of an instance, and of the longest that the files were cut for; None if not told.
    global_step
        The step, as in the checkpoint's name.
    global_tokens
        Tokens consumed since the run began; None if not told.
    """

    dataset_fingerprint: str
    fingerprint_version: str
    seed: int
    epoch: int
    trainer_epoch: int
    batches_processed: int
    tokens_processed: int
    dataset_type: str | None
    sequence_length: int | None
    max_target_sequence_length: int | None
    global_step: int
    global_tokens: int | None


def read_trainer_state(source: Path | bytes) -> TrainerState:
    """Read a ``train/rank0.pt``.

    Parameters
    ----------
    source
        The file, or its bytes where it was fetched.

    Raises
    ------
    DataError
        It cannot be read, is not a trainer state as OLMo-core writes it, or is too large.
    """
    where = TRAINER_STATE if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _bytes(source)
    state = read_inert(_pickle(data, where), where)
    # Before it saved the data loader's state as such, OLMo-core called it the dataset's.
    loader = state.get("data_loader", state.get("dataset")) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not isinstance(loader, dict):
        raise _fault(where, "a pickle without a data loader's state")
    # A loader that has not begun, and one of an older version, has no epoch; its trainer has.
    if loader.get("epoch") is None:
        loader = {**loader, "epoch": state.get("epoch")}
    return _state(state, loader, where)


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuilt data order says of itself.

    Attributes
    ----------
    fingerprint, seed, epoch
        As in `TrainerState`.
    sequence_length
        Tokens of an instance.
    epoch_tokens
        Tokens of all batches of the epoch.
    """

    fingerprint: str
    seed: int
    epoch: int
    sequence_length: int
    epoch_tokens: int


def prove(
    state: TrainerState, rebuilt: Rebuilt, *, step: int, tokens: int, batch_tokens: int
) -> list[str]:
    """Compare a checkpoint's own account with a data order that was rebuilt.

    Names and sizes of files, which the fingerprint covers, leave open how the order is cut into
    batches; the tokens read so far do not.

    Parameters
    ----------
    step
        The checkpoint's.
    tokens
        Tokens of the epoch that were read before it, by the step map.
    batch_tokens
        Tokens of the batch that is read next. OLMo-core counts its batches in this unit, whatever
        size the earlier ones had.

    Returns
    -------
    list of str
        What does not match, one line each; none means that the order is proved at this step.
    """
    read, batches = state.tokens_processed, state.batches_processed
    if (read, batches) == (0, 0) and state.trainer_epoch == state.epoch + 1:
        # A checkpoint that was written after the last batch of an epoch has forgotten them.
        read, batches = rebuilt.epoch_tokens, rebuilt.epoch_tokens // batch_tokens
    compared: list[tuple[str, object, object]] = [
        ("fingerprint", state.dataset_fingerprint, rebuilt.fingerprint),
        ("seed", state.seed, rebuilt.seed),
        ("epoch", state.epoch, rebuilt.epoch),
        ("step", state.global_step, step),
        ("tokens processed", read, tokens),
        ("batches processed", batches, tokens // batch_tokens),
    ]
    if state.sequence_length is not None:
        compared.append(("sequence length", state.sequence_length, rebuilt.sequence_length))
    return [
        f"{name}: the checkpoint says {theirs}, the rebuilt order has {ours}"
        for name, theirs, ours in compared
        if theirs != ours
    ]


def _state(state: dict[str, Any], loader: dict[str, Any], where: str) -> TrainerState:
    def need(key: str, kind: type, values: dict[str, Any] = loader) -> Any:
        # bool is an int, and stand-ins are neither.
        if type(values.get(key)) is not kind:
            raise _fault(where, f"no {kind.__name__} {key!r}")
        return values[key]

    def may(key: str, kind: type, values: dict[str, Any] = loader) -> Any:
        return None if values.get(key) is None else need(key, kind, values)

    return TrainerState(
        dataset_fingerprint=need("dataset_fingerprint", str),
        fingerprint_version=need("dataset_fingerprint_version", str),
        seed=need("seed", int),
        epoch=need("epoch", int),
        trainer_epoch=need("epoch", int, state),
        batches_processed=need("batches_processed", int),
        tokens_processed=need("tokens_processed", int),
        dataset_type=may("dataset_type", str),
        sequence_length=may("sequence_length", int),
        max_target_sequence_length=may("max_target_sequence_length", int),
        global_step=need("global_step", int, state),
        global_tokens=may("global_train_tokens_seen", int, state),
    )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(
            "the trainer state cannot be read",
            where=str(path),
            got=error.strerror or "",
            do="fetch the checkpoint again",
        ) from error


def _pickle(data: bytes, where: str) -> bytes:
    if len(data) > MOST_BYTES:
        raise _fault(where, f"more than {MOST_BYTES} bytes")
    if data.startswith(_OLD_TORCH):
        raise _fault(where, "torch's format from before version 1.6")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [
                member
                for member in archive.infolist()
                if member.filename == "data.pkl" or member.filename.endswith("/data.pkl")
            ]
            if len(members) != 1:
                raise _fault(where, f"an archive with {len(members)} pickles")
            # torch.save never compresses, and a compressed member could be of any size.
            if members[0].compress_type != zipfile.ZIP_STORED:
                raise _fault(where, "an archive with a compressed pickle")
            return archive.read(members[0])
    except DataError:
        raise
    except Exception as error:
        # As with the pickle inside: whatever a broken archive makes the reader raise is its fault.
        got = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise _fault(where, got) from error


def _fault(where: str, got: str) -> DataError:
    return DataError(
        "not a trainer state of OLMo-core", where=where, got=got, do="fetch the checkpoint again"
    )
