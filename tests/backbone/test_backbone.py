"""The frozen encoder: what it computes is what transformers computes."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hyperlect.backbone import Backbone, encoder_digest, load_backbone
from hyperlect.errors import BackboneError
from hyperlect.model import HyperX
from tests.model.models import loss, tiny_model
from tests.tiny import (
    FAMILY_NAMES,
    HIDDEN,
    LAYERS,
    POSITIONS,
    saved_backbone,
    tiny_backbone,
    tiny_encoder,
)

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
MASK[1, 7:] = 0

each_family = pytest.mark.parametrize("family", FAMILY_NAMES)


@pytest.mark.parametrize("training", [False, True])
@each_family
def test_hidden_states_are_those_of_transformers(family: str, training: bool):
    plain, backbone = tiny_encoder(family).train(training), tiny_backbone(family).train(training)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = plain(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
        torch.manual_seed(1)
        last, states = backbone(IDS, MASK, output_hidden_states=True)
        torch.manual_seed(1)
        alone, no_states = backbone(IDS, MASK)
    assert torch.equal(last, expected.last_hidden_state)
    assert torch.equal(alone, last)
    assert no_states is None
    assert len(states) == LAYERS + 1
    # The last is `last`; of some models, older versions of transformers give it before its norm.
    for mine, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        assert torch.equal(mine, theirs)


@each_family
def test_recording_hidden_states_leaves_hooks_as_they_were(family: str):
    """They change neither: torch reads them while other threads run."""
    backbone = tiny_backbone(family)

    def hooks() -> list[Any]:
        return [{**m._forward_hooks, **m._forward_pre_hooks} for m in backbone.modules()]

    before = hooks()
    backbone(IDS, MASK, output_hidden_states=True)
    backbone.lower_states(IDS, MASK, layer=1)
    assert hooks() == before


def test_hidden_states_are_those_of_the_same_thread():
    backbone = tiny_backbone("bert")
    ids, mask = torch.tensor([[2, 9, 14, 3]]), torch.ones(1, 4, dtype=torch.long)
    other, expected = torch.tensor([[2, 7, 3]]), backbone(ids, mask, output_hidden_states=True)[1]

    def run_in_another_thread(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=backbone, args=(other, torch.ones_like(other)))
            thread.start()
            thread.join()

    layer = backbone.encoder.get_submodule("encoder.layer.1")
    handle = layer.register_forward_pre_hook(run_in_another_thread)
    _, states = backbone(ids, mask, output_hidden_states=True)
    handle.remove()
    assert [state.shape for state in states] == [state.shape for state in expected]
    assert all(torch.equal(*pair) for pair in zip(states, expected, strict=True))


def test_token_types_are_passed_on():
    plain, backbone = tiny_encoder("bert"), tiny_backbone("bert")
    types = torch.zeros_like(IDS)
    types[:, 5:] = 1
    last, _ = backbone(IDS, MASK, types)
    expected = plain(input_ids=IDS, attention_mask=MASK, token_type_ids=types).last_hidden_state
    assert torch.equal(last, expected)
    assert not torch.equal(last, backbone(IDS, MASK)[0])


@each_family
def test_sizes_are_read_from_the_encoder(family: str):
    backbone = tiny_backbone(family)
    assert (backbone.hidden_size, backbone.layers) == (HIDDEN, LAYERS)
    assert backbone.vocabulary == len(backbone.tokenizer)
    assert backbone.word_embeddings.shape == (backbone.vocabulary, HIDDEN)


@each_family
def test_the_longest_input_fits_and_no_longer_one(family: str):
    backbone = tiny_backbone(family)
    assert backbone.max_length == POSITIONS
    ids = torch.full((1, POSITIONS), 6)
    assert backbone(ids, torch.ones_like(ids))[0].shape == (1, POSITIONS, HIDDEN)
    if family in ("bert", "roberta", "xlm-roberta"):  # the others have relative positions
        longer = torch.full((1, POSITIONS + 1), 6)
        with pytest.raises((IndexError, RuntimeError)):
            backbone(longer, torch.ones_like(longer))


def test_the_tokenizer_may_limit_the_longest_input():
    backbone = tiny_backbone("bert")
    backbone.tokenizer.model_max_length = 20
    assert backbone.max_length == 20
    backbone.tokenizer.model_max_length = int(1e30)  # transformers' way to say that it is not known
    assert backbone.max_length == POSITIONS
    assert Backbone(tiny_encoder("xlm-roberta")).max_length == POSITIONS


@each_family
def test_everything_is_frozen_and_layer_norms_are_listed(family: str):
    backbone = tiny_backbone(family)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    norms = {
        f"encoder.{path}.{name}"
        for path, module in backbone.encoder.named_modules()
        if isinstance(module, nn.LayerNorm) or "RMSNorm" in type(module).__name__
        for name, _ in module.named_parameters()
    }
    assert {f"encoder.{name}" for name, _ in backbone.layer_norms()} == norms
    assert len(norms) > LAYERS


@each_family
def test_the_parameters_of_the_top_layers_are_listed(family: str):
    backbone = tiny_backbone(family)
    everything = dict(backbone.encoder.named_parameters())
    assert dict(backbone.top_parameters(None)).keys() == everything.keys()
    path = backbone.family.layer.format(i=LAYERS - 1)
    last = {name for name in everything if name.startswith(f"{path}.")}
    assert {name for name, _ in backbone.top_parameters(1)} == last
    assert len(last) > 5
    layers = {name for name, _ in backbone.top_parameters(LAYERS)}
    assert last < layers < everything.keys()


@each_family
def test_recomputed_layers_run_twice_in_training(family: str):
    """Each run is in the context that was asked for."""
    backbone = tiny_backbone(family)
    entered: list[str] = []

    @contextlib.contextmanager
    def note(name: str) -> Iterator[None]:
        entered.append(name)
        yield

    backbone.checkpoint_activations(lambda: (note("first"), note("second")))
    backbone.encoder.get_input_embeddings().weight.requires_grad_()
    backbone.train()
    backbone(IDS, MASK)[0].sum().backward()
    assert entered == ["first"] * LAYERS + ["second"] * LAYERS


def test_an_encoder_that_cannot_recompute_activations_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    backbone = tiny_backbone()

    def refuse(*_: object) -> None:
        raise ValueError("not this one")

    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
        monkeypatch.setattr(backbone.encoder, name, refuse, raising=False)
    with pytest.raises(BackboneError, match="not this one"):
        backbone.checkpoint_activations(lambda: None)


def test_an_unsupported_encoder_is_refused():
    from transformers import AlbertConfig, AlbertModel

    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    encoder = AlbertModel(AlbertConfig(**sizes, embedding_size=4))
    with pytest.raises(BackboneError, match='"albert"'):
        Backbone(encoder)


def test_a_digest_tells_encoders_of_the_same_shapes_apart():
    backbone = tiny_backbone()
    assert encoder_digest(backbone.encoder) == backbone.digest
    for parameter in backbone.encoder.parameters():
        with torch.no_grad():
            parameter.add_(0.001)
            assert encoder_digest(backbone.encoder) != backbone.digest
            parameter.sub_(0.001)


def test_a_digest_reads_every_number():
    """Version 0.1 read a thousand of each tensor; its digests are still known."""
    encoder = tiny_encoder("bert", hidden=256)
    before, sampled = encoder_digest(encoder), encoder_digest(encoder, sampled=True)
    encoder.get_input_embeddings().weight.data.view(-1)[1] += 1
    assert encoder_digest(encoder) != before
    assert encoder_digest(encoder, sampled=True) == sampled
    assert all(map(Backbone(encoder).has_digest, (encoder_digest(encoder), sampled)))
    assert not Backbone(encoder).has_digest(before)


# --- torch.compile


def gradients(model: HyperX) -> dict[str, Tensor]:
    model.zero_grad()
    (loss(model, "pos", "eng") + loss(model, "ner", "isl")).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch):
    """And it is compiled once. A backend that writes no machine code saves time here."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    model = tiny_model(head_dropout=0.0).train()
    model.backbone.eval()
    notices: list[str] = []
    plain = gradients(model)
    model.backbone.compile_encoder(notices.append)
    compiled = gradients(model)
    if notices:
        pytest.skip(notices[0])
    assert plain.keys() == compiled.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-4)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert gradients(model).keys() == plain.keys()
        loss(model, "topic", "tur").backward()
    assert not notices


