"""Shared-prefix log-probabilities equal those of separate rows; adapters do not leak; files are what vLLM reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from heliotrope.errors import ModelError, TamperedAdapter
from learner.backbone import ATTENTION, Backbone
from learner.examples import rows_of
from learner.kernels import TokenLogprobs
from learner.lean import Lean
from learner.lora import LoraShape, Reach
from learner.rows import Row, collate
from tests.learner.tiny_llama import VOCABULARY, pairs, tiny_backbone, tiny_model, tokens


def some_rows(common: int = 0) -> list[Row]:
    """Their prompts begin with `common` tokens alike, and the first, if any are alike, is no longer than that."""
    g = torch.Generator().manual_seed(1)
    alike = tokens(common, g)
    own = [0 if common and i == 0 else 4 + 3 * i for i in range(4)]
    return [Row(str(i), alike + tokens(own[i], g), (tokens(6, g), tokens(3 + 2 * i, g))) for i in range(4)]


def disturb(backbone: Backbone, adapter: str, seed: int = 2) -> None:
    """Make B other than zero, so that the adapter matters."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in backbone.parameters(adapter).items():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=g)


@torch.no_grad()
def separately(model, row: Row) -> list[torch.Tensor]:
    """Each response alone behind its prompt, by transformers' own forward."""
    result = []
    for response in row.responses:
        logits = model(input_ids=torch.tensor([row.prompt + response])).logits[0].log_softmax(-1)
        result.append(logits[len(row.prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0])
    return result


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("first_layer", "common"), [(0, 0), (2, 0), (0, 9), (2, 9)])
def test_shared_rows_equal_separate_rows(tmp_path: Path, first_layer: int, common: int, attention: str):
    rows = some_rows(common)
    backbone = tiny_backbone(first_layer, attention=attention)
    disturb(backbone, "policy")
    backbone.save_adapter("policy", tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_model())
    batch = collate(rows)
    assert batch.shared == common
    want = torch.cat([part for row in rows for part in separately(base, row)])
    assert (backbone.logprobs(batch, None) - want).abs().max() < 2e-5
    peft = PeftModel.from_pretrained(base, tmp_path)
    want = torch.cat([part for row in rows for part in separately(peft, row)])
    got = backbone.logprobs(batch, "policy")
    assert (got - want).abs().max() < 2e-5
    assert (got - backbone.logprobs(batch, None)).abs().max() > 0.01


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2e-5), (torch.bfloat16, 0.2)])
@pytest.mark.parametrize("common", [0, 9])
def test_another_model_keeps_its_own_attention_and_its_biases(
    tmp_path: Path, dtype: torch.dtype, most: float, common: int
):
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(3)
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.bias.normal_()
    model.save_pretrained(tmp_path)
    rows = some_rows(common)
    want = torch.cat([part for row in rows for part in separately(model, row)])
    backbone = Backbone.load(tmp_path, LoraShape(rank=4, alpha=8.0), dtype)
    backbone.reset("policy", seed=5)
    for adapter in (None, "policy"):
        assert (backbone.logprobs(collate(rows), adapter) - want).abs().max() < most


def test_a_fresh_adapter_answers_as_the_base_and_adapters_are_apart():
    backbone = tiny_backbone(adapters=("policy", "reward"))
    batch = collate(some_rows())
    base = backbone.logprobs(batch, None)
    assert torch.equal(backbone.logprobs(batch, "policy"), base)
    disturb(backbone, "reward")
    assert torch.equal(backbone.logprobs(batch, "policy"), base)
    assert not torch.allclose(backbone.logprobs(batch, "reward"), base)
    assert torch.equal(backbone.logprobs(batch, None), base)


def zero_a_norm(backbone: Backbone) -> Backbone:
    backbone._core.layers[2].input_layernorm.weight.data[3] = 0
    backbone._lean = Lean(backbone._core)
    return backbone


CHANGES = pytest.mark.parametrize(
    ("changed", "common"), [(lambda backbone: backbone, 0), (lambda backbone: backbone, 9), (zero_a_norm, 0)]
)


def gradients(backbone: Backbone, common: int) -> dict[str, torch.Tensor]:
    """Of an adapter that matters, on some log-probabilities added up with weights."""
    disturb(backbone, "policy")
    batch = collate(some_rows(common)[: 3 if common else 2])
    (backbone.logprobs(batch, "policy") * torch.linspace(-1, 1, len(batch.targets))).sum().backward()
    return {name: p.grad for name, p in backbone.parameters("policy").items() if p.grad is not None}


