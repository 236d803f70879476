"""Imports go one way: serving | learner -> feedback -> heliotrope; heavy and private modules stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("heliotrope", "feedback", "serving", "learner")
MAY_IMPORT = {
    "heliotrope": {"heliotrope"},
    "feedback": {"feedback", "heliotrope"},
    "serving": {"serving", "feedback", "heliotrope"},
    "learner": {"learner", "feedback", "heliotrope"},
}
HEAVY = {"torch", "vllm", "transformers", "peft", "accelerate", "trl"}
UTILITY = "heliotrope.simulate.utility"


def imports(source: str, module: str) -> set[str]:
    """Dotted names that `source`, the text of `module`, imports anywhere, `from a import b` as both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def modules(*folders: str) -> Iterator[tuple[str, set[str]]]:
    """(path, imports) of every Python file of ours under `folders`, generated stubs left out."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative.parts[:2] != ("heliotrope", "v1"):
                yield str(relative), imports(path.read_text(), ".".join(relative.with_suffix("").parts))


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_relative_and_nested_imports_are_seen() -> None:
    source = "def f():\n    from . import b\n    import torch.nn\n    from ..x.y import z\n"
    assert imports(source, "p.q.m") == {"p.q", "p.q.b", "torch.nn", "p.x.y", "p.x.y.z"}


@pytest.mark.parametrize("package", PACKAGES)
def test_layers_point_one_way(package: str) -> None:
    others = {*PACKAGES, "deploy", "benchmarks", "tests"} - MAY_IMPORT[package]
    wrong = [(path, sorted(tops(names) & others)) for path, names in modules(package) if tops(names) & others]
    assert wrong == []


def test_heavy_libraries_stay_out_of_the_shared_layers() -> None:
    wrong = [
        (path, tops(names) & HEAVY)
        for path, names in modules("heliotrope", "feedback")
        if tops(names) & HEAVY
    ]
    assert wrong == []


def test_only_the_engine_and_the_plugin_import_vllm() -> None:
    users = [path for path, names in modules(*PACKAGES, "deploy") if "vllm" in tops(names)]
    wrong = [p for p in users if p != "serving/engine_vllm.py" and not p.startswith("serving/vllm_plugin/")]
    assert wrong == []


def test_only_the_simulation_knows_the_hidden_utility() -> None:
    users = [path for path, names in modules(*PACKAGES, "deploy") if UTILITY in names]
    assert [path for path in users if not path.startswith("heliotrope/simulate/")] == []
