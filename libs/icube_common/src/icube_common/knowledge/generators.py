"""Language models that answer questions: on this machine (transformers) or behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from icube_common.errors import InputError, require
from icube_common.knowledge.generate import Answer

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 10_000_000
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class LocalGenerator:
    """Text generation with a transformers model from a folder, from the local cache or from the hub.

    Weights are read as safetensors only, and no code that a model brings along is run. Models with a chat template are
    asked through it, others get the bare question.

    Args:
        model: a folder with ``config.json``, the tokenizer and ``model.safetensors``, or a name on the hub.
        device: where it runs, e.g. ``cpu`` or ``cuda``.
        max_new_tokens: length of an answer at most.
        temperature: of sampling; 0 takes the likeliest token always, whatever the seed.

    Raises:
        InputError: the model cannot be loaded; the message names what is missing.
    """

    def __init__(self, model: str, *, device: str = "cpu", max_new_tokens: int = 400, temperature: float = 0.8) -> None:
        if max_new_tokens < 1 or temperature < 0:
            raise InputError(f"max_new_tokens {max_new_tokens}, temperature {temperature}: must be positive")
        transformers = require("transformers", package="icube-common", extra="vlm")
        folder = Path(model)
        self.name = folder.name if folder.is_dir() else model
        self.device = device
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        _check_folder(model)
        unreachable = None if folder.is_dir() else _hub_problem(model)
        options = {"local_files_only": folder.is_dir() or unreachable is not None}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, **options)
            network = transformers.AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, **options)
            self._network = network.to(device).eval()
        except Exception as error:  # a dozen kinds, from socket errors to mismatching keys: all are the user's to mend
            reason = f"not in the local cache; hub: {unreachable}" if unreachable else _first_line(error)
            raise InputError(
                f"model {model!r}: cannot be loaded ({reason}): give a folder with config.json, tokenizer.json and "
                "model.safetensors, or the name of a text generation model on the hub"
            ) from error

    def __call__(self, prompt: str, *, seed: int) -> Answer:
        """The model's answer; sampling is seeded for this call alone."""
        import torch

        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            inputs = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")
        else:
            inputs = self._tokenizer(prompt + "\n", return_tensors="pt")
        ids = inputs["input_ids"].to(self.device)
        end = self._tokenizer.eos_token_id
        limit = self._room(ids.shape[1])
        options: dict[str, Any] = {"do_sample": False}
        if self.temperature > 0:
            options = {"do_sample": True, "temperature": self.temperature, "top_k": 0}
        # transformers samples from torch's global generators: they are seeded in here and put back after
        devices = [self._network.device] if self._network.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(seed)
            output = self._network.generate(
                ids,
                attention_mask=inputs["attention_mask"].to(self.device),
                max_new_tokens=limit,
                pad_token_id=end if self._tokenizer.pad_token_id is None else self._tokenizer.pad_token_id,
                **options,
            )
        new = output[0, ids.shape[1] :]
        return Answer(self._tokenizer.decode(new, skip_special_tokens=True), complete=len(new) < limit)

    def _room(self, prompt_length: int) -> int:
        """Tokens left for an answer beside its question."""
        positions = getattr(self._network.config, "max_position_embeddings", None)
        limit = self.max_new_tokens if positions is None else min(self.max_new_tokens, positions - prompt_length)
        if limit < 1:
            raise InputError(f"model {self.name!r}: the question has {prompt_length} tokens, its limit is {positions}")
        return limit


def _check_folder(model: str) -> None:
    """Check a folder's files before transformers looks for them on the hub."""
    folder = Path(model)
    if not folder.is_dir():
        if model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise InputError(f"model {model!r}: no such folder")
        return
    expected = {
        "config.json": ["config.json"],
        "a tokenizer (tokenizer.json)": ["tokenizer.json", "vocab.json", "tokenizer.model"],
        "weights (model.safetensors)": ["model.safetensors", "model.safetensors.index.json"],
    }
    lacking = [what for what, files in expected.items() if not any((folder / file).is_file() for file in files)]
    if lacking:
        raise InputError(f"model {model!r}: the folder lacks {', '.join(lacking)}")


