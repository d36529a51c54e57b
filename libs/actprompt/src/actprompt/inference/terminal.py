"""A prediction as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "none of these"
"""Answer below the threshold of rejection."""


def render(result: Mapping[str, Any]) -> str:
    """A prediction for a terminal: actions, warnings, and the explanation in short.

    Args:
        result: of `ActionPrediction.to_dict`, with ``html`` where a page was written.
    """
    reasons = result["reasons"]
    lines = [f"{row['probability']:7.1%}  {row['words']}" for row in result["top"]]
    if result["rejected"]:
        guess = f"{result['predicted']['words']} {result['predicted']['probability']:.1%}"
        lines.insert(0, f"{NONE}, best guess {guess} (threshold {result['threshold']:.1%}: {result['threshold_rule']})")
    if window := result["window"]:
        lines.insert(0, f"{window['start']:.2f} to {window['end']:.2f} s, most certain of {window['windows']} windows:")
        lines += ["", "Timeline", *map(_timeline_line, result["timeline"])]
    lines += ["", *(f"! {warning}" for warning in result["warnings"]), f"backbone: {result['backbone']}"]
    other = reasons["runner_up"]
    lines += ["", f"Why {result['predicted']['words']}" + (f" and not {other['words']}:" if other else ":")]
    lines += [f"{row['margin']:+8.3f}  {row['source']}" for row in reasons["shares"]]
    lines += [f"{row['margin']:+8.3f}  caption: {row['text']}" for row in reasons["captions"]]
    for row in reasons["numbers"]:
        lines.append(f"{row['margin']:+8.3f}  {row['name']}: {row['value']:.4g} {row['unit']}".rstrip())
    lines += [f"{row['above_mean']:+8.3f}  {row['direction']}: {row['text']}" for row in reasons["sentences"]]
    for row in reasons["frames"]:
        if row["importance"] is not None:
            lines.append(f"{row['importance']:+8.2g}  frame {row['index']} at {row['time']:.2f} s")
    return "\n".join([*lines, *([f"page: {result['html']}"] if result.get("html") else [])])


def _timeline_line(row: Mapping[str, Any]) -> str:
    """A row of a timeline for a terminal."""
    guess = row["words"] if row["probability"] is None else f"{row['words']} {row['probability']:.1%}"
    named = guess if row["accepted"] or row["action"] is None else f"{NONE}, best guess {guess}"
    return f"{row['start']:8.2f} to {row['end']:.2f} s  {named}"
