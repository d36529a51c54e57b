from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icube_common.errors import InputError
from icube_common.knowledge import (
    UNREVIEWED,
    ClassKnowledge,
    Sentence,
    Source,
    apply_decisions,
    review_in_terminal,
    review_page,
    sign,
)
from icube_common.knowledge.review import Decision, accept_all, decide, save_review_page

MODEL = Source("model", model="m-1", prompt="What is {name}?", date="2025-03-31")


def example() -> ClassKnowledge:
    return ClassKnowledge(
        "Test set",
        {
            "walk": (
                Sentence("A person walks.", MODEL, "accepted"),
                Sentence("Legs move.", MODEL),
                Sentence("It may be anything.", MODEL),
            ),
            "run": (Sentence("A person runs.", MODEL, meta={"sure": False}),),
        },
    )


def answers(*words: str) -> Callable[[str], str]:
    """A person who types these words and then ends the input."""
    left = list(words)

    def ask(question: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return ask


def test_a_review_in_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    example().save(path)
    shown: list[str] = []
    typed = answers("x", "r", "", "r", " says  nothing", "e", "Legs move.", "e", "Feet touch the ground.", "a")
    # the first sentence in line is "Legs move."
    reviewed = review_in_terminal(path, ask=typed, show=shown.append, remarks={("walk", "Legs move."): "margin +0.1"})
    assert reviewed.counts == {"rejected": 1, "edited": 1, "accepted": 1} and reviewed.proposed == 0
    walk, run = ClassKnowledge.load(path).classes.values()
    assert (walk[1].status, walk[1].reason) == ("rejected", "says nothing")
    assert (walk[2].text, walk[2].original) == ("Feet touch the ground.", "It may be anything.")
    assert run[0].status == "accepted"
    text = "\n".join(shown)
    assert "[1/3] walk  (model m-1 (2025-03-31))" in text and "margin +0.1" in text and "meta: {'sure': False}" in text
    assert "'x' is none of a, e, r, s, q" in text and "reason: is empty" in text
    assert "class 'walk': 'Legs move.' stands there twice" in text


@pytest.mark.parametrize("ending", [["q"], []])
def test_a_review_can_stop_and_go_on(ending: list[str], tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    example().save(path)
    first = review_in_terminal(path, ask=answers("a", "s", *ending), show=lambda line: None)
    assert first.counts == {"accepted": 1} and first.proposed == 2
    shown: list[str] = []
    second = review_in_terminal(path, ask=answers("a", "a"), show=shown.append)
    assert second.proposed == 0 and "[1/2] walk" in shown[0] and "It may be anything." in shown[1]
    assert ClassKnowledge.load(path) == second.knowledge


def test_each_decision_is_saved_before_the_next_question(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    example().save(path)
    seen: list[int] = []

    def ask(question: str) -> str:
        seen.append(sum(s.status == "accepted" for s in ClassKnowledge.load(path).sentences()))
        return "a"

    review_in_terminal(path, ask=ask, show=lambda line: None)
    assert seen == [1, 2, 3]


def test_decision_unfreezes_and_removes_the_reviewer() -> None:
    signed = sign(accept_all(example()).knowledge, "C. D.", role="neurologist", date="2025-04-01")
    assert (
        signed.reviewer == "C. D., neurologist, 2025-04-01"
        and signed.frozen is not None
        and not signed.review_warning()
    )
    more = decide(signed, [Decision("walk", "Legs move.", "rejected", reason="no")])
    assert more.knowledge.frozen is None and more.knowledge.reviewer == UNREVIEWED
    assert "no longer frozen (it was on 2025-04-01)" in more.warnings[0] and "no longer signed" in more.warnings[1]
    again = decide(signed, [Decision("walk", "Legs move.", "accepted")])  # as it is already
    assert again.knowledge == signed and again.counts == {} and again.warnings == ()


def test_decision_on_an_unused_sentence_keeps_the_reviewer() -> None:
    knowledge = decide(example(), [Decision("run", "A person runs.", "accepted")]).knowledge
    signed = sign(knowledge, "C. D.", date="2025-04-01")
    rejected = decide(signed, [Decision("walk", "Legs move.", "rejected", reason="no")])
    assert rejected.knowledge.reviewer == "C. D., 2025-04-01" and rejected.knowledge.frozen is None
    assert rejected.knowledge.hash == signed.hash and len(rejected.warnings) == 1


def test_two_sentences_may_swap_their_texts() -> None:
    decisions = [
        Decision("walk", "Legs move.", "edited", edited="It may be anything."),
        Decision("walk", "It may be anything.", "edited", edited="Legs move."),
    ]
    walk = decide(example(), decisions).knowledge.classes["walk"]
    assert [(s.text, s.original) for s in walk[1:]] == [
        ("It may be anything.", "Legs move."),
        ("Legs move.", "It may be anything."),
    ]


@pytest.mark.parametrize("name", ["", "none", "None (draft)", " A"])
def test_only_a_name_signs(name: str) -> None:
    with pytest.raises(InputError, match="reviewer"):
        sign(accept_all(example()).knowledge, name)


def test_review_of_a_class_without_sentences_is_refused() -> None:
    with pytest.raises(InputError, match="class 'run': no sentence is in use"):
        sign(example(), "C. D.")


def decisions_file(path: Path, **change: Any) -> Path:
    value: dict[str, Any] = {
        "title": "Test set",
        "decisions": [
            {"class": "walk", "text": "Legs move.", "decision": "edited", "edited": "Feet move."},
            {"class": "walk", "text": "It may be anything.", "decision": "rejected", "reason": "says nothing"},
            {"class": "run", "text": "A person runs.", "decision": "accepted"},
        ],
        **change,
    }
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))
    return path


def test_decisions_of_a_page(tmp_path: Path) -> None:
    reviewed = apply_decisions(example(), decisions_file(tmp_path / "d.json"))
    assert reviewed.counts == {"edited": 1, "rejected": 1, "accepted": 1} and reviewed.warnings == ()
    assert reviewed.knowledge.texts("walk") == ("A person walks.", "Feet move.")
    assert reviewed.knowledge.reviewer == UNREVIEWED and reviewed.knowledge.frozen is None
    person = {"name": "C. D.", "role": "", "date": "2025-04-01"}
    reviewed = apply_decisions(example(), decisions_file(tmp_path / "d.json", reviewer=person))
    assert reviewed.knowledge.reviewer == "C. D., 2025-04-01" and reviewed.knowledge.frozen is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": "Other set"}, "was made for 'Other set', not for 'Test set'"),
        ({"title": None}, "'title' is missing"),
        ({"decision": []}, "unknown key 'decision': did you mean 'decisions'"),
        ({"decisions": {}}, "'decisions': must be a list"),
        ({"decisions": [3]}, "must be a mapping"),
        ({"decisions": [{"class": "walk", "text": "Legs move."}]}, "'decision' is missing"),
        ({"decisions": [{"class": "wlak", "text": "a", "decision": "accepted"}]}, "unknown class 'wlak': did you mean"),
        ({"decisions": [{"class": "walk", "text": "a", "decision": "accepted"}]}, "has no sentence 'a'; was it edited"),
        ({"decisions": [{"class": "walk", "text": "a", "decision": "acepted"}]}, "unknown decision 'acepted'"),
        ({"decisions": [{"class": "walk", "text": 3, "decision": "accepted"}]}, "text 3: must be text"),
        ({"decisions": [{"class": "walk", "text": "Legs move.", "decision": "rejected"}]}, "'reason' belongs to"),
        (
            {"decisions": [{"class": "walk", "text": "Legs move.", "decision": "accepted"}] * 2},
            "'Legs move.' is decided on twice",
        ),
        ({"reviewer": {"nam": "A"}}, "unknown key 'nam': did you mean 'name'"),
        ({"reviewer": {"name": ""}}, "reviewer name: is empty"),
        ({"reviewer": {"name": 3}}, "reviewer name 3: must be text"),
    ],
)
def test_a_wrong_file_of_decisions_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = decisions_file(tmp_path / "d.json", **change)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        apply_decisions(example(), path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


class Page(html.parser.HTMLParser):
    """Content of a page: attributes of its articles, addresses, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.articles: list[dict[str, str | None]] = []
        self.addresses: list[str | None] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self.articles.append(dict(attrs))
        self.scripts += tag == "script"
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_shows_every_sentence_and_loads_nothing() -> None:
    hostile = '<script>alert("x")</script> & "quotes"'
    knowledge = example().with_classes({**example().classes, "hop": (Sentence(hostile, MODEL),)})
    text = review_page(knowledge, remarks={("walk", "Legs move."): "margin +0.123"})
    page = Page(text)
    assert [(a["data-class"], a["data-text"], a["data-status"]) for a in page.articles] == [
        (name, sentence.text, sentence.status)
        for name, sentences in knowledge.classes.items()
        for sentence in sentences
    ]
    assert page.addresses == [] and page.scripts == 1 and "http" not in text.replace("http-equiv", "")
    assert "margin +0.123" in text and "asked: What is {name}?" in text and UNREVIEWED in text
    # the page's policy allows its own script and no other
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html.unescape(text)


def test_a_page_is_not_written_over_another(tmp_path: Path) -> None:
    path = save_review_page(example(), tmp_path / "r.html")
    with pytest.raises(InputError, match="exists already"):
        save_review_page(example(), path)
    save_review_page(example(), path, overwrite=True)
