"""Weight files as training code writes them: each gives the model's features, or one line with the fault."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from vlm_encoders import VISION, write_hf_folder, write_small

from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM, load_vlm

State = dict[str, Tensor]
FLAT, CUSTOM = "flat", "PE-Core-T-16-384"


class Settings(dict):  # type: ignore[type-arg]
    """A class that is not there where the file is read, as yacs' CfgNode."""

    __module__ = "yacs.config"


class Harmful:
    """An object whose making runs code."""

    def __reduce__(self) -> Any:
        return eval, ("__import__('pathlib').Path('harm').touch()",)


def write_folder(kind: str, folder: Path) -> Path:
    """A folder of one of the small models: open_clip's CLIP with the text tower at its top, or its other classes."""
    if kind != FLAT:
        return write_hf_folder(folder) if kind == "hf" else write_small(folder, kind)
    import json

    text = {"context_length": 16, "vocab_size": 300, "width": 64, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": {**VISION, "layers": 2, "width": 64}, "text_cfg": text}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(params=[FLAT, CUSTOM])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    return write_folder(kind, tmp_path)


def weights(folder: Path, seed: int = 5) -> State:
    return {key: value.clone() for key, value in load_vlm(str(folder), seed=seed).model.state_dict().items()}


def put(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def towers(state: State) -> State:
    """The layout of CoOp and ViFi-CLIP: two encoders, and a prompt learner whose buffers are of the classes."""
    made: State = {"prompt_learner.token_prefix": torch.zeros(3, 1, 64), "prompt_learner.ctx": torch.zeros(4, 64)}
    for key, value in state.items():
        if key.startswith("visual."):
            made["image_encoder." + key.removeprefix("visual.")] = value
        elif key.startswith("logit"):
            made[key] = value
        else:
            made["text_encoder." + key.removeprefix("text.")] = value
    return made


def compiled_tower(state: State) -> State:
    return {key.replace("visual.", "visual._orig_mod.", 1): value for key, value in state.items()}


def nested(state: State) -> dict[str, Any]:
    """One state dict for each tower."""
    groups: dict[str, Any] = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first in ("visual", "text"):
            groups.setdefault(first, {})[rest] = value
        else:
            groups[key] = value
    return groups


def other_text(state: State) -> State:
    """The text tower under "text." where the model has it at the top, and the other way round."""
    if any(key.startswith("text.") for key in state):
        return {key.removeprefix("text."): value for key, value in state.items()}
    return {key if key.startswith(("visual.", "logit")) else f"text.{key}": value for key, value in state.items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]}
LAYOUTS: dict[str, Callable[[State], Any]] = {
    "state dict": lambda s: s,
    "ordered": OrderedDict,
    "half": lambda s: {key: value.half() for key, value in s.items()},
    "state_dict": lambda s: {"epoch": 3, "state_dict": s, "optimizer": OPTIMIZER},
    "model": lambda s: {"model": s, "optimizer": OPTIMIZER, "epoch": torch.tensor(3)},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": OPTIMIZER, "loss": 0.1},
    "DDP": lambda s: put("module.", s),
    "open_clip training": lambda s: {"epoch": 32, "state_dict": put("module.", s), "optimizer": OPTIMIZER},
    "Lightning": lambda s: {"state_dict": put("model.", s), "pytorch-lightning_version": "2.1", "callbacks": {}},
    "torch.compile": lambda s: put("_orig_mod.", s),
    "compile in DDP": lambda s: {"model": put("module._orig_mod.", s)},
    "Lightning, compiled": lambda s: {"state_dict": put("model._orig_mod.", s)},
    "a compiled tower": compiled_tower,
    "another prefix": lambda s: {"net": put("student.clip_model.", s) | {"student.head.weight": torch.ones(2, 2)}},
    "CoOp": lambda s: {"state_dict": towers(s)},
    "ViFi-CLIP": lambda s: {"model": put("module.", towers(s)), "max_accuracy": 81.5, "config": {"DATA": {"ROOT": ""}}},
    "a head beside": lambda s: s | {"classifier.weight": torch.ones(4, 24), "criterion.centres": torch.ones(3)},
    "averages beside": lambda s: {"model": s, "model_ema": put("module.", {k: v + 1 for k, v in s.items()})},
    "averages alone": lambda s: {"model_ema": put("module.", s), "step": 7},
    "averages in one": lambda s: put("model.", s) | put("ema_model.", {k: v + 1 for k, v in s.items()}),
    "two levels": lambda s: {"checkpoint": {"model": s}},
    "towers apart": nested,
    "text elsewhere": other_text,
    "old constants": lambda s: s | {"text.embeddings.position_ids": torch.ones(1, 5), "attn_mask": torch.ones(2)},
    "a scale of shape 1": lambda s: s | {"logit_scale": s["logit_scale"].reshape(1)},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, folder: Path) -> None:
    state = weights(folder)
    torch.save(LAYOUTS[layout](state), folder / "weights.pt")
    loaded = load_vlm(str(folder))
    exact = layout != "half"
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, state[key]) if exact else torch.allclose(value, state[key], atol=1e-2), key
    assert not loaded.weights_warning


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth"])
def test_formats(suffix: str, folder: Path) -> None:
    state = {key: value.contiguous() for key, value in put("module.", weights(folder)).items()}
    file = folder / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    else:
        # told apart by their content: safetensors under the name of a pickle too
        save_file(state, file)
    for key, value in load_vlm(str(folder)).model.state_dict().items():
        assert torch.equal(value, state[f"module.{key}"])


