"""Features of languages in a model: reading and reducing them, and languages that are added."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlect import HyperX
from hyperlect.backbone import Backbone
from hyperlect.data.encoding import encode_inputs
from hyperlect.errors import HyperlectError, RunError
from hyperlect.hypernet import Hypernet
from hyperlect.model.features import FeatureSource, LanguageFeatures, evenly_from, text_vector
from tests.tiny import FAMILY_NAMES, saved_backbone, tiny_backbone

from .models import IDS, MASK, POS, POSITIONS, tiny_model

TABLE = "code,a,b,c\neng,1,0,3\nisl,1,1,3\ntur,0,0,3\ndeu,1,0.5,3\n"
SENTENCES = [["the", "cat", "sees", "Oslo"], ["Anna", "xyz"], ["old"] * 40]


def rows(backbone: Backbone, sentences: list[list[str]] = SENTENCES) -> list[Any]:
    return encode_inputs(sentences, POS, backbone.tokenizer, 32)


def table(folder: Path, text: str = TABLE) -> str:
    path = folder / "languages.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def model_of(
    folder: Path,
    base: str = "features",
    text: int | None = 10,
    backbone: Backbone | None = None,
    **fields: Any,
) -> HyperX:
    hypernet = {"language_base": base, "base_components": 2, "base_hidden": 4, **fields}
    source = FeatureSource.read(table(folder), text, layer=1)
    model = tiny_model(backbone or tiny_backbone(), hypernet=hypernet, language_features=source)
    sentences = {"eng": SENTENCES[:1], "isl": SENTENCES[1:], "tur": SENTENCES[2:]}
    model.set_features({code: [rows(model.backbone, s)] for code, s in sentences.items()})
    return model.eval()


def logits(model: HyperX, language: str) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, MASK, task="pos", language=language, positions=POSITIONS).logits


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_states_of_a_lower_layer_are_those_of_the_whole_encoder(family: str) -> None:
    backbone = tiny_backbone(family).eval()
    ids = IDS.where(MASK.bool(), backbone.tokenizer.pad_token_id)
    _, states = backbone(ids, MASK, output_hidden_states=True)
    assert states is not None
    for layer, expected in enumerate(states):
        assert torch.equal(backbone.lower_states(ids, MASK, layer), expected)
    assert torch.equal(backbone.lower_states(ids, MASK, 9), states[-1])
    assert torch.equal(backbone(ids, MASK)[0], states[-1])  # nothing stays behind


def test_the_text_vector_is_the_mean_over_sub_words() -> None:
    backbone = tiny_backbone().train()
    texts = rows(backbone)
    special = backbone.tokenizer.all_special_ids
    total, count = torch.zeros(backbone.hidden_size), 0
    for row in texts:
        ids = torch.tensor([row["input_ids"]])
        states = backbone.eval().lower_states(ids, torch.ones_like(ids), 1)[0]
        backbone.train()
        for token, state in zip(row["input_ids"], states, strict=True):
            if token not in special:
                total, count = total + state, count + 1
    assert torch.allclose(text_vector(backbone, texts, 1), total / count, atol=1e-5)
    assert backbone.training
    assert text_vector(backbone, [], 1).isnan().all()


def test_rows_are_taken_evenly_from_data_sets() -> None:
    texts: list[list[Any]] = [list(range(100)), list(range(3))]
    assert evenly_from(texts, 10) == [0, 20, 40, 60, 80, 0, 1, 2]
    assert evenly_from([], 10) == []
    assert evenly_from([[1, 1], [2, 2], [3, 3], [4, 4]], 5) == [1, 1, 2, 3, 4]


def test_components_are_those_of_standardised_columns() -> None:
    backbone = tiny_backbone()
    source = FeatureSource("uriel", None, columns={"a": 4, "b": 1})
    features = LanguageFeatures(source, backbone, components=8)
    torch.manual_seed(2)
    raw = torch.rand(4, 5) * torch.tensor([1.0, 100.0, 0.0, 3.0, 7.0])  # one is constant
    features.fit(raw)
    scores = features(raw)
    assert scores.shape == (4, 8)
    assert torch.allclose(scores.mean(dim=0), torch.zeros(8), atol=1e-5)
    standard = (raw - raw.mean(dim=0)) / raw.std(dim=0, correction=0).clamp(min=1e-9)
    weighted = standard * torch.tensor([1 / 3, 1 / 3, 0, 1 / 3, 1]).sqrt()
    expected = weighted @ weighted.T
    products = scores @ scores.T
    assert torch.allclose(products / products.trace(), expected / expected.trace(), atol=1e-5)
    assert (scores[:, 3:] == 0).all()  # of four languages about their mean
    # A constant column says nothing, and a missing value is the mean.
    other = raw[0].clone()
    other[2] = 5.0
    assert torch.allclose(features(other), scores[0], atol=1e-5)
    assert (features(torch.full((5,), torch.nan)) == 0).all()


def test_fewer_components_than_languages() -> None:
    features = LanguageFeatures(FeatureSource("uriel", None, columns={"a": 6}), tiny_backbone(), 2)
    features.fit(torch.rand(5, 6))
    assert features(torch.rand(3, 6)).shape == (3, 2)


@pytest.mark.parametrize("base", ["features", "neighbours"])
def test_saving_and_loading_keeps_features(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = model_of(tmp_path, base, backbone=saved_backbone(tmp_path / "encoder"))
    model.save_pretrained("run")
    loaded = HyperX.from_pretrained("run")
    assert loaded.config == model.config
    for name, parameter in model.own_parameters().items():
        assert torch.equal(loaded.own_parameters()[name], parameter)
        assert loaded.own_parameters()[name].requires_grad == parameter.requires_grad
    assert torch.equal(logits(loaded, "isl"), logits(model, "isl"))
    assert f'"{tmp_path}' not in (tmp_path / "run" / "model.json").read_text()
    texts = {"deu": [rows(model.backbone)]}
    with model.described(texts), loaded.described(texts):
        assert torch.equal(logits(loaded, "deu"), logits(model, "deu"))


@pytest.mark.parametrize("base", ["features", "neighbours"])
def test_languages_are_described_for_the_time_of_a_block(tmp_path: Path, base: str) -> None:
    model = model_of(tmp_path, base)
    before = {name: tensor.clone() for name, tensor in model.own_parameters().items()}
    tables = model.language_parameters()
    outputs = {code: logits(model, code) for code in ("eng", "isl", "deu", "fra")}
    texts = {"isl": [], "deu": [rows(model.backbone)], "fra": [], "fin": [rows(model.backbone)]}
    with model.cached_weights():
        with model.described(texts):
            sources = [model.language_source(code) for code in ("isl", "deu", "fra", "fin")]
            assert sources[:2] == ["own vector", "typology and text"]
            assert sources[2] == model.config.language_source("nld")
            assert sources[3] == "text"
            assert not torch.equal(logits(model, "deu"), outputs["deu"])
            assert torch.equal(logits(model, "eng"), outputs["eng"])
            assert torch.equal(logits(model, "fra"), outputs["fra"])
        with model.described({"fin": [rows(model.backbone)]}):
            logits(model, "fin")  # in the row that German had
        for code, expected in outputs.items():
            assert torch.equal(logits(model, code), expected)
    assert model.language_parameters() == tables
    assert model.languages == ["eng", "isl", "tur"]
    after = model.own_parameters()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_several_threads_describe_languages(tmp_path: Path) -> None:
    model = model_of(tmp_path, text=None)
    with model.described({"deu": []}):
        expected = {code: logits(model, code) for code in ("deu", "eng")}
    wrong: list[str] = []

    def work(code: str) -> None:
        for _ in range(10):
            with model.described({code: []}):
                if not torch.equal(logits(model, code), expected[code]):
                    wrong.append(code)

    threads = [threading.Thread(target=work, args=(code,)) for code in ("deu", "eng") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("base", ["features", "neighbours"])
def test_adding_a_language_leaves_the_others(tmp_path: Path, base: str) -> None:
    model = model_of(tmp_path, base, language_dropout=0.5)
    outputs = {code: logits(model, code) for code in model.languages}
    features, source = model.read_features("deu", [rows(model.backbone)])
    assert source == "typology and text"
    model.add_language("deu", {}, source, features)
    assert model.language_source("deu") == "typology and text"
    assert all(torch.equal(logits(model, code), out) for code, out in outputs.items())
    assert isinstance(model.adapters, Hypernet)
    hypernet_base = model.adapters.source.base
    assert hypernet_base is not None
    assert hypernet_base.anchors.tolist() == [1, 1, 1, 0]
    # The row is what training would drop to: the base alone.
    table = model.adapters.source.embeddings["language"]
    alone = hypernet_base(table, hypernet_base.features[[3]], torch.tensor([3]))
    assert torch.allclose(model.language_vectors()[1][3], alone[0], atol=1e-6)


@pytest.mark.parametrize("base", ["features", "neighbours"])
@pytest.mark.parametrize("with_features", [False, True])
def test_a_mixture_is_one_of_vectors(tmp_path: Path, base: str, with_features: bool) -> None:
    model = model_of(tmp_path, base)
    vectors = model.language_vectors()[1]
    features = model.read_features("deu")[0] if with_features else None
    model.add_language("deu", {"eng": 0.25, "tur": 0.75}, "like", features)
    expected = vectors[0] * 0.25 + vectors[2] * 0.75
    assert torch.allclose(model.language_vectors()[1][3], expected, atol=1e-6)


def test_features_need_a_base() -> None:
    model = tiny_model()
    with pytest.raises(HyperlectError, match="language_base"):
        model.add_language("deu", {}, "typology", torch.zeros(3))
    with pytest.raises(HyperlectError, match="language_base"):
        model.read_features("deu")
    with pytest.raises(ValueError, match="language_features"):
        tiny_model(hypernet={"language_base": "features"})
    with model.described({"deu": []}):
        assert model.language_source("deu") == "mean of the trained languages"


def test_a_table_with_other_columns_than_in_training(tmp_path: Path) -> None:
    model = model_of(tmp_path, text=None)
    assert model.features is not None
    del model.features.typology
    table(tmp_path, "code,a,b,d\ndeu,1,1,1\n")
    with pytest.raises(RunError, match=r"languages\.csv"), model.described({"deu": []}):
        pass
    assert model.languages == ["eng", "isl", "tur"]
