"""grid.yaml and space.yaml: what they mean, and that wrong ones are refused in one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icube_common.config import Config, load_config, option, read_yaml, section
from icube_common.errors import InputError
from icube_common.experiments import Grid, Search, override_texts
from icube_common.experiments.grid import folder_name
from icube_common.experiments.overrides import changed, flatten, nest, values_of
from icube_common.experiments.runner.study import write_yaml


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    steps: int = option(100, "steps", ge=1)
    rate: float = option(0.1, "rate", gt=0, le=1)
    precision: str = option("no", "precision", choices=("no", "bf16"))


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    width: int = option(8, "width", ge=1)
    words: str = option("", "any text")
    layers: list[int] = option([1, 2], "layers", ge=0)
    weights: dict[str, float] = option({}, "weights")
    train: Train = section(Train)


GRID: dict[str, Any] = {
    "base": {"train": {"steps": 20}},
    "grid": {"width": [4, 8], "train.precision": ["no", "bf16"]},
    "variants": [{"name": "slow", "train.rate": 0.01}, {"name": "base"}],
    "seeds": [0, 1],
    "metric": "top1",
    "baseline": "slow",
}


def test_the_full_factorial_and_the_named_variants() -> None:
    grid = Grid.from_mapping(GRID, Settings)
    assert [variant.name for variant in grid.variants] == [
        "width=4,precision=no",
        "width=4,precision=bf16",
        "width=8,precision=no",
        "width=8,precision=bf16",
        "slow",
        "base",
    ]
    assert grid.overrides(grid.variants[1]) == {"train.steps": 20, "width": 4, "train.precision": "bf16"}
    assert grid.overrides(grid.variants[4]) == {"train.steps": 20, "train.rate": 0.01}
    assert grid.overrides(grid.variants[5]) == {"train.steps": 20}
    assert (grid.seeds, grid.metric, grid.baseline) == ((0, 1), "top1", "slow")


def test_the_first_variant_is_the_baseline_where_none_is_named() -> None:
    assert Grid.from_mapping({**GRID, "baseline": "base"}).baseline == "base"
    assert Grid.from_mapping({key: GRID[key] for key in GRID if key != "baseline"}).baseline == "width=4,precision=no"


def test_factors_with_the_same_last_part_keep_their_whole_key() -> None:
    grid = Grid.from_mapping({"grid": {"a.rate": [1], "b.rate": [2]}, "seeds": [0], "metric": "m"})
    assert grid.variants[0].name == "a.rate=1,b.rate=2"


def test_a_file_is_read_as_a_configuration_is(tmp_path: Path) -> None:
    """1e-2 is a number, and no becomes the word of the key's choices."""
    file = tmp_path / "grid.yaml"
    file.write_text("grid:\n  train: {rate: [1e-2, 1e-1], precision: [no]}\nseeds: [3]\nmetric: top1\n")
    grid = Grid.load(file, Settings)
    assert grid.overrides(grid.variants[0])["train.rate"] == 0.01
    config = load_config(Settings, overrides=override_texts(grid.overrides(grid.variants[0])))
    assert (config.train.rate, config.train.precision) == (0.01, "no")


