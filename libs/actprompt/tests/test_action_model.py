"""The action model: cosines with class prompts and nothing else, shares that add up, nothing dead in training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from act_world import FRAMES, LABELS, SENTENCES, World, settings, world
from safetensors.torch import save_file
from torch import Tensor
from vlm_encoders import write_small

import actprompt.training.trainer as fitting
from actprompt.config import ActConfig
from actprompt.models.action_model import ActionModel
from actprompt.skeleton.trajectory import TrajectoryEncoder
from actprompt.training.trainer import TrainedFold, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import train_on_all
from icube_common.io.runs import RunFolder
from icube_common.prompts import PromptLearner
from icube_common.training import FitResult, SampleRef, StepRandom
from icube_common.vlm import FrozenVLM, load_vlm

JOINTS = ("hip", "head")
WIDTH = TrajectoryEncoder.unfitted(JOINTS, 8).width


@pytest.fixture(scope="module")
def trained_clip(tmp_path_factory: pytest.TempPathFactory) -> FrozenVLM:
    """A small CLIP whose weights come from a file: to the library, a trained image tower."""
    folder = write_small(tmp_path_factory.mktemp("clip"), "ViT-B-32")
    weights = {name: value.contiguous() for name, value in load_vlm(str(folder), seed=3).model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return load_vlm(str(folder))


def prompts(vlm: FrozenVLM, sentences: dict[str, list[str]] | None = None) -> PromptLearner:
    found = sentences or {label: list(SENTENCES[label]) for label in LABELS}
    return PromptLearner(vlm, LABELS, "descriptions", knowledge=found)


def make(vlm: FrozenVLM, config: ActConfig, learner: PromptLearner | None = None) -> ActionModel:
    """A model with all three shares, its maps anything but nothing."""
    model = ActionModel(learner or prompts(vlm), config, LABELS, joint_names=JOINTS, parameters=("knee bend, last",))
    generator = torch.Generator().manual_seed(1)
    maps = (model.visual and model.visual.map, model.trajectory, model.parameters_map)
    with torch.no_grad():
        for number, part in enumerate(part for part in maps if part is not None):
            part.learned.normal_(std=20.0 + number, generator=generator)
    return model.eval()


def batch(dim: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    frames = F.normalize(torch.randn(5, FRAMES, dim, generator=generator), dim=-1)
    trajectory = torch.randn(5, WIDTH, generator=generator)
    trajectory[1] = torch.nan
    parameters = torch.tensor([[0.3], [-1], [2], [torch.nan], [0]])
    caption = torch.randn(5, dim, generator=generator)
    caption[3] = torch.nan
    return {"frames": frames, "trajectory": trajectory, "parameters": parameters, "caption": caption}


def test_exchanged_texts_exchange_the_logits(tiny: FrozenVLM) -> None:
    """No weight of the model belongs to a class: with its text a class gives away all its logits."""
    config = settings(skeleton={"enabled": True})
    order = [2, 0, 3, 1]
    others = {LABELS[place]: list(SENTENCES[LABELS[source]]) for place, source in enumerate(order)}
    model, exchanged = make(tiny, config), make(tiny, config, prompts(tiny, others))
    for name, value in exchanged.learned().items():
        assert torch.equal(value, model.learned()[name])
    with torch.no_grad():
        first, second = model(batch(64)).logits, exchanged(batch(64)).logits
    torch.testing.assert_close(second, first[:, order], atol=1e-5, rtol=0)
    assert (first - second).abs().max() > 0.01


def test_one_text_for_all_classes_gives_uniform_probabilities(tiny: FrozenVLM) -> None:
    same = prompts(tiny, {label: ["a person"] for label in LABELS})
    with torch.no_grad():
        logits = make(tiny, settings(skeleton={"enabled": True}), same)(batch(64)).logits
    torch.testing.assert_close(logits, logits[:, :1].expand(-1, 4), atol=1e-5, rtol=0)


def test_logits_are_cosines_averaged_over_sentences(tiny: FrozenVLM) -> None:
    model, given = make(tiny, settings(skeleton={"enabled": True})), batch(64)
    with torch.no_grad():
        out, sample = model(given), model.sample(given)
        texts = [tiny.encode_text(list(SENTENCES[label])) for label in LABELS]
    expected = torch.stack([(sample @ text.T).mean(1) for text in texts], 1) * tiny.logit_scale
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(out.sample.norm(dim=1), torch.ones(5))
    assert out.loss is None


def test_shares_add_up_to_the_feature(tiny: FrozenVLM) -> None:
    model, given = make(tiny, settings(skeleton={"enabled": True})), batch(64)
    with torch.no_grad():
        shares, sample = dict(model.shares(given)), model.sample(given)
    assert list(shares) == ["image", "trajectory", "parameters", "captions of the parameters"]
    torch.testing.assert_close(F.normalize(sum(shares.values(), torch.zeros(5, 64)), dim=1), sample)
    assert (shares["trajectory"][1] == 0).all() and (shares["parameters"][3] == 0).all()
    assert (shares["captions of the parameters"][3] == 0).all()
    assert all(share.norm(dim=1).max() > 0.1 for share in shares.values())


@pytest.mark.parametrize("enabled", ["visual", "skeleton"])
def test_disabled_branches_need_no_input(tiny: FrozenVLM, enabled: str) -> None:
    config = settings(visual={"enabled": enabled == "visual"}, skeleton={"enabled": enabled == "skeleton"})
    model = ActionModel(prompts(tiny), config, LABELS, joint_names=JOINTS if enabled == "skeleton" else ()).eval()
    wanted = {"frames"} if enabled == "visual" else {"trajectory"}
    with torch.no_grad():
        assert model({key: value for key, value in batch(64).items() if key in wanted}).logits.shape == (5, 4)


def test_class_features_are_kept_for_prediction_only(tiny: FrozenVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = make(tiny, settings()), batch(64)
    runs: list[int] = []
    inner = model.prompts._features

    def counting(feature: Tensor | None) -> Tensor:
        runs.append(1)
        return inner(feature)

    monkeypatch.setattr(model.prompts, "_features", counting)
    with torch.no_grad():
        first = model(given).logits
        assert torch.equal(model(given).logits, first) and len(runs) == 1
        model.prompts.context.mul_(-1)
        model.train()
        model.eval()
        second = model(given).logits
    assert len(runs) == 2 and (first - second).abs().max() > 0.01
    model.train()
    model(given)
    model(given).logits.sum().backward()
    assert len(runs) == 4 and model.prompts.context.grad is not None
    # other prompts are others, whatever was kept
    model.eval()
    other = prompts(tiny, {label: ["two hands"] for label in LABELS})
    with torch.no_grad():
        model(given)
        assert (model.against(other, given).logits - model(given).logits).abs().max() > 0.01


def test_a_trained_image_tower_is_its_own_zero_shot_at_first(trained_clip: FrozenVLM, tmp_path: Path) -> None:
    assert trained_clip.origin.image_trained and trained_clip.embed_dim == 24
    made = world(24, subjects=2)
    config = settings(ridge_init={"enabled": False}, prompt={"init": "template"})
    found = started(made, config, trained_clip, tmp_path)
    assert made.inputs.frames is not None
    frames = torch.stack([made.inputs.frames[name][0] for name in made.samples.ids])
    learner = PromptLearner(trained_clip, LABELS, "template")
    with torch.no_grad():
        expected = learner.logits(F.normalize(frames.mean(1), dim=-1))
        torch.testing.assert_close(found.model.eval()({"frames": frames}).logits, expected, atol=1e-4, rtol=1e-5)


def test_untrained_image_tower_starts_uniform(tiny: FrozenVLM, tmp_path: Path) -> None:
    made = world(subjects=2)
    assert made.inputs.frames is not None
    frames = torch.stack([made.inputs.frames[name][0] for name in made.samples.ids])
    nothing = started(made, settings(ridge_init={"enabled": False}), tiny, tmp_path / "1").model.eval()
    something = started(made, settings(), tiny, tmp_path / "2").model.eval()
    with torch.no_grad():
        assert (nothing.sample({"frames": frames}) == 0).all()
        assert something({"frames": frames}).logits.argmax(1).tolist() == made.samples.labels.tolist()


@dataclass
class Started:
    """A training at its beginning."""

    model: ActionModel
    step: Any
    clips: Any


def started(made: World, config: ActConfig, vlm: FrozenVLM, folder: Path) -> Started:
    """The untrained model of a fold."""
    found: list[Started] = []

    def fit(model: Any, step: Any, clips: Any, **options: Any) -> FitResult:
        found.append(Started(model, step, clips))
        return FitResult(model, 0, 0.0, None, "max_steps", None, True)

    run = RunFolder.create(folder, config_yaml="", environment={}, overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit", fit)
        trained = train_fold(made.seen_by(config), train_on_all(made.samples), config, vlm, made.texts, run)
    assert isinstance(trained, TrainedFold)
    return found[0]


ON = {"enabled": True}
OFF = {"enabled": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "mean": {},
    "mean_std": {"visual": {"head": "mean_std"}},
    "segment_difference": {"visual": {"head": "segment_difference"}, "skeleton": ON},
    "transformer": {"visual": {"head": "transformer", "layers": 2}},
    "cross_frame": {"visual": {"head": "cross_frame"}},
    "visual prompts": {"visual": {"prompts": 2}},
    "visual prompts and transformer": {"visual": {"prompts": 1, "head": "transformer", "summary_prompt": False}},
    "captions": {"skeleton": ON},
    "captions alone": {"skeleton": {**ON, "trajectory": False}, "visual": OFF},
    "trajectory alone": {"skeleton": {**ON, "num_time_warps": 0}, "visual": OFF},
    "contrastive": {"skeleton": {**ON, "fusion_mode": "contrastive"}},
    "memory": {"skeleton": {**ON, "fusion_mode": "memory", "kind": "mlp"}},
    "fusion": {"skeleton": {**ON, "fusion_mode": "fusion"}},
    "fusion by a network": {"skeleton": {**ON, "fusion_mode": "fusion", "fusion": "mlp"}},
    "random": {"prompt": {"init": "random", "num_context": "4"}},
    "template": {"prompt": {"init": "template"}},
    "own contexts": {"prompt": {"init": "template", "class_specific": True}},
    "descriptions": {"prompt": {"class_token": "end"}},
    "knowledge": {"prompt": {"init": "knowledge"}},
    "conditional": {"prompt": {"init": "template", "conditional": True}},
    "contrastive loss": {"loss": {"contrastive": 0.5}, "skeleton": ON},
    "kgcoop": {"loss": {"kgcoop": 1.0}},
    "graded": {"loss": {"name": "focal_ordinal", "class_balanced_beta": 0.9}},
    "without ridge": {"ridge_init": {"enabled": False}, "skeleton": ON},
    "transformer without ridge": {"ridge_init": {"enabled": False}, "visual": {"head": "transformer"}},
    "visual prompts without ridge": {"ridge_init": {"enabled": False}, "visual": {"prompts": 1}},
    "conditional, captions": {"prompt": {"init": "template", "conditional": True}, "skeleton": ON},
    "fixed prompts": {"prompt": {"learn": False}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_all_trained_parameters_have_gradients(name: str, tiny: FrozenVLM, tmp_path: Path) -> None:
    """Within two steps every trainable parameter has had a gradient, and the frozen backbone has none.

    One more where two maps stand behind each other that both start at nothing: the head's, and without ridge the one
    into the space of the texts.
    """
    config = settings(**CONFIGS[name])
    made = world(subjects=3, takes=1, pixels=96 if config.visual.prompts else 0)
    assert made.inputs.parameters is not None
    made.inputs.parameters.values[::4, 2] = torch.nan  # of a whole class, so that what stands for it is learned
    found = started(made, config, tiny, tmp_path / "run")
    model = found.model.train()
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-3)
    had: set[str] = set()
    for step in range(3 if name == "transformer without ridge" else 2):
        rows = [found.clips[SampleRef(index=index, seed=index + 100 * step)] for index in range(len(found.clips))]
        given = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        random = StepRandom(0, step, 0, rows=slice(0, 12), total=12, device=torch.device("cpu"))
        optimizer.zero_grad()
        terms = found.step(model, given, random)
        terms["loss"].backward()
        had |= {name for name, value in trainable.items() if value.grad is not None and value.grad.abs().max() > 0}
        optimizer.step()
    assert sorted(trainable.keys() - had) == []
    assert not any(value.requires_grad for value in tiny.model.parameters())


@pytest.mark.parametrize("entry", ["contrastive", "memory", "fusion"])
def test_a_meta_net_that_would_be_dead_is_refused(entry: str) -> None:
    with pytest.raises(InputError, match=f"conditional=true: skeleton.fusion_mode={entry}"):
        settings(prompt={"init": "template", "conditional": True}, skeleton={"enabled": True, "fusion_mode": entry})
    settings(prompt={"init": "template", "conditional": True}, skeleton={"enabled": False, "fusion_mode": entry})


def test_prior_counts_in_full_for_untrained_classes(tiny: FrozenVLM) -> None:
    model, given = make(tiny, settings(skeleton={"enabled": True})), batch(64)
    model.trust.fill_(0.0)
    with torch.no_grad():
        own = model(given)
        named = model.against(model.prompts, given, class_rows=torch.arange(len(model.labels)))
        unseen = model.against(model.prompts, given, class_rows=torch.tensor([-1, *range(1, len(model.labels))]))
        torch.testing.assert_close(named.sample, own.sample)
        torch.testing.assert_close(unseen.sample, model.sample(given, trust=1.0))
    assert not torch.allclose(unseen.sample, own.sample)
    assert dict(model.shares(given))["captions of the parameters"].abs().max() == 0
