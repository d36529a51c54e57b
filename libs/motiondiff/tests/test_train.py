"""Training: what a run leaves, what stops it before anything is written, resuming, precision, several processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.io.runs import RunFolder, read_json
from icube_common.training import StepRandom
from icube_common.training.sampler import SampleRef
from motiondiff.config import DataConfig, DiffusionConfig, MotionDiffConfig
from motiondiff.data.dataset import MotionDataset, collate, to_common_frame
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips
from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.spectrum import BANDS
from motiondiff.training.diffusion import train
from motiondiff.training.diffusion_loss import DiffusionLoss, batch_conditions, make_noise_schedule
from motiondiff.training.statistics import fit_representation, training_spectrum

ConfigMaker = Callable[..., MotionDiffConfig]
WEIGHTS = Path("model", "denoiser", "diffusion_pytorch_model.safetensors")


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in RunFolder(run).read_metrics() if "loss" in record]


@pytest.mark.parametrize(
    ("preconditioning", "losses", "shares"),
    [
        ("none", {"min_snr_gamma": 0.0, "weight_root": 0.0}, {"loss": 0.5, "simple": 0.7, "positions": 0.5}),
        # begins with the Wiener filter, of loss 1: sixty steps learn a little of what that does not know
        ("spectral", {"weight_positions": 0.0, "weight_root": 0.0}, {"loss": 0.92, "simple": 0.92}),
    ],
)
def test_the_loss_falls(
    store_path: Path,
    tmp_path: Path,
    tiny_config: ConfigMaker,
    preconditioning: str,
    losses: dict[str, float],
    shares: dict[str, float],
) -> None:
    config = tiny_config(
        train={"max_steps": 60, "batch_size": 16},
        model={"dropout": 0.0, "width": 32, "feedforward": 64, "preconditioning": preconditioning},
        # simulated runners at 10 fps take large steps: the velocity's loss would drown the others in so short a run
        diffusion={"weight_velocity": 0.0, "weight_contact": 0.0, "weight_feet": 0.0, **losses},
    )
    result = train(None, store_path, out=tmp_path / "run", config=config)
    records = RunFolder(tmp_path / "run").read_metrics()
    assert len(records) == 60 and result.fit.steps == 60 and result.to_dict()["last"]["step"] == 60
    for name, share in shares.items():
        series = [record[name] for record in records]
        assert sum(series[-10:]) < share * sum(series[:10])


def test_run_folder_content(run_path: Path, store: MotionStore) -> None:
    names = {path.name for path in run_path.iterdir()}
    assert {"config.yaml", "environment.json", "metrics.jsonl", "checkpoints", "model", "report.html"} <= names
    assert list(run_path.rglob("events.out.tfevents*"))
    assert {path.name for path in (run_path / "checkpoints").iterdir()} == {"step-2", "step-4"}
    config = load_config(MotionDiffConfig, file=run_path / "config.yaml")
    assert config.train.seed == 3 and config.model.width == 16 and config.diffusion.num_train_timesteps == 50
    environment = read_json(run_path / "environment.json")
    assert environment["data_fingerprint"] == store.fingerprint and environment["seed"] == 3
    assert environment["packages"]["torch"] and environment["processes"] == 1
    records = RunFolder(run_path).read_metrics()
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]
    for record in records:
        if "loss" in record:
            weighted = sum(record[name] for name in ("simple", "positions", "root", "velocity", "contact", "feet"))
            assert record["loss"] == pytest.approx(weighted, rel=1e-5)
    assert any("validation" in key for record in records for key in record)
    card = (run_path / "model" / "README.md").read_text()
    assert "Trained for 4 steps on 25 clips" in card and store.fingerprint[:16] in card
    assert "simulated motions, not on recordings of people" in card and "num_train_timesteps: 50" in card
    report = (run_path / "report.html").read_text()
    assert "simulated motions, not recordings of people" in report and store.fingerprint in report
    assert not list(run_path.rglob("*.p*kl*")) and not list(run_path.rglob("*.bin"))


def test_the_same_seed_gives_the_same_weights(store_path: Path, tmp_path: Path, tiny_config: ConfigMaker) -> None:
    runs = {"a": 0, "b": 0, "c": 1}
    for name, seed in runs.items():
        torch.rand(3)
        train(None, store_path, out=tmp_path / name, config=tiny_config(train={"max_steps": 2, "seed": seed}))
    weights = {name: (tmp_path / name / WEIGHTS).read_bytes() for name in runs}
    assert weights["a"] == weights["b"] != weights["c"]


def test_a_resumed_run_ends_with_the_bytes_of_one_never_stopped(
    store_path: Path, tmp_path: Path, tiny_config: ConfigMaker
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(None, store_path, out=whole, config=tiny_config(train={"max_steps": 7, "ema_decay": 0.9}))
    train(None, store_path, out=broken, config=tiny_config(train={"max_steps": 4, "ema_decay": 0.9}))
    # as if it had been killed in step 4: its last checkpoint and its model never came to be
    shutil.rmtree(broken / "checkpoints" / "step-4")
    shutil.rmtree(broken / "model")
    result = train(
        None, store_path, out=broken, config=tiny_config(train={"max_steps": 7, "ema_decay": 0.9}), resume=True
    )
    assert result.fit.resumed_from == 2 and result.fit.steps == 7
    assert read_json(broken / "environment.json")["resumed_from"] == 2
    assert (broken / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert losses(broken) == losses(whole)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"diffusion": {"weight_contact": 0.0}}, r"diffusion\.weight_contact=0\.0: .* was trained with 1\.0"),
        ({"data": {"stature_range": 0.0}}, r"data\.stature_range=0\.0"),
        ({"model": {"width": 32}}, r"model\.width=32"),
        ({"train": {"learning_rate": 0.5}}, "learning_rate"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    store_path: Path, run_path: Path, tmp_path: Path, tiny_config: ConfigMaker, changes: dict[str, Any], words: str
) -> None:
    run = Path(shutil.copytree(run_path, tmp_path / "run"))
    kept = {"report_to": "none", "eval_steps": 2, "ema_decay": 0.5}
    changes = {**changes, "train": {**kept, **changes.get("train", {})}}
    before = (run / WEIGHTS).read_bytes()
    with pytest.raises(InputError, match=words):
        train(None, store_path, out=run, config=tiny_config(**changes), resume=True)
    assert (run / WEIGHTS).read_bytes() == before


def test_resuming_on_other_data_is_refused(run_path: Path, tmp_path: Path, tiny_config: ConfigMaker) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    other = write_store(
        simulate_clips(40, fps=10, seed=5), tmp_path / "other", PrepareOptions(), description=description
    )
    run = Path(shutil.copytree(run_path, tmp_path / "run"))
    with pytest.raises(InputError, match=r"is not the data that .* was trained on"):
        train(None, other.path, out=run, config=tiny_config(), resume=True)
    with pytest.raises(InputError, match="is no run folder to resume"):
        train(None, other.path, out=tmp_path / "absent", config=tiny_config(), resume=True)
    assert not (tmp_path / "absent").exists()


def test_an_existing_run_is_replaced_only_on_request(
    store_path: Path, run_path: Path, tmp_path: Path, tiny_config: ConfigMaker
) -> None:
    run = Path(shutil.copytree(run_path, tmp_path / "run"))
    with pytest.raises(InputError, match=r"run: exists already \(--overwrite replaces it\)"):
        train(None, store_path, out=run, config=tiny_config())
    assert len(losses(run)) == 4
    train(None, store_path, out=run, config=tiny_config(train={"max_steps": 1}), overwrite=True)
    assert len(losses(run)) == 1 and {path.name for path in (run / "checkpoints").iterdir()} == {"step-1"}


def test_bf16(store_path: Path, tmp_path: Path, tiny_config: ConfigMaker) -> None:
    for precision in ("no", "bf16"):
        train(None, store_path, out=tmp_path / precision, config=tiny_config(train={"mixed_precision": precision}))
    exact, rounded = losses(tmp_path / "no"), losses(tmp_path / "bf16")
    assert exact != rounded and rounded == pytest.approx(exact, rel=0.05)
    assert read_json(tmp_path / "bf16" / "environment.json")["mixed_precision"] == "bf16"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"mixed_precision": "fp16"}}, "fp16: does not exist on a CPU; take mixed_precision=bf16 or no"),
        ({"train": {"early_stopping_patience": 2}}, "set eval_steps as well"),
        ({"model": {"num_heads": 3}}, r"model\.width=16: must be even and a multiple of model\.num_heads=3"),
    ],
)
def test_bad_settings_leave_no_folder(
    store_path: Path, tmp_path: Path, tiny_config: ConfigMaker, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(None, store_path, out=tmp_path / "run", config=tiny_config(**changes))
    assert not list(tmp_path.iterdir())


def test_watching_a_validation_split_that_is_not_there(tmp_path: Path, tiny_config: ConfigMaker) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    store = write_store(
        simulate_clips(10, fps=10, subjects=2), tmp_path / "store", PrepareOptions(), description=description
    )
    for patience in (0, 2):
        with pytest.raises(InputError, match=r"eval_steps=2: .* has no validation split to watch"):
            train(
                None,
                store.path,
                out=tmp_path / "run",
                config=tiny_config(train={"eval_steps": 2, "early_stopping_patience": patience}),
            )
        assert not (tmp_path / "run").exists()


def test_a_store_without_training_clips_is_refused(tmp_path: Path, tiny_config: ConfigMaker) -> None:
    with pytest.raises(InputError, match="is not a motion store"):
        train(None, tmp_path, out=tmp_path / "run", config=tiny_config())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.max_step=5", "unknown configuration key 'train.max_step': did you mean 'train.max_steps'"),
        ("diffusion.weight_contact=-1", "must be at least 0"),
        ("train.learning_rate=0", "must be greater than 0"),
        ("data.crop_probability=1.5", "must be at most 1"),
        ("model.width=wide", "model.width"),
        ("data.max_frames=8", r"data\.min_frames=12: must be at most data\.max_frames=8"),
        ("diffusion.beta_schedule=cosine", "unknown value of diffusion.beta_schedule 'cosine'"),
    ],
)
def test_bad_keys_and_values(override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_config(MotionDiffConfig, overrides=[override])


def a_step(store: MotionStore, representation: MotionRepresentation, **changes: Any) -> Any:
    config = DiffusionConfig(num_train_timesteps=50, **changes)
    step = DiffusionLoss(representation, make_noise_schedule(config), config, max_frames=64)
    windows = MotionDataset(store, store.select("train"), DataConfig(max_frames=32, min_frames=8), augment=False)
    return step, collate([windows[SampleRef(index, 0)] for index in range(16)])


class Recorder(torch.nn.Module):
    """Takes the denoiser's place: keeps what it is given and predicts the given clean motion."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions, mask: torch.Tensor) -> Any:
        self.given = noisy, timesteps, conditions, mask
        return self.answer


