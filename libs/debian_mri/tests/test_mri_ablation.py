from __future__ import annotations

from pathlib import Path

from debian_mri.config import MriConfig
from icube_common.experiments import Grid

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_every_variant_of_the_ablation_changes_the_base_in_a_way_that_the_schema_knows() -> None:
    path = CONFIGS / "ablation_oasis_slices.yaml"
    grid = Grid.load(path, MriConfig)
    assert path.read_text(encoding="utf-8").startswith("# debian-mri ablate ")
    assert len(grid.seeds) >= 3 and grid.baseline == "base" and len(grid.variants) >= 15
    factors = {key for variant in grid.variants for key in variant.changes}
    wanted = {"slices.planes", "visual.pooling", "prompt.init", "demographics.mode", "vlm.name"}
    assert wanted | {"concepts.enabled", "concepts.anchor", "exchange_texts"} <= factors