def test_torchscript_as_openai_writes_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_folder(FLAT, tmp_path)
    state = weights(folder)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for key, value in state.items():
                place: nn.Module = self
                *path, name = key.split(".")
                for part in path:
                    if not hasattr(place, part):
                        place.add_module(part, nn.Module())
                    place = getattr(place, part)
                place.register_parameter(name, nn.Parameter(value.half()))
            for name, number in (("input_resolution", 32), ("context_length", 16), ("vocab_size", 300)):
                self.register_buffer(name, torch.tensor(number))

        def forward(self, x: Tensor) -> Tensor:
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated for new models
        torch.jit.script(Holder()).save(str(folder / "ViT.pt"))
    loaded = load_vlm(str(folder)).model.state_dict()
    assert all(torch.equal(value, state[key].half().float()) for key, value in loaded.items())
    assert "left out" not in caplog.text


def test_transformers_clip(tmp_path: Path) -> None:
    """CLIP as Hugging Face's transformers saves it, by its features."""
    from transformers import CLIPConfig, CLIPModel

    folder = write_folder(FLAT, tmp_path)
    shared = {"hidden_size": 64, "num_hidden_layers": 2, "hidden_act": "gelu", "intermediate_size": 256}
    text = {**shared, "vocab_size": 300, "max_position_embeddings": 16, "num_attention_heads": 2, "eos_token_id": 299}
    vision = {**shared, "num_attention_heads": 4, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    theirs = CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").rename(folder / "model.safetensors")
    ours = load_vlm(str(folder))
    pixels, ids = torch.randn(2, 3, 32, 32), torch.tensor([[298, 5, 7, 299, *[0] * 12]])
    with torch.no_grad():
        features = theirs(pixel_values=pixels, input_ids=ids)
    torch.testing.assert_close(ours.encode_image(pixels), features.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_text(ids), features.text_embeds, atol=1e-5, rtol=0)


def foreign(value: Any, file: Path) -> None:
    """Save with objects of a class that can't be imported later."""
    import sys
    import types

    module = types.ModuleType("yacs.config")
    module.Settings = Settings  # type: ignore[attr-defined]
    sys.modules["yacs.config"] = module
    try:
        torch.save(value, file)
    finally:
        del sys.modules["yacs.config"]


@pytest.mark.parametrize("legacy", [False, True])
def test_other_objects_in_the_file_are_not_made(
    legacy: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real checkpoint of ViFi-CLIP holds a configuration object and NumPy numbers beside its weights."""
    caplog.set_level(logging.INFO, "icube_common")
    monkeypatch.chdir(tmp_path)
    folder = write_folder(FLAT, tmp_path)
    state = weights(folder)
    content = {"model": put("module.", towers(state)), "config": Settings(DATA=Settings(ROOT="x"))}
    content |= {"max_accuracy": np.float64(0.8), "harm": Harmful(), "epoch": np.int64(3)}
    if legacy:
        monkeypatch.setattr(torch, "save", lambda value, file, save=torch.save: save(
            value, file, _use_new_zipfile_serialization=False))  # fmt: skip
    foreign(content, folder / "best.pth")
    loaded = load_vlm(str(folder))
    assert all(torch.equal(value, state[key]) for key, value in loaded.model.state_dict().items())
    assert "yacs.config.Settings" in caplog.text and not (tmp_path / "harm").exists()


def test_token_embeddings_that_were_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ViFi-CLIP computes its token embeddings beforehand and saves none: those of the tag that it started from."""
    caplog.set_level(logging.INFO, "icube_common")
    state = load_vlm("ViT-B-32-quickgelu", seed=1).model.state_dict()
    torch.save(state, tmp_path / "openai.pt")
    tuned = {key: value + 0.5 for key, value in state.items() if key != "token_embedding.weight"}
    file = tmp_path / "vifi.pth"
    torch.save({"model": put("module.", towers(tuned))}, file)
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda entry: str(tmp_path / "openai.pt"))
    loaded = load_vlm("ViT-B-32", file, weights_of="openai").model.state_dict()
    assert torch.equal(loaded["token_embedding.weight"], state["token_embedding.weight"])
    assert torch.equal(loaded["visual.proj"], tuned["visual.proj"]) and "holds no token embeddings" in caplog.text
    with pytest.raises(InputError, match=r"token_embedding.weight missing of 302 tensors: CoOp, ViFi-CLIP"):
        load_vlm("ViT-B-32", file)


def broken(folder: Path, content: Any) -> str:
    torch.save(content, folder / "weights.pt")
    with pytest.raises(InputError) as caught:
        load_vlm(str(folder))
    message = str(caught.value)
    assert message.startswith(f"{folder / 'weights.pt'}: ") and "\x1b" not in message and "\n" not in message
    return message


def test_values_that_are_not_finite(folder: Path) -> None:
    state = weights(folder)
    for value in (float("nan"), float("inf")):
        state["visual.proj"][2, 3] = value
        assert "visual.proj holds 1 values that are NaN or infinite" in broken(folder, {"model": put("module.", state)})


def test_mismatched_weights_are_named(folder: Path) -> None:
    state = weights(folder)
    short = {key: value for key, value in state.items() if key != "visual.ln_post.bias"}
    message = broken(folder, {"model": put("module.", short), "epoch": 1})
    assert "visual.ln_post.bias missing" in message and "top-level keys: model, epoch" in message
    assert "prefix 'module'" in message and "weights under 'model'" in message
    assert "module.visual.VPT unknown to it" in broken(
        folder, put("module.", state | {"visual.VPT": torch.ones(8, 64)})
    )
    taller = torch.cat([state["visual.positional_embedding"]] * 2)
    message = broken(folder, state | {"visual.positional_embedding": taller})
    assert "visual.positional_embedding is (10, " in message and "name the architecture of that image size" in message
    assert "torch.int8, quantised" in broken(folder, state | {"visual.proj": state["visual.proj"].to(torch.int8)})


def test_files_without_the_weights(folder: Path) -> None:
    state = weights(folder)
    assert "top-level keys: epoch, optimizer" in broken(folder, {"epoch": 1, "optimizer": OPTIMIZER})
    assert "holds a list, no state dict" in broken(folder, [torch.ones(2)])
    message = broken(folder, {"a\x1b[31mb\n": {"conv.weight": torch.ones(2)}})
    assert "top-level keys: ab" in message and "missing of" in message
    assert "several sets of weights (left, right)" in broken(folder, {"left": state, "right": state})
    assert "several sets of weights (a, b)" in broken(folder, put("a.", state) | put("b.", state))
    assert "are both" in broken(folder, state | put("module.", {}) | other_text(state))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing of the kind", "no file of safetensors, torch.save or TorchScript"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "no file of safetensors"),
        (pickle.dumps(Harmful()), "cannot be read, or is damaged"),
        (b"PK\x03\x04 torn", "no file of safetensors"),
    ],
)
def test_files_of_other_kinds(content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_folder(FLAT, tmp_path)
    (folder / "weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_vlm(str(folder))
    assert "does not load as weights of" in str(caught.value) and not (tmp_path / "harm").exists()


def test_a_torn_file(folder: Path) -> None:
    state = {key: value.contiguous() for key, value in weights(folder).items()}
    for name, save in (("weights.pt", torch.save), ("weights.safetensors", save_file)):
        save(state, folder / name)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match="does not load as weights of") as caught:
            load_vlm(str(folder))
        assert "\x1b" not in str(caught.value)
        (folder / name).unlink()


def test_a_bias_that_the_file_lacks_is_zero(tmp_path: Path) -> None:
    """As in open_clip: SigLIP's bias on weights of a CLIP."""
    folder = write_folder("ViT-B-16-SigLIP", tmp_path)
    torch.save({k: v for k, v in weights(folder).items() if k != "logit_bias"}, folder / "weights.pt")
    assert float(load_vlm(str(folder)).model.logit_bias) == 0


def test_a_hugging_face_text_tower(tmp_path: Path) -> None:
    folder = write_folder("hf", tmp_path)
    state = weights(folder)
    torch.save({"state_dict": put("module.", state)}, folder / "weights.pt")
    loaded: FrozenVLM = load_vlm(str(folder))
    assert all(torch.equal(value, state[key]) for key, value in loaded.model.state_dict().items())