def _hub_problem(model: str) -> str | None:
    """Reason that the hub has no such model, None where it has. One request: transformers would repeat each of its."""
    hub = require("huggingface_hub", package="icube-common", extra="vlm")  # comes with transformers
    try:
        hub.HfApi().model_info(model, timeout=10)
    except Exception as error:  # its client's own kinds change between versions
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are refused: urllib would carry the key on to wherever they lead."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class OpenAIGenerator:
    """A model behind an OpenAI-compatible endpoint (``POST {base_url}/chat/completions``).

    The key is read from an environment variable at each call and never stored, logged or shown.

    Args:
        base_url: e.g. ``http://localhost:8000/v1``.
        model: the model's name there.
        key_variable: environment variable that holds the key; where it is unset, no key is sent.
        timeout: seconds to wait for an answer.
        retries: how often a request is repeated after 429, 5xx or a failed connection, waiting 1, 2, 4 ... seconds or
            as long as the server requests (60 at most).
        temperature: of sampling; the endpoint's own when None.
        max_tokens: length of an answer at most; the endpoint's own when None.
        send_seed: send the seed; not every endpoint accepts it.
        sleep: waits; for tests.

    Raises:
        InputError: no URL of that kind, a key that would travel unencrypted, an answer that means no success (one line
            with the status and the server's words), or no JSON of the expected form.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 120.0,
        retries: int = 4,
        temperature: float | None = None,
        max_tokens: int | None = None,
        send_seed: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"endpoint {base_url!r}: must be a URL such as https://host/v1")
        if parts.username or parts.password:
            raise InputError("endpoint: holds a password; put the key into an environment variable")
        if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS and os.environ.get(key_variable):
            raise InputError(
                f"endpoint {base_url!r}: the key in {key_variable} would travel unencrypted: use https, or name "
                "another, unset variable"
            )
        self.name = model
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._key_variable = key_variable
        self._timeout = timeout
        self._retries = retries
        self._options = {"temperature": temperature, "max_tokens": max_tokens}
        self._send_seed = send_seed
        self._sleep = sleep
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, prompt: str, *, seed: int) -> Answer:
        """The model's answer to one question."""
        body: dict[str, Any] = {"model": self.name, "messages": [{"role": "user", "content": prompt}]}
        body.update({key: value for key, value in self._options.items() if value is not None})
        if self._send_seed:
            body["seed"] = seed
        text = self._post(json.dumps(body).encode("utf-8"))
        try:
            choice = json.loads(text)["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            content = None
        if not isinstance(content, str):
            raise InputError(f"{self._url}: answered no chat completion ({self._clean(text)!r})")
        return Answer(content, complete=choice.get("finish_reason") != "length")

    def _post(self, body: bytes) -> str:
        """Send a request, again where that may help, and return the answer's text."""
        for attempt in range(self._retries + 1):
            wait = 2.0**attempt
            try:
                with self._opener.open(self._request(body), timeout=self._timeout) as response:
                    return self._read(response)
            except urllib.error.HTTPError as error:
                with error:
                    words = self._clean(_error_words(self._read(error)))
                if error.code == 401 or error.code == 403:
                    raise InputError(
                        f"{self._url}: {error.code}, not allowed: put a valid key into {self._key_variable} ({words})"
                    ) from None
                if error.code != 429 and error.code < 500:
                    raise InputError(f"{self._url}: {error.code} {error.reason} ({words})") from None
                problem = f"{error.code} {error.reason} ({words})"
                wait = _retry_after(error.headers.get("Retry-After"), wait)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                problem = str(getattr(error, "reason", "") or error or type(error).__name__)
            if attempt < self._retries:
                logger.info("%s: %s; again in %.0f s", self._url, self._clean(problem), wait)
                self._sleep(wait)
        raise InputError(f"{self._url}: no answer after {self._retries + 1} tries: {self._clean(problem)}")

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._key_variable):
            headers["Authorization"] = f"Bearer {key}"
        return urllib.request.Request(self._url, data=body, headers=headers, method="POST")

    @staticmethod
    def _read(response: Any) -> str:
        return bytes(response.read(MAX_ANSWER_BYTES)).decode("utf-8", errors="replace")

    def _clean(self, words: str) -> str:
        """The server's words in one short line, without the key should they repeat it."""
        key = os.environ.get(self._key_variable)
        words = words.replace(key, "***") if key else words
        return " ".join(words.split())[:200]


def _error_words(text: str) -> str:
    """The message of an error answer, or its whole text where it has no such form."""
    try:
        value = json.loads(text)["error"]
        return str(value["message"] if isinstance(value, dict) else value)
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def _retry_after(header: str | None, otherwise: float) -> float:
    """Seconds that the server asks to wait, 60 at most; 0 for dates and invalid values."""
    try:
        return min(max(float(header or ""), 0.0), 60.0)
    except ValueError:
        return otherwise
