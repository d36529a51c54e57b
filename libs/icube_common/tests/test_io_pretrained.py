"""Model folders: round trip, older formats, damage, and names of a hub."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from icube_common.config import Config, option
from icube_common.errors import InputError
from icube_common.io.pretrained import ModelFormat, find_model

FORMAT = ModelFormat(version=2, command="tool train", keys=("labels",))


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    width: int = option(3, "width", ge=1)


def save(folder: Path, **changes: object) -> Path:
    module = nn.Linear(3, 2)
    arguments = {
        "config": Settings(width=3),
        "description": {"labels": ["a", "b"]},
        "tensors": module.state_dict(),
        "card": "# A model\n",
        "save_parts": lambda path: (path / "extra.txt").write_text("more"),
    }
    return FORMAT.save(folder, **{**arguments, **changes})


def test_a_model_comes_back_from_its_folder_and_from_its_run(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    save(tmp_path / "run" / "model", tensors=module.state_dict())
    for source in (tmp_path / "run" / "model", tmp_path / "run", str(tmp_path / "run")):
        folder, config, description = FORMAT.read(source, Settings)
        assert (folder, config, description["labels"]) == (tmp_path / "run" / "model", Settings(width=3), ["a", "b"])
    other = nn.Linear(3, 2)
    FORMAT.load_weights(folder, other, other.state_dict())
    assert torch.equal(other.weight, module.weight)
    assert (folder / "extra.txt").read_text() == "more" and (folder / "README.md").read_text() == "# A model\n"
    with pytest.raises(InputError, match="exists already"):
        save(folder)


@pytest.mark.parametrize(("number", "words"), [(None, "an earlier format"), (1, "number 1 format"), (3, "number 3")])
def test_other_formats_are_refused_in_one_line(tmp_path: Path, number: int | None, words: str) -> None:
    folder = save(tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    description.pop("format")
    (folder / "model.json").write_text(json.dumps(description | ({} if number is None else {"format": number})))
    with pytest.raises(InputError, match=rf"model.json: {words}.*train again with `tool train`") as caught:
        FORMAT.read(folder, Settings)
    assert "\n" not in str(caught.value)


def test_damaged_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    with pytest.raises(InputError, match=r"missing or unknown tensors \['weights'\]"):
        FORMAT.load_weights(folder, nn.Linear(3, 2), {"weight": 0, "bias": 0, "weights": 0})
    with pytest.raises(InputError, match="damaged model folder"):
        FORMAT.load_weights(folder, nn.Linear(4, 2), nn.Linear(4, 2).state_dict())
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged model folder"):
        FORMAT.load_weights(folder, nn.Linear(3, 2), nn.Linear(3, 2).state_dict())
    with pytest.raises(InputError, match="'labels' is missing"):
        FORMAT.read(save(tmp_path / "other", description={}), Settings)
    (folder / "model.json").write_text("[]")
    with pytest.raises(InputError, match="an earlier format"):
        FORMAT.read(folder, Settings)


def test_a_name_of_the_hub_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "cache")
    asked: list[str] = []

    def download(name: str) -> str:
        asked.append(name)
        if name == "org/gone":
            raise OSError("404: no such\nrepository")
        return str(tmp_path / "cache")

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert find_model("org/model", command="tool train") == tmp_path / "cache"
    with pytest.raises(InputError, match=r"org/gone: no such folder, and no download .*404: no such repository"):
        find_model("org/gone", command="tool train")
    with pytest.raises(InputError, match="no trained model in it"):
        find_model(tmp_path, command="tool train")
    assert asked == ["org/model", "org/gone"]