def test_layers_below_and_above_the_base() -> None:
    grid = Grid.from_mapping(GRID, Settings, below={"train.steps": 1, "words": "x"}, above={"words": "y"})
    assert grid.base == {"train.steps": 20, "words": "y"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": [0]}, "g.yaml: unknown key 'seed': did you mean 'seeds'?"),
        ({"seeds": None}, "seeds: must be a list"),
        ({"seeds": []}, "seeds: must be a list"),
        ({"seeds": "012"}, "seeds: must be a list"),
        ({"seeds": [0, 0]}, "holds one of them twice"),
        ({"seeds": [True]}, "True is no whole number"),
        ({"seeds": [-1]}, "-1 is no whole number"),
        ({"metric": None}, "metric: must name"),
        ({"metric": 3}, "metric: must name"),
        ({"baseline": "slo"}, "unknown baseline 'slo': did you mean 'slow'?"),
        ({"grid": [1]}, "grid: must be a mapping"),
        ({"grid": {"width": 4}}, "grid: width: must be a list of values"),
        ({"grid": {"width": []}}, "grid: width: must be a list of values"),
        ({"grid": {"width": [4, 4]}}, "grid: width: 4 stands there twice"),
        ({"grid": {"train.rate": [0.1], "train": {"rate": [0.2]}}}, "g.yaml: grid: train.rate: is given twice"),
        ({"grid": None, "variants": None, "baseline": None}, "varies nothing"),
        ({"variants": {"name": "x"}}, "variants: must be a list"),
        ({"variants": ["x"]}, "entry 1 must be a mapping with a name"),
        ({"variants": [{"width": 3}]}, "entry 1 has no name"),
        ({"variants": [{"name": " "}]}, "entry 1 has no name"),
        ({"variants": [{"name": "slow"}, {"name": "slow", "width": 1}]}, "two variants have the name 'slow'"),
        ({"base": {"widht": 3}}, "g.yaml: base: widht=3: unknown configuration key 'widht': did you mean 'width'?"),
        ({"grid": {"width": [4, 0]}}, "g.yaml: width=0: width=0: must be at least 1"),
        ({"grid": {"width": ["wide"]}}, "g.yaml: width=wide: width=wide: width: "),
        ({"variants": [{"name": "slow", "train": 3}]}, "train: is a section"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Grid.from_mapping({**GRID, **change}, Settings, where="g.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("g.yaml: ")


def test_a_key_that_is_varied_cannot_be_set_for_all() -> None:
    with pytest.raises(InputError, match=r"train\.rate is varied by 'slow'"):
        Grid.from_mapping(GRID, Settings, above={"train.rate": 0.5})


def test_true_and_one_are_two_values() -> None:
    grid = Grid.from_mapping({"grid": {"a": [True, 1, None, "x y", [1, 2]]}, "seeds": [0], "metric": "m"})
    assert [v.name for v in grid.variants] == ["a=true", "a=1", "a=null", "a=x y", "a=[1 2]"]


def test_folder_names_are_safe_and_stay_apart() -> None:
    assert folder_name("width=4,train.rate=1e-05") == "width=4,train.rate=1e-05"
    names = ["a/b", "a b", "a:b", "..", ".", "x" * 300, "x" * 301, "é"]
    made = [folder_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(len(name) <= 100 and "/" not in name and not name.startswith(".") for name in made)


@given(
    st.dictionaries(
        st.sampled_from(["width", "words", "layers", "train.steps", "train.rate"]),
        st.none(),
    ),
    st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="${}\\"), max_size=12),
    st.lists(st.integers(0, 9), max_size=3),
    st.floats(1e-12, 1),
)
def test_overrides_arrive_as_they_were_given(keys: dict[str, None], words: str, layers: list[int], rate: float) -> None:
    all_values = {"width": 3, "words": words, "layers": layers, "train.steps": 7, "train.rate": rate}
    overrides = {key: all_values[key] for key in keys}
    config = load_config(Settings, overrides=override_texts(overrides))
    assert values_of(config, overrides) == overrides
    assert changed(config) == {k: v for k, v in overrides.items() if (k, v) not in [("words", ""), ("layers", [1, 2])]}


@pytest.mark.parametrize("word", ["no", "null", "1e-4", "1", "a: b", "[x", "#x", "two\nlines", "", " x ", "'", '"'])
def test_texts_that_look_like_something_else_stay_texts(word: str, tmp_path: Path) -> None:
    assert load_config(Settings, overrides=override_texts({"words": word})).words == word
    write_yaml(tmp_path / "best.yaml", {"words": word})
    assert read_yaml(tmp_path / "best.yaml") == {"words": word}
    assert load_config(Settings, file=tmp_path / "best.yaml").words == word


def test_nested_and_dotted_keys_are_the_same() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [2]}, "e": 3}
    assert flatten(nested) == {"a.b.c": 1, "a.d": [2], "e": 3}
    assert nest(flatten(nested)) == nested
    assert flatten({"weights": {"x": 1}}, {"weights"}) == {"weights": {"x": 1}}


