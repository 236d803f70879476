"""A policy update's first step, from a policy that is no longer base, against arithmetic: all settings reach it.

Each example is run alone, its loss written out in torch, and the sum's gradient compared with the step's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from feedback.examples import Demonstration, Example, Preference, Thumb, TokenIds
from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, Progress, train_policy
from learner.mixture import Mixture
from learner.prepared import PreparedStore
from learner.rows import Row, collate
from tests.learner.tiny_llama import pairs, tiny_backbone

BETA = 0.2
SETTINGS = DpoSettings(beta=BETA, learning_rate=1e-2, batch_pairs=99, max_tokens=99)


@dataclass
class Policy:
    """An adapter away from base, and what it says. base: the same model by itself."""

    backbone: Backbone
    state: dict[str, Tensor]
    base: Backbone

    def said(self, prompt: TokenIds, response: TokenIds) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the response's tokens by the policy, and their ratios to base, nats."""
        batch = collate([Row("alone", prompt, (response,))])
        policy = self.backbone.logprobs(batch, ADAPTER, self.base.lower(batch))
        return policy, policy - self.base.logprobs(batch, None).detach()

    def ratio(self, prompt: TokenIds, response: TokenIds) -> Tensor:
        """log(policy / base) of the response, nats."""
        return self.said(prompt, response)[1].sum()

    def slope(self, loss: Callable[[], Tensor]) -> float:
        """Norm of the loss's gradient."""
        of = list(self.backbone.parameters(ADAPTER).values())
        with self.backbone.worn(ADAPTER):
            return float(torch.cat([part.flatten() for part in torch.autograd.grad(loss(), of)]).norm())

    def first_step(
        self, examples: Sequence[Example], settings: DpoSettings = SETTINGS, shares: Sequence[float] = ()
    ) -> Progress:
        """Of an update on these examples. The policy is then what it was."""
        given = shares or [1.0] * len(examples)
        update = train_policy(self.backbone, examples, given, settings, PreparedStore())
        self.backbone.load_state(ADAPTER, self.state)
        return update.history[0]


def other(kind: type, p: Preference, mark: str, **its_own: object):
    """An example of another kind with all that a pair says of where it comes from."""
    common = {field.name: getattr(p, field.name) for field in fields(Example)}
    return kind(**common | {"id": p.id + mark} | its_own)


def thumbs(ups: int, downs: int) -> list[Thumb]:
    """One to a prompt."""
    given = [True] * ups + [False] * downs
    asked = pairs(len(given), seed=8)
    return [
        other(Thumb, p, "+", response_ids=p.chosen_ids, up=up) for p, up in zip(asked, given, strict=True)
    ]


def demonstrations(count: int, seed: int) -> list[Demonstration]:
    return [other(Demonstration, p, "!", response_ids=p.chosen_ids) for p in pairs(count, seed=seed)]


@pytest.fixture(scope="module")
def policy() -> Policy:
    """One that was shown the favourite token a few times."""
    backbone = tiny_backbone(2)
    train_policy(backbone, demonstrations(8, seed=9), [1.0] * 8, replace(SETTINGS, epochs=4), PreparedStore())
    return Policy(backbone, backbone.state(ADAPTER), tiny_backbone(2))


