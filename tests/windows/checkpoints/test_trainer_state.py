import dataclasses
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from olmo_core.data import (
    DataCollator,
    NumpyDataLoaderConfig,
    NumpyFSLDatasetConfig,
    TokenizerConfig,
)
from olmo_core.data.data_loader import NumpyDataLoaderBase
from olmo_core.train.utils import EnvRngStates

from windows.checkpoints.catalogs import local_catalog
from windows.checkpoints.inert_pickle import MOST_BYTES
from windows.checkpoints.trainer_state import Rebuilt, TrainerState, prove, read_trainer_state
from windows.errors import DataError
from windows.order import DataOrder
from windows.run import TokenizerFields

TOKENIZER = TokenizerFields(vocab_size=1000, eos_id=1, pad_id=0)
LENGTH, BATCH, SEED = 8, 4, 34521
COUNTS = (333, 40, 7, 100)


def write_tokens(folder: Path) -> list[Path]:
    paths = []
    for number, count in enumerate(COUNTS):
        paths.append(folder / f"{number:05d}.npy")
        (np.arange(count, dtype=np.uint32) % 1000).tofile(paths[-1])
    return paths


def order_of(paths: list[Path]) -> tuple[DataOrder, str]:
    order = DataOrder.from_sizes(
        [path.stat().st_size for path in paths],
        sequence_length=LENGTH,
        batch_tokens=BATCH * LENGTH,
        seed=SEED,
    )
    return order, order.fingerprint([path.as_posix() for path in paths], TOKENIZER)


def core_dataset(paths: list[Path], work: Path) -> Any:
    dataset = NumpyFSLDatasetConfig(
        paths=[str(path) for path in paths],
        tokenizer=TokenizerConfig(vocab_size=1000, eos_token_id=1, pad_token_id=0),
        sequence_length=LENGTH,
        dtype="uint32",
        work_dir=str(work),
    ).build()
    dataset.prepare()
    return dataset


def saved(state: object, **settings: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, **settings)
    return file.getvalue()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def state(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The state that OLMo-core's own loader tells after five batches, as its trainer saves it."""
    loader = NumpyDataLoaderBase.wrap_numpy_dataset(
        core_dataset(paths, tmp_path_factory.mktemp("work")),
        global_batch_size=BATCH * LENGTH,
        collator=DataCollator(pad_token_id=0, vocab_size=1000),
        seed=SEED,
    )
    loader.reshuffle(1, in_memory=True)
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    return {
        "global_step": 5,
        "global_train_tokens_seen": 5 * BATCH * LENGTH,
        "global_train_petaflops": 0.25,
        "max_steps": 14,
        "data_loader": loader.state_dict(),
        "epoch": 1,
        "world_size": 1,
        "rng": EnvRngStates.current_state().as_dict(),
        "callbacks": {"checkpointer": {}, "other": {"t": torch.ones(3), "when": Path("x")}},
    }


def test_the_state_of_the_real_loader_is_read(state: dict[str, Any], paths: list[Path]):
    _, fingerprint = order_of(paths)
    assert read_trainer_state(saved(state)) == TrainerState(
        dataset_fingerprint=fingerprint,
        fingerprint_version="v2.0",
        seed=SEED,
        epoch=1,
        trainer_epoch=1,
        batches_processed=5,
        tokens_processed=5 * BATCH * LENGTH,
        dataset_type="fsl",
        sequence_length=LENGTH,
        max_target_sequence_length=state["data_loader"]["max_target_sequence_length"],
        global_step=5,
        global_tokens=5 * BATCH * LENGTH,
    )


def test_the_real_state_cannot_be_read_by_torchs_safe_loader(state: dict[str, Any]):
    # Else this reader would not be needed.
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(saved(state)), weights_only=True)


def rebuilt(order: Any, fingerprint: str) -> Rebuilt:
    return Rebuilt(fingerprint, SEED, 1, LENGTH, order.num_batches * BATCH * LENGTH)


def at(batch: int) -> dict[str, int]:
    return {"step": batch, "tokens": batch * BATCH * LENGTH, "batch_tokens": BATCH * LENGTH}


def test_a_state_is_proved_or_what_differs_is_named(state: dict[str, Any], paths: list[Path]):
    order, fingerprint = order_of(paths)
    read = read_trainer_state(saved(state))
    right = rebuilt(order, fingerprint)
    assert prove(read, right, **at(5)) == []
    for change, line in [
        ({"fingerprint": "0" * 64}, f"fingerprint: the checkpoint says {fingerprint}, the reb"),
        ({"seed": 1}, "seed: the checkpoint says 34521, the rebuilt order has 1"),
        ({"epoch": 2}, "epoch: the checkpoint says 1, the rebuilt order has 2"),
        ({"sequence_length": 2 * LENGTH}, "sequence length: the checkpoint says"),
    ]:
        (found,) = prove(read, dataclasses.replace(right, **change), **at(5))
        assert found.startswith(line)
    assert [line.split(":")[0] for line in prove(read, right, **at(6))] == [
        "step", "tokens processed", "batches processed",
    ]  # fmt: skip
    assert order.num_batches == 14


