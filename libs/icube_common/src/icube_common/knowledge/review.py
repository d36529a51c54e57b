"""A person's decisions on sentences: one by one in a terminal, or from the file that the review page makes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icube_common.errors import InputError, unknown
from icube_common.io import reports
from icube_common.io.runs import atomic_file, read_json
from icube_common.knowledge.class_knowledge import UNREVIEWED, ClassKnowledge, today
from icube_common.knowledge.files import check_keys
from icube_common.knowledge.sentences import Sentence, check_text, one_line

DECISIONS = ("accepted", "edited", "rejected")
KEYS = {"a": "accept", "e": "edit", "r": "reject", "s": "skip", "q": "quit"}


@dataclass(frozen=True)
class Decision:
    """Decision on one sentence, identified by its class and its present text.

    Attributes:
        class_name: its class.
        text: the sentence as it was shown.
        decision: ``accepted``, ``edited`` or ``rejected``.
        edited: the new text; for ``edited`` only.
        reason: why it was rejected; for ``rejected`` only.
    """

    class_name: str
    text: str
    decision: str
    edited: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise unknown("decision", str(self.decision), DECISIONS)
        for name, decision in (("edited", "edited"), ("reason", "rejected")):
            value = getattr(self, name)
            if (value is not None) != (self.decision == decision):
                raise InputError(f"{self.text!r}: {name!r} belongs to decision {decision!r}, and to no other")
            if value is not None:
                check_text(value, name)


@dataclass(frozen=True)
class Reviewed:
    """Result of a review.

    Attributes:
        knowledge: with the decisions in it.
        counts: decision -> how many sentences it changed.
        warnings: what a person should know: that the knowledge is no longer frozen, or no longer signed.
    """

    knowledge: ClassKnowledge
    counts: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def proposed(self) -> int:
        """Sentences that are still to be decided on."""
        return sum(sentence.status == "proposed" for sentence in self.knowledge.sentences())

    def sign(self, name: str, *, role: str = "", date: str | None = None) -> Reviewed:
        """The review with signed knowledge; arguments and errors as `sign`."""
        signed = sign(self.knowledge, name, role=role, date=date)
        return Reviewed(signed, self.counts, (f"signed by {signed.reviewer}, and frozen",))


def decide(knowledge: ClassKnowledge, decisions: Sequence[Decision]) -> Reviewed:
    """Put decisions into the knowledge.

    A decision that changes something unfreezes frozen knowledge; one that changes a sentence in use also takes the
    reviewer's name off, which was for other sentences. The warnings report both.

    Raises:
        InputError: a sentence that is not there, one decided on twice, or an edited text that the class has already.
    """
    classes = {name: list(sentences) for name, sentences in knowledge.classes.items()}
    counts: Counter[str] = Counter()
    decided = set()
    for decision in decisions:
        if decision.class_name not in classes:
            raise unknown("class", decision.class_name, classes)
        sentences = classes[decision.class_name]
        # by the text that was shown, not by one that another decision has just made
        before = [sentence.text for sentence in knowledge.classes[decision.class_name]]
        if decision.text not in before:
            raise InputError(f"class {decision.class_name!r}: has no sentence {decision.text!r}; was it edited since?")
        if (decision.class_name, decision.text) in decided:
            raise InputError(f"class {decision.class_name!r}: {decision.text!r} is decided on twice")
        decided.add((decision.class_name, decision.text))
        index = before.index(decision.text)
        changed = _decided(sentences[index], decision)
        if changed != sentences[index]:
            sentences[index] = changed
            counts[decision.decision] += 1
    if not counts:
        return Reviewed(knowledge, {})
    result = knowledge.with_classes(classes)
    warnings = []
    if knowledge.frozen is not None:
        warnings.append(f"no longer frozen (it was on {knowledge.frozen.date}): freeze again when the review is done")
    if knowledge.signed and result.hash != knowledge.hash:
        warnings.append(f"no longer signed ({knowledge.reviewer!r} approved other sentences): sign again")
        result = dataclasses.replace(result, reviewer=UNREVIEWED)
    return Reviewed(result, dict(counts), tuple(warnings))


def _decided(sentence: Sentence, decision: Decision) -> Sentence:
    if decision.decision == "accepted":
        return sentence.accept()
    if decision.decision == "rejected":
        assert decision.reason is not None
        return sentence.reject(decision.reason)
    assert decision.edited is not None
    return sentence.edit(decision.edited)


def sign(knowledge: ClassKnowledge, name: str, *, role: str = "", date: str | None = None) -> ClassKnowledge:
    """Sign the sentences in use: set ``reviewer`` and freeze.

    Args:
        knowledge: reviewed, at least one sentence in use for each class.
        name: of the person.
        role: expertise (``neurologist``).
        date: ISO date; today by default.

    Raises:
        InputError: no name, or classes without a sentence in use.
    """
    date = date or today()
    check_text(name, "reviewer")
    if name.casefold().startswith("none"):
        raise InputError(f"reviewer {name!r}: must be a person's name")
    reviewer = ", ".join(part for part in (name, role, date) if part)
    return dataclasses.replace(knowledge, reviewer=reviewer).freeze(date)


def accept_all(knowledge: ClassKnowledge) -> Reviewed:
    """Accept every sentence that is still proposed."""
    return decide(knowledge, [Decision(name, sentence.text, "accepted") for name, sentence in _proposed(knowledge)])


def _proposed(knowledge: ClassKnowledge) -> list[tuple[str, Sentence]]:
    """Class and sentence of all that is still to be decided on."""
    entries = ((name, sentence) for name, sentences in knowledge.classes.items() for sentence in sentences)
    return [(name, sentence) for name, sentence in entries if sentence.status == "proposed"]


def apply_decisions(knowledge: ClassKnowledge, path: str | Path) -> Reviewed:
    """Put the decisions of a file, as the review page makes it, into the knowledge; signs where it names a reviewer.

    The file: ``{"title": ..., "decisions": [{"class", "text", "decision", "edited"?, "reason"?}], "reviewer"?:
    {"name", "role"?, "date"?}}``.

    Raises:
        InputError: the file is missing, malformed, made for other knowledge, or does not fit the sentences.
    """
    value = read_json(path)
    try:
        check_keys(value, ("title", "decisions", "reviewer"), required=("title", "decisions"))
        if value["title"] != knowledge.title:
            raise InputError(f"was made for {value['title']!r}, not for {knowledge.title!r}")
        if not isinstance(value["decisions"], list):
            raise InputError("'decisions': must be a list")
        reviewed = decide(knowledge, [_parse_decision(item) for item in value["decisions"]])
        if value.get("reviewer"):
            check_keys(value["reviewer"], ("name", "role", "date"), required=("name",))
            for key, text in value["reviewer"].items():
                if text != "" or key == "name":
                    check_text(text, f"reviewer {key}")
            reviewer = value["reviewer"]
            reviewed = reviewed.sign(reviewer["name"], role=reviewer.get("role", ""), date=reviewer.get("date") or None)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return reviewed


def _parse_decision(value: Any) -> Decision:
    check_keys(value, ("class", "text", "decision", "edited", "reason"), required=("class", "text", "decision"))
    for key, text in value.items():
        check_text(text, key)
    return Decision(value["class"], value["text"], value["decision"], value.get("edited"), value.get("reason"))


def review_in_terminal(
    path: str | Path,
    *,
    ask: Callable[[str], str] = input,
    show: Callable[[str], None] = print,
    remarks: Mapping[tuple[str, str], str] | None = None,
) -> Reviewed:
    """Go through the proposed sentences of a file and save it after each decision, so that one can stop at any time.

    Keys: ``a`` accept, ``e`` edit, ``r`` reject, ``s`` skip, ``q`` (or the end of the input) quit.

    Args:
        path: the knowledge file.
        ask: shows a prompt and returns what a person types.
        show: shows a line.
        remarks: (class, text) -> what to show with the sentence, such as its score.

    Raises:
        InputError: as `ClassKnowledge.load`.
    """
    knowledge = ClassKnowledge.load(path)
    waiting = _proposed(knowledge)
    counts: Counter[str] = Counter()
    warnings: list[str] = []
    for number, (name, sentence) in enumerate(waiting, start=1):
        show(f"\n[{number}/{len(waiting)}] {name}  ({sentence.source.label()})")
        show(f"  {sentence.text}")
        for line in ([f"meta: {dict(sentence.meta)}"] if sentence.meta else []) + (
            [remarks[name, sentence.text]] if remarks and (name, sentence.text) in remarks else []
        ):
            show(f"  {line}")
        try:
            reviewed = _ask_until_decided(knowledge, name, sentence, ask, show)
        except EOFError:
            break
        if reviewed is None:
            break
        if reviewed.counts:
            knowledge = reviewed.knowledge.save(path, overwrite=True)
            counts.update(reviewed.counts)
            for note in reviewed.warnings:
                warnings.append(note)
                show(f"  {note}")
    return Reviewed(knowledge, dict(counts), tuple(warnings))


def _ask_until_decided(
    knowledge: ClassKnowledge,
    name: str,
    sentence: Sentence,
    ask: Callable[[str], str],
    show: Callable[[str], None],
) -> Reviewed | None:
    """One sentence: the knowledge after the decision, as it was after a skip, None to quit."""
    question = ", ".join(f"{word} ({key})" for key, word in KEYS.items()) + ": "
    while True:
        key = ask(question).strip().lower()
        decision = None
        try:
            if key == "q":
                return None
            if key == "s":
                return Reviewed(knowledge, {})
            if key == "a":
                decision = Decision(name, sentence.text, "accepted")
            elif key == "e":
                decision = Decision(name, sentence.text, "edited", edited=one_line(ask("new text: ")))
            elif key == "r":
                decision = Decision(name, sentence.text, "rejected", reason=one_line(ask("reason: ")))
            if decision is not None:
                return decide(knowledge, [decision])
            show(f"  {key!r} is none of {', '.join(KEYS)}")
        except InputError as error:
            show(f"  {error}")


def review_page(knowledge: ClassKnowledge, *, remarks: Mapping[tuple[str, str], str] | None = None) -> str:
    """The page as text.

    Each sentence has its source, status and remark and buttons to accept, edit or reject it; the decisions stay in the
    browser's own store until "Download decisions" makes the file for `apply_decisions`. Nothing is sent anywhere.

    Args:
        knowledge: the sentences.
        remarks: (class, text) -> what to show with the sentence, such as its score.
    """
    script = (Path(reports.__file__).parent / "templates" / "review.js").read_text(encoding="utf-8")
    return reports.render_page(
        "review.html.j2",
        knowledge=knowledge,
        remarks=remarks or {},
        script=script,
        # the page runs this script and no other, whatever a sentence may hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def save_review_page(
    knowledge: ClassKnowledge,
    path: str | Path,
    *,
    remarks: Mapping[tuple[str, str], str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `review_page` atomically.

    Raises:
        InputError: the file exists and ``overwrite`` is False.
    """
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(review_page(knowledge, remarks=remarks).encode("utf-8"))
    return Path(path)
