"""``python -m hyperlect.cli``, as for ``accelerate launch -m hyperlect.cli train RECIPE``."""

from __future__ import annotations

from .app import main

main()
