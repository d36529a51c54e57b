from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from icube_common.errors import InputError
from icube_common.knowledge import ClassKnowledge, LocalGenerator, OpenAIGenerator, generate_sentences
from icube_common.knowledge.generate import MAX_WORDS, Answer, compose_prompt, parse_answer

KEY = "sk-very-secret"


class Script:
    """A generator with fixed answers, which records its prompts."""

    name = "script"

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    def __call__(self, prompt: str, *, seed: int) -> Answer:
        self.asked.append((prompt, seed))
        return Answer(self.answers[(len(self.asked) - 1) % len(self.answers)])


THREE = ["A person walks.", "Legs move along.", "Arms swing too."]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("1. A person walks.\n2) Legs move along.\n(3) Arms swing too.", THREE),
        ('- A person walks.\n* Legs move along.\n\u2022 "Arms swing too."', THREE),
        ("A person walks. Legs move along. Arms swing too.", THREE),
        ("Here are two sentences:\n\n**A person walks.**", ["A person walks."]),
        ('A person walks! "Do arms swing?" They do so.', ["A person walks!", "Do arms swing?", "They do so."]),
        ("1. The person walks. They swing their arms.", ["The person walks. They swing their arms."]),
        ("3.5 tesla images show it.", ["3.5 tesla images show it."]),
        ('["A person walks.", "Legs move along.", 3]', ["A person walks.", "Legs move along."]),
        ('```json\n["A person walks."]\n```', ["A person walks."]),
        ("<think>What do I say? I do not know.</think>A person walks.", ["A person walks."]),
        ("A person walks.\na PERSON walks.\n1.\nYes.\n", ["A person walks."]),
        ("", []),
    ],
)
def test_reading_an_answer(text: str, sentences: list[str]) -> None:
    assert parse_answer(Answer(text))[0] == sentences


def test_dropped_sentences_are_counted() -> None:
    long = " ".join(["word"] * (MAX_WORDS + 1))
    text = f"Here they are:\n1. A person walks.\n2. A person walks.\n3. Yes.\n4. {long}.\n5. A person who"
    sentences, dropped = parse_answer(Answer(text, complete=False))
    assert sentences == ["A person walks."]
    assert dropped == {"heading": 1, "duplicate": 1, "too short": 1, "too long": 1, "cut off": 1}
    assert parse_answer(Answer("A person who", complete=True))[0] == ["A person who"]


def test_a_prompt_carries_the_domain_and_the_form_of_the_answer() -> None:
    prompt = compose_prompt("What is {name}?", domain="brain MRI.", number=3, language="fr")
    assert prompt == (
        "The samples are: brain MRI. What is {name}? "
        "Answer with 3 different sentences, one per line, each complete in itself, in the language 'fr'."
    )
    for wrong in ("What is it?", "What is {name} {x}?", "What is {name}?}"):
        with pytest.raises(InputError, match=r"must hold \{name\}"):
            compose_prompt(wrong)
    with pytest.raises(InputError, match="domain"):
        compose_prompt("{name}", domain="{name}")


def test_each_sentence_records_model_prompt_and_date() -> None:
    script = Script("1. It moves on two legs.\n2. It is on its way.", "Feet touch the ground. It moves on two legs.")
    made = generate_sentences(
        ["BriskWalk", "run"], script, prompts=["What is {name}?", "Say {name}!"], per_class=3, seed=5, date="2025-01-02"
    )
    sentences = made.knowledge.classes["BriskWalk"]
    assert [s.text for s in sentences] == ["It moves on two legs.", "It is on its way.", "Feet touch the ground."]
    assert {s.status for s in sentences} == {"proposed"} and made.dropped == {"duplicate": 2} and made.short == {}
    assert sentences[0].source.to_dict() == {
        "kind": "model",
        "model": "script",
        "prompt": "What is {name}? Answer with 2 different sentences, one per line, each complete in itself.",
        "date": "2025-01-02",
    }
    assert sentences[0].source == sentences[1].source != sentences[2].source
    assert [prompt.split("!")[0].split("?")[0] for prompt, _ in script.asked][:2] == [
        "What is brisk walk",
        "Say brisk walk",
    ]
    seeds = [seed for _, seed in script.asked]
    assert seeds[0] == 5 and len(set(seeds)) == len(seeds) == 4


