"""Label maps: labels of a data set to one vocabulary of actions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from icube_common.config import read_yaml
from icube_common.errors import InputError, unknown

NAME_SEPARATOR = " | "
"""Between the names of a label that has several (BABEL's categories)."""
BUILTIN_MAPS = ("residential",)
"""Label maps of the library, for every format."""
_SHOWN = 10


@dataclass(frozen=True)
class LabelMap:
    """Source label -> action of the vocabulary, or None to leave its clips out.

    A label that is not in the map keeps its name, unless the map is ``strict``; then it is left out, as is a clip
    without a label. Of a label of several names (`NAME_SEPARATOR`) those in the map count. ``title`` is the map's name
    or file, for messages.
    """

    names: dict[str, str | None]
    strict: bool = False
    title: str = ""

    @classmethod
    def load(cls, name: str | Path, format: str, *, user_labels: bool = False) -> LabelMap:
        """A map by its name (`BUILTIN_MAPS`) for one format, or from a file.

        Args:
            name: one of `BUILTIN_MAPS`, or a path for `from_yaml`.
            format: the reader whose labels are mapped.
            user_labels: the user gives labels beside the format's.

        Raises:
            InputError: as `from_yaml`; neither a file nor a map of the library; the nearest name is given.
        """
        if str(name) in BUILTIN_MAPS and not Path(name).is_file():
            return cls.builtin(str(name), format, user_labels=user_labels)
        if not Path(name).exists() and Path(name).suffix == "" and len(Path(name).parts) == 1:
            raise unknown("label map", str(name), BUILTIN_MAPS)
        return cls.from_yaml(name)

    @classmethod
    def builtin(cls, name: str, format: str, *, user_labels: bool = False) -> LabelMap:
        """A map of the library, for one format.

        Formats with labels of the user (``npz``, ``bvh``, ``npy``) take the vocabulary itself and the labels of all
        data sets; so does any other format with ``user_labels``, after its own labels.
        """
        content = load_builtin_map(name)
        sources: dict[str, dict[str, str]] = content["sources"]
        names: dict[str, str | None] = {}
        if user_labels or format not in sources:
            for of_source in sources.values():
                names |= of_source
            names |= {action: action for action in content["vocabulary"]}
        return cls({**names, **sources.get(format, {})}, True, name)

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelMap:
        """Read a YAML file: ``labels: {byebye: wave, slash: null}`` and optionally ``strict: true``.

        Raises:
            InputError: missing file, no YAML, or something else than a mapping of names.
        """
        content = read_yaml(path, option="--labels")
        labels = content.get("labels")
        if not isinstance(labels, dict) or set(content) - {"labels", "strict"}:
            raise InputError(f"--labels {path}: `labels:` with a mapping of names, and optionally `strict:`, expected")
        strict = content.get("strict", False)
        if not isinstance(strict, bool):
            raise InputError(f"--labels {path}: strict: {strict!r} must be true or false")
        for source, target in labels.items():
            if not isinstance(source, str) or not (target is None or isinstance(target, str)):
                raise InputError(f"--labels {path}: {source!r}: {target!r} must map a name to a name or null")
        return cls(labels, strict, str(path))

    def covers(self, label: str) -> bool:
        """True where a label, or one of its several names, is in the map."""
        return label in self.names or any(part in self.names for part in label.split(NAME_SEPARATOR))

    def apply(self, label: str | None) -> str | None:
        """The action for a source label.

        Raises:
            InputError: the map leaves this label out; the message is the reason for ``rejected.csv``.
        """
        if label is None:
            if self.strict:
                raise InputError(
                    "the clip has no label, and the label map is strict; --action-from or --metadata give labels"
                )
            return None
        if label not in self.names and NAME_SEPARATOR in label:
            targets = {self.names.get(part) for part in label.split(NAME_SEPARATOR)} - {None}
            if len(targets) > 1:
                raise InputError(f"label {label!r} means several actions: {', '.join(sorted(map(str, targets)))}")
            if targets:
                return targets.pop()
        if label not in self.names:
            if self.strict:
                raise InputError(f"label {label!r} is not in the label map")
            return label
        target = self.names[label]
        if target is None:
            raise InputError(f"label {label!r} is left out by the label map")
        return target


class LabelMapCheck:
    """Check of a label map against the labels of all clips: a map without any of them is the wrong one."""

    def __init__(self, labels: LabelMap) -> None:
        self._labels = labels
        self._labels_seen: dict[str, None] = {}
        self._clips = 0

    def add(self, label: str | None) -> None:
        """Count a clip with its label, before the map."""
        self._clips += 1
        if label is not None:
            self._labels_seen.setdefault(label)

    def check(self) -> None:
        """Compare the labels of all clips with the map.

        Raises:
            InputError: there are clips, and the map names no label of theirs; the labels are listed.
        """
        if not self._clips or any(self._labels.covers(label) for label in self._labels_seen):
            return
        title = f"--labels {self._labels.title}".strip()
        if not self._labels_seen:
            raise InputError(f"{title}: no clip has a label to map; --action-from or --metadata give labels")
        shown = ", ".join(repr(label) for label in sorted(self._labels_seen)[:_SHOWN])
        more = ", ..." if len(self._labels_seen) > _SHOWN else ""
        raise InputError(f"{title}: has none of the {len(self._labels_seen)} labels found: {shown}{more}")


def load_builtin_map(name: str) -> dict[str, Any]:
    """Content of a map of the library: ``vocabulary``, and ``sources`` by format."""
    import yaml

    content: dict[str, Any] = yaml.safe_load(
        (files("motiondiff.data.labels") / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return content