def test_an_encoder_that_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch):
    def broken_compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def compiled(**inputs: Any) -> Any:
            raise RuntimeError("no compiler here\nand a long trace")

        return compiled

    monkeypatch.setattr(torch, "compile", broken_compile)
    model, notices = tiny_model(), []
    plain = loss(model, "pos", "eng").item()
    model.backbone.compile_encoder(notices.append)
    assert [loss(model, "pos", "eng").item() for _ in range(2)] == [plain, plain]
    (notice,) = notices
    assert "no compiler here" in notice
    assert "trace" not in notice


# --- arithmetic in one precision

CAST = torch.ops.aten._to_copy.default


class Casts(TorchDispatchMode):
    """Notes the shapes of what is cast."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is CAST:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def frozen_matrices(backbone: Backbone) -> dict[str, nn.Parameter]:
    return {
        f"{path}.{name}": parameter
        for path, module in backbone.encoder.named_modules()
        if isinstance(module, nn.Linear)
        for name, parameter in module.named_parameters(recurse=False)
    }


@contextlib.contextmanager
def attending_plainly(backbone: Backbone) -> Iterator[None]:
    """Compute attention inside the block as bf16 does on a CPU, by plain matrix products."""
    before = backbone.encoder.config._attn_implementation
    backbone.encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        backbone.encoder.set_attn_implementation(before)


@each_family
def test_bf16_is_autocast_to_the_last_bit_and_casts_frozen_matrices_once(family: str):
    backbone = tiny_backbone(family)
    shapes = {tuple(parameter.shape) for parameter in frozen_matrices(backbone).values()}
    with attending_plainly(backbone), torch.autocast("cpu", torch.bfloat16), Casts() as casts:
        expected, _ = backbone(IDS, MASK)
    assert shapes <= set(casts.shapes)
    with backbone.arithmetic("bf16"):
        backbone(IDS, MASK)
    with backbone.arithmetic("bf16"), Casts() as casts:
        output, _ = backbone(IDS, MASK)
    assert not shapes & set(casts.shapes)
    assert torch.equal(output, expected)


def test_gradients_in_bf16_are_those_of_autocast():
    model, plain = tiny_model(head_dropout=0.0), tiny_model(head_dropout=0.0)
    with model.backbone.arithmetic("bf16"):
        mine = gradients(model)
    with attending_plainly(plain.backbone), torch.autocast("cpu", torch.bfloat16):
        expected = gradients(plain)
    assert mine.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(mine[name], gradient), name


@pytest.mark.parametrize("precision", ["bf16", "fp32", "tf32"])
def test_after_the_block_the_encoder_is_as_before(precision: Any):
    backbone = tiny_backbone()
    expected, _ = backbone(IDS, MASK)
    pointers = {name: p.data_ptr() for name, p in backbone.named_parameters()}

    def interrupted() -> None:
        with backbone.arithmetic(precision):
            backbone(IDS, MASK)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {name: p.data_ptr() for name, p in backbone.named_parameters()} == pointers
    assert all(parameter.dtype is torch.float32 for parameter in backbone.parameters())
    assert torch.equal(backbone(IDS, MASK)[0], expected)
    with backbone.arithmetic("fp32"):
        assert torch.equal(backbone(IDS, MASK)[0], expected)


def test_blocks_of_bf16_may_be_nested():
    backbone = tiny_backbone()
    with backbone.arithmetic("bf16"):
        expected, _ = backbone(IDS, MASK)
        with backbone.arithmetic("bf16"):
            assert torch.equal(backbone(IDS, MASK)[0], expected)
        assert torch.equal(backbone(IDS, MASK)[0], expected)
    assert all(parameter.dtype is torch.float32 for parameter in backbone.parameters())


@each_family
def test_attention_as_plain_products_gives_the_same(family: str):
    backbone = tiny_backbone(family).eval()
    expected, _ = backbone(IDS, MASK)
    with attending_plainly(backbone):
        if family == "modernbert" and not backbone.encoder._can_set_attn_implementation():
            pytest.skip("this version of transformers cannot change the attention of modernbert")
        assert backbone.encoder.config._attn_implementation == "eager"
        plain, _ = backbone(IDS, MASK)
    real = MASK.bool()  # states of padding are never read
    torch.testing.assert_close(plain[real], expected[real], rtol=1e-4, atol=1e-5)


def test_a_copy_that_fails_leaves_the_encoder_as_it_was(monkeypatch: pytest.MonkeyPatch):
    """As when the memory does not suffice."""
    backbone = tiny_backbone()
    copies, copy = [], backbone._copy

    def fail(name: str, *arguments: Any) -> Tensor:
        copies.append(name)
        if len(copies) == 3:
            raise MemoryError
        return copy(name, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(backbone, "_copy", fail)
        with pytest.raises(MemoryError), backbone.arithmetic("bf16"):
            pass
    assert {p.dtype for p in frozen_matrices(backbone).values()} == {torch.float32}
    with backbone.arithmetic("bf16"):
        assert {p.dtype for p in frozen_matrices(backbone).values()} == {torch.bfloat16}
    assert {p.dtype for p in frozen_matrices(backbone).values()} == {torch.float32}


def test_blocks_of_bf16_may_overlap():
    """Those of two threads; the last one restores the encoder."""
    backbone = tiny_backbone()
    attention = backbone.encoder.config._attn_implementation
    assert attention != "eager"
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with backbone.arithmetic("bf16"):
            inside.set()
            assert leave.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with backbone.arithmetic("bf16"):
        leave.set()
        thread.join()
        assert {p.dtype for p in frozen_matrices(backbone).values()} == {torch.bfloat16}
        assert backbone.encoder.config._attn_implementation == "eager"
    assert {p.dtype for p in frozen_matrices(backbone).values()} == {torch.float32}
    assert backbone.encoder.config._attn_implementation == attention


def test_a_copy_made_in_evaluation_serves_training():
    backbone = tiny_backbone()
    with backbone.arithmetic("bf16"), torch.inference_mode():
        backbone(IDS, MASK)
        assert not backbone.output_embeddings.is_inference()


def test_trained_parameters_are_left_to_autocast():
    backbone = tiny_backbone()
    matrices = frozen_matrices(backbone)
    name, trained = next(iter(matrices.items()))
    trained.requires_grad_()
    with backbone.arithmetic("bf16"):
        assert trained.dtype is torch.float32
        backbone(IDS, MASK)[0].float().sum().backward()
    assert trained.grad is not None
    assert trained.grad.dtype is torch.float32
    assert {n for n, p in matrices.items() if p.requires_grad} == {name}


def test_the_decoder_of_mlm_reads_word_embeddings_in_the_precision_of_the_block():
    backbone = tiny_backbone()
    table = backbone.word_embeddings
    assert backbone.output_embeddings is table
    with backbone.arithmetic("bf16"):
        assert torch.equal(backbone.output_embeddings, table.bfloat16())
        assert backbone.output_embeddings is backbone.output_embeddings
    table.requires_grad_()
    with backbone.arithmetic("bf16"):
        assert backbone.output_embeddings is table


def test_copies_in_bf16_follow_changes_of_the_encoder():
    """A state may be loaded, or a tensor replaced, between two blocks."""
    backbone, other = tiny_backbone(seed=1), tiny_backbone(seed=2)
    for _ in range(2):
        with backbone.arithmetic("bf16"):
            backbone(IDS, MASK)
        backbone.encoder.load_state_dict(other.encoder.state_dict())
    name, parameter = next(iter(frozen_matrices(backbone).items()))
    parameter.data = 2 * parameter.data
    frozen_matrices(other)[name].data.mul_(2)
    with torch.no_grad():
        for table in (backbone.word_embeddings, other.word_embeddings):
            table.mul_(3)
    with backbone.arithmetic("bf16"), torch.no_grad():
        mine, _ = backbone(IDS, MASK)
        decoder = backbone.output_embeddings
    with attending_plainly(other), torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected, _ = other(IDS, MASK)
    assert torch.equal(mine, expected)
    assert torch.equal(decoder, other.word_embeddings.bfloat16())


@each_family
def test_an_encoder_is_saved_with_its_tokenizer(family: str, tmp_path: Path):
    backbone = saved_backbone(tmp_path / "before", family)
    backbone.save_pretrained(tmp_path)
    loaded = load_backbone(str(tmp_path))
    assert loaded.digest == backbone.digest
    words = ["Anna", "sees", "áþ", "river"]
    before, after = (b.tokenizer(words, is_split_into_words=True) for b in (backbone, loaded))
    assert dict(after) == dict(before)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # which transformers 4 knows


def test_further_special_tokens_are_saved_under_their_old_name(tmp_path: Path):
    backbone = tiny_backbone()
    backbone.tokenizer.add_special_tokens({"extra_special_tokens": ["<mine>"]})
    backbone.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["additional_special_tokens"] == ["<mine>"]
    assert "extra_special_tokens" not in config
    assert "<mine>" in load_backbone(str(tmp_path)).tokenizer.all_special_tokens
