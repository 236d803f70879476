"""Sections that the learner reads."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heliotrope.settings.base import Section


class Learner(Section):
    """What is learned from, and when."""

    sources: tuple[Literal["human", "simulated", "ai", "auto", "imported"], ...] = ("human",)
    """Sources of feedback that are trained on."""
    min_new: int = Field(default=64, ge=1)
    """New preferences that start an update."""
    window: int = Field(default=4096, ge=1)
    """Newest preferences that an update sees."""
    rehearsal: float = Field(default=0.25, ge=0, le=1000)
    """Preferences learned before that are gone over again for each new one; the recent and weighty more often."""
    half_life_days: float = Field(default=30, gt=0)
    """Age at which a preference weighs half, days."""
    votes_per_person: int = Field(default=20, ge=1)
    """Most votes that one person counts for in one update."""
    person_share: float = Field(default=0.01, gt=0, le=1)
    """Most weight of one person in one update, as a share of the whole."""
    held_out: float = Field(default=0.15, ge=0.05, le=0.5)
    """Share of conversations kept out of training, by hash of the conversation."""
    poll_seconds: float = Field(default=1.0, gt=0, le=60)
    """How often the log is looked at when nothing is new."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where training runs. On CUDA a version made again may differ in its last bits."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads of training; 0: all cores."""
    nice: int = Field(default=10, ge=0, le=19)
    """Niceness of the process: people come first."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything random in training."""


class Lora(Section):
    """The adapter's shape, and the base under it."""

    rank: int = Field(default=16, ge=1, le=64)
    """Rank r."""
    alpha: float = Field(default=32, gt=0)
    """Scaling numerator: the update is (alpha / r) B A."""
    first_layer: int = Field(default=0, ge=0)
    """First decoder layer that is adapted; the ones below stay frozen and are run once."""
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Precision of the frozen base's products; adapters, optimiser and what is added up from layer to layer are float32. auto:
    bfloat16 where the hardware multiplies it, which takes half the time."""


class Dpo(Section):
    """Policy updates."""

    beta: float = Field(default=0.1, gt=0, le=10)
    """Strength of the pull to the reference, 1 / nats; IPO's tau."""
    variant: Literal["sigmoid", "conservative", "robust", "ipo"] = "sigmoid"
    """Loss on pairs: `conservative` and `robust` allow for wrong labels, `ipo` for too sure ones (docs/maths.md)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | Literal["agreement"] = 0.0
    """Share of labels taken to be the wrong way round; with `conservative` or `robust` only. "agreement": as estimated from
    how far people agree on shared items, 0 until enough have judged some."""
    length_alpha: float = Field(default=1.0, ge=0, le=1)
    """Weight of the tokens by which one response is longer than the other; below 1 length earns less."""
    sft_weight: float = Field(default=0.0, ge=0, le=100)
    """Weight of the chosen response's own likelihood (SFT, nats a token) beside each pair's loss: it holds the policy to what
    people have read, where a pair alone may make both responses unlikely."""
    learning_rate: float = Field(default=1.5e-3, gt=0, le=1)
    """Peak step of AdamW."""
    epochs: int = Field(default=1, ge=1, le=100)
    """Passes over the window."""
    token_budget: int = Field(default=2048, ge=64)
    """Positions that are under way at once, shared out between threads: tokens, and a few that each row is filled up with."""
    batch_pairs: int = Field(default=8, ge=1)
    """Pairs of one optimiser step."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    max_tokens: int = Field(default=1024, ge=32)
    """Longest row; longer examples are shortened on the prompt's side or refused."""

    @model_validator(mode="after")
    def _flips_need_a_loss_that_knows_them(self) -> Self:
        if self.label_smoothing and self.variant not in ("conservative", "robust"):
            raise ValueError(f"dpo.label_smoothing does nothing in {self.variant}; set dpo.variant to robust")
        return self


class Mixture(Section):
    """How much one example of a kind weighs in a policy update beside one of another kind. At 0 nothing is learned from thumbs or
    demonstrations, by the reward model neither."""

    pairs: float = Field(default=1.0, gt=0, le=100)
    """A preference pair (DPO)."""
    thumbs: float = Field(default=1.0, ge=0, le=100)
    """A thumb (KTO); its pull on a response is half of a pair's as it is."""
    demonstrations: float = Field(default=1.0, ge=0, le=100)
    """What a person wrote (SFT, nats a token)."""


class Reward(Section):
    """The reward model."""

    depth: float = Field(default=0.67, gt=0, le=1)
    """Share of the base's layers after which it reads a response; 1: after the last."""
    layers: int = Field(default=1, ge=1, le=1024)
    """Layers that its adapter covers, counted downwards from there: its price."""
    learning_rate: float = Field(default=5e-4, gt=0, le=0.01)
    """Step of AdamW on its adapter; its head, which starts at 0, takes a hundred times that."""
    replay: float = Field(default=0.5, ge=0, le=16)
    """Old preferences rehearsed beside each new one."""
    beta: float = Field(default=1.0, gt=0, le=100)
    """Inverse temperature: how far choices are trusted to follow the reward (docs/maths.md)."""
    margin: float = Field(default=0.0, ge=0, le=10)
    """Reward difference asked of the strongest preference, and of the widest grades apart; proportional below. 0: how much
    better is not learned from, only which."""
    centring: float = Field(default=0.01, ge=0, le=1)
    """Pull of rewards to 0, which comparisons leave free and thumbs need."""


class Judge(Section):
    """Gates between training and people."""

    prompts: int = Field(default=24, ge=1, le=1024)
    """Fresh prompts that the candidate answers."""
    max_tokens: int = Field(default=64, ge=1, le=8192)
    """Longest judged sample."""
    min_accuracy: float = Field(default=0.5, ge=0, le=1)
    """Held-out preference accuracy that the candidate must exceed."""
    min_held_out: int = Field(default=8, ge=1)
    """With fewer held-out preferences the accuracy gate is inconclusive, and only a reward model that is shown to predict people
    can pass a version."""
    max_kl: float = Field(default=30, gt=0)
    """Largest mean KL to base, nats a response: of the candidate's samples, and of held-out responses the other way round."""
    max_length_ratio: float = Field(default=2.0, gt=1)
    """Mean length may change by at most this factor against the parent, either way."""
    max_repetition: float = Field(default=0.3, gt=0, le=1)
    """Largest mean share of repeated 4-grams in a sample."""
    min_entropy: float = Field(default=0.25, ge=0, le=1)
    """Least entropy of the candidate's samples, as a share of the parent's."""
