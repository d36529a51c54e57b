from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from icube_common.config import (
    Config,
    config_to_dict,
    config_to_yaml,
    describe_config,
    load_config,
    load_saved_config,
    option,
    section,
)
from icube_common.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    max_steps: int = option(100, "optimiser steps", ge=1)
    learning_rate: float = option(1e-3, "peak learning rate", gt=0, lt=1)
    precision: str = option("no", "mixed precision", choices=("no", "bf16"))
    early_stopping_patience: int | None = option(None, "evaluations without progress before the run stops", ge=1)


@dataclass(frozen=True, kw_only=True)
class Whole(Config):
    train: Train = section(Train)
    formats: list[str] = option(["bvh"], "what to write", choices=("bvh", "npz"))
    weights: dict[str, float] = option({"simple": 1.0}, "weight of each loss", ge=0)
    resume: bool = option(False, "go on from the newest checkpoint")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults() -> None:
    assert load_config(Whole) == Whole()


def test_a_file_goes_over_defaults_and_overrides_go_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "train:\n  max_steps: 7\n  learning_rate: 0.5\nformats: [npz]\n")
    config = load_config(Whole, file=file, overrides=["train.max_steps=9", "resume=true", "weights.velocity=2"])
    assert config.train == Train(max_steps=9, learning_rate=0.5)
    assert config.formats == ["npz"] and config.resume is True
    assert config.weights == {"simple": 1.0, "velocity": 2.0}


def test_a_saved_file_is_whole(tmp_path: Path) -> None:
    """Cut off after a line it is valid YAML, with everything behind at its default."""
    written = Whole(train=Train(max_steps=7), resume=True)
    file = write(tmp_path / "config.yaml", config_to_yaml(written))
    assert load_saved_config(Whole, file) == written
    lines = config_to_yaml(written).splitlines(keepends=True)
    write(file, "".join(lines[: len(lines) // 2]))
    with pytest.raises(InputError, match=r"config.yaml: section resume is missing: the file is cut off"):
        load_saved_config(Whole, file)


def test_a_choice_that_yaml_reads_as_a_boolean(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "train: {precision: no}")
    assert load_config(Whole, file=file) == load_config(Whole, overrides=["train.precision=no"]) == Whole()
    with pytest.raises(InputError, match=r"unknown value of train\.precision 'True'"):
        load_config(Whole, overrides=["train.precision=yes"])


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(Whole, file=write(tmp_path / "c.yaml", "# nothing yet\n")) == Whole()


def test_the_saved_yaml_loads_to_the_same_configuration(tmp_path: Path) -> None:
    config = load_config(Whole, overrides=["train.max_steps=3", "train.early_stopping_patience=2", "formats=[bvh,npz]"])
    again = load_config(Whole, file=write(tmp_path / "c.yaml", config_to_yaml(config)))
    assert again == config


@given(
    st.builds(
        Train,
        max_steps=st.integers(1, 10**9),
        learning_rate=st.floats(0, 1, exclude_min=True, exclude_max=True),
        precision=st.sampled_from(["no", "bf16"]),
        early_stopping_patience=st.none() | st.integers(1, 10**6),
    )
)
def test_any_valid_configuration_survives_overrides(train: Train) -> None:
    overrides = [f"train.{key}={'null' if value is None else value}" for key, value in config_to_dict(train).items()]
    assert load_config(Whole, overrides=overrides).train == train


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_stepz=3", r"unknown configuration key 'train.max_stepz': did you mean 'train.max_steps'\?"),
        ("trian.max_steps=3", r"unknown configuration key 'trian.max_steps': did you mean 'train.max_steps'\?"),
        ("train.max_steps=-4", r"^train.max_steps=-4: must be at least 1$"),
        ("train.max_steps=many", r"train.max_steps: Value 'many' of type 'str' could not be converted to Integer"),
        ("train.max_steps=3.5", r"could not be converted to Integer"),
        ("train.max_steps=null", r"train.max_steps: Incompatible value 'None'"),
        ("train.learning_rate=0", r"^train.learning_rate=0.0: must be greater than 0$"),
        ("train.learning_rate=1", r"^train.learning_rate=1.0: must be less than 1$"),
        ("train.learning_rate=nan", r"must be a finite number"),
        ("train.precision=bf61", r"unknown value of train.precision 'bf61': did you mean 'bf16'\?"),
        ("train.early_stopping_patience=0", r"must be at least 1"),
        ("formats=[bvh,nps]", r"unknown value of formats 'nps': did you mean 'npz'\?"),
        ("weights.velocity=-1", r"^weights.velocity=-1.0: must be at least 0$"),
        ("resume=perhaps", r"'perhaps' is not a valid bool"),
        ("train=3", r"train: is a section"),
        ("train=null", r"train: is a section"),
        ("train.max_steps", r"has the form key=value"),
        ("=3", r"has the form key=value"),
        ("formats=[bvh", r"cannot be read as key=value"),
        ("train.max_steps=${nowhere}", r"Interpolation key 'nowhere' not found"),
    ],
)
def test_a_wrong_override_is_named_in_one_line(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config(Whole, overrides=[override])
    assert override.partition("=")[0].rpartition(".")[2] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {max_stepz: 3}", "did you mean 'train.max_steps'"),
        ("train: {max_steps: 0}", "train.max_steps=0: must be at least 1"),
        ("train: [1, 2]", "train: is a section"),
        ("train:", "train: is a section"),
        ("- 1\n- 2", "must hold a mapping"),
        ("train: {", "not readable as YAML"),
        ("1: 2", "unknown configuration key '1'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "mine.yaml", text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(Whole, file=file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"a: \x00"])
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not readable as YAML"):
        load_config(Whole, file=file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        load_config(Whole, file=tmp_path / "nowhere.yaml")


def test_plain_construction_checks_ranges_too() -> None:
    with pytest.raises(InputError, match=r"^max_steps=0: must be at least 1$"):
        Train(max_steps=0)
    with pytest.raises(InputError, match="must be a finite number"):
        Train(learning_rate=float("nan"))


def test_a_configuration_cannot_be_changed() -> None:
    for config in (Whole(), load_config(Whole, overrides=["resume=true"])):
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.resume = False  # type: ignore[misc]


def test_mutable_defaults_are_not_shared() -> None:
    first = Whole()
    first.formats.append("npz")
    assert Whole().formats == ["bvh"]


def test_help_shows_every_key_with_type_default_and_meaning() -> None:
    text = describe_config(Whole)
    (line,) = [line for line in text.splitlines() if "train.learning_rate" in line]
    assert line.split() == ["train.learning_rate", "float", "default", "0.001", "peak", "learning", "rate"]
    assert "mixed precision (no, bf16)" in text
    keys = {line.split()[0] for line in text.splitlines()[1:]}
    assert keys == {*(f"train.{field.name}" for field in dataclasses.fields(Train)), "formats", "weights", "resume"}


def test_yaml_and_dictionary_hold_the_same() -> None:
    config = Whole(formats=["npz"])
    assert yaml.safe_load(config_to_yaml(config)) == config_to_dict(config)
