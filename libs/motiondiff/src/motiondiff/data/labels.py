"""Label maps: each source's own labels to one shared vocabulary of actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icube_common.errors import InputError

ALTERNATIVES = " | "
"""Between the names of a label that has several (BABEL's categories)."""


@dataclass(frozen=True)
class LabelMap:
    """Source label -> action of the vocabulary, or None for "leave this clip out".

    A label that the map does not name keeps its own name, unless the map is ``strict``; then it is left out, as is a
    clip without a label.
    """

    names: dict[str, str | None]
    strict: bool = False

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelMap:
        """Read a YAML file: ``labels: {byebye: wave, slash: null}`` and optionally ``strict: true``.

        Raises:
            InputError: missing file, no YAML, or something else than a mapping of names.
        """
        import yaml

        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text())
        except OSError as error:
            raise InputError(f"--labels {path}: cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--labels {path}: is not YAML ({str(error).splitlines()[0]})") from error
        labels = content.get("labels") if isinstance(content, dict) else None
        if not isinstance(labels, dict) or set(content) - {"labels", "strict"}:
            raise InputError(f"--labels {path}: wants `labels:` with a mapping of names, and optionally `strict:`")
        strict = content.get("strict", False)
        if not isinstance(strict, bool):
            raise InputError(f"--labels {path}: strict: {strict!r} must be true or false")
        for source, target in labels.items():
            if not isinstance(source, str) or not (target is None or isinstance(target, str)):
                raise InputError(f"--labels {path}: {source!r}: {target!r} must map a name to a name or null")
        return cls(labels, strict)

    def apply(self, label: str | None) -> str | None:
        """The action for a source label.

        Raises:
            InputError: the map leaves this label out; the message is the reason for ``rejected.csv``.
        """
        if label is None:
            if self.strict:
                raise InputError("the clip has no label, and the label map is strict")
            return None
        if label not in self.names:
            if self.strict:
                raise InputError(f"label {label!r} is not in the label map")
            return label
        target = self.names[label]
        if target is None:
            raise InputError(f"label {label!r} is left out by the label map")
        return target
