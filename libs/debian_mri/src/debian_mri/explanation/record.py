"""Record of an explanation: all numbers and warnings of a prediction that a text or a page shows.

The logit of a class is a sum: ``logits[c] = bias[c] + sum of the contributions to c`` over concepts, demographics and
the rest. `Explanation` holds this and the other claims against each other when it is made, so that a text is never
filled from numbers that do not fit. Between two classes what counts is the difference of their logits, the margin, in
log-odds before calibration; it is the same sum over differences of contributions.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.knowledge import check_sequences, missing_sequences
from debian_mri.explanation.contributions import ConceptPart, Deletion, DemographicPart, RestPart, SlicePart
from icube_common.errors import InputError, unknown

PLANES = ("axial", "coronal", "sagittal")
LEAKAGE_TIERS = ("A", "B", "C")
SPACES = ("mni", "native")
WEIGHTINGS = ("attention", "evidence")
FORMAT = "debian-mri explanation 2"
TOLERANCE = 1e-4
"""By how much sums may differ: float32 adds in another order than the check does."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A prediction with all that its reasons are made of. C classes.

    Attributes:
        id: of the scan.
        classes: (C,) their names.
        logits: (C,) before calibration.
        bias: (C,) what the logits are without any evidence.
        probabilities: (C,) after calibration.
        predicted: the class with the highest probability.
        temperature: the logits are divided by it for the probabilities; None where another calibration was used.
        calibrated: whether the probabilities were calibrated on scans of other people.
        threshold: confidence below which the model abstains; None for a model that never does.
        abstained: whether it does so here.
        concepts: their parts; only signs whose sequences are there.
        demographics: the variables' parts; empty where none was used.
        rest: other parts of the logits.
        slices: those that the model was given, in its order.
        weighting: what the slices' weights are shares of, ``attention`` or ``evidence``.
        n_controls: training controls that the percentiles refer to.
        sequences: images of the person that were used, in the words of BIDS.
        not_judged: concept -> the missing sequences that it requires.
        space: of the positions, ``mni`` or ``native``.
        backbone: name of the image encoder.
        trained: True for a trained image encoder; the explanation of an untrained one means nothing.
        simulated: whether the image was made by a program.
        reviewer: of the concepts' sentences, or the statement that there is none.
        deletion: the check by deletion, where it was made.
        warnings: whatever else a reader has to know, a sentence each.

    Raises:
        InputError: fields that do not fit each other; the message begins with the scan's id.
    """

    id: str
    classes: tuple[str, ...]
    logits: tuple[float, ...]
    bias: tuple[float, ...]
    probabilities: tuple[float, ...]
    predicted: str
    temperature: float | None = None
    calibrated: bool = True
    threshold: float | None = None
    abstained: bool = False
    concepts: tuple[ConceptPart, ...] = ()
    demographics: tuple[DemographicPart, ...] = ()
    rest: tuple[RestPart, ...] = ()
    slices: tuple[SlicePart, ...] = ()
    weighting: str = "attention"
    n_controls: int = 0
    sequences: tuple[str, ...] = ("T1w",)
    not_judged: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    space: str = "mni"
    backbone: str = ""
    trained: bool = True
    simulated: bool = False
    reviewer: str = ""
    deletion: Deletion | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            _check(self)
        except InputError as error:
            raise InputError(f"explanation of {self.id!r}: {error}") from None

    @property
    def parts(self) -> tuple[ConceptPart | DemographicPart | RestPart, ...]:
        """All that is added to the bias."""
        return (*self.concepts, *self.demographics, *self.rest)

    @property
    def runner_up(self) -> str:
        """The class with the second highest probability; of equals the first in the order of the classes."""
        others = [index for index, name in enumerate(self.classes) if name != self.predicted]
        return self.classes[max(others, key=lambda index: self.probabilities[index])]

    def probability(self, class_name: str) -> float:
        """Of a class, after calibration."""
        return self.probabilities[self._index(class_name)]

    def difference(self, values: Sequence[float]) -> float:
        """(C,) values: that of the predicted class minus that of the runner-up."""
        return values[self._index(self.predicted)] - values[self._index(self.runner_up)]

    def demographics_share(self) -> float:
        """Share of the demographics in all that moved the margin, signs left out: 0 to 1."""
        moved = [abs(self.difference(part.contributions)) for part in self.parts]
        mine = math.fsum(abs(self.difference(part.contributions)) for part in self.demographics)
        return mine / total if (total := math.fsum(moved)) else 0.0

    def unexpected(self, concept: ConceptPart) -> bool:
        """True where the concept contributes to the class that its source does not expect."""
        if not concept.expected:
            return False
        direction = concept.score * self.difference([float(value) for value in concept.expected])
        return direction * self.difference(concept.contributions) < 0

    def to_dict(self) -> dict[str, Any]:
        """In JSON's own types, the format and the notice first."""
        return {"format": FORMAT, "notice": RESEARCH_ONLY, **_plain(dataclasses.asdict(self))}

    @classmethod
    def from_dict(cls, value: Any) -> Explanation:
        """The reverse of `to_dict`.

        Raises:
            InputError: another format, an unknown or missing key, a value of another type.
        """
        if not isinstance(value, Mapping) or value.get("format") != FORMAT:
            raise InputError(f"format: must be {FORMAT!r}")
        fields = {key: item for key, item in value.items() if key not in ("format", "notice")}
        for key, kind in _PARTS.items():
            if key in fields:
                fields[key] = tuple(_make(kind, item, key) for item in _list(fields[key], key))
        if fields.get("deletion") is not None:
            fields["deletion"] = _make(Deletion, fields["deletion"], "deletion")
        if isinstance(fields.get("not_judged"), Mapping):
            fields["not_judged"] = {
                name: tuple(_list(item, "not_judged")) for name, item in fields["not_judged"].items()
            }
        return _make(cls, fields, "explanation")

    def _index(self, class_name: str) -> int:
        if class_name not in self.classes:
            raise unknown("class", class_name, self.classes)
        return self.classes.index(class_name)


