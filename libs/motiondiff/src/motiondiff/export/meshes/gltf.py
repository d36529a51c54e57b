"""glTF 2.0 export: a skeleton of nodes with one animation, and a skinned body of round limbs.

glTF is metres, y-up and right-handed like motions, so numbers are unchanged. ``.glb`` is one binary file, ``.gltf``
a JSON file with embedded numbers; browsers, Blender, Unity, Godot and three.js open both.
Specification: Khronos Group, "glTF 2.0" (ISO/IEC 12113:2022).
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import unknown
from motiondiff.export.meshes.mesh import MeshPart, build_mesh, linear_colour
from motiondiff.export.output import check_rotations, continuous_quaternions, output_file
from motiondiff.skeleton.motion import Motion

_VERTICES, _INDICES = 34962, 34963  # ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER
_COMPONENTS = {np.dtype("<f4"): 5126, np.dtype("<u4"): 5125, np.dtype("<u2"): 5123, np.dtype("u1"): 5121}
_SHAPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


def write_gltf(motion: Motion, path: str | Path, *, container: str = "glb") -> Path:
    """Write a motion as glTF: node *i* is joint *i* of the skeleton, under the joint's name.

    Each joint's rotation and the root's translation have a key for every frame at ``frame / fps`` seconds, to be
    interpolated linearly (rotations spherically). The rest state is the first frame. The animation's ``extras``
    have fps, action, style and subject.

    Args:
        motion: the clip, metres, y-up.
        path: the file to write, and the result; replaced where it exists.
        container: ``"glb"``, or ``"gltf"`` for JSON with embedded base64.

    Raises:
        InputError: unknown container, matrices that are not rotations, or a file that cannot be written.
    """
    if container not in ("glb", "gltf"):
        raise unknown("glTF container", container, ("glb", "gltf"))
    check_rotations(motion, "glTF")
    document, binary = _document(motion)
    with output_file(path) as temporary:
        if container == "glb":
            temporary.write_bytes(_glb(document, binary))
        else:
            content = base64.b64encode(binary).decode("ascii")
            document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{content}"
            temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


class _Buffer:
    """Arrays one after the other in one buffer, each with a view and an accessor of its own."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: npt.NDArray[Any], *, target: int | None = None, bounds: bool = False, **more: Any) -> int:
        """Append an array of N elements; returns the accessor's index. Everything starts at a multiple of 4 bytes."""
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes}
        if target is not None:
            view["target"] = target
        self.data += values.tobytes() + bytes(-values.nbytes % 4)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views),
            "componentType": _COMPONENTS[values.dtype],
            "count": len(values),
            "type": _SHAPES[values.shape[1:]],
        }
        if bounds:
            accessor["min"], accessor["max"] = (
                np.atleast_1d(edge).astype(float).tolist() for edge in (values.min(0), values.max(0))
            )
        self.views.append(view)
        self.accessors.append(accessor | more)
        return len(self.accessors) - 1


def _document(motion: Motion) -> tuple[dict[str, Any], bytes]:
    """JSON document and its binary buffer."""
    skeleton, buffer = motion.skeleton, _Buffer()
    joints = len(skeleton)
    quaternions = continuous_quaternions(motion.rotations).astype("<f4")
    nodes: list[dict[str, Any]] = []
    for joint, name in enumerate(skeleton.names):
        translation = skeleton.offsets[joint] if joint else motion.root[0]
        node = {"name": name, "translation": translation.tolist(), "rotation": quaternions[0, joint].tolist()}
        children = skeleton.children[joint]
        nodes.append(node | ({"children": children} if children else {}))
    nodes.append({"name": "body", "mesh": 0, "skin": 0})
    parts = build_mesh(skeleton)
    rest = skeleton.rest_positions
    inverse = np.tile(np.eye(4, dtype="<f4"), (joints, 1, 1))
    inverse[:, 3, :3] = -rest  # columns are stored one after the other: the translation is the last row here
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "motiondiff"},
        "scene": 0,
        "scenes": [{"nodes": [0, joints]}],
        "nodes": nodes,
        "meshes": [
            {
                "name": "body",
                "primitives": [_primitive(buffer, part, rest, material, joints) for material, part in enumerate(parts)],
            }
        ],
        "materials": [_material(part) for part in parts],
        "skins": [{"joints": list(range(joints)), "skeleton": 0, "inverseBindMatrices": buffer.add(inverse)}],
        "animations": [_animation(buffer, motion, quaternions)],
    }
    document |= {"accessors": buffer.accessors, "bufferViews": buffer.views}
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    return document, bytes(buffer.data)


def _primitive(
    buffer: _Buffer, part: MeshPart, rest: npt.NDArray[np.float64], material: int, joints: int
) -> dict[str, Any]:
    """One colour of the body, in the rest pose, each vertex bound to one joint."""
    carried = np.zeros((len(part.joints), 4), dtype="u1" if joints <= 256 else "<u2")
    carried[:, 0] = part.joints
    weights = np.zeros((len(part.joints), 4), dtype="u1")
    weights[:, 0] = 255
    small = len(part.vertices) < 65535
    return {
        "attributes": {
            "POSITION": buffer.add((part.vertices + rest[part.joints]).astype("<f4"), target=_VERTICES, bounds=True),
            "NORMAL": buffer.add(part.normals.astype("<f4"), target=_VERTICES),
            "JOINTS_0": buffer.add(carried, target=_VERTICES),
            "WEIGHTS_0": buffer.add(weights, target=_VERTICES, normalized=True),
        },
        "indices": buffer.add(part.triangles.reshape(-1).astype("<u2" if small else "<u4"), target=_INDICES),
        "material": material,
    }


def _material(part: MeshPart) -> dict[str, Any]:
    surface = {"baseColorFactor": [*linear_colour(part.colour), 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
    return {"name": part.name, "pbrMetallicRoughness": surface}


def _animation(buffer: _Buffer, motion: Motion, quaternions: npt.NDArray[Any]) -> dict[str, Any]:
    """One channel for the root translation and one for every joint's rotation, with common times."""
    times = buffer.add((np.arange(len(motion)) / motion.fps).astype("<f4"), bounds=True)
    tracks = [(0, "translation", buffer.add(motion.root.astype("<f4")))]
    for joint in range(len(motion.skeleton)):
        tracks.append((joint, "rotation", buffer.add(np.ascontiguousarray(quaternions[:, joint]))))
    description = {"fps": motion.fps, "action": motion.action, "style": motion.style, "subject": motion.subject}
    return {
        "name": motion.action or "motion",
        "channels": [
            {"sampler": sampler, "target": {"node": node, "path": path}}
            for sampler, (node, path, _) in enumerate(tracks)
        ],
        "samplers": [{"input": times, "output": output, "interpolation": "LINEAR"} for _, _, output in tracks],
        "extras": {name: value for name, value in description.items() if value is not None},
    }


def _glb(document: dict[str, Any], binary: bytes) -> bytes:
    """Header, JSON chunk padded with spaces, binary chunk padded with zeros."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
