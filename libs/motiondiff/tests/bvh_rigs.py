"""BVH texts of rigs of several programs: a walking body whose up axis, unit and names can be chosen."""

from __future__ import annotations

from collections.abc import Callable

# name, parent, offset in metres with y up, x left
BODY = (
    ("Hips", None, (0.0, 0.0, 0.0)),
    ("LeftUpLeg", "Hips", (0.1, -0.05, 0.0)),
    ("LeftLeg", "LeftUpLeg", (0.0, -0.42, 0.0)),
    ("LeftFoot", "LeftLeg", (0.0, -0.42, 0.0)),
    ("RightUpLeg", "Hips", (-0.1, -0.05, 0.0)),
    ("RightLeg", "RightUpLeg", (0.0, -0.42, 0.0)),
    ("RightFoot", "RightLeg", (0.0, -0.42, 0.0)),
    ("Spine", "Hips", (0.0, 0.2, 0.0)),
    ("Neck", "Spine", (0.0, 0.35, 0.0)),
    ("Head", "Neck", (0.0, 0.12, 0.02)),
    ("LeftArm", "Spine", (0.18, 0.28, 0.0)),
    ("LeftForeArm", "LeftArm", (0.28, 0.0, 0.0)),
    ("RightArm", "Spine", (-0.18, 0.28, 0.0)),
    ("RightForeArm", "RightArm", (-0.28, 0.0, 0.0)),
)
TO_AXIS: dict[str, Callable[[float, float, float], tuple[float, float, float]]] = {
    "y": lambda x, y, z: (x, y, z),
    "z": lambda x, y, z: (x, -z, y),
    "x": lambda x, y, z: (y, -x, z),
}


def body(
    *,
    up: str = "y",
    scale: float = 100.0,
    frames: int = 12,
    frame_time: str = "0.05",
    rename: Callable[[str], str] = lambda name: name,
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
    height: float = 0.94,
    above: str = "",
    beside: str = "",
    above_values: str = "",
    beside_values: str = "",
    extra: str = "",
) -> str:
    """A body that walks along its front and swings a leg.

    Args:
        up: axis of rest pose and world.
        scale: file units in a metre.
        turn: Euler angles of the hips (Z, X, Y), degrees.
        height: of the hips.
        above: opening lines of world frames above the hips, one brace each.
        beside: whole joints beside the hips, below what is above.
        above_values: the numbers of ``above`` in a row; ``beside_values`` those of ``beside``.
        extra: a second ROOT.
    """
    to_axis, lines = TO_AXIS[up], ["HIERARCHY"]

    def numbers(offset: tuple[float, float, float]) -> str:
        return " ".join(f"{value * scale:.6f}" for value in to_axis(*offset))

    def joint(name: str, offset: tuple[float, float, float], root: bool) -> None:
        lines.append(f"{'ROOT' if root and not above else 'JOINT'} {rename(name)}")
        lines.extend(["{", f"OFFSET {numbers(offset)}"])
        places = "Xposition Yposition Zposition " if root else ""
        turns = " ".join(f"{axis}rotation" for axis in "ZXY")
        lines.append(f"CHANNELS {6 if root else 3} {places}{turns}")
        children = [(below, at) for below, parent, at in BODY if parent == name]
        for below, at in children:
            joint(below, at, False)
        if not children:
            lines.extend(["End Site", "{", f"OFFSET {numbers((0.0, 0.05, 0.0))}", "}"])
        lines.append("}")

    if above:
        lines.append(above)
    joint("Hips", (0.0, 0.0, 0.0), True)
    if beside:
        lines.append(beside)
    lines.extend("}" * above.count("{"))
    if extra:
        lines.append(extra)
    lines += ["MOTION", f"Frames: {frames}", f"Frame Time: {frame_time}"]
    for frame in range(frames):
        values = [numbers((0.0, height, 0.1 * frame)), " ".join(map(str, turn))]
        for name, parent, _ in BODY:
            if parent:
                values.append(f"{frame} 0 0" if name == "LeftUpLeg" else "0 0 0")
        lines.append(" ".join([above_values, *values_in_file_order(values), beside_values]).strip())
    return "\n".join(lines) + "\n"


def values_in_file_order(values: list[str]) -> list[str]:
    """Depth first, as the hierarchy is written."""
    by_name = dict(zip([name for name, parent, _ in BODY if parent], values[2:], strict=True))
    order: list[str] = []

    def visit(name: str) -> None:
        if name != "Hips":
            order.append(by_name[name])
        for below, parent, _ in BODY:
            if parent == name:
                visit(below)

    visit("Hips")
    return [*values[:2], *order]