_PARTS: dict[str, Any] = {
    "concepts": ConceptPart,
    "demographics": DemographicPart,
    "rest": RestPart,
    "slices": SlicePart,
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: must be a list")
    return value


def _make(kind: Any, value: Any, where: str) -> Any:
    """A dataclass from a mapping, lists as tuples."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: must hold mappings")
    fields = {declared.name: declared for declared in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise unknown(f"key of {where}", str(key), fields)
    for key, declared in fields.items():
        needed = declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING
        if needed and key not in value:
            raise InputError(f"{where}: {key!r} is missing")
    return kind(**{key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})


def _check(explanation: Explanation) -> None:
    if len(explanation.classes) < 2 or len(set(explanation.classes)) != len(explanation.classes):
        raise InputError(f"classes {explanation.classes}: must be two or more, each once")
    for name in ("id", *_texts(explanation)):
        value = name if name != "id" else explanation.id
        if not isinstance(value, str) or not value.strip() or "\n" in value:
            raise InputError(f"{value!r}: must be one line of text")
    for name in ("logits", "bias", "probabilities"):
        _numbers(getattr(explanation, name), len(explanation.classes), name)
    for part in explanation.parts:
        label = part.name if not isinstance(part, RestPart) else part.label
        _numbers(part.contributions, len(explanation.classes), f"contributions of {label!r}")
    _check_sums(explanation)
    _check_signs(explanation)
    _check_slices(explanation)
    for variable in explanation.demographics:
        if variable.leakage_tier not in LEAKAGE_TIERS:
            raise unknown("leakage_tier", str(variable.leakage_tier), LEAKAGE_TIERS)
        if isinstance(variable.value, bool) or not isinstance(variable.value, (str, int, float, type(None))):
            raise InputError(f"{variable.name}: value {variable.value!r} must be text, a number or none")
        if isinstance(variable.value, (int, float)):
            _numbers([variable.value], 1, f"value of {variable.name!r}")
    if explanation.deletion is not None:
        _numbers([explanation.deletion.named, explanation.deletion.random], 2, "deletion")


def _texts(explanation: Explanation) -> list[str]:
    labels = [text for concept in explanation.concepts for text in (concept.name, concept.label)]
    names = [variable.name for variable in explanation.demographics]
    for kind, texts in (
        ("concept", labels[1::2]),
        ("variable", names),
        ("part", [part.label for part in explanation.rest]),
    ):
        for text, count in Counter(texts).items():
            if count > 1:
                raise InputError(f"{kind} {text!r}: stands there twice")
    return [*explanation.classes, *labels, *names, *(part.label for part in explanation.rest), *explanation.warnings]


def _numbers(values: Sequence[float], count: int, what: str) -> None:
    if len(values) != count:
        raise InputError(f"{what}: {len(values)} values, {count} expected")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{what}: {value!r} is no finite number")


def _check_sums(explanation: Explanation) -> None:
    for index, name in enumerate(explanation.classes):
        terms = [explanation.bias[index], *(part.contributions[index] for part in explanation.parts)]
        total, size = math.fsum(terms), max(1.0, *map(abs, terms))
        if abs(total - explanation.logits[index]) > TOLERANCE * size:
            raise InputError(
                f"logit of {name} {explanation.logits[index]:g}: bias and contributions add up to {total:g}; "
                "they must agree"
            )
    if min(explanation.probabilities) < 0 or abs(math.fsum(explanation.probabilities) - 1) > TOLERANCE:
        raise InputError(f"probabilities {explanation.probabilities}: must be 0 or more and sum to 1")
    if explanation.temperature is not None:
        if not (isinstance(explanation.temperature, (int, float)) and 0 < explanation.temperature < math.inf):
            raise InputError(f"temperature {explanation.temperature!r}: must be positive")
        raised = [math.exp((logit - max(explanation.logits)) / explanation.temperature) for logit in explanation.logits]
        for name, value, probability in zip(explanation.classes, raised, explanation.probabilities, strict=True):
            if abs(value / math.fsum(raised) - probability) > TOLERANCE:
                raise InputError(
                    f"probability of {name} {probability:g}: the logits at temperature {explanation.temperature:g} "
                    f"give {value / math.fsum(raised):g}"
                )
    best = max(explanation.probabilities)
    if explanation.predicted not in explanation.classes or explanation.probability(explanation.predicted) < best:
        raise InputError(f"predicted {explanation.predicted!r}: is not the class with the highest probability")
    if explanation.threshold is not None and not 0 <= explanation.threshold <= 1:
        raise InputError(f"threshold {explanation.threshold!r}: must lie between 0 and 1")
    if explanation.abstained != (explanation.threshold is not None and best < explanation.threshold):
        raise InputError(
            f"abstained {explanation.abstained}: does not fit {best:g} and the threshold {explanation.threshold}"
        )


def _check_signs(explanation: Explanation) -> None:
    check_sequences(explanation.sequences)
    if not explanation.sequences:
        raise InputError("sequences: there is none")
    for concept in explanation.concepts:
        if missing := missing_sequences(concept.requires, explanation.sequences):
            raise InputError(
                f"concept {concept.name!r}: needs {', '.join(missing)}, which is absent "
                f"(present: {', '.join(explanation.sequences)}); leave it out and list it under not_judged"
            )
        _check_regions(concept.regions, concept.name)
        _numbers([concept.score], 1, f"score of {concept.name!r}")
        if concept.expected:
            _numbers(concept.expected, len(explanation.classes), f"expected of {concept.name!r}")
        if concept.percentile is not None:
            _numbers([concept.percentile], 1, f"percentile of {concept.name!r}")
            if not 0 <= concept.percentile <= 100 or explanation.n_controls < 1:
                raise InputError(
                    f"percentile of {concept.name!r} {concept.percentile:g}: must be 0 to 100, of one control or more "
                    f"(n_controls {explanation.n_controls})"
                )
        if concept.name in explanation.not_judged:
            raise InputError(f"concept {concept.name!r}: is both computed and not computed")
    for name, sequences in explanation.not_judged.items():
        if not missing_sequences(sequences, explanation.sequences):
            raise InputError(f"not_judged {name!r}: {', '.join(sequences)} is there")


def _check_slices(explanation: Explanation) -> None:
    if explanation.space not in SPACES:
        raise unknown("space", str(explanation.space), SPACES)
    for part in explanation.slices:
        if part.plane not in PLANES:
            raise unknown("plane", str(part.plane), PLANES)
        if part.sequence not in explanation.sequences:
            raise InputError(f"slice of {part.sequence}: is not among the sequences {', '.join(explanation.sequences)}")
        for value in (part.weight, part.position_mm, part.attention):
            if value is not None:
                _numbers([value], 1, "slice")
        if part.contributions:
            _numbers(part.contributions, len(explanation.classes), "contributions of a slice")
        _check_regions(part.regions, "slice")
    if explanation.weighting not in WEIGHTINGS:
        raise unknown("weighting", str(explanation.weighting), WEIGHTINGS)
    weights = [part.weight for part in explanation.slices]
    silent = explanation.weighting == "evidence" and not any(weights)
    if weights and (min(weights) < 0 or (abs(math.fsum(weights) - 1) > 1e-3 and not silent)):
        raise InputError(f"slices: weights must be 0 or more and sum to 1 ({weights})")


def _check_regions(regions: Sequence[str], what: str) -> None:
    for region in regions:
        if not isinstance(region, str) or not region.isidentifier():
            raise InputError(f"region of {what} {region!r}: must be a name such as lateral_ventricles")
