"""Methods with texts on small towers of random weights: SigLIP 2, PE-Core, a BERT as BiomedCLIP's, EVA-CLIP."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from vlm_encoders import load_tower

from icube_common.experiments.methods import FeatureProblem, Method, all_methods
from icube_common.vlm import FrozenVLM

NAMES = ["walking", "sitting down", "drinking from a bottle"]
METHODS = [method for method in all_methods().values() if "texts" in method.requires]
TOWERS = ("ViT-B-16-SigLIP2", "PE-Core-T-16-384", "hf", "EVA02-B-16")


@pytest.fixture(scope="module", params=TOWERS)
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenVLM:
    return load_tower(request.param, tmp_path_factory.mktemp("tower"))


def short(method: Method) -> Method:
    """The method with two steps of training, where it trains."""
    limits = {field.name: 2 for field in dataclasses.fields(method) if field.name == "max_steps"}  # type: ignore[arg-type]
    return dataclasses.replace(method, **limits)  # type: ignore[type-var]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_methods_apply_to_towers_of_every_kind(vlm: FrozenVLM, method: Method) -> None:
    """Finite logits at the tower's frozen scale; training leaves the tower as it is."""
    joint = torch.randn(6, vlm.embed_dim, generator=torch.Generator().manual_seed(0))
    problem = FeatureProblem(
        features=joint,
        joint=joint,
        labels=torch.arange(6) % 3,
        class_names=NAMES,
        vlm=vlm,
        templates="a photo of two people {}.",
        descriptions={name: ["a person walking", "takes a sip of water"] for name in NAMES},
    )
    assert problem.logit_scale == pytest.approx(float(vlm.logit_scale))
    before = {name: value.clone() for name, value in vlm.state_dict().items()}
    method = short(method)
    assert method.reason(problem) == ""
    fitted = method.fit(problem, method.grid(problem)[0])
    logits = fitted.logits(problem.features, joint)
    assert logits.shape == (6, 3) and torch.isfinite(logits).all()
    assert all(torch.equal(value, before[name]) for name, value in vlm.state_dict().items())
    assert not any(value.requires_grad for value in vlm.parameters())
    assert not logits.requires_grad


def test_methods_on_a_second_device(tmp_path: Path) -> None:
    """Every method runs where the tower is, and its logits are those of the CPU."""
    job = Path(__file__).with_name("methods_job.py")
    paths = [str(job.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(job), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in result:
        pytest.skip(result["skipped"])
    assert result["towers"] == ["text elsewhere"]
    assert [name for name, _ in result["cpu"]] == [name for name, _ in result["second"]]
    for (name, cpu), (_, second) in zip(result["cpu"], result["second"], strict=True):
        torch.testing.assert_close(torch.tensor(second), torch.tensor(cpu), atol=1e-4, rtol=1e-4, msg=name)
