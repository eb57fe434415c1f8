"""How many parameters each method trains and stores, for T tasks and N languages.

Arithmetic alone (`hyperlect.accounting`, whose counts are tested against models), at two sizes.

    python benchmarks/efficiency.py

It writes results/efficiency.json, docs/efficiency.md and its plot. Ratios are against one trained
encoder (finetune).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from common import RESULTS
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertModel

from hyperlect.accounting import FORMULAS, Sizes, count
from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS, Method

DOCS = Path(__file__).parents[1] / "docs"
TASKS = (1, 4)
LANGUAGES = (1, 10, 100, 1_000, 7_000)
SHOWN: tuple[Method, ...] = ("hyperx", "task-hypernet", "adapters", "mad-x", "finetune")


def encoder_parameters(vocabulary: int, hidden: int, inner: int, positions: int) -> int:
    """Count those of a BERT of twelve layers, made without memory."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        max_position_embeddings=positions,
        num_attention_heads=12,
        num_hidden_layers=12,
    )
    with torch.device("meta"):
        return sum(p.numel() for p in BertModel(config, add_pooling_layer=False).parameters())


SETTINGS = {
    "mBERT, b = 256, p = 192": (
        Sizes(768, 12, encoder_parameters(119_547, 768, 3072, 512)),
        HypernetConfig(),
    ),
    "builtin:e5-small, b = 64, p = 32": (
        Sizes(384, 12, encoder_parameters(250_037, 384, 1536, 512)),
        HypernetConfig(bottleneck=64, projection=32),
    ),
}


def rows() -> list[dict[str, Any]]:
    """Count every method at every size."""
    made = []
    for name, (sizes, config) in SETTINGS.items():
        for tasks in TASKS:
            for languages in LANGUAGES:
                for method in METHODS:
                    found = count(method, config, sizes, tasks, languages)
                    made.append(
                        {
                            "encoder": name,
                            "method": method,
                            "tasks": tasks,
                            "languages": languages,
                            "trained": found.trained,
                            "another_task": found.per_task,
                            "another_language": found.per_language,
                            "ratio": round(found.trained / sizes.encoder, 5),
                            "against": "one trained encoder (finetune)",
                        }
                    )
    return made


def draw(path: Path) -> None:
    """Draw the parameters of four tasks against the number of languages."""
    colours = dict(zip(SHOWN, ("#12639c", "#6a51a3", "#3a7d44", "#a8520c", "#586673"), strict=True))
    figure, both = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axes, (name, (sizes, config)) in zip(both, SETTINGS.items(), strict=True):
        for method in SHOWN:
            totals = [count(method, config, sizes, 4, n).stored / 1e6 for n in LANGUAGES]
            dashed = "--" if method == "task-hypernet" else "-"
            axes.loglog(LANGUAGES, totals, dashed, color=colours[method], linewidth=1.8)
            near = {"hyperx": 3, "task-hypernet": -10, "adapters": 9 if sizes.hidden < 500 else -3}
            axes.annotate(
                method,
                (LANGUAGES[-1], totals[-1]),
                (5, near.get(method, -3)),
                textcoords="offset points",
                color=colours[method],
                fontsize=9,
            )
        axes.set_xlim(right=2e5)
        axes.set_ylim(bottom=0.8)
        axes.set_xticks(LANGUAGES, [f"{n:,}" for n in LANGUAGES])
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xlabel("languages N")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    both[0].set_ylabel("trained parameters, millions (4 tasks)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def page(made: list[dict[str, Any]]) -> str:
    """Write the page: formulas, counts, the plot."""
    lines = [
        "# Parameters",
        "",
        "<!-- Made by benchmarks/efficiency.py; do not edit. -->",
        "",
        "What each method trains, and so has to store, beside ordinary heads, which are the same",
        "for all. h is the hidden size, L the number of layers with adapters, b the bottleneck,",
        "e the size of an embedding, p that of the projected source embedding, T tasks, N",
        "languages, E the parameters of the encoder; an adapter has A = 2hb + b + 3h.",
        "",
        "| method | trained and stored |",
        "|---|---|",
        *(f"| `{method}` | {formula} |" for method, formula in FORMULAS.items()),
        "",
        "With mad-x, T counts the tasks other than `mlm`. One encoder serves all tasks with",
        "finetune and factorised; trained a task at a time there are T. The heads of factorised",
        "have 401 numbers for one of an ordinary head.",
        "",
        "![Parameters against languages](images/efficiency.png)",
    ]
    for name, (sizes, _) in SETTINGS.items():
        lines += [
            "",
            f"## {name}",
            "",
            f"Four tasks, in millions; the encoder has {sizes.encoder / 1e6:.1f}. The last columns"
            " are what one more adds.",
            "",
            "| method | " + " | ".join(f"N = {n:,}" for n in LANGUAGES) + " | language | task |",
            "|---|" + "--:|" * (len(LANGUAGES) + 2),
        ]
        for method in METHODS:
            own = [r for r in made if (r["encoder"], r["method"], r["tasks"]) == (name, method, 4)]
            counts = " | ".join(f"{r['trained'] / 1e6:,.2f}" for r in own)
            more = f"{own[0]['another_language']:,} | {own[0]['another_task']:,}"
            lines.append(f"| `{method}` | {counts} | {more} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    made = rows()
    table = Table("encoder", "method", "T", "N", "trained", "ratio", "one more language")
    for row in made:
        cells = [row[key] for key in ("encoder", "method", "tasks", "languages", "trained")]
        table.add_row(*map(str, cells), f"{row['ratio']:.4f}", f"{row['another_language']:,}")
    Console().print(table)
    text = json.dumps(made, indent=1) + "\n"
    (RESULTS / "efficiency.json").write_text(text, encoding="utf-8")
    (DOCS / "images").mkdir(exist_ok=True)
    draw(DOCS / "images" / "efficiency.png")
    (DOCS / "efficiency.md").write_text(page(made), encoding="utf-8")


if __name__ == "__main__":
    main()
