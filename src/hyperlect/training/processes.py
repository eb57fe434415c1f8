"""What several processes that train one model do together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn


def average_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Average gradients over all processes, if there are several.

    At once and after the last backward pass, since only there do the gradients of the generator
    come together; and a model whose backbone is frozen has few. What one process did not touch
    counts as zero there; a parameter that none touched keeps no gradient.

    Args:
        parameters: the same in every process, in the same order.
        accelerator: the processes.
    """
    if accelerator.num_processes == 1:
        return
    touched = torch.tensor([float(p.grad is not None) for p in parameters])
    touched = accelerator.reduce(touched.to(accelerator.device), "sum")
    shared = [p for p, count in zip(parameters, touched.tolist(), strict=True) if count]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in shared]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    sizes = [parameter.numel() for parameter in shared]
    for parameter, mean in zip(shared, flat.split(sizes), strict=True):
        parameter.grad = mean.view_as(parameter)