def test_repeated_requests_end_with_a_list_of_missing_classes() -> None:
    script = Script("A person walks.")
    made = generate_sentences(["walk", "run"], script, prompts=["{name}?"], per_class=4)
    assert made.short == {"walk": 1, "run": 1} and len(script.asked) == 6
    with pytest.raises(InputError, match="script: gave no usable sentence for any class"):
        generate_sentences(["walk"], Script("No."), per_class=1)


def test_existing_classes_are_kept_and_each_class_is_saved() -> None:
    saved: list[ClassKnowledge] = []
    first = generate_sentences(["walk"], Script("A person walks."), prompts=["{name}?"], per_class=1).knowledge
    script = Script("A person runs.")
    made = generate_sentences(
        ["walk", "run", "hop"], script, prompts=["{name}?"], per_class=1, start=first, on_class=saved.append
    )
    assert [knowledge.class_names for knowledge in saved] == [("walk", "run"), ("walk", "run", "hop")]
    assert made.knowledge == saved[-1] and made.knowledge.classes["walk"] == first.classes["walk"]
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_names": []}, "classes: there is none"),
        ({"prompts": []}, "prompts: there is none"),
        ({"per_class": 0}, "per_class 0: must be at least 1"),
        ({"max_words": 0}, "max_words 0: must be at least 1"),
        ({"class_names": ["walk", "Walk"]}, "class 'Walk': is the same as 'walk'"),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate_sentences(**{"class_names": ["walk"], "generator": Script("A b c."), **values})


# a language model on this machine


@pytest.fixture(scope="module")
def local_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with random weights and a tokenizer of words, made here."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = [
        "<end>",
        "<unk>",
        "A",
        "The",
        "person",
        "body",
        "walks",
        "runs",
        "moves",
        "on",
        "its",
        "legs",
        "and",
        "fast.",
    ]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_local_model_answers_by_its_seed(local_model: Path) -> None:
    generator = LocalGenerator(str(local_model), max_new_tokens=12)
    state = torch.random.get_rng_state()
    first, again = ([generator("The person walks", seed=seed) for seed in range(6)] for _ in range(2))
    assert first == again and len({answer.text for answer in first}) > 3
    assert torch.equal(torch.random.get_rng_state(), state)
    assert generator.name == local_model.name
    greedy = LocalGenerator(str(local_model), max_new_tokens=12, temperature=0.0)
    assert greedy("The person walks", seed=1) == greedy("The person walks", seed=2)


def test_a_local_model_with_a_chat_template_is_asked_through_it(local_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(local_model, tmp_path / "model"))
    template = "{% for message in messages %}The {{ message.content }} runs{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    chat = LocalGenerator(str(folder), max_new_tokens=12)
    plain = LocalGenerator(str(local_model), max_new_tokens=12)
    assert chat("person", seed=1) == plain("The person runs", seed=1)
    assert [chat("person", seed=n) for n in range(6)] != [plain("person", seed=n) for n in range(6)]


def test_sentences_of_a_local_model(local_model: Path) -> None:
    generator = LocalGenerator(str(local_model), max_new_tokens=40)
    made = generate_sentences(["walk", "run"], generator, prompts=["A {name}?"], per_class=2)
    assert made.knowledge.class_names == ("walk", "run")
    again = generate_sentences(["walk", "run"], generator, prompts=["A {name}?"], per_class=2)
    assert again.knowledge == made.knowledge


def test_a_question_longer_than_the_model_reads_is_refused(local_model: Path) -> None:
    generator = LocalGenerator(str(local_model))
    assert not generator("walks " * 60, seed=0).complete
    with pytest.raises(InputError, match="the question has 64 tokens, its limit is 64"):
        generator("walks " * 64, seed=0)


