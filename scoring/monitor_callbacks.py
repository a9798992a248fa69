"""The monitor's callbacks for transformers' Trainer and OLMo-core's; neither is loaded unasked."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoring.monitor import Monitor


def for_transformers(monitor: "Monitor") -> Any:
    """Return a ``TrainerCallback``; see `scoring.monitor.Monitor.transformers_callback`."""
    from transformers import TrainerCallback

    class MonitorCallback(TrainerCallback):  # type: ignore[misc]
        """Reads at the end of a step, or when its loss is logged right after."""

        waits = False

        def on_train_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, **more: Any
        ) -> None:
            monitor.begin(state.global_step, model)

        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **more: Any
        ) -> None:
            self.waits = control.should_log and monitor.is_due(state.global_step)
            if not self.waits:
                monitor.step(state.global_step, model)

        def on_log(
            self,
            args: Any,
            state: Any,
            control: Any,
            model: Any = None,
            logs: Any = None,
            **more: Any,
        ) -> None:
            if self.waits:
                self.waits = False
                monitor.step(state.global_step, model, (logs or {}).get("loss"))

    return MonitorCallback()


def for_olmo_core(monitor: "Monitor") -> Any:
    """Return a ``Callback``; see `scoring.monitor.Monitor.olmo_core_callback`."""
    from olmo_core.train.callbacks import Callback
    from olmo_core.train.common import TRAIN_CE_LOSS_METRIC

    class MonitorCallback(Callback):  # type: ignore[misc]
        """Reads after the optimizer's step."""

        twin: Callable[[], Any]

        def pre_train(self) -> None:
            self.twin = olmo_core_twin(self.trainer.train_module.model)
            monitor.begin(self.step, self.twin())

        def post_step(self) -> None:
            if monitor.is_due(self.step):
                loss = self.trainer.get_metric(TRAIN_CE_LOSS_METRIC)
                monitor.step(self.step, self.twin(), None if loss is None else float(loss))

    return MonitorCallback()


def olmo_core_twin(model: Any) -> Callable[[], Any]:
    """Return what gives the transformers model of a live OLMo-core model, as its weights are then.

    The weights are shared where they lie whole in this process, and gathered where they are
    sharded; then every process has to call.
    """
    import torch
    from olmo_core.distributed.utils import get_full_tensor
    from olmo_core.nn.hf import convert_state_to_hf, get_hf_config
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    config = get_hf_config(model)
    with torch.random.fork_rng([]), no_init_weights():
        twin = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    # OLMo-core's models know no longest sequence, and write -1 for that.
    twin.config.max_position_embeddings = 2**31 - 1

    def refreshed() -> Any:
        whole = {key: get_full_tensor(value) for key, value in model.state_dict().items()}
        twin.load_state_dict(convert_state_to_hf(config, whole), assign=True)
        return twin.to(next(iter(whole.values())).device).requires_grad_(False)

    return refreshed