def test_batches_of_another_size_are_not_proved(state: dict[str, Any], paths: list[Path]):
    """The fingerprint says nothing of how the order is cut into batches."""
    right = rebuilt(*order_of(paths))
    twice = {"step": 5, "tokens": 5 * 2 * BATCH * LENGTH, "batch_tokens": 2 * BATCH * LENGTH}
    assert "tokens processed" in prove(read_trainer_state(saved(state)), right, **twice)[0]


def test_batches_are_counted_in_the_size_of_now(state: dict[str, Any], paths: list[Path]):
    """After 2 batches and 2 of twice the size, OLMo-core says that 3 were processed."""
    right = rebuilt(*order_of(paths))
    read = 6 * BATCH * LENGTH
    loader = state["data_loader"] | {"batches_processed": 3, "tokens_processed": read}
    grown = read_trainer_state(saved(state | {"data_loader": loader, "global_step": 4}))
    size = 2 * BATCH * LENGTH
    assert prove(grown, right, step=4, tokens=read, batch_tokens=size) == []


def test_an_epoch_that_has_ended_counts_as_all_its_batches(
    state: dict[str, Any], paths: list[Path]
):
    order, fingerprint = order_of(paths)
    loader = state["data_loader"] | {"batches_processed": 0, "tokens_processed": 0}
    right, end = rebuilt(order, fingerprint), order.num_batches
    whole = state | {"data_loader": loader, "global_step": end}
    ended = read_trainer_state(saved(whole | {"epoch": 2}))
    assert prove(ended, right, **at(end)) == []
    assert prove(ended, right, **at(end - 1))
    assert prove(ended, right, **at(0))
    begun = read_trainer_state(saved(whole | {"global_step": 0}))
    assert prove(begun, right, **at(0)) == []
    assert prove(begun, right, **at(end))


@pytest.mark.parametrize("missing", ["absent", None])
def test_the_epoch_of_a_loader_without_one_is_its_trainers(state: dict[str, Any], missing: Any):
    loader = {key: value for key, value in state["data_loader"].items() if key != "epoch"}
    loader |= {} if missing else {"epoch": None}
    assert read_trainer_state(saved(state | {"data_loader": loader})).epoch == 1


def test_older_trainer_states_are_read(state: dict[str, Any]):
    older = {key: value for key, value in state.items() if key != "data_loader"}
    loader = {key: value for key, value in state["data_loader"].items() if key != "epoch"}
    assert read_trainer_state(saved(older | {"dataset": loader})) == read_trainer_state(
        saved(state)
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_other_protocols_are_read(state: dict[str, Any], protocol: int):
    assert read_trainer_state(saved(state, pickle_protocol=protocol)).batches_processed == 5


# --- what is refused


def archive(pickled: bytes, *, name: str = "rank0/data.pkl", **settings: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **settings) as made:
        made.writestr(name, pickled)
        made.writestr("rank0/version", "3\n")
    return file.getvalue()


def test_torchs_old_format_is_refused_by_name(state: dict[str, Any]):
    with pytest.raises(DataError, match=r"torch's format from before version 1\.6"):
        read_trainer_state(saved(state, _use_new_zipfile_serialization=False))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not a trainer state"),
        (b"PK\x03\x04", "not a trainer state"),
        (b"\x80\x02}.", "not a trainer state"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a trainer state"),
        (archive(b"", name="rank0/other"), "an archive with 0 pickles"),
        (archive(b"N."), "without a data loader's state"),
        (archive(pickle.dumps({"data_loader": 5})), "without a data loader's state"),
        (archive(pickle.dumps({"data_loader": {}})), "no str 'dataset_fingerprint'"),
        (archive(b"junk"), "not a pickle that can be read as data"),
        (archive(b"N." * 10_000, compression=zipfile.ZIP_DEFLATED), "a compressed pickle"),
        (b"\0" * (MOST_BYTES + 1), "more than 16777216 bytes"),
    ],
)
def test_what_is_no_trainer_state_is_refused_in_one_line(data: bytes, fault: str):
    with pytest.raises(DataError, match=fault) as refused:
        read_trainer_state(data)
    assert str(refused.value).startswith("train/rank0.pt: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", True),
        ("seed", "34521"),
        ("epoch", 1.0),
        ("batches_processed", np.int64(5)),
        ("dataset_fingerprint", b"abc"),
        ("dataset_type", 3),
    ],
)
def test_a_field_of_another_type_is_refused(state: dict[str, Any], key: str, value: object):
    loader = state["data_loader"] | {key: value}
    with pytest.raises(DataError, match=f"got no (int|str) '{key}'"):
        read_trainer_state(saved(state | {"data_loader": loader}))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"rank0\.pt: the trainer state cannot be read"):
        read_trainer_state(tmp_path / "rank0.pt")