@CHANGES
def test_gradients_equal_those_of_plain_peft(changed: Callable[[Backbone], Backbone], common: int):
    rows = some_rows(common)[: 3 if common else 2]
    weights = torch.linspace(-1, 1, len(collate(rows).targets))
    ours = gradients(changed(tiny_backbone(first_layer=1)), common)
    assert len(ours) == 3 * 7 * 2  # layers 1 to 3, seven targets, A and B

    plain = changed(tiny_backbone(first_layer=1))
    disturb(plain, "policy")
    model = plain._model
    for module in model.modules():
        vars(module).pop("forward", None)  # PEFT's own forward again
    start = 0
    for row in rows:
        for response in row.responses:
            logits = model(input_ids=torch.tensor([row.prompt + response])).logits[0].log_softmax(-1)
            part = logits[len(row.prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0]
            (part * weights[start : start + len(response)]).sum().backward()
            start += len(response)
    for name, parameter in plain.parameters("policy").items():
        assert parameter.grad is not None
        assert torch.allclose(ours[name], parameter.grad, rtol=1e-3, atol=1e-5), name


@CHANGES
def test_gradients_in_bfloat16_are_those_of_float32_but_for_its_rounding(
    changed: Callable[[Backbone], Backbone], common: int
):
    shape = LoraShape(rank=4, alpha=8.0, first_layer=1)
    half, exact = (Backbone.load(tiny_model(), shape, dtype=of) for of in (torch.bfloat16, torch.float32))
    for backbone in (half, exact):
        backbone.reset("policy", seed=5)
    ours, want = (
        torch.cat([g.flatten() for g in gradients(changed(of), common).values()]) for of in (half, exact)
    )
    assert (ours - want).norm() < 0.1 * want.norm()


def test_token_logprobs_in_several_chunks():
    g = torch.Generator().manual_seed(4)
    hidden, weight = torch.randn(600, 8, generator=g).requires_grad_(), torch.randn(5000, 8, generator=g)
    targets = torch.randint(0, 5000, (600,), generator=g)
    targets[:100] = (hidden[:100] @ weight.t()).argmax(-1)
    want = (hidden @ weight.t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    got = TokenLogprobs.apply(hidden, weight, targets)
    assert torch.allclose(got, want, atol=1e-5)
    slopes = [torch.autograd.grad(x.sum(), hidden, retain_graph=True)[0] for x in (got, want)]
    assert torch.allclose(*slopes, atol=1e-5)


def test_saved_adapter_is_two_files_named_by_its_digest(tmp_path: Path):
    backbone = tiny_backbone(first_layer=2)
    disturb(backbone, "policy")
    digest = backbone.save_adapter("policy", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert digest == sha256((tmp_path / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert digest == backbone.digest("policy")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    assert (config["r"], config["lora_alpha"], config["layers_to_transform"]) == (4, 8.0, [2, 3])
    names = backbone.state("policy")
    assert "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight" in names
    assert not any(".layers.1." in name for name in names)

    other = tiny_backbone(first_layer=2)
    assert other.digest("policy") != digest
    other.load_adapter("policy", tmp_path)
    assert other.digest("policy") == digest


def test_a_bfloat16_base_keeps_float32_adapters_and_log_probabilities():
    batch = collate(some_rows())
    half = Backbone.load(tiny_model(), LoraShape(rank=4, alpha=8.0, first_layer=2), dtype=torch.bfloat16)
    half.reset("policy", seed=5)
    got = half.logprobs(batch, "policy")
    got.sum().backward()
    parameters = half.parameters("policy").values()
    assert {p.dtype for p in parameters} == {got.dtype} == {torch.float32}
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in parameters)
    want = tiny_backbone(2).logprobs(batch, None)
    assert (got - want).abs().mean() < 0.03  # what is added up through the 4 layers keeps its 24 bits


def test_the_words_that_matter_most_are_as_float32_has_them_in_bfloat16():
    g = torch.Generator().manual_seed(4)
    hidden, weight = 3 * torch.randn(200, 64, generator=g), torch.randn(30, 64, generator=g)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    want = (hidden.double() @ weight.double().t()).log_softmax(-1)
    rounded = (hidden @ weight.t()).double().log_softmax(-1)
    for targets, share in ((want.argmax(-1), 1.0), (want.argmin(-1), 0.2)):
        got = TokenLogprobs.apply(hidden, weight, targets)
        error, before = ((of - want).gather(1, targets[:, None])[:, 0].abs().mean()
                         for of in (want.scatter(1, targets[:, None], got.double()[:, None]), rounded))  # fmt: skip
        assert (got <= 0).all() and error < share * before


def test_gradients_of_sure_words_are_not_lost_in_bfloat16():
    g = torch.Generator().manual_seed(4)
    weight = torch.randn(30, 64, generator=g).bfloat16()
    targets = torch.arange(30)
    hidden = (weight.float() * 0.2).bfloat16().requires_grad_()  # each word by its own state: nearly sure
    TokenLogprobs.apply(hidden, weight, targets).sum().backward()
    exact = hidden.detach().double().requires_grad_()
    logprobs = (exact @ weight.double().t()).log_softmax(-1).gather(1, targets[:, None])
    logprobs.sum().backward()
    assert logprobs.exp().median() > 0.99
    assert (hidden.grad.double() - exact.grad).norm() < 0.02 * exact.grad.norm()


def test_reset_is_seeded():
    backbone = tiny_backbone()
    first = backbone.digest("policy")
    backbone.reset("policy", seed=6)
    assert backbone.digest("policy") != first
    disturb(backbone, "policy")
    backbone.reset("policy", seed=5)
    assert backbone.digest("policy") == first


def test_weights_that_do_not_fit_are_refused():
    backbone = tiny_backbone()
    before = backbone.digest("policy")
    state = backbone.state("policy")
    name = min(state)
    for bad in (
        {k: v for k, v in state.items() if k != name},
        state | {name: state[name][:-1]},
        state | {name: state[name] * float("nan")},
        state | {"base_model.model.lm_head.lora_A.weight": state[name]},
    ):
        with pytest.raises(TamperedAdapter, match="1 tensors are missing"):
            backbone.load_state("policy", bad)
    assert backbone.digest("policy") == before


def test_what_cannot_be_a_backbone_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="config.json is missing"):
        Backbone.load(tmp_path)
    with pytest.raises(ModelError, match="first_layer is 4, but .* has 4 layers"):
        Backbone.load(tiny_model(), LoraShape(first_layer=4))


def test_an_attention_that_was_not_shown_to_be_right_is_refused():
    with pytest.raises(ModelError, match="attention 'flex_attention' cannot be masked"):
        Backbone.load(tiny_model(), attention="flex_attention")


def test_log_probabilities_are_of_a_distribution():
    g = torch.Generator().manual_seed(9)
    prompt = tokens(5, g)
    backbone = tiny_backbone()
    row = Row("all", prompt, tuple((token,) for token in range(VOCABULARY)))
    assert backbone.logprobs(collate([row]), None).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_an_adapter_of_the_top_layers_starts_from_kept_states():
    shape = LoraShape(rank=4, alpha=8.0, first_layer=1)
    reach = {"reward": Reach(1)}
    backbone = Backbone.load(tiny_model(), shape, adapters=("policy", "reward"), reach=reach)
    batch = collate([*rows_of(pairs(3), 99)[0]])
    states, outputs = backbone.base(batch)
    assert sorted(states) == [1, 3]
    assert {name.split(".layers.")[1][0] for name in backbone.parameters("reward")} == {"3"}
    assert torch.equal(states[3], backbone.lower(batch, "reward"))
    assert torch.allclose(backbone.upper(states[3], batch, "reward"), outputs)  # fresh: as the base
    assert torch.allclose(backbone.upper(states[1], batch, "policy"), outputs)


@pytest.mark.parametrize(
    ("reach", "covered"),
    [
        (Reach(1, 0.6), [17]),
        (Reach(3, 0.6), [15, 16, 17]),
        (Reach(2), [28, 29]),
        (Reach(99, 0.1), [0, 1, 2]),
        (Reach(1, 0.001), [0]),
    ],
)
def test_a_reach_ends_at_its_share_of_the_layers(reach: Reach, covered: list[int]):
    assert list(reach.of(30)) == covered


def test_an_adapter_in_the_middle_is_read_there_and_may_lie_below_the_policy():
    shape = LoraShape(rank=4, alpha=8.0, first_layer=3)
    backbone = Backbone.load(
        tiny_model(), shape, adapters=("policy", "reward"), reach={"reward": Reach(1, 0.5)}
    )
    batch = collate([*rows_of(pairs(3), 99)[0]])
    states, outputs = backbone.base(batch)
    assert sorted(states) == [1, 3]
    assert {name.split(".layers.")[1][0] for name in backbone.parameters("reward")} == {"1"}
    with backbone.worn(None):
        after = backbone._lean(states[1], batch, 1, 2)
    assert torch.equal(backbone.upper(states[1], batch, "reward"), backbone._core.norm(after))
    assert torch.allclose(backbone.upper(states[3], batch, "policy"), outputs)
