"""The unmodified library `adapters` on batches that hyperlect made: a process of its own.

`cpu_speed.py engines` starts it with the Python of the environment that `make peers` makes, writes
one command a line ("infer", "train", "logits") and reads one line of JSON for each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

THREADS = 1
LEARNING_RATE = 1e-3
IGNORED = -100


class Peer:
    """A cell that was exported for the library, with its encoder.

    Args:
        folder: the export.
        batches: input_ids, attention_mask and labels (`IGNORED` where there is none) of each.
    """

    def __init__(self, folder: Path, batches: list[dict[str, Any]]) -> None:
        import adapters

        self.model = adapters.AutoAdapterModel.from_pretrained(folder / "encoder")
        name = self.model.load_adapter(str(folder), set_active=True)
        self.model.train_adapter(name)  # freezes the encoder
        # Neither side drops anything of the frozen encoder; the adapter has no dropout.
        self.model.eval()
        self.batches = batches
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=LEARNING_RATE, weight_decay=0, fused=True
        )

    def infer(self) -> None:
        """Score every batch."""
        with torch.inference_mode():
            for batch in self.batches:
                self.model(**without_labels(batch))

    def train(self) -> None:
        """Take a step on every batch: forward, backward, clipping, AdamW."""
        for batch in self.batches:
            self.model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def logits(self) -> list[Any]:
        """Return the logits of the first batch."""
        with torch.inference_mode():
            return self.model(**without_labels(self.batches[0])).logits.tolist()


def without_labels(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Run it, and return the seconds by the clock and those of the processor."""
    began, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began, time.process_time() - busy


def main(folder: Path, batches: Path) -> None:
    torch.set_num_threads(THREADS)
    peer = Peer(folder, torch.load(batches, weights_only=True))
    names = ("adapters", "transformers", "torch")
    print(json.dumps({name: metadata.version(name) for name in names}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        answer: Any = peer.logits() if command == "logits" else timed(getattr(peer, command))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