def test_a_local_model_that_lacks_something(local_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text((local_model / "config.json").read_text())
    with pytest.raises(InputError, match=r"the folder lacks a tokenizer \(tokenizer.json\), weights \(model.safeten"):
        LocalGenerator(str(tmp_path))
    with pytest.raises(InputError, match="no such folder"):
        LocalGenerator(str(tmp_path / "no"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((local_model / name).read_text())
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        LocalGenerator(str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="must be positive"):
        LocalGenerator(str(local_model), max_new_tokens=0)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(
        InputError, match=r"model 'nobody/nothing': cannot be loaded \(not in the local cache.*no route\)"
    ):
        LocalGenerator("nobody/nothing")


# an endpoint


class Endpoint(http.server.ThreadingHTTPServer):
    """Answers requests with a list of (status, body, headers), the last one again and again; keeps what came in."""

    replies: list[tuple[int, str, dict[str, str]]]
    requests: list[tuple[str, dict[str, str], dict[str, Any]]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        replies = self.server.replies
        status, text, headers = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


def completion(text: str, finish: str = "stop") -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Endpoint(("127.0.0.1", 0), Handler)
    server.replies, server.requests = [(200, completion("1. A person walks."), {})], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_answers(endpoint: Endpoint) -> None:
    generator = OpenAIGenerator(endpoint.url + "/", "m-1", temperature=0.5, send_seed=True)
    made = generate_sentences(["walk"], generator, prompts=["What is {name}?"], per_class=1, seed=3)
    assert made.knowledge.texts("walk", include_proposed=True) == ("A person walks.",)
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "m-1" and body["temperature"] == 0.5 and body["seed"] == 3 and "max_tokens" not in body
    assert body["messages"][0]["content"].startswith("What is walk?")
    assert KEY not in json.dumps(made.knowledge.to_dict())
    endpoint.replies = [(200, completion("A person who", "length"), {})]
    assert generator("x", seed=0) == Answer("A person who", complete=False)


def test_no_key_is_sent_where_there_is_none(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    OpenAIGenerator(endpoint.url, "m-1", key_variable="NO_SUCH_KEY")("x", seed=0)
    assert "Authorization" not in endpoint.requests[0][1] and "seed" not in endpoint.requests[0][2]


def test_a_busy_endpoint_is_asked_again(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = json.dumps({"error": {"message": f"slow down, {KEY}"}})
    endpoint.replies = [(429, busy, {"Retry-After": "7"}), (500, "", {}), (429, busy, {"Retry-After": "soon"})]
    endpoint.replies.append((200, completion("A person walks."), {}))
    waits: list[float] = []
    caplog.set_level("INFO", "icube_common")
    assert OpenAIGenerator(endpoint.url, "m-1", sleep=waits.append)("x", seed=0).text == "A person walks."
    assert waits == [7.0, 2.0, 4.0]
    assert "429" in caplog.text and "slow down, ***" in caplog.text
    assert KEY not in caplog.text + "".join(capsys.readouterr())


def test_an_endpoint_that_stays_busy_is_given_up(endpoint: Endpoint) -> None:
    endpoint.replies = [(503, f"out of {KEY}", {"Retry-After": "3600"})]
    waits: list[float] = []
    with pytest.raises(InputError, match=r"no answer after 3 tries: 503 Service Unavailable \(out of \*\*\*\)"):
        OpenAIGenerator(endpoint.url, "m-1", retries=2, sleep=waits.append)("x", seed=0)
    assert waits == [60.0, 60.0] and len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            401,
            '{"error": {"message": "wrong\\nkey sk-very-secret"}}',
            r"401, not allowed.*OPENAI_API_KEY \(wrong key \*\*\*",
        ),
        (403, "", "403, not allowed"),
        (404, '{"error": "no such model"}', r"404 Not Found \(no such model\)"),
        (302, "", "302 Found"),
        (200, "{", "answered no chat completion"),
        (200, "[]", "answered no chat completion"),
        (200, '{"choices": []}', "answered no chat completion"),
        (200, '{"choices": [{"message": {"content": null}}]}', "answered no chat completion"),
        (200, "sk-very-secret", "answered no chat completion .'\\*\\*\\*'"),
    ],
)
def test_any_other_answer_is_one_line(endpoint: Endpoint, status: int, body: str, message: str) -> None:
    endpoint.replies = [(status, body, {"Location": "http://127.0.0.1:9/"})]
    with pytest.raises(InputError, match=message) as caught:
        OpenAIGenerator(endpoint.url, "m-1", sleep=lambda seconds: None)("x", seed=0)
    assert "\n" not in str(caught.value) and KEY not in str(caught.value) and len(endpoint.requests) == 1


def test_an_endpoint_that_is_not_there(endpoint: Endpoint) -> None:
    waits: list[float] = []
    generator = OpenAIGenerator("http://127.0.0.1:1/v1", "m-1", retries=1, sleep=waits.append)
    with pytest.raises(InputError, match=r"no answer after 2 tries: .*refused"):
        generator("x", seed=0)
    assert waits == [1.0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "must be a URL such as"),
        ("localhost:8000", "must be a URL such as"),
        ("https://a:b@host/v1", "holds a password"),
        ("http://example.org/v1", "the key in OPENAI_API_KEY would travel unencrypted"),
    ],
)
def test_an_endpoint_that_is_none(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match=message):
        OpenAIGenerator(url, "m-1")