SPACE: dict[str, Any] = {
    "space": {
        "train.rate": {"type": "float", "low": 1e-4, "high": 1, "log": True},
        "width": {"type": "int", "low": 2, "high": 16, "step": 2},
        "train.precision": {"type": "categorical", "choices": ["no", "bf16"]},
    },
    "metric": "top1",
    "direction": "maximize",
    "trials": 5,
    "seeds": [0],
}


def test_a_space_becomes_distributions() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    search = Search.from_mapping(SPACE, Settings)
    assert [parameter.distribution() for parameter in search.space] == [
        FloatDistribution(1e-4, 1.0, log=True),
        IntDistribution(2, 16, step=2),
        CategoricalDistribution(("no", "bf16")),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spaces": {}}, "unknown key 'spaces'"),
        ({"space": {}}, "space: must be a mapping"),
        ({"space": {"width": 3}}, "space: width: must be {type"),
        ({"space": {"width": {"type": "integer"}}}, "width: type: must be one of float, int, categorical"),
        ({"space": {"width": {"type": "int", "lo": 1, "high": 2}}}, "unknown field of type int 'lo'"),
        ({"space": {"width": {"type": "int", "low": 1}}}, "width: high: must be a whole number (found None)"),
        ({"space": {"width": {"type": "int", "low": 1.5, "high": 2}}}, "low: must be a whole number (found 1.5)"),
        ({"space": {"width": {"type": "int", "low": 2, "high": 2}}}, "low 2 must be less than high 2"),
        ({"space": {"width": {"type": "int", "low": 1, "high": 4, "step": 2}}}, "is no whole number of steps"),
        ({"space": {"width": {"type": "int", "low": 0, "high": 4}}}, "width=0: must be at least 1"),
        ({"space": {"width": {"type": "float", "low": 1.5, "high": 4}}}, "space: width=1.5: "),
        ({"space": {"train.rate": {"type": "float", "low": 0, "high": 1, "log": True}}}, "must be positive on a log"),
        ({"space": {"train.rate": {"type": "float", "low": "a", "high": 1}}}, "must be a number (found 'a')"),
        ({"space": {"train.rate": {"type": "float", "low": 0.1, "high": 2}}}, "train.rate=2.0: must be at most 1"),
        ({"space": {"train.rte": {"type": "float", "low": 0.1, "high": 1}}}, "unknown configuration key 'train.rte'"),
        ({"space": {"train.rate": {"type": "float", "low": 0.1, "high": 1, "log": 1}}}, "log: must be true or false"),
        ({"space": {"words": {"type": "categorical", "choices": ["a"]}}}, "at least two values"),
        ({"space": {"words": {"type": "categorical", "choices": ["a", "a"]}}}, "'a' stands there twice"),
        ({"space": {"layers": {"type": "categorical", "choices": [[1], [2]]}}}, "[1] is no plain value"),
        ({"direction": "up"}, "direction: must be one of maximize, minimize (found 'up')"),
        ({"trials": 0}, "trials: must be a whole number from 1 on"),
        ({"trials": True}, "trials: must be a whole number from 1 on"),
        ({"metric": ""}, "metric: must name"),
        ({"seeds": 0}, "seeds: must be a list"),
    ],
)
def test_a_wrong_space_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Search.from_mapping({**SPACE, **change}, Settings, where="s.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("s.yaml: ")


def test_a_key_that_is_searched_cannot_be_set_for_all() -> None:
    with pytest.raises(InputError, match="width is searched"):
        Search.from_mapping(SPACE, Settings, above={"width": 3})
