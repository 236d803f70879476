"""Resolves deploy/lock/<profile>.in into the exact pins of deploy/lock/<profile>.txt (`make lock`).

pip's resolver does the work and downloads metadata only, where the index serves it. Pins of the old lock are kept
as long as they still satisfy the .in file; delete a line of the lock (or the whole file) to let it move. In a .in file:

- `expand NAME==VERSION -DROPPED ...` pins NAME itself and resolves what it requires, less the DROPPED requirements;
- `bare NAME==VERSION` pins NAME and ignores what it requires;
- any other line is an ordinary requirement.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).resolve().parent / "lock"
HEADER = "# Exact pins made by `make lock` from {name}.in; installed with --no-deps by deploy/setup_env.py.\n"


@dataclass
class Wanted:
    """What a .in file asks for: `requirements` for the resolver, `bare` pins outside it."""

    requirements: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)


def normal(name: str) -> str:
    """The comparable form of a distribution's name (PEP 503): lower case, single hyphens."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)


def pip_report(arguments: list[str], public_torch: bool) -> list[dict[str, Any]]:
    """What pip would install for `arguments`, as its report's items; raises RuntimeError with pip's last lines.

    `public_torch` hides local wheel folders, whose CPU build of torch would win over the index's CUDA build.
    """
    environment = dict(os.environ)
    if public_torch:
        environment |= {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        done = subprocess.run(
            [*command, "--report", str(report), *arguments],
            check=False,
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
            raise RuntimeError("pip could not resolve the lock:\n" + "\n".join(lines[-15:]))
        return json.loads(report.read_text())["install"]


def read_in(path: Path, public_torch: bool) -> Wanted:
    """Parse a .in file; `expand` lines are looked up in the index for what they require."""
    wanted = Wanted()
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "bare":
            wanted.bare.append(words[1])
        elif words[0] == "expand":
            wanted.bare.append(words[1])
            wanted.requirements += _requires(words[1], {normal(word[1:]) for word in words[2:]}, public_torch)
        else:
            wanted.requirements.append(" ".join(words))
    return wanted


def _requires(pin: str, dropped: set[str], public_torch: bool) -> list[str]:
    """The requirements of `pin` outside its extras, without those named in `dropped`."""
    from packaging.requirements import Requirement

    (item,) = pip_report(["--no-deps", pin], public_torch)
    kept = []
    for text in item["metadata"].get("requires_dist", []):
        requirement = Requirement(text)
        if normal(requirement.name) not in dropped and "extra ==" not in text:
            kept.append(text)
    return kept


def resolve(profile: str) -> list[str]:
    """Pins, sorted by name, that satisfy `<profile>.in`; the old lock's pins are preferred."""
    public_torch = profile == "gpu"
    wanted = read_in(LOCKS / f"{profile}.in", public_torch)
    old = LOCKS / f"{profile}.txt"
    constraints = ["-c", str(old)] if old.exists() else []
    items = pip_report([*constraints, *wanted.requirements], public_torch)
    # A local build (torch 2.13.0+cpu) is pinned by its public version: every index has that one.
    pins = {normal(i["metadata"]["name"]): i["metadata"]["version"].split("+")[0] for i in items}
    pins |= dict(_split(pin) for pin in wanted.bare)
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def _split(pin: str) -> tuple[str, str]:
    name, version = pin.split("==")
    return normal(name), version


def check(profile: str) -> list[str]:
    """Let pip resolve the lock's pins, dependencies and all; returns what it would install.

    `bare` and `expand` pins contradict their own metadata on purpose and are looked up without it.
    """
    public_torch = profile == "gpu"
    bare = {pin for pin in read_in(LOCKS / f"{profile}.in", public_torch).bare}
    pins = [line for line in (LOCKS / f"{profile}.txt").read_text().splitlines() if line and line[0] != "#"]
    items = pip_report([pin for pin in pins if pin not in bare], public_torch)
    items += pip_report(["--no-deps", *bare], public_torch) if bare else []
    found = {f"{normal(i['metadata']['name'])}=={i['metadata']['version'].split('+')[0]}" for i in items}
    if found - set(pins):
        raise RuntimeError(f"not in the lock, yet required: {', '.join(sorted(found - set(pins)))}")
    return sorted(found)


def main() -> int:
    """Write the lock of a profile, or check it."""
    parser = argparse.ArgumentParser(description="Resolve or check a lock file.")
    parser.add_argument("profile", choices=["cpu", "gpu"])
    parser.add_argument("--check", action="store_true", help="only show that the committed lock resolves")
    options = parser.parse_args()
    try:
        pins = check(options.profile) if options.check else resolve(options.profile)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        (LOCKS / f"{options.profile}.txt").write_text(
            HEADER.format(name=options.profile) + "\n".join(pins) + "\n"
        )
    print(f"{options.profile}: {len(pins)} pins {'resolve' if options.check else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
