"""HTML export: a self-contained page that plays motions, opened from disk without any network access.

Its script draws on a 2D canvas (no WebGL is needed); the address sets its state, for links and screenshots:
``page.html#t=0.5&play=0&motion=NAME&with=NAME&view=side&theme=dark``.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.errors import InputError, unknown
from motiondiff.export.body import LEFT, RIGHT, TORSO, body_height, head_joint, side_colour
from motiondiff.export.output import output_file
from motiondiff.skeleton.motion import Motion, headings
from motiondiff.skeleton.skeleton import Skeleton

VIEWS = ("overlay", "side")
_SIDES = {TORSO: 0, LEFT: 1, RIGHT: 2}
_MAX_PAGE_BYTES = 64_000_000  # bytes: larger pages are slow in browsers
_MAX_STEP = 2e-4  # metres: the error is half of it at most


def write_html(
    motions: Sequence[Motion],
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    compare: bool = False,
    view: str = "side",
) -> Path:
    """Write a viewer page with one or more motions, of any skeletons and frame rates.

    Positions are kept as whole steps of a 32767th of the body's reach from its root, which for a person is
    below 0.1 mm.

    Args:
        motions: the clips, metres, y-up, floor at y = 0; at least one.
        path: the file to write, and the result; replaced where it exists.
        names: one for each motion, for the list; by default the action or a number.
        title: heading of the page; by default the first name.
        compare: show the second motion beside the first initially.
        view: initial view of two motions: ``"side"`` by side, or ``"overlay"``.

    Raises:
        InputError: no motions, another number of names, an unknown view, nothing to compare with, a page that is too
            large, a skeleton more than 6.5 m from its root, or a file that cannot be written.
    """
    if not motions:
        raise InputError(f"{path}: no motions to show")
    if names is None:
        names = [motion.action or f"motion {number}" for number, motion in enumerate(motions)]
    if len(names) != len(motions):
        raise InputError(f"{path}: {len(names)} names for {len(motions)} motions")
    size = sum(8 * motion.root.shape[0] * len(motion.skeleton) for motion in motions)
    if size > _MAX_PAGE_BYTES:
        raise InputError(
            f"{path}: {len(motions)} motions make a page of {size / 1e6:.0f} MB, at most "
            f"{_MAX_PAGE_BYTES / 1e6:.0f} are written: give fewer motions (of a store, one split)"
        )
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    if compare and len(motions) < 2:
        raise InputError(f"{path}: one motion only, nothing to compare it with")
    skeletons: list[dict[str, Any]] = []
    clips = [_clip(motion, name, skeletons) for motion, name in zip(motions, names, strict=True)]
    data = {"motions": clips, "skeletons": skeletons, "compare": 1 if compare else -1, "view": view}
    page = _page(title or names[0], data)
    with output_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _clip(motion: Motion, name: str, skeletons: list[dict[str, Any]]) -> dict[str, Any]:
    """Data of a motion for the script; its skeleton is added to ``skeletons`` unless it is there.

    ``data`` is base64 of the root's positions (T, 3) float32, then all joints (T, J, 3) int16, little-endian: metres
    from the root in units of ``step``.
    """
    positions = motion.positions.astype(np.float64)
    root = positions[:, 0].astype("<f4")
    relative = positions - root[:, None]
    step = max(float(np.abs(relative).max()), 1e-3) / 32767
    if step > _MAX_STEP:
        raise InputError(
            f"{motion.source or name}: joints are {step * 32767:.1f} m from the root, the viewer keeps up to "
            f"{_MAX_STEP * 32767:.1f} m: is it in metres?"
        )
    described = _describe(motion.skeleton)
    if described not in skeletons:
        skeletons.append(described)
    return {
        "name": name,
        "action": motion.action,
        "style": motion.style,
        "fps": motion.fps,
        "frames": len(motion),
        "skeleton": skeletons.index(described),
        "body": round(body_height(motion.skeleton), 4),
        "yaw": round(float(headings(motion)[0]), 4),
        "step": step,
        "data": base64.b64encode(root.tobytes() + np.round(relative / step).astype("<i2").tobytes()).decode("ascii"),
    }


def _describe(skeleton: Skeleton) -> dict[str, Any]:
    head = head_joint(skeleton)
    return {
        "names": list(skeleton.names),
        "parents": list(skeleton.parents),
        "sides": [_SIDES[side_colour(name)] for name in skeleton.names],
        "head": -1 if head is None else head,
    }


def _page(title: str, data: dict[str, Any]) -> str:
    """The filled template; its policy allows only this style sheet and this script, by their hashes."""
    folder = resources.files("motiondiff.export.html")
    names = ("viewer.html", "viewer.css", "stage.js", "controls.js")
    template, style, stage, controls = ((folder / name).read_text(encoding="utf-8") for name in names)
    script = f'"use strict";\n(() => {{\n{stage}{controls}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    # inside <script> only "<" could end the element; JSON may say it otherwise
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {"title": html.escape(title), "policy": policy, "style": style, "script": script, "data": content}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