Both = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What `Policy.said` gives for chosen and rejected."""


def margin(both: Both) -> Tensor:
    """m = beta * (log-ratio of chosen - log-ratio of rejected)."""
    (_, chosen), (_, rejected) = both
    return BETA * (chosen.sum() - rejected.sum())


def sigmoid(both: Both) -> Tensor:
    return -logsigmoid(margin(both))


def robust(both: Both) -> Tensor:
    m = margin(both)
    return (-0.7 * logsigmoid(m) + 0.3 * logsigmoid(-m)) / 0.4


def conservative(both: Both) -> Tensor:
    m = margin(both)
    return -0.7 * logsigmoid(m) - 0.3 * logsigmoid(-m)


def ipo(both: Both) -> Tensor:
    (_, chosen), (_, rejected) = both
    return (chosen.mean() - rejected.mean() - 1 / (2 * BETA)) ** 2


def tail_at_a_quarter(both: Both) -> Tensor:
    (_, chosen), (_, rejected) = both
    shared = min(len(chosen), len(rejected))
    first, second = (r[:shared].sum() + 0.25 * r[shared:].sum() for r in (chosen, rejected))
    return -logsigmoid(BETA * (first - second))


def with_sft(both: Both) -> Tensor:
    (logprobs, _), _ = both
    return sigmoid(both) - 0.9 * logprobs.mean()


FORMS = [
    ({}, sigmoid),
    ({"variant": "robust", "label_smoothing": 0.3}, robust),
    ({"variant": "conservative", "label_smoothing": 0.3}, conservative),
    ({"variant": "ipo"}, ipo),
    ({"length_alpha": 0.25}, tail_at_a_quarter),
    ({"sft_weight": 0.9}, with_sft),
]


def judged(policy: Policy, pair: Preference) -> Both:
    return policy.said(pair.prompt_ids, pair.chosen_ids), policy.said(pair.prompt_ids, pair.rejected_ids)


@pytest.mark.parametrize(("changed", "loss_of"), FORMS, ids=[form.__name__ for _, form in FORMS])
def test_a_pair_pays_as_its_form_says(
    policy: Policy, changed: dict[str, object], loss_of: Callable[[Both], Tensor]
) -> None:
    examples = pairs(5, seed=4)
    want = policy.slope(lambda: torch.stack([loss_of(judged(policy, p)) for p in examples]).mean())
    assert policy.first_step(examples, replace(SETTINGS, **changed)).grad_norm == pytest.approx(
        want, rel=1e-4
    )


def test_the_figure_of_a_pair_is_its_forms_loss_without_sft(policy: Policy) -> None:
    examples = pairs(5, seed=4)
    settings = replace(SETTINGS, variant="robust", label_smoothing=0.3, sft_weight=0.9)
    want = sum(robust(judged(policy, p)).item() for p in examples) / 5
    assert policy.first_step(examples, settings).metrics.loss == pytest.approx(want, rel=1e-4)


def reference_point(policy: Policy, given: Sequence[Thumb]) -> float:
    """z0: each prompt with the response to the next one, by id and going round."""
    ratios = [
        policy.ratio(t.prompt_ids, following.response_ids)
        for t, following in zip(given, [*given[1:], given[0]], strict=True)
    ]
    return max(0.0, torch.stack(ratios).mean().item())


def kto(policy: Policy, thumb: Thumb, z0: float, factors: tuple[float, float]) -> Tensor:
    """lambda * (1 - s(beta * (log-ratio - z0))), the margin turned round for a thumb down."""
    beyond = BETA * (policy.ratio(thumb.prompt_ids, thumb.response_ids) - z0)
    up, down = factors
    return up * torch.sigmoid(-beyond) if thumb.up else down * torch.sigmoid(beyond)


THUMBS = {
    (4, 2): (1.0, 1.5),  # 4 / 2 over 4 / 3: thumbs down are raised to three quarters of the ups
    (2, 5): (2.5, 1.0),  # thumbs up are raised to as much as the downs
    (3, 3): (1.0, 1.0),
}


@pytest.mark.parametrize(("counts", "factors"), THUMBS.items())
def test_a_thumb_pays_against_the_reference_point_by_the_rarity_of_its_kind(
    policy: Policy, counts: tuple[int, int], factors: tuple[float, float]
) -> None:
    given = thumbs(*counts)
    z0 = reference_point(policy, given)
    assert z0 > 1, "there is something to leave out"
    want = policy.slope(lambda: torch.stack([kto(policy, thumb, z0, factors) for thumb in given]).mean())
    assert policy.first_step(given).grad_norm == pytest.approx(want, rel=1e-4)


def test_the_figure_of_a_thumb_is_what_it_pays(policy: Policy) -> None:
    given = thumbs(4, 2)
    z0 = reference_point(policy, given)
    want = sum(kto(policy, thumb, z0, THUMBS[4, 2]).item() for thumb in given) / 6
    assert policy.first_step(given).metrics.loss == pytest.approx(want, rel=1e-4)


def test_thumbs_are_counted_by_what_they_weigh(policy: Policy) -> None:
    given, shares = thumbs(2, 2), [2.0, 2.0, 0.5, 0.5]
    z0 = reference_point(policy, given)
    factors = (1.0, 3.0)  # 4 / 1 over 4 / 3

    def loss() -> Tensor:
        each = [kto(policy, thumb, z0, factors) for thumb in given]
        return torch.stack([share * part for share, part in zip(shares, each, strict=True)]).sum() / 5

    assert policy.first_step(given, shares=shares).grad_norm == pytest.approx(policy.slope(loss), rel=1e-4)


def test_an_example_counts_by_its_share_and_its_kind(policy: Policy) -> None:
    pair, thumb, shown = pairs(1, seed=4)[0], thumbs(1, 0)[0], demonstrations(1, seed=6)[0]
    settings = replace(SETTINGS, mixture=Mixture(pairs=0.5, thumbs=3.0, demonstrations=0.25))

    def loss() -> Tensor:
        liked = kto(policy, thumb, 0.0, (1.0, 1.0))  # a thumb alone has nothing to be mixed with
        written = -policy.said(shown.prompt_ids, shown.response_ids)[0].mean()
        # shares 1, 2 and 3 are 1/2, 1 and 3/2 of their mean; a third each
        return (0.5 * sigmoid(judged(policy, pair)) / 2 + 3.0 * liked + 0.25 * written * 3 / 2) / 3

    first = policy.first_step([pair, thumb, shown], settings, [1.0, 2.0, 3.0])
    assert first.grad_norm == pytest.approx(policy.slope(loss), rel=1e-4)
