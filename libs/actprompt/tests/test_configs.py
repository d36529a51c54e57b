"""The configurations that come with the library fit its schema and state their purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from actprompt.config import ActConfig, unused_keys
from icube_common.config import load_config
from icube_common.experiments import Grid

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_the_best_configuration_for_florence3d() -> None:
    config = load_config(ActConfig, file=CONFIGS / "florence3d.yaml")
    assert config.skeleton.enabled and config.visual.enabled and config.prompt.init == "descriptions"
    assert config.prompt.learn and config.shuffle_class_texts == 0


def test_ablation_variants_change_known_keys() -> None:
    grid = Grid.load(CONFIGS / "ablation_florence3d.yaml", ActConfig, unused=unused_keys)
    assert len(grid.seeds) >= 3 and grid.baseline == "base" and len(grid.variants) >= 20
    factors = {key for variant in grid.variants for key in variant.changes}
    wanted = {"prompt.init", "prompt.num_context", "shuffle_class_texts", "visual.head", "skeleton.enabled", "vlm.name"}
    assert wanted | {"loss.class_balanced_beta", "loss.contrastive", "visual.prompts", "ridge_init.enabled"} <= factors


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_each_begins_with_its_command(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# actprompt ")
