"""glTF files, read by a strict reader of their own (every rule that it uses is the specification's) and by Blender."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from icube_common.errors import InputError
from motiondiff.export import export
from motiondiff.export.body import body_height
from motiondiff.export.meshes.gltf import write_gltf
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

SIZES = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
TYPES = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}


def load(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON and the bytes of a .glb or a .gltf; the container is checked to the letter."""
    content = path.read_bytes()
    if content[:4] != b"glTF":
        document = json.loads(content)
        head, _, tail = document["buffers"][0]["uri"].partition(",")
        assert head == "data:application/octet-stream;base64"
        binary = base64.b64decode(tail, validate=True)
        assert len(binary) == document["buffers"][0]["byteLength"]
        return document, binary
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    chunks, at = [], 12
    while at < length:
        size, kind = struct.unpack_from("<I4s", content, at)
        assert size % 4 == 0
        chunks.append((kind, content[at + 8 : at + 8 + size]))
        at += 8 + size
    assert at == length and [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"]
    document = json.loads(chunks[0][1])
    assert "uri" not in document["buffers"][0]
    assert 0 <= len(chunks[1][1]) - document["buffers"][0]["byteLength"] <= 3
    return document, chunks[1][1]


@dataclass
class Gltf:
    """A file whose every accessor has been read and checked."""

    document: dict[str, Any]
    arrays: list[np.ndarray]

    @classmethod
    def read(cls, path: Path) -> Gltf:
        document, binary = load(path)
        assert document["asset"]["version"] == "2.0"
        arrays = []
        for accessor in document["accessors"]:
            view = document["bufferViews"][accessor["bufferView"]]
            kind, width = np.dtype(TYPES[accessor["componentType"]]), SIZES[accessor["type"]]
            assert view["byteOffset"] % kind.itemsize == 0
            assert view["byteOffset"] + view["byteLength"] <= document["buffers"][0]["byteLength"]
            assert view["byteLength"] == accessor["count"] * width * kind.itemsize
            values = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
            for key, found in (("min", values.min(0)), ("max", values.max(0))):
                np.testing.assert_allclose(accessor.get(key, found), found, rtol=1e-6)
            scale = 1 / np.iinfo(kind).max if accessor.get("normalized") else 1
            arrays.append(values * scale)
        return cls(document, arrays)

    @property
    def parents(self) -> dict[int, int]:
        pairs = [
            (child, parent) for parent, node in enumerate(self.document["nodes"]) for child in node.get("children", ())
        ]
        assert len(dict(pairs)) == len(pairs), "a node with two parents"
        return dict(pairs)

    @property
    def times(self) -> np.ndarray:
        (animation,) = self.document["animations"]
        (index,) = {sampler["input"] for sampler in animation["samplers"]}
        assert {"min", "max"} <= self.document["accessors"][index].keys()
        return self.arrays[index][:, 0]

    def matrices(self, seconds: float) -> np.ndarray:
        """(N, 4, 4) world matrix of every node: keys interpolated linearly, rotations spherically."""
        (animation,) = self.document["animations"]
        nodes = [dict(node) for node in self.document["nodes"]]
        times = self.times
        seconds = float(np.clip(seconds, times[0], times[-1]))
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "LINEAR"
            keys, path = self.arrays[sampler["output"]], channel["target"]["path"]
            if path == "rotation":
                np.testing.assert_allclose(np.linalg.norm(keys, axis=-1), 1, atol=1e-6)
                turn = (
                    Slerp(times, Rotation.from_quat(keys))(seconds) if len(times) > 1 else Rotation.from_quat(keys[0])
                )
                value = turn.as_quat()
            else:
                value = np.array([np.interp(seconds, times, column) for column in keys.T])
            nodes[channel["target"]["node"]][path] = value
        world = np.tile(np.eye(4), (len(nodes), 1, 1))
        for index, node in enumerate(nodes):
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix()
            local[:3, 3] = node.get("translation", (0, 0, 0))
            parent = self.parents.get(index)
            assert parent is None or parent < index
            world[index] = local if parent is None else world[parent] @ local
        return world

    def skinned(self, seconds: float) -> np.ndarray:
        """(V, 3) vertices of the body where the skin puts them."""
        (skin,), (mesh,) = self.document["skins"], self.document["meshes"]
        inverse = self.arrays[skin["inverseBindMatrices"]].reshape(-1, 4, 4).swapaxes(1, 2)
        bones = self.matrices(seconds)[skin["joints"]] @ inverse
        moved = []
        for primitive in mesh["primitives"]:
            attributes = {name: self.arrays[index] for name, index in primitive["attributes"].items()}
            points = np.pad(attributes["POSITION"], ((0, 0), (0, 1)), constant_values=1.0)
            joints, weights = attributes["JOINTS_0"].astype(int), attributes["WEIGHTS_0"]
            np.testing.assert_allclose(weights.sum(-1), 1)
            np.testing.assert_allclose(np.linalg.norm(attributes["NORMAL"], axis=-1), 1, atol=1e-6)
            assert self.arrays[primitive["indices"]].max() < len(points)
            moved.append(np.einsum("vk,vkij,vj->vi", weights, bones[joints], points)[:, :3])
        return np.concatenate(moved)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 12), st.sampled_from(("glb", "gltf")))
