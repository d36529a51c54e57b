"""Naming the action of one video, with the reasons and a page that shows them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from actprompt.fitting import predict
from actprompt.frame_folder import is_image
from actprompt.onevideo import OneVideo, read_one
from actprompt.page import save_page
from actprompt.reasons import Case, look
from actprompt.saved import SavedModel, load_model
from actprompt.video import probe
from icube_common.errors import InputError
from icube_common.io.runs import check_output_path


def predict_video(
    run: str | Path,
    video: str | Path,
    *,
    skeleton: str | Path | None = None,
    data: str | Path | None = None,
    frame_rate: float | None = None,
    top: int = 5,
    html: str | Path | None = None,
    overwrite: bool = False,
    keep_damaged: bool = False,
) -> dict[str, Any]:
    """Name the action of a video and say why.

    Args:
        run: a trained run, or its ``model`` folder.
        video: the file, or a folder of frames.
        skeleton: ``.npz`` with joints (T, J, 3), NaN where not tracked, and time (T,) in s; the joints, their order and
            their unit those of the training.
        data: a prepared set that the video is of: skeleton and numbers are taken from there.
        frame_rate: frames per second of a folder of frames.
        top: actions to name.
        html: where to write a page with frames, bars and sentences.
        overwrite: replace an existing page.
        keep_damaged: use a truncated or damaged video as far as it decodes; a note says so.

    Returns:
        ``video``, ``n_frames``, ``seconds``, ``backbone``, ``notes`` (what a reader has to know first), ``predicted``
        (``action`` as the set spells it, ``words``, ``probability``), ``top`` (the same of the ``top`` most probable),
        ``html`` and ``reasons``: ``runner_up``, ``margin`` (before the clip's feature is normalised, which the parts
        add up to), ``cosine_margin``, the ``sentences`` of both actions, and what ``shares``, ``told`` sentences,
        ``numbers`` and ``frames`` have to do with the margin, as `actprompt.reasons.Case` describes them.

    Raises:
        InputError: no such run, video, skeleton or set, or one that cannot be used or does not fit the run; ``top``
            below 1; the page exists. Nothing is written then.
    """
    _check(skeleton, data, top, html, overwrite)
    _check_video(Path(video), frame_rate)
    info = probe(video, frame_rate=frame_rate, keep_damaged=keep_damaged)
    saved = load_model(run)
    one = read_one(saved, video, info, skeleton=skeleton, data=data)
    model = saved.model
    probabilities = predict(model, one.tables)[0]
    order = np.argsort(-probabilities, kind="stable").tolist()
    case = Case(model, look(model, one.tables), order[0], order[1] if len(order) > 1 else None)
    rows = [_named(saved, place, float(probabilities[place])) for place in order]
    result: dict[str, Any] = {
        "video": str(video),
        "n_frames": one.info.n_frames,
        "seconds": round(one.info.duration, 3),
        "backbone": str(model.vlm.origin),
        "notes": _notes(saved, one),
        "predicted": rows[0],
        "top": rows[:top],
        "reasons": _reasons(saved, one, case, rows[1] if len(rows) > 1 else None),
        "html": None if html is None else str(html),
    }
    if html is not None:
        save_page(html, result, one.frames, overwrite=overwrite)
    return result


def _check(
    skeleton: str | Path | None, data: str | Path | None, top: int, html: str | Path | None, overwrite: bool
) -> None:
    """What can be found wrong before anything is read."""
    if top < 1:
        raise InputError(f"--top {top}: must be at least 1")
    if skeleton is not None and data is not None:
        raise InputError(f"--skeleton {skeleton} with --data {data}: both give the skeleton; leave one away")
    if html is not None:
        if Path(html).is_dir():
            raise InputError(f"--html {html}: is a folder; give the file to write, such as {Path(html) / 'why.html'}")
        check_output_path(html, overwrite=overwrite)


def _check_video(video: Path, frame_rate: float | None) -> None:
    """Refuse a folder of videos, and a frame rate that is none or goes with a file."""
    folder = os.path.isdir(video)
    if folder and not any(is_image(name) for name in os.listdir(video)):
        raise InputError(
            f"{video}: is a folder; give one video, or for all of them a set: actprompt prepare, then actprompt "
            "evaluate RUN --data DATA"
        )
    if frame_rate is not None and (not folder or not 0 < frame_rate < math.inf):
        problem = "must be a positive number of frames per second" if folder else f"{video} is a file, with its own"
        raise InputError(f"--frame-rate {frame_rate:g}: {problem}")


def _notes(saved: SavedModel, one: OneVideo) -> list[str]:
    """What a reader has to know, the most particular first."""
    model, about = saved.model, saved.about
    notes = list(one.notes)
    if one.clip.id in about["trained_on"].get("ids", ()):
        notes.append(f"A clip called {one.clip.id} was trained on: this says nothing about unseen videos.")
    if about["data"].get("simulated"):
        notes.append("Trained on simulated videos, not on recordings of people.")
    backbone = model.vlm.untrained_warning
    if backbone and (model.visual is not None or not model.vlm.origin.text_trained):
        notes.append(f"Backbone: {backbone}.")
    return list(dict.fromkeys([*notes, *about["notes"]]))


def _named(saved: SavedModel, place: int, probability: float) -> dict[str, Any]:
    label = saved.model.labels[place]
    words = saved.about["data"].get("classes", {}).get(label, label)
    return {"action": label, "words": words, "probability": probability}


def _reasons(saved: SavedModel, one: OneVideo, case: Case, runner_up: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "runner_up": runner_up,
        "margin": case.margin(),
        "cosine_margin": case.cosines(),
        "prompts_trained": bool(case.model.config.prompt.learn),
        "sentences": case.sentences(),
        "shares": case.shares(),
        "told": case.told(saved.captioner),
        "numbers": case.numbers(one.units),
        "frames": [
            {"index": row["index"], "time": round(float(one.info.times[row["index"]]), 3), "mattered": row["mattered"]}
            for row in case.frames(one.frames.indices)
        ],
    }


def render(result: Mapping[str, Any]) -> str:
    """A result of `predict_video` for a terminal: actions, what has to be known, and the reasons in short."""
    reasons = result["reasons"]
    lines = [f"{row['probability']:7.1%}  {row['words']}" for row in result["top"]]
    lines += ["", *(f"! {note}" for note in result["notes"]), f"backbone: {result['backbone']}"]
    other = reasons["runner_up"]
    lines += ["", f"Why {result['predicted']['words']}" + (f" and not {other['words']}:" if other else ":")]
    lines += [f"{row['margin']:+8.3f}  {row['source']}" for row in reasons["shares"]]
    lines += [f"{row['margin']:+8.3f}  told: {row['text']}" for row in reasons["told"]]
    for row in reasons["numbers"]:
        lines.append(f"{row['margin']:+8.3f}  {row['name']}: {row['value']:.4g} {row['unit']}".rstrip())
    lines += [f"{row['above_mean']:+8.3f}  {row['speaks']}: {row['text']}" for row in reasons["sentences"]]
    for row in reasons["frames"]:
        if row["mattered"] is not None:
            lines.append(f"{row['mattered']:+8.2g}  frame {row['index']} at {row['time']:.2f} s")
    return "\n".join([*lines, *([f"page: {result['html']}"] if result["html"] else [])])
