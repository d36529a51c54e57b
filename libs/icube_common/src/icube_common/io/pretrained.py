"""Model folders: what `save_pretrained` writes and `from_pretrained` reads, one layout for all libraries.

``config.yaml`` all settings; ``model.json`` the format number, the library's version and the library's own description;
``model.safetensors`` what was trained; ``README.md`` a model card. A library keeps further files beside them.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from icube_common.config import Config, ConfigType, config_to_yaml, load_saved_config
from icube_common.errors import InputError, require
from icube_common.io.runs import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, DESCRIPTION, WEIGHTS, CARD = "config.yaml", "model.json", "model.safetensors", "README.md"
Model = TypeVar("Model", bound="PretrainedModel")
Pipeline = TypeVar("Pipeline", bound="PretrainedPipeline")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(source: str | Path, *, file: str = DESCRIPTION, command: str) -> Path:
    """Folder of a trained model: a model folder, the run folder around it, or a repository of the Hugging Face hub.

    Args:
        source: a path, or ``organisation/name`` where there is no such path.
        file: the file by which a model folder is known.
        command: the command that makes such folders, for messages.

    Raises:
        InputError: no such folder, no model in it, or a failed download.
    """
    folder = Path(source)
    if not folder.exists() and isinstance(source, str) and _HUB_ID.fullmatch(source):
        folder = _download(source)
    for result in (folder, folder / "model"):
        if (result / file).is_file():
            return result
    raise InputError(f"{source}: no trained model in it (no {file}); give a folder that {command} has made")


def _download(name: str) -> Path:
    hub = require("huggingface_hub", package="icube-common", extra="vlm")
    try:
        return Path(hub.snapshot_download(name))
    except Exception as error:  # a dozen kinds, from socket errors to gated repositories
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: no such folder, and no download from the Hugging Face hub ({reason})") from error


@dataclass(frozen=True)
class ModelFormat:
    """Model folders of one library and version.

    Attributes:
        version: number of the format; folders of any other number are refused.
        command: the command that trains such models, for messages: ``"actprompt train"``.
        keys: required keys of ``model.json``.
    """

    version: int
    command: str
    keys: tuple[str, ...] = ()

    def save(
        self,
        folder: str | Path,
        *,
        config: Config,
        description: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        card: str,
        save_parts: Callable[[Path], object] = lambda folder: None,
        overwrite: bool = False,
    ) -> Path:
        """Write a model folder atomically.

        Args:
            folder: its path.
            config: all settings.
            description: the library's part of ``model.json``, JSON-ready.
            tensors: trained weights by name.
            card: text of ``README.md``.
            save_parts: writes further files into the folder that it is given.
            overwrite: replace an existing folder.

        Raises:
            InputError: the folder exists and ``overwrite`` is False.
        """
        from safetensors.torch import save_file

        with atomic_folder(folder, overwrite=overwrite) as temporary:
            (temporary / CONFIG).write_text(config_to_yaml(config))
            values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(values, temporary / WEIGHTS, {"format": "pt"})
            save_parts(temporary)
            write_json(temporary / DESCRIPTION, {"format": self.version, **description})
            (temporary / CARD).write_text(card)
        return Path(folder)

    def read(self, source: str | Path, config_class: type[ConfigType]) -> tuple[Path, ConfigType, dict[str, Any]]:
        """Folder, configuration and description of a saved model.

        Args:
            source: as `find_model`.
            config_class: the configuration of the model.

        Raises:
            InputError: no model there, one of another format, or a damaged one.
        """
        folder = find_model(source, command=self.command)
        description = read_json(folder / DESCRIPTION)
        result = description.get("format") if isinstance(description, dict) else None
        if result != self.version:
            number = "an earlier" if result is None else f"number {result}"
            raise InputError(
                f"{folder / DESCRIPTION}: {number} format of saved models, here {self.version}: train again with "
                f"`{self.command}`"
            )
        if absent := [key for key in self.keys if key not in description]:
            raise InputError(f"{folder}: damaged model folder ({absent[0]!r} is missing); train again")
        return folder, load_saved_config(config_class, folder / CONFIG), description

    def load_weights(self, folder: Path, module: nn.Module, names: Mapping[str, Any]) -> None:
        """Copy saved weights into a module.

        Args:
            folder: of the model, from `read`.
            module: the model.
            names: what must be in the file, no more and no less: usually the tensors of `save`.

        Raises:
            InputError: missing or unknown tensors, other shapes, an unreadable file.
        """
        from safetensors.torch import load_file

        with self.guard(folder):
            tensors = load_file(folder / WEIGHTS)
            if different := names.keys() ^ tensors.keys():
                raise InputError(f"{folder / WEIGHTS}: missing or unknown tensors {sorted(different)[:4]}")
            module.load_state_dict(tensors, strict=False)

    @contextlib.contextmanager
    def guard(self, folder: Path) -> Iterator[None]:
        """One-line error for whatever a damaged folder raises inside the block.

        Raises:
            InputError: in place of missing keys, wrong types, unreadable or misshapen tensors.
        """
        from safetensors import SafetensorError

        try:
            yield
        except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder}: damaged model folder ({error}); train again") from error


class PretrainedModel:
    """``save_pretrained`` and ``from_pretrained`` of a model class, by ``save_model`` and ``load_model`` of a module.

    Attributes:
        checkpoint: the module, such as ``"actprompt.models.checkpoint"``.
    """

    checkpoint: ClassVar[str]

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write configuration, weights and a model card.

        Raises:
            InputError: the folder exists and ``overwrite`` is False.
        """
        importlib.import_module(self.checkpoint).save_model(folder, self, overwrite=overwrite)

    @classmethod
    def from_pretrained(cls: type[Model], source: str | Path, **parts: Any) -> Model:
        """Read a trained model, in eval mode.

        Args:
            source: a run folder, its ``model``, or a repository of the Hugging Face hub (``owner/name``).
            parts: ``vlm`` (a backbone that is loaded already) and the user's own parts of the model.

        Raises:
            InputError: no model there, a damaged one, one of an earlier format, or other parts than in its training.
        """
        model: Model = importlib.import_module(cls.checkpoint).load_model(source, **parts)
        return model


class PretrainedPipeline:
    """Prediction by a trained model.

    Args:
        model: a trained model.

    Attributes:
        model_class: class of its models.
    """

    model_class: ClassVar[type[PretrainedModel]]

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    @classmethod
    def from_pretrained(cls: type[Pipeline], source: str | Path, **parts: Any) -> Pipeline:
        """The pipeline of a saved model; arguments and errors as `PretrainedModel.from_pretrained`."""
        return cls(cls.model_class.from_pretrained(source, **parts))

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model, as `PretrainedModel.save_pretrained`."""
        self.model.save_pretrained(folder, overwrite=overwrite)
