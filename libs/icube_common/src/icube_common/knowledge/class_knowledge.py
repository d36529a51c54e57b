"""`ClassKnowledge`: sentences about the classes of a data set, who has reviewed them, and a hash over those in use."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icube_common.config import as_list
from icube_common.errors import InputError, unknown
from icube_common.knowledge.files import parse_knowledge, read_mapping, write_mapping
from icube_common.knowledge.names import name_them
from icube_common.knowledge.sentences import STATUSES, Sentence, Source, check_text

UNREVIEWED = "none (draft, not checked by a specialist)"


@dataclass(frozen=True)
class Frozen:
    """Hashes of the sentences in use when the knowledge was frozen.

    Attributes:
        hash: SHA-256 over all classes.
        classes: class name -> SHA-256 over its sentences in use.
        date: when, ISO.
    """

    hash: str
    classes: Mapping[str, str] = dataclasses.field(hash=False)
    date: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as they stand in a file."""
        return {"hash": self.hash, "date": self.date, "classes": dict(self.classes)}


@dataclass(frozen=True)
class ClassKnowledge:
    """Sentences about classes, with sources, decisions and a reviewer.

    Attributes:
        title: the data set or the subject.
        classes: class name -> its sentences, in the order of the file; at least one each, no text twice in a class.
        domain: what the samples are, in a sentence (``short colour videos of daily actions at home``).
        language: language of the sentences, as a code (``en``).
        reviewer: the person who has checked the sentences, or `UNREVIEWED`.
        frozen: the hashes of the sentences in use, once `freeze` has been called.
        sources: names that the file gives to sources, so that sentences can share them.
        path: the file it was loaded from or saved to.

    Raises:
        InputError: no class, a class without a sentence, a text twice in a class, or sentences in use that differ from
            what was frozen.
    """

    title: str
    classes: Mapping[str, tuple[Sentence, ...]] = dataclasses.field(hash=False)
    domain: str = ""
    language: str = "en"
    reviewer: str = UNREVIEWED
    frozen: Frozen | None = None
    sources: Mapping[str, Source] = dataclasses.field(default_factory=dict, hash=False, compare=False)
    path: Path | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("title", self.title), ("language", self.language), ("reviewer", self.reviewer)):
            check_text(value, name)
        if self.domain:
            check_text(self.domain, "domain")
        if not self.classes:
            raise InputError("classes: there is none")
        object.__setattr__(self, "classes", {name: tuple(result) for name, result in self.classes.items()})
        for name, sentences in self.classes.items():
            check_text(name, "class name")
            if not sentences:
                raise InputError(f"class {name!r}: has no sentence")
            texts = Counter(sentence.text for sentence in sentences)
            if len(texts) != len(sentences):
                raise InputError(f"class {name!r}: {texts.most_common(1)[0][0]!r} stands there twice")
        self._check_frozen()

    def _check_frozen(self) -> None:
        """Hold what is in use against the frozen hashes, and name the classes that differ."""
        if self.frozen is None:
            return
        now = {name: self.class_hash(name) for name in self.classes}
        changed = [name for name in now if self.frozen.classes.get(name) != now[name]]
        changed += [name for name in self.frozen.classes if name not in now]
        remedy = "put it back, or take out 'frozen:', review and freeze again"
        if changed:
            raise InputError(f"class {name_them(changed)}: changed since it was frozen on {self.frozen.date}: {remedy}")
        if self.frozen.hash != self.hash:
            raise InputError(f"frozen hash {self.frozen.hash}: does not fit the classes: {remedy}")

    @classmethod
    def load(cls, path: str | Path) -> ClassKnowledge:
        """Read a knowledge file (YAML or JSON).

        Raises:
            InputError: the file is missing or malformed (the message names the line), or its sentences in use were
                changed after it was frozen (the classes are named).
        """
        value = read_mapping(path)
        try:
            fields = parse_knowledge(value)
            if fields.get("frozen") is not None:
                fields["frozen"] = Frozen(**fields["frozen"])
            return cls(**fields, path=Path(path))
        except InputError as error:
            # a name may hold line breaks
            raise InputError(f"{path}: {' '.join(str(error).split())}") from None

    def save(self, path: str | Path, *, overwrite: bool = False) -> ClassKnowledge:
        """Write a knowledge file atomically; comments that a person has put into an older one are not kept.

        Returns:
            The same knowledge, with ``path`` set.

        Raises:
            InputError: the file exists and ``overwrite`` is False, or its name ends in neither YAML nor JSON.
        """
        return dataclasses.replace(self, path=write_mapping(path, self.to_dict(), overwrite=overwrite))

    def to_dict(self) -> dict[str, Any]:
        """All of it in the form of the file: head, sources by name, classes."""
        names = {source: name for name, source in self.sources.items()}
        for sentence in self.sentences():
            if sentence.source not in names:
                number = 1 + sum(source.kind == sentence.source.kind for source in names)
                while (name := f"{sentence.source.kind}-{number}") in names.values():
                    number += 1
                names[sentence.source] = name
        head: dict[str, Any] = {"title": self.title, "domain": self.domain, "language": self.language}
        head["reviewer"] = self.reviewer
        if self.frozen is not None:
            head["frozen"] = self.frozen.to_dict()
        head["sources"] = {name: source.to_dict() for source, name in names.items()}
        head["classes"] = {
            name: [_sentence_to_dict(sentence, names[sentence.source]) for sentence in sentences]
            for name, sentences in self.classes.items()
        }
        return head

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the file."""
        return tuple(self.classes)

    def sentences(self) -> list[Sentence]:
        """All sentences of all classes, rejected ones included."""
        return [sentence for sentences in self.classes.values() for sentence in sentences]

    def usable(self, class_name: str, *, include_proposed: bool = False) -> tuple[Sentence, ...]:
        """The sentences of a class that are in use: accepted and edited ones, on demand also the proposed.

        Raises:
            InputError: an unknown class; the nearest is named.
        """
        if class_name not in self.classes:
            raise unknown("class", class_name, self.classes)
        statuses = {"proposed"} if include_proposed else set()
        return tuple(
            sentence for sentence in self.classes[class_name] if sentence.in_use or sentence.status in statuses
        )

    def texts(self, class_name: str, *, include_proposed: bool = False) -> tuple[str, ...]:
        """The texts of `usable`, in the order of the file; empty where none is in use yet."""
        return tuple(sentence.text for sentence in self.usable(class_name, include_proposed=include_proposed))

    def descriptions(
        self, class_names: Sequence[str] | None = None, *, include_proposed: bool = False
    ) -> dict[str, tuple[str, ...]]:
        """Class name -> its texts, at least one each, in the order of ``class_names`` (all by default).

        Raises:
            InputError: classes that are unknown, or that have no sentence in use; all of them are listed.
        """
        chosen = self if class_names is None else self.select(class_names)
        result = {name: chosen.texts(name, include_proposed=include_proposed) for name in chosen.class_names}
        if empty := [name for name, texts in result.items() if not texts]:
            remedy = (
                "write one" if include_proposed else "accept one (`knowledge review`), or include the proposed ones"
            )
            raise InputError(f"{self._where}class {name_them(empty)}: no sentence is in use: {remedy}")
        return result

    def select(self, class_names: Sequence[str]) -> ClassKnowledge:
        """These classes only, in this order; frozen if the whole is.

        Raises:
            InputError: names that are unknown or that come twice; all of them are listed.
        """
        class_names = as_list(class_names)
        if missing := [name for name in class_names if name not in self.classes]:
            listed = name_them(missing, self.classes)
            raise InputError(f"{self._where}class {listed}: not among its {len(self.classes)} classes")
        if twice := [name for name, count in Counter(class_names).items() if count > 1]:
            raise InputError(f"class {name_them(twice)}: asked for twice")
        part = self.with_classes({name: self.classes[name] for name in class_names})
        return part if self.frozen is None else part.freeze(self.frozen.date)

    def with_classes(self, classes: Mapping[str, Sequence[Sentence]]) -> ClassKnowledge:
        """The same head with other sentences; no longer frozen."""
        return dataclasses.replace(self, classes={name: tuple(result) for name, result in classes.items()}, frozen=None)

    def class_hash(self, class_name: str) -> str:
        """SHA-256 over the sentences of a class that are in use, in their order, each with its ``meta`` if it has any.

        The order counts because a library may use the first few only.
        """
        used = [[s.text, dict(s.meta)] if s.meta else s.text for s in self.classes[class_name] if s.in_use]
        return _sha256(used)

    @property
    def hash(self) -> str:
        """SHA-256 over the class names and their sentences in use; the order of the classes does not matter."""
        return _sha256({name: self.class_hash(name) for name in self.classes})

    def freeze(self, date: str | None = None) -> ClassKnowledge:
        """The same knowledge with its hashes recorded: from now on `load` refuses it once a text in use is changed.

        Args:
            date: ISO date of the freezing; today by default.

        Raises:
            InputError: classes without a sentence in use; all of them are listed.
        """
        self.descriptions()
        hashes = {name: self.class_hash(name) for name in self.classes}
        return dataclasses.replace(self, frozen=Frozen(self.hash, hashes, date or today()))

    @property
    def signed(self) -> bool:
        """True where a reviewer has signed the sentences in use."""
        return self.reviewer != UNREVIEWED

    def review_warning(self) -> str:
        """The line that every report repeats until a person signs; empty from then on."""
        if self.signed:
            return ""
        return f"Class knowledge {self.title!r}: reviewer: {self.reviewer}."

    def provenance(self) -> dict[str, Any]:
        """Record for a run: file, hash, reviewer, counts by source and by status."""
        statuses = Counter(sentence.status for sentence in self.sentences())
        return {
            "path": str(self.path) if self.path else None,
            "title": self.title,
            "hash": self.hash,
            "frozen": self.frozen.date if self.frozen else None,
            "reviewer": self.reviewer,
            "classes": len(self.classes),
            "by_status": {status: statuses[status] for status in STATUSES if statuses[status]},
            "by_source": dict(Counter(sentence.source.label() for sentence in self.sentences())),
        }

    @property
    def _where(self) -> str:
        return f"{self.path}: " if self.path else ""


def today() -> str:
    """Today's date, ISO."""
    return datetime.date.today().isoformat()


def _sha256(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _sentence_to_dict(sentence: Sentence, source: str) -> dict[str, Any]:
    value: dict[str, Any] = {"text": sentence.text, "status": sentence.status, "source": source}
    if sentence.reason is not None:
        value["reason"] = sentence.reason
    if sentence.original is not None:
        value["original"] = sentence.original
    if sentence.meta:
        value["meta"] = {key: list(item) if isinstance(item, tuple) else item for key, item in sentence.meta.items()}
    return value
