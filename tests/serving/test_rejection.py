"""Which published versions may not even wait for service."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliotrope.policies import CANDIDATE, LIVE, ROLLED_BACK, PolicyTable
from heliotrope.registry import GateVerdict, Manifest, PolicyVersion
from serving.policy_desk import why_rejected


def version(parent: str, passed: bool = True) -> PolicyVersion:
    verdict = {"kl": GateVerdict(verdict="pass" if passed else "fail")}
    manifest = Manifest(parent=parent, base_digest="0" * 64, verdict=verdict, passed=passed)
    return PolicyVersion(2, "policy-v2", Path("policy-v2"), "d" * 64, manifest)


@pytest.fixture
def table() -> PolicyTable:
    made = PolicyTable()
    for state in (CANDIDATE, LIVE, ROLLED_BACK):
        assert made.apply(made.move("policy-v1", state))
    return made


def test_a_child_of_what_was_rolled_back_does_not_bring_it_back(table: PolicyTable) -> None:
    assert why_rejected(version("policy-v1"), table) == "trained from policy-v1, which was rolled back"


def test_the_judges_veto_names_its_gates(table: PolicyTable) -> None:
    assert "kl: fail" in why_rejected(version("policy-v0", passed=False), table)


def test_a_passed_version_of_a_good_parent_waits(table: PolicyTable) -> None:
    assert why_rejected(version("policy-v0"), table) == ""