def test_a_strict_reader_finds_the_same_positions(tmp_path_factory, random_motion, seed, frames, joints, container):
    motion = random_motion(seed, frames, joints, fps=29.97)
    read = Gltf.read(export(motion, tmp_path_factory.mktemp("gltf") / f"m.{container}"))
    assert [node["name"] for node in read.document["nodes"][:joints]] == list(motion.skeleton.names)
    assert [read.parents.get(joint, -1) for joint in range(joints)] == list(motion.skeleton.parents)
    np.testing.assert_allclose(read.times, np.arange(frames) / 29.97, atol=1e-6)
    for frame in range(frames):
        np.testing.assert_allclose(read.matrices(read.times[frame])[:joints, :3, 3], motion.positions[frame], atol=1e-5)


def test_between_two_frames_the_short_way_is_taken(tmp_path):
    """A bone of 1 m turns by 40 degrees a frame; in the middle of two frames it stands at half of it."""
    degrees = np.arange(12) * 40.0
    turns = Rotation.from_euler("z", degrees[:, None], degrees=True).as_matrix()
    rotations = np.stack((turns, np.tile(np.eye(3), (12, 1, 1))), axis=1)
    motion = Motion(np.zeros((12, 3)), rotations, Skeleton(("a", "b"), (-1, 0), [(0, 0, 0), (1, 0, 0)]), fps=10)
    path = write_gltf(motion, tmp_path / "m.glb")
    read = Gltf.read(path)
    for frame in range(11):
        angle = np.radians(degrees[frame] + 20)
        seen = read.matrices((read.times[frame] + read.times[frame + 1]) / 2)[1, :3, 3]
        np.testing.assert_allclose(seen, (np.cos(angle), np.sin(angle), 0), atol=1e-5)
    # and readers that interpolate without looking at signs do the same
    keys = read.arrays[read.document["animations"][0]["samplers"][1]["output"]]
    assert ((keys[1:] * keys[:-1]).sum(-1) > 0).all()


def test_the_body_moves_with_its_bones(tmp_path, walker):
    """Every joint of a walker lies inside the body's limbs, and nothing of the body is far from its bones."""
    motion = walker(20)
    read = Gltf.read(write_gltf(motion, tmp_path / "m.glb"))
    rest = read.skinned(0)
    for frame in (0, 7, 19):
        vertices, joints = read.skinned(frame / 20), motion.positions[frame]
        distances = np.linalg.norm(vertices[:, None] - joints[None], axis=-1)
        assert distances.min(0).max() < 0.019 * body_height(motion.skeleton)
        flesh = 0.081 * body_height(motion.skeleton)  # the head is the largest
        low, high = joints.min(0) - flesh, joints.max(0) + flesh
        assert (vertices > low).all() and (vertices < high).all()
    assert np.abs(vertices - rest).max() > 0.9
    assert {material["name"] for material in read.document["materials"]} == {"left", "right", "middle"}


def test_triangles_face_outwards(tmp_path, walker):
    read = Gltf.read(write_gltf(walker(2), tmp_path / "m.glb"))
    for primitive in read.document["meshes"][0]["primitives"]:
        points, normals = (read.arrays[primitive["attributes"][name]] for name in ("POSITION", "NORMAL"))
        corners = read.arrays[primitive["indices"]].reshape(-1, 3)
        a, b, c = (points[corners[:, corner]] for corner in range(3))
        assert (np.einsum("fi,fi->f", np.cross(b - a, c - a), normals[corners].sum(1)) > 0).all()


def test_labels_are_kept(tmp_path, random_motion):
    (animation,) = Gltf.read(write_gltf(random_motion(2), tmp_path / "m.glb")).document["animations"]
    assert animation["name"] == "wave"
    assert animation["extras"] == {"fps": 30.0, "action": "wave", "style": "calm", "subject": "s01"}
    plain = replace(random_motion(2), action=None, style=None, subject=None)
    (animation,) = Gltf.read(write_gltf(plain, tmp_path / "m.glb")).document["animations"]
    assert animation["name"] == "motion" and animation["extras"] == {"fps": 30.0}


def test_bones_without_length_are_written(tmp_path):
    skeleton = Skeleton(("Hüfte", "b"), (-1, 0), np.zeros((2, 3)))
    motion = Motion(np.ones((1, 3)), np.tile(np.eye(3), (1, 2, 1, 1)), skeleton, fps=30)
    read = Gltf.read(write_gltf(motion, tmp_path / "m.glb"))
    assert read.document["nodes"][0]["name"] == "Hüfte"
    assert np.abs(read.skinned(0) - 1).max() < 0.01


def test_wrong_input_is_named(tmp_path, random_motion):
    motion = random_motion(1)
    mirrored = motion.rotations.copy()
    mirrored[2, 4, 0] *= -1
    with pytest.raises(InputError, match=r"joint 'joint4' in frame 2 is not a rotation .* as glTF requires"):
        write_gltf(replace(motion, rotations=mirrored), tmp_path / "m.glb")
    with pytest.raises(InputError, match="unknown glTF container 'fbx'"):
        write_gltf(motion, tmp_path / "m.fbx", container="fbx")
    assert list(tmp_path.iterdir()) == []


_LOOK = """
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.render.fps = 25
bpy.ops.import_scene.gltf(filepath=sys.argv[2])
answer(poses=shown(0, int(sys.argv[3])))
"""


def test_blender_shows_the_same_positions(tmp_path, random_motion, in_blender):
    motion = random_motion(5, frames=6, joints=15, fps=25)
    seen = in_blender(_LOOK, write_gltf(motion, tmp_path / "m.glb"), len(motion))
    for frame, pose in enumerate(seen["poses"]):
        for joint, name in enumerate(motion.skeleton.names):
            np.testing.assert_allclose(pose[name], motion.positions[frame, joint], atol=1e-4)