class Touches:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.canary}",)


def test_a_malicious_state_is_read_and_not_run(state: dict[str, Any], tmp_path: Path):
    canary, path = tmp_path / "canary", tmp_path / "rank0.pt"
    path.write_bytes(saved({"first": Touches(canary), **state, "last": [Touches(canary)]}))
    assert read_trainer_state(path).batches_processed == 5
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()


def test_a_flipped_bit_is_seen(state: dict[str, Any]):
    good = saved(state)
    place = good.index(b"batches_processed")
    bad = good[:place] + b"c" + good[place + 1 :]
    with pytest.raises(DataError, match="CRC"):
        read_trainer_state(bad)


@pytest.fixture(scope="module")
def good(state: dict[str, Any]) -> bytes:
    return saved(state)


@given(st.data())
def test_a_damaged_file_is_read_or_refused(good: bytes, data: Any):
    changed = bytearray(good)
    # The directory of the archive, at its end, is where most can go wrong.
    for place in data.draw(st.lists(st.integers(1, 600), min_size=1, max_size=4)):
        changed[-place] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(changed)))
    for tried in (bytes(changed), bytes(changed[:cut])):
        try:
            read_trainer_state(tried)
        except DataError as error:
            assert "\n" not in str(error)


# --- written by the real trainer


@pytest.fixture(scope="module")
def trained(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a whole epoch of a tiny model, by OLMo-core's trainer."""
    from olmo_core.distributed.checkpoint import get_checkpoint_metadata
    from olmo_core.nn.attention import AttentionBackendName
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig
    from olmo_core.optim import AdamWConfig
    from olmo_core.train import Duration, TrainerConfig
    from olmo_core.train.callbacks import CheckpointerCallback
    from olmo_core.train.train_module import TransformerTrainModuleConfig

    folder = tmp_path_factory.mktemp("run")
    model = TransformerConfig.llama_like(
        d_model=8,
        n_layers=1,
        n_heads=1,
        vocab_size=1000,
        hidden_size_multiple_of=8,
        block_name=TransformerBlockType.reordered_norm,
        attn_backend=AttentionBackendName.torch,
    ).build(init_device="cpu")
    module = TransformerTrainModuleConfig(
        rank_microbatch_size=BATCH * LENGTH, max_sequence_length=LENGTH, optim=AdamWConfig()
    ).build(model, device=torch.device("cpu"))
    loader = NumpyDataLoaderConfig(
        global_batch_size=BATCH * LENGTH, seed=SEED, num_workers=0, work_dir=str(folder / "work")
    ).build(core_dataset(paths, folder / "work"), dp_process_group=module.dp_process_group)
    trainer = (
        TrainerConfig(
            save_folder=str(folder / "checkpoints"),
            work_dir=str(folder / "work"),
            max_duration=Duration.epochs(1),
            device="cpu",
        )
        .with_callback(
            "checkpointer",
            CheckpointerCallback(save_interval=5, max_checkpoints=None, save_async=False),
        )
        .build(module, loader)
    )
    with warnings.catch_warnings():
        # One process is all there is, and torch says so at every checkpoint.
        warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)
        trainer.fit()
    assert get_checkpoint_metadata(str(folder / "checkpoints" / "step5" / "model_and_optim"))
    return folder / "checkpoints"


@pytest.mark.slow
def test_every_checkpoint_of_the_real_trainer_is_proved(trained: Path, paths: list[Path]):
    order, fingerprint = order_of(paths)
    catalog = local_catalog(trained, "toy")
    assert [(entry.step, entry.kind) for entry in catalog.entries] == [
        (step, "olmo-core") for step in (0, 5, 10, order.num_batches)
    ]
    for entry in catalog.entries:
        state = read_trainer_state(Path(str(entry.address)) / "train" / "rank0.pt")
        assert state.global_step == entry.step
        assert state.global_tokens == entry.step * BATCH * LENGTH
        found = prove(state, rebuilt(order, fingerprint), **at(entry.step))
        assert found == []
