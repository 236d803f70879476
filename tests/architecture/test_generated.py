"""The committed stubs are what `make proto` makes of the committed .proto files."""

from __future__ import annotations

from pathlib import Path

from deploy.gen_proto import PACKAGE, ROOT, generate, sources


def test_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    made = generate(ROOT / "proto", tmp_path)
    kept = [path.relative_to(ROOT) for path in (ROOT / PACKAGE).iterdir() if path.suffix in (".py", ".pyi")]
    assert sorted(kept) == made, "run `make proto` and commit heliotrope/v1"
    stale = [str(path) for path in made if (ROOT / path).read_bytes() != (tmp_path / path).read_bytes()]
    assert stale == [], "run `make proto` and commit heliotrope/v1"


def test_every_contract_file_is_found() -> None:
    names = {path.stem for path in sources(ROOT / "proto")}
    assert {"chat", "feedback", "policy", "sampler", "ingest", "admin", "events"} <= names
