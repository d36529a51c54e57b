"""HTML page of a prediction: frames, bars, sentences and parameters in one file without external resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from actprompt.data.video import VideoClip
from icube_common.io.reports import format_value, jpeg_uri, render_page
from icube_common.io.runs import atomic_file

THUMBNAIL = (240, 240)
"""Largest size of a frame, in pixels."""


def save_page(path: str | Path, result: Mapping[str, Any], frames: VideoClip, *, overwrite: bool = False) -> Path:
    """Write `prediction_page` atomically.

    Raises:
        InputError: the file exists and ``overwrite`` is False, or it cannot be written.
    """
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(prediction_page(result, frames), encoding="utf-8")
    return Path(path)


def prediction_page(result: Mapping[str, Any], frames: VideoClip) -> str:
    """The page as text.

    Args:
        result: of `actprompt.inference.pipeline.ActionPrediction.to_dict`.
        frames: the sampled frames, for the strip.
    """
    reasons = result["reasons"]
    best, runner_up = result["predicted"], reasons["runner_up"]
    sentences = _bars(reasons["sentences"], "above_mean")
    return render_page(
        "prediction.html.j2",
        package="actprompt.inference",
        title=best["words"],
        video=Path(result["video"]).name,
        timeline=timeline_bar(result["timeline"], result["seconds"]) if result["window"] else None,
        result=result,
        reasons=reasons,
        runner_up=runner_up and runner_up["words"],
        runner_up_probability=runner_up and percent(runner_up["probability"]),
        strip=_strip(frames, reasons["frames"]),
        little=_all_small(reasons),
        sentences=[
            {"words": row["words"], "rows": [sentence for sentence in sentences if sentence["action"] == row["action"]]}
            for row in (best, runner_up)
            if row is not None
        ],
        shares=_bars(reasons["shares"], "margin"),
        captions=_bars(reasons["captions"], "margin"),
        numbers=[
            {**row, "shown": f"{format_value(row['value'])} {row['unit']}".strip(), "apart": _apart(row["deviations"])}
            for row in _bars(reasons["numbers"], "margin")
        ],
        percent=percent,
        signed=signed,
    )


_PALETTE = ("#1f5fa8", "#b4531a", "#2f8f5b", "#8a4fb0", "#b8860b", "#0f8b8d", "#b03060", "#5b6b2f")
_REST = "#9aa6b3"
"""Colours of actions on a timeline, and of stretches without one."""
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


def timeline_bar(rows: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Segments of a timeline with position, width (in thousandths of the bar), colour and text, and the time axis."""
    actions = list(dict.fromkeys(row["action"] for row in rows if row["accepted"]))
    step = next((step for step in _STEPS if seconds / step <= 10), seconds / 10)
    segments = [
        {
            **row,
            "x": round(1000 * row["start"] / seconds, 2),
            "width": round(1000 * (row["end"] - row["start"]) / seconds, 2),
            "colour": _PALETTE[actions.index(row["action"]) % len(_PALETTE)] if row["accepted"] else _REST,
            "name": row["words"] if row["accepted"] or row["action"] is None else f"none of these ({row['words']}?)",
        }
        for row in rows
    ]
    marks = [number * step for number in range(int(seconds / step + 1e-9) + 1)]
    ticks = [{"x": round(1000 * mark / seconds, 2), "text": clock(mark)} for mark in marks]
    return {"segments": segments, "ticks": ticks}


def clock(seconds: float) -> str:
    """A moment as seconds, or as minutes and seconds from one minute on."""
    return f"{seconds:g} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def percent(share: float) -> str:
    """A probability in whole percents, with bounds instead of 0 % and 100 %."""
    if share < 0.01:
        return "under 1 %"
    return "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def signed(value: float) -> str:
    """A contribution with its sign: three decimals, more for small ones; a plain 0 for zero."""
    if value == 0:
        return "0"
    decimals = next((count for count in (3, 4, 5) if abs(value) >= 10 ** (1 - count)), 6)
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _bars(rows: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    """The rows with their value as text and the length of its bar, in percent of the longest."""
    longest = max((abs(row[key] or 0.0) for row in rows), default=0.0) or 1.0
    return [
        {
            **row,
            "signed": None if row[key] is None else signed(row[key]),
            "bar": round(100 * abs(row[key] or 0.0) / longest, 1),
            "sign": "for" if (row[key] or 0.0) > 0 else "against" if row[key] else "neither",
            "side": "right" if (row[key] or 0.0) > 0 else "left",
        }
        for row in rows
    ]


def _all_small(reasons: Mapping[str, Any]) -> bool:
    """True where no frame changes the margin by a hundredth: the bars have their usual length all the same."""
    importance = [abs(row["importance"]) for row in reasons["frames"] if row["importance"] is not None]
    return bool(importance) and max(importance) < 0.01 * abs(reasons["margin"])


def _apart(deviations: float) -> str:
    """Deviation of a parameter from the training clips, as text."""
    return "as usual" if abs(deviations) < 0.05 else f"{abs(deviations):.1f} {'above' if deviations > 0 else 'below'}"


def _strip(frames: VideoClip, weights: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sampled frames in their order, each once, as images with their importance."""
    images = []
    for row in _bars(weights, "importance"):
        view, column = np.argwhere(frames.indices == row["index"])[0]
        images.append({**row, "image": _thumbnail(frames.frames[view, column])})
    return images


def _thumbnail(pixels: np.ndarray[Any, Any]) -> str:
    """A frame as a small JPEG in a data URI."""
    image = Image.fromarray(pixels)
    image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    return jpeg_uri(image, quality=82)
