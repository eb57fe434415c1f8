"""The training step of the hypernetwork against that of ordinary adapters of the same shape.

Both train the same batches of the shipped sample corpus on builtin:e5-small, in turn, each step
whole: forward, backward, clipping, AdamW. The ratio is what generating the weights costs.

    python benchmarks/step_cost.py [--bottleneck 64] [--projection 32] [--repetitions 30]
"""

from __future__ import annotations

import argparse
import statistics

import torch
from common import interleaved, machine, ratio, write

from hyperlect.backbone import load_backbone
from hyperlect.data.batching import Batch, collate
from hyperlect.data.encoding import encode_inputs
from hyperlect.data.examples import Source
from hyperlect.data.readers import read
from hyperlect.data.sample import FOLDER
from hyperlect.grid import Cell
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.tasks import UPOS, Task, TaskType
from hyperlect.training.trainer import batch_loss

LANGUAGES = ("eng", "fin", "tur", "rus")
TASK = Task("pos", TaskType.TAGGING, UPOS)


def batches(tokenizer: object, size: int) -> list[Batch]:
    made = []
    for language in LANGUAGES:
        fields = {"word": 1, "label": 2}
        source = Source("columns", str(FOLDER / f"{language}.train.tsv"), fields, comment="# ")
        examples = read(source, word_level=True)[:size]
        rows = encode_inputs([e.words for e in examples], TASK, tokenizer, 256)
        for row, example in zip(rows, examples, strict=True):
            row["labels"] = [UPOS.index(label) for label in example.labels]
        made.append(collate(rows, TASK, tokenizer, language))
    return made


class Step:
    """One whole training step, on the next of some batches."""

    def __init__(self, method: str, config: HypernetConfig, backbone: object, data: list[Batch]):
        torch.manual_seed(1)
        trained = tuple(Cell("pos", language) for language in LANGUAGES)
        settings = HyperXConfig((TASK,), LANGUAGES, trained, method, config)
        self.model = HyperX(backbone, settings).train()
        self.model.slots.remove()  # the backbone is shared: only one model's hooks may be in it
        self.parameters = list(self.model.own_parameters().values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0, fused=True)
        self.data, self.count = data, 0

    def __call__(self) -> None:
        batch = self.data[self.count % len(self.data)]
        self.count += 1
        self.model.slots.insert()
        batch_loss(self.model, batch).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.slots.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bottleneck", type=int, default=64)
    parser.add_argument("--projection", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=30)
    arguments = parser.parse_args()

    backbone = load_backbone("builtin:e5-small").eval()
    data = batches(backbone.tokenizer, arguments.batch_size)
    config = HypernetConfig(bottleneck=arguments.bottleneck, projection=arguments.projection)
    hypernet = Step("hyperx", config, backbone, data)
    ordinary = Step("adapters", config, backbone, data)
    runs = {"hypernetwork": hypernet, "ordinary adapters": ordinary}
    # As many steps a repetition as batches, so that every repetition does the same work.
    timed = {name: lambda s=step: [s() for _ in data] for name, step in runs.items()}
    times = interleaved(timed, arguments.repetitions)
    found = {
        "measure": f"training step, b = {config.bottleneck}, p = {config.projection}",
        "against": "ordinary adapters of the same shape, the same batches",
        **ratio(times, "hypernetwork", "ordinary adapters"),
        "milliseconds": {
            name: round(1000 * statistics.median(t) / len(data), 2) for name, t in times.items()
        },
        "trained_parameters": {
            name: sum(p.numel() for p in step.model.adapters.parameters())
            for name, step in runs.items()
        },
        "batch": f"{arguments.batch_size} sentences of one cell, {len(data)} cells in turn",
        "repetitions": arguments.repetitions,
        "machine": machine(),
    }
    path = write(f"step_cost_b{config.bottleneck}_p{config.projection}", found)
    print(f"{found['measure']} against {found['against']}: {found['ratio']:.3f} → {path}")


if __name__ == "__main__":
    main()
