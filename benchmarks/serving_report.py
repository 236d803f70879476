"""The table of `benchmarks.serving` and its aims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

FIGURES = ("tok_s", "first_token_p50_ms", "first_token_p99_ms", "inter_token_p50_ms", "inter_token_p99_ms")
Rounds = Mapping[tuple[str, int], list[dict[str, float]]]


@dataclass(frozen=True)
class Aim:
    """ratio (or, with `difference`, milliseconds) of one mode's figure to another's at so many streams."""

    mode: str
    to: str
    streams: int
    limit: float
    figure: str = "tok_s"
    difference: bool = False

    @property
    def name(self) -> str:
        """For the table and the JSON."""
        return f"{self.mode} {'-' if self.difference else '/'} {self.to} {self.figure} at {self.streams}"

    def value(self, rounds: Rounds) -> float | None:
        """Median over rounds, each taken within one round, so that a machine whose speed wanders cancels out."""
        pairs = zip(
            rounds.get((self.mode, self.streams), []), rounds.get((self.to, self.streams), []), strict=False
        )
        found = [(a[self.figure], b[self.figure]) for a, b in pairs]
        if not found:
            return None
        return median(a - b if self.difference else a / b for a, b in found)

    def met(self, value: float) -> bool:
        """Token/s are to be high, times low."""
        return value >= self.limit if self.figure == "tok_s" else value <= self.limit


FIRST = "first_token_p50_ms"
AIMS = (
    Aim("plugin_lora", "base", 32, 0.8),
    Aim("plugin_lora", "base", 1, 0.75),
    *(Aim("plugin_base", "base", n, 0.98) for n in (1, 8, 32)),
    Aim("plugin_mixed", "base", 32, 0.65),
    *(Aim("grpc", "plugin_lora", n, 0.95) for n in (1, 8, 32)),
    *(Aim("grpc", "vllm_serve", n, 1.1) for n in (1, 8, 32)),
    *(Aim("grpc", "plugin_lora", n, 10.0, FIRST, difference=True) for n in (1, 8)),
    Aim("grpc", "plugin_lora", 32, 1.05, FIRST),
)


def ratios(rounds: Rounds) -> dict[str, float]:
    """Every aim that was measured, by name."""
    values = {aim.name: aim.value(rounds) for aim in AIMS}
    return {name: round(value, 3) for name, value in values.items() if value is not None}


def aims(rounds: Rounds) -> str:
    """One line an aim: measured, wanted, met or not."""
    lines = []
    for aim in AIMS:
        if (value := aim.value(rounds)) is not None:
            sign, word = ("≥" if aim.figure == "tok_s" else "≤"), ("met" if aim.met(value) else "NOT met")
            lines.append(f"{aim.name:52} {value:8.3f}  {sign} {aim.limit:<6g} {word}")
    return "\n".join(lines)


def table(streams: Mapping[str, Mapping[str, float]]) -> str:
    """Rows: streams and mode; columns: the figures."""
    lines = [" ".join([f"{'':17}", *(f"{name:>19}" for name in FIGURES)])]
    for count, figures in streams.items():
        modes = [key.removesuffix("_tok_s") for key in figures if key.endswith("_tok_s")]
        for mode in modes:
            lines.append(
                f"{count:>3} {mode:13} " + " ".join(f"{figures[f'{mode}_{name}']:19.1f}" for name in FIGURES)
            )
    return "\n".join(lines)
