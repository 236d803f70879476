"""Configuration: defaults, overrides, and errors that name the key, the value and the remedy."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from heliotrope.config import Config, load
from heliotrope.errors import ConfigError
from heliotrope.settings.base import Section


def test_a_file_and_overrides_on_top(tmp_path):
    file = tmp_path / "h.toml"
    file.write_text('[serving]\nhttp_port = 9000\nhost = "127.0.0.2"\n')
    config = load(file, ["serving.http_port=9001", "rollout.mode=manual", 'learner.sources=["simulated"]'])
    assert (config.serving.http_port, config.serving.host) == (9001, "127.0.0.2")
    assert (config.rollout.mode, config.learner.sources) == ("manual", ("simulated",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serving.htp_port=1", r"unknown key serving\.htp_port; known: host,.*http_port"),
        ("servng.http_port=1", r"unknown key servng; known: paths, log"),
        ("serving.http_port=0", r"serving\.http_port = 0: .*greater than or equal to 1"),
        ("serving.http_port=x", r"serving\.http_port = 'x': .*integer"),
        ("rollout.mode=yolo", r"rollout\.mode = 'yolo': .*'auto' or 'manual'"),
        ("http_port=1", r"'http_port=1' is not of the form section\.key=value"),
        ("dpo.beta=nan", r"dpo\.beta = nan"),
        ("dpo.label_smoothing=0.2", r"does nothing in sigmoid; set dpo\.variant to robust"),
    ],
)
def test_bad_values_name_themselves_and_the_remedy(override, message):
    with pytest.raises(ConfigError, match=message):
        load(None, [override])


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration file .*gone\.toml"):
        load(tmp_path / "gone.toml")
    (tmp_path / "broken.toml").write_text("[serving\n")
    with pytest.raises(ConfigError, match="not readable TOML"):
        load(tmp_path / "broken.toml")


def test_configuration_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Config().serving.http_port = 1  # pyright: ignore[reportAttributeAccessIssue]


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [f.annotation for f in model.model_fields.values()]
    return [model, *(s for s in inner if isinstance(s, type) and issubclass(s, Section))]


@pytest.mark.parametrize("section", sections(Config), ids=lambda s: s.__name__)
def test_every_knob_is_described_and_sections_stay_small(section):
    assert all(field.description for field in section.model_fields.values())
    assert len(section.model_fields) <= (13 if section is not Config else 24)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8"])
def test_the_private_listener_is_never_public(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback or private"):
        load(None, [f"serving.private_host={host}"])
    assert load(None, ["serving.private_host=10.0.0.7"]).serving.private_host == "10.0.0.7"
