"""The command line: one file a verb, each of which parses, calls and prints."""

from __future__ import annotations

import os

from .app import main

__all__ = ["main"]

# torch takes large blocks from the system anew each time: the gradients of a generator, 75 MB at
# every step, cost more time for their memory's first touch than for their arithmetic. In huge pages
# they do not (docs/performance.md). torch reads this when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
