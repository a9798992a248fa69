"""Pre-training of the embedded run, in the exact order that its data order says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainers.batches import OrderedBatches
from trainers.loop import Training, read_log, train
from trainers.schedule import schedule
from trainers.settings import PretrainingSection
from trainers.state import new_state
from windows.errors import ConfigError
from windows.order import DataOrder
from windows.run import RunConfig
from windows.tokens import TokenFiles


def pretrain(
    run: RunConfig,
    section: PretrainingSection,
    files: TokenFiles,
    folder: Path,
    *,
    tokenizer: Path,
    seed: int,
    advance: Callable[[int], None] = lambda n: None,
) -> None:
    """Pre-train the run from weights drawn from `seed`; see `trainers.loop.train` for what is left.

    Parameters
    ----------
    tokenizer
        Folder of the tokenizer's files, which go with every checkpoint.

    Raises
    ------
    ConfigError
        The data end before the pre-training does; nothing is written then.
    """
    order = run.order(files.sizes)
    if section.steps > order.num_batches:
        raise ConfigError(
            "the data end before the pre-training does",
            where="pretraining.steps",
            got=f"{section.steps}, and {order.num_batches} batches",
            do="lower it, or plant more windows",
        )
    job = Training(
        start=lambda: new_state(section.model, section.optimizer, run.tokenizer, seed=seed),
        first_step=0,
        batches=OrderedBatches(files, order),
        schedule=schedule(section),
        optimizer=section.optimizer,
        save_at=section.checkpoint_steps,
        stage=run.stage,
        tokenizer=tokenizer,
    )
    train(job, folder, advance=advance)


def proved_batches(folder: Path, order: DataOrder) -> dict[int, bool]:
    """Compare the trainer's log of instance ids with the data order, batch by batch.

    Returns
    -------
    dict
        Batch to whether exactly the order's instances were trained, in its order; batches that were
        not trained are absent.
    """
    log = read_log(folder).select("batch", "instances")
    return {
        batch: bool(np.array_equal(ids, order.instances(batch, batch + 1)))
        for batch, ids in log.iter_rows()
    }
