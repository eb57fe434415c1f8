"""A hub on disk for the paper's recipes: configurations, splits and columns of its data sets.

What is in it is written out here, not read off the recipes, so that a recipe that names what the
hub does not have is found out. The sentences are invented, and the same sort in every language.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value

from tests.hub import put_on_hub
from tests.project import ENTITIES, RELATIONS, TAGS, sentence
from tests.tiny import save_tiny

WIKI_CODES = (
    "en", "ar", "zh", "tr", "kk", "ta", "zh-yue", "br", "is", "tl", "yo", "fo", "ug", "mt", "sa",
    "hsb", "gn",
)  # fmt: skip
"""What the Wikipedias, and so WikiANN, call the seventeen languages."""

ALL = ("train", "dev", "test")
TREEBANKS = {
    "en_ewt": ALL, "ar_padt": ALL, "zh_gsd": ALL, "tr_imst": ALL, "kk_ktb": ("train", "test"),
    "ta_ttb": ALL, "yue_hk": ("test",), "br_keb": ("test",), "is_pud": ("test",),
    "tl_trg": ("test",), "yo_ytb": ("test",), "fo_oft": ("test",), "ug_udt": ALL, "mt_mudt": ALL,
    "sa_ufal": ("test",), "hsb_ufal": ("train", "test"), "gun_thomas": ("test",),
}  # fmt: skip
"""The treebanks of these languages in UD 2.7, with the parts they have."""

NER_TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
UPOS = [  # in the hub's order, with CoNLL-U's sign for none
    "NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET", "CCONJ", "PROPN", "PRON",
    "X", "_", "ADV", "INTJ", "VERB", "AUX",
]  # fmt: skip

STRINGS = List(Value("string"))
WIKIANN = Features(
    {"tokens": STRINGS, "ner_tags": List(ClassLabel(names=NER_TAGS)), "langs": STRINGS,
     "spans": STRINGS}
)  # fmt: skip
TREES = Features(
    {
        **dict.fromkeys(("sent_id", "text"), Value("string")),
        **dict.fromkeys(("comments", "tokens", "lemmas"), STRINGS),
        "upos": List(ClassLabel(names=UPOS)),
        **dict.fromkeys(("xpos", "feats"), STRINGS),
        "head": List(Value("uint16")),
        **dict.fromkeys(("deprel", "deps", "misc"), STRINGS),
        "mwt": List({name: Value("string") for name in ("id", "form", "feats", "misc")}),
        "empty_nodes": List({name: Value("string") for name in ("id", "form", "upos")}),
    }
)
ARTICLES = Features(dict.fromkeys(("id", "url", "title", "text"), Value("string")))

BACKBONES = {"bert-base-multilingual-cased": "bert", "xlm-roberta-base": "xlm-roberta"}


def write_hub(root: Path) -> Path:
    """Write the data sets below `root`, each as ``owner/name@revision``, and the two backbones."""
    parts = ("train", "validation", "test")
    _write(root / "unimelb-nlp/wikiann@main", dict.fromkeys(WIKI_CODES, parts), WIKIANN, _entities)
    _write(root / "commul/universal_dependencies@2.7", TREEBANKS, TREES, _tree)
    dumps = {f"20231101.{code}": ("train",) for code in WIKI_CODES}
    _write(root / "wikimedia/wikipedia@main", dumps, ARTICLES, _article)
    for family in BACKBONES.values():
        save_tiny(root / family, family)
    return root


def use_hub(root: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub's clients find what `write_hub` wrote, and nothing else."""
    load_dataset = datasets.load_dataset

    def load(path: str, *, revision: str | None = None, **options: Any) -> Any:
        folder = root / f"{path}@{revision or 'main'}"
        if not folder.is_dir():
            raise FileNotFoundError(f"the hub has no {path} at revision {revision}")
        return load_dataset(str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", work / "datasets")
    for hub_id, family in BACKBONES.items():
        put_on_hub(hub_id, root / family, work / "hub", monkeypatch)


def _write(root: Path, configs: dict[str, Sequence[str]], features: Features, make: Any) -> None:
    """Write a data set: a Parquet file a split, and the card that says which is which."""
    for config, splits in configs.items():
        (root / config).mkdir(parents=True)
        for split in splits:
            source = random.Random(f"{root.name} {config} {split}")
            rows = [make([*sentence(source), f"{source.random()}"], config) for _ in range(3)]
            data = Dataset.from_list(rows, features=features)
            data.to_parquet(str(root / config / f"{split}.parquet"))
    card = [
        {
            "config_name": config,
            "data_files": [
                {"split": split, "path": f"{config}/{split}.parquet"} for split in splits
            ],
        }
        for config, splits in configs.items()
    ]
    (root / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': card})}---\n")


def _entities(words: list[str], config: str) -> dict[str, Any]:
    tags = [ENTITIES.get(word, "O") for word in words]
    spans = [f"{tag[2:]}: {word}" for word, tag in zip(words, tags, strict=True) if tag != "O"]
    return {"tokens": words, "ner_tags": tags, "langs": [config] * len(words), "spans": spans}


def _tree(words: list[str], config: str) -> dict[str, Any]:
    """Every word hangs on the first; the first two are written as one."""
    tags = [TAGS.get(word, "NUM") for word in words]
    none = ["_"] * len(words)
    return {
        "sent_id": config,
        "text": f"{words[0]}{' '.join(words[1:])}",
        "comments": [],
        "tokens": words,
        "lemmas": words,
        "upos": tags,
        "head": [0, *[1] * (len(words) - 1)],
        "deprel": ["root", *(f"{RELATIONS.get(tag, 'nummod')}:x" for tag in tags[1:])],
        "mwt": [{"id": "1-2", "form": "".join(words[:2]), "feats": "_", "misc": "_"}],
        "empty_nodes": [{"id": "2.1", "form": "_", "upos": "_"}],
        **dict.fromkeys(("xpos", "feats", "deps", "misc"), none),
    }


def _article(words: list[str], config: str) -> dict[str, Any]:
    text = f"{words[0]}\n\n{' '.join(words)}\n{' '.join(reversed(words))}"
    return {"id": words[-1], "url": f"https://{config}.test/", "title": words[0], "text": text}
