"""``python -m hyperlect.experiment``: the process of one run, which the runner starts."""

from __future__ import annotations

import sys

from .worker import main

sys.exit(main(sys.argv[1:]))
