"""What the processes of one training do together: gradients, stopping, and the end of one."""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed import DistError
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ..errors import RunError
from ..hypernet import Hypernet
from ..model import HyperX
from ..run_folder import RECIPE, checkpoints


@contextmanager
def losing_a_process(run: Path) -> Iterator[None]:
    """Turn what torch says inside the block when another process has ended into a `RunError`.

    The launcher then ends the job: no process waits for one that is not there.
    """
    try:
        yield
    except RuntimeError as error:
        # NCCL raises errors of a class of their own, gloo has only its name in the message.
        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        remedy = f"Start it again: hyperlect train {run / RECIPE}"
        if checkpoints(run):
            remedy = (
                f"Resume it from its last checkpoint with the same launcher and any number of "
                f"processes: hyperlect train --resume {run}"
            )
        raise RunError(
            f"Another process of this training has ended, so this one stops, too. Its own message "
            f"says why; one that was killed, perhaps for lack of memory, says nothing. {remedy}"
        ) from error


def any_process(here: bool, accelerator: Accelerator) -> bool:
    """Whether something holds in any process; the same answer in all of them.

    One that stopped a step before the others would leave them waiting for its gradients.
    """
    return bool(summed(torch.tensor([float(here)]), accelerator).item() > 0)


def summed(tensor: Tensor, accelerator: Accelerator | None) -> Tensor:
    """Sum a tensor over all processes; it is returned as it is where there is only one."""
    if accelerator is None or accelerator.num_processes == 1:
        return tensor
    return accelerator.reduce(tensor.to(accelerator.device), "sum")  # type: ignore[no-any-return]


def sum_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Sum gradients over all processes, if there are several. Those of shares are sums already.

    In one piece and after the last backward pass, since only then the generator has its gradients;
    and a model with a frozen backbone has few. A parameter that one process did not touch counts as
    zero there; one that no process touched keeps no gradient.

    Args:
        parameters: the same in every process, in the same order.
        accelerator: the processes.
    """
    if accelerator.num_processes == 1:
        return
    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    touched = summed(torch.tensor([float(p.grad is not None) for p in parameters]), accelerator)
    for parameter, count in zip(parameters, touched.tolist(), strict=True):
        if count and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        vector_to_parameters(summed(parameters_to_vector(gradients), accelerator), gradients)


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float | None) -> Tensor:
    """Scale gradients down to a norm of at most `limit`, shares too; return the norm before.

    Args:
        parameters: the same in every process.
        limit: None for none.

    Returns:
        The norm of all gradients together, the same in every process.
    """
    limit = limit or math.inf
    # Operations on lists do not take both kinds at once.
    kinds = [[p for p in parameters if isinstance(p, DTensor) is kind] for kind in (False, True)]
    if not kinds[1]:
        return nn.utils.clip_grad_norm_(parameters, limit)
    gradients = [[p.grad for p in kind if p.grad is not None] for kind in kinds]
    norms = [whole(nn.utils.get_total_norm(kind)) for kind in gradients if kind]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, limit, norm)
    return norm


class Shards:
    """The hypernetwork of a model, divided over the processes: fully sharded data parallelism.

    Each process holds its share of every tensor, of its gradient and of its moments. Each map of
    the generator, which hold nearly all of it, is put together when weights are generated and when
    their gradients come back, and summed gradients are handed out again. As all processes must
    take part, a step generates once, whatever rows a process has: see `HyperX.shared_weights`.

    Args:
        model: with a hypernetwork; it is changed in place. Its parameters are others then.
        accelerator: the processes.
    """

    def __init__(self, model: HyperX, accelerator: Accelerator) -> None:
        assert isinstance(model.adapters, Hypernet)
        self.model, hypernet = model, model.adapters
        empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in hypernet.parameters()}
        self._ordinary = copy.deepcopy(hypernet, empty)
        # Generated weights are views, and nothing changes them in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for module in (*hypernet.generator.maps.values(), hypernet):
            fully_shard(module, mesh=mesh)
            assert isinstance(module, FSDPModule)
            # A step's loss is a sum over processes; and gloo cannot divide.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)

    def divide(self) -> None:
        """Drop what an evaluation has put together, since only a backward pass does so by itself.

        The parameters of the model would not be those that the optimiser changes.
        """
        assert isinstance(self.model.adapters, FSDPModule)
        self.model.adapters.reshard()

    def join(self) -> None:
        """Give the model an ordinary hypernetwork again, in every process, with the same numbers.

        The optimiser keeps the shares.
        """
        assert self.model.adapters is not None
        tensors = {n: whole(p).detach() for n, p in self.model.adapters.named_parameters()}
        self._ordinary.load_state_dict(tensors, assign=True)
        self.model.adapters = self._ordinary.train(self.model.adapters.training)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor, put together if processes hold shares of it; then all must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Put tensors together on the CPU. All processes must call this; those that `keep` have them.

    One tensor after the other, so that no device need hold all.
    """
    gathered = {}
    for name, tensor in tensors.items():
        joined = whole(tensor)
        if keep:
            gathered[name] = joined.detach().cpu()
    return gathered


class StopRequest:
    """Turns SIGINT (Ctrl-C) and SIGTERM into a question that the loop asks after each step.

    A second Ctrl-C acts at once. A second SIGTERM does not: schedulers and launchers repeat it, and
    they want the work to be saved. Signals reach only the main thread, so in any other one nothing
    is caught.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._receive) for n in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