def random(step: int = 0) -> StepRandom:
    return StepRandom(0, step, 0, rows=slice(0, 16), total=16)


def normalised(representation: MotionRepresentation, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The clean features as the loss computes them, to the last bit."""
    features, offsets, mask = batch["features"], batch["offsets"], batch["mask"]
    return representation.normalise(features, offsets, mask, representation.masked_positions(features, offsets, mask))


def test_a_perfect_denoiser_has_no_loss_but_feet_that_stand(
    store: MotionStore, representation: MotionRepresentation
) -> None:
    step, batch = a_step(store, representation)
    model = Recorder(normalised(representation, batch) * batch["mask"][..., None])
    terms = step(model, batch, random())
    assert terms["simple"] == 0
    # the target's positions are computed before the normalisation, whose rounding is far below a micrometre
    for name in ("positions", "root", "velocity", "feet"):
        assert terms[name].item() < 1e-10
    # what is left are steps of feet that count as standing, below 0.25 m/s: 2.5 cm or 1.25 units a frame at most
    assert 0 <= terms["contact"].item() < 1.25**2
    assert terms["loss"].item() == pytest.approx(terms["contact"].item(), rel=1e-6, abs=1e-9)


def test_errors_weigh_by_the_noise_of_their_clip(store: MotionStore, representation: MotionRepresentation) -> None:
    """Min-SNR: with gamma a clip's errors count a / (1 - a), at most gamma; with 0 all count once."""
    terms = {}
    for gamma in (0.0, 1e-4, 5.0):
        step, batch = a_step(store, representation, min_snr_gamma=gamma)
        model = Recorder(torch.zeros_like(batch["features"]))
        terms[gamma] = step(model, batch, random())
    # a gamma below the least weight: every clip has the same
    assert terms[1e-4]["positions"].item() == pytest.approx(1e-4 * terms[0.0]["positions"].item(), rel=1e-4)
    clean = normalised(representation, batch) * batch["mask"][..., None]
    per_clip = ((clean**2).mean(-1).sum(1)) / batch["mask"].sum(1)
    cumulative = step.schedule.alphas_cumprod[model.given[1]]
    weights = (cumulative / (1 - cumulative)).clamp(0.5, 5)
    assert weights.min() == 0.5 and weights.max() == 5
    assert terms[5.0]["simple"].item() == pytest.approx((per_clip * weights).mean().item(), rel=1e-4)


def test_the_loss_on_features_is_in_units_of_the_spectrum(
    store: MotionStore, representation: MotionRepresentation
) -> None:
    clips, data = store.select("train"), DataConfig(max_frames=32, min_frames=8)
    spectrum = training_spectrum(store, clips, data, representation)
    assert spectrum.shape == (1 + len(store.actions), BANDS + 1, representation.feature_size) and (spectrum > 0).all()
    assert torch.equal(spectrum[1:, 0], spectrum[:1, 0].expand(len(store.actions), -1))  # deviation of the means
    assert not torch.equal(spectrum[1, 1:], spectrum[2, 1:])
    config = DiffusionConfig(num_train_timesteps=50)
    schedule = make_noise_schedule(config)
    step = DiffusionLoss(representation, schedule, config, max_frames=64, spectrum=spectrum)
    windows = MotionDataset(store, clips, data, augment=True)
    batch = collate([windows[SampleRef(index % len(windows), index)] for index in range(160)])
    denoiser = MotionDenoiser.for_dataset(windows, width=16, num_layers=1, num_heads=2, num_train_timesteps=50)
    denoiser.set_preconditioning(spectrum, schedule.alphas_cumprod)
    draws = StepRandom(0, 0, 0, rows=slice(0, 160), total=160)
    # without a trained network: the Wiener filter of these windows, whose error is 1
    assert step(denoiser, batch, draws)["simple"].item() == pytest.approx(1, abs=0.2)
    perfect = Recorder(normalised(representation, batch) * batch["mask"][..., None])
    assert step(perfect, batch, StepRandom(0, 0, 0, rows=slice(0, 160), total=160))["simple"] == 0


def test_spectra_of_the_other_preconditionings(store: MotionStore, representation: MotionRepresentation) -> None:
    clips, data = store.select("train"), DataConfig(max_frames=32, min_frames=8, crop_probability=0.0)
    of_actions, shared, edm = (
        training_spectrum(store, clips, data, representation, kind) for kind in ("spectral", "spectral_shared", "edm")
    )
    assert torch.equal(shared, of_actions[:1].expand_as(shared))
    # one deviation of a feature for all frequencies: that of its values
    assert torch.equal(edm[:, 1:], edm[:1, 1:2].expand_as(edm[:, 1:]))
    frames = torch.cat(
        [
            representation.normalise(
                torch.from_numpy(to_common_frame(store.frames(int(clip), 0, 32))),
                torch.tensor(store.skeleton(int(clip)).offsets),
            )
            for clip in clips
        ]
    )
    torch.testing.assert_close(edm[0, 1, :3], frames.square().mean(0).sqrt()[:3], rtol=0.2, atol=0.05)
    assert (edm[0, 0] <= edm[0, 1]).all()


def test_the_denoiser_may_have_no_gates(store: MotionStore) -> None:
    windows = MotionDataset(store, store.select("train"), DataConfig(max_frames=32, min_frames=8))
    made = MotionDenoiser.for_dataset(windows, width=16, num_layers=1, num_heads=2, gates=False)
    assert made.predict.out_features == windows.feature_size
    batch = collate([windows[SampleRef(index, 0)] for index in range(3)])
    representation = fit_representation(store, windows.clips, windows.config)
    conditions = batch_conditions(batch, representation)
    clean = made(batch["features"], torch.tensor(500), conditions, batch["mask"])
    assert clean.shape == batch["features"].shape and clean.isfinite().all()


def test_conditions_are_dropped_together_as_well(store: MotionStore, representation: MotionRepresentation) -> None:
    rates = {"action_dropout": 0.0, "style_dropout": 0.0, "shape_dropout": 0.0, "joint_dropout": 0.4}
    step, batch = a_step(store, representation, **rates)
    batch["style"] = torch.zeros_like(batch["style"])
    model, count = Recorder(torch.zeros_like(batch["features"])), 0
    for number in range(40):
        step(model, batch, random(number))
        conditions = model.given[2]
        assert torch.equal(conditions.action == NULL, conditions.style == NULL) and conditions.has_shape.all()
        count += int((conditions.action == NULL).sum())
    assert count / (40 * 16) == pytest.approx(0.4, abs=0.06)


def test_noise_and_dropped_conditions(store: MotionStore, representation: MotionRepresentation) -> None:
    step, batch = a_step(
        store, representation, action_dropout=0.5, style_dropout=1.0, shape_dropout=0.0, joint_dropout=0.0
    )
    clean = normalised(representation, batch) * batch["mask"][..., None]
    model = Recorder(clean)
    seen = []
    for number in range(20):
        step(model, batch, random(number))
        noisy, timesteps, conditions, mask = model.given
        assert torch.equal(mask, batch["mask"]) and noisy.shape == clean.shape
        seen.append((timesteps, conditions.action))
        assert (conditions.style == NULL).all() and conditions.has_shape.all()
        dropped = conditions.action == NULL
        assert torch.equal(conditions.action[~dropped], batch["action"][~dropped])
        # Ho et al., 2020, eq. 4: what is left of the clean motion and how much noise there is
        alpha = step.schedule.alphas_cumprod[timesteps][:, None, None]
        noise = ((noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt())[alpha.flatten() < 0.99]
        assert abs(noise.mean().item()) < 0.02 and noise.std().item() == pytest.approx(1, abs=0.02)
    timesteps = torch.cat([time for time, _ in seen])
    assert timesteps.min() == 0 and timesteps.max() == 49
    share = torch.cat([action for _, action in seen]).eq(NULL).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.1)


def test_weights_of_the_terms(store: MotionStore, representation: MotionRepresentation) -> None:
    weights = {
        "weight_simple": 2.0,
        "weight_positions": 0.0,
        "weight_root": 3.0,
        "weight_velocity": 0.5,
        "weight_contact": 0.25,
        "weight_feet": 0.75,
    }
    step, batch = a_step(store, representation, **weights)
    terms = step(Recorder(torch.zeros_like(batch["features"])), batch, random())
    expected = 2 * terms["simple"] + 3 * terms["root"] + 0.5 * terms["velocity"] + 0.25 * terms["contact"]
    expected += 0.75 * terms["feet"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
