"""On which device, and in which precision, a frozen backbone runs where no option is set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState

from icube_common.errors import InputError
from icube_common.training import TrainConfig, load_backbone
from icube_common.vlm import VLMConfig, default_device
from icube_common.vlm.device import encoder_precision

TINY = VLMConfig(name="icube-tiny")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """This process is the one of a rank among those of a machine with GPUs."""

    def become(rank: int, count: int) -> None:
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        # what accelerate does in a launched process, without its process group
        PartialState._shared_state.update(
            _cpu=False, device=torch.device("cuda", rank % count), distributed_type=None, process_index=rank
        )

    return become


def test_the_cpu_where_there_is_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert default_device() == torch.device("cpu")
    with pytest.raises(InputError, match="device=cuda: torch finds no CUDA device here"):
        default_device("cuda")


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_each_process_has_the_gpu_of_its_rank(rank: int, gpus: Callable[[int, int], None]) -> None:
    gpus(rank, 2)
    assert default_device() == default_device("cuda") == torch.device("cuda", rank % 2)
    assert default_device("cpu") == torch.device("cpu")


def test_a_training_on_the_cpu_before_changes_nothing(
    gpus: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(3, 2)
    PartialState._shared_state.update(_cpu=True, device=torch.device("cpu"))
    assert default_device() == torch.device("cuda", 1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert default_device() == torch.device("cpu")


def test_accelerates_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert default_device().type == "meta"
    vlm = TINY.load()
    assert vlm.device.type == "meta"
    with torch.no_grad():
        assert vlm.encode_image(torch.rand(2, 3, 96, 96)).device.type == "meta"
        assert vlm.encode_text(["a person waves"]).device.type == "meta"
        # a tensor that stays on the CPU does not go unnoticed
        with pytest.raises(RuntimeError, match="device"):
            vlm.model.encode_image(torch.rand(2, 3, 96, 96))  # type: ignore[operator]
    assert TINY.load("cpu").device.type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "no such"])
def test_an_option_that_names_no_device(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=f"--device {name}: .*; take cpu, or leave --device away"):
        TINY.load(name)


def test_precision_of_a_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert encoder_precision(gpu) == "no"
    assert [encoder_precision(gpu, wanted) for wanted in ("no", "bf16", "fp16")] == ["no", "bf16", "fp16"]
    assert [encoder_precision(cpu, wanted) for wanted in ("no", "bf16", "fp16")] == ["no", "no", "no"]
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert encoder_precision(gpu) == "bf16" and encoder_precision(cpu) == "no"
    # a training's own setting stands before the launcher's, as in accelerate
    assert encoder_precision(gpu, "no") == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    assert encoder_precision(gpu) == "no"


def test_the_backbone_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = load_backbone(VLMConfig(name="icube-tiny", batch_size=5), TrainConfig(mixed_precision="bf16", device="cpu"))
    # fp32 on a CPU, whatever the precision of the training: features are what they were
    assert (vlm.device.type, vlm.batch_size, vlm.mixed_precision) == ("cpu", 5, "no")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device=cuda"):
            load_backbone(TINY, TrainConfig(device="cuda"))
        assert load_backbone(TINY, TrainConfig(device="cuda"), predict=True).device.type == "cpu"
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ


def test_the_batch_is_in_no_fingerprint() -> None:
    one, other = (VLMConfig(name="icube-tiny", batch_size=size).load() for size in (1, 64))
    assert one.fingerprint == other.fingerprint and one.describe() == other.describe()
    with pytest.raises(InputError, match="batch_size"):
        VLMConfig(batch_size=0)
