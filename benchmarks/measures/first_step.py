"""Run hyperlect's command line and leave right after the first optimiser step.

Whoever starts this process measures how long it lives.

    python first_step.py train RECIPE --out RUN
"""

from __future__ import annotations

import os
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from hyperlect.cli.__main__ import main


def leave(_optimizer: Any, _arguments: Any, _keywords: Any) -> None:
    os._exit(0)  # at once: what would come next is no part of starting


if __name__ == "__main__":
    register_optimizer_step_post_hook(leave)
    main()
    raise SystemExit("The run ended without an optimiser step.")
