"""Build a .blend of a motion in Blender's own Python: ``python scene.py motion.npz motion.blend``.

This file runs alone, in whichever interpreter has ``bpy``, which need not be the one with motiondiff in it. It lies in
a folder of its own because Python puts a script's folder first on its path. `motiondiff.export.meshes.blend` writes the
.npz and documents its arrays. Blender's axes are ``(x, -z, y)`` of the motion's.
"""

from __future__ import annotations

import sys
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y-up to z-up


def make_armature(clip: dict[str, Any]) -> Any:
    """The armature object with a bone for every joint; the order of ``clip["bones"]`` is the order of the joints."""
    armature = bpy.data.objects.new("motion", bpy.data.armatures.new("motion"))
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    heads, tails = clip["heads"] @ UP.T, clip["tails"] @ UP.T
    bones: list[Any] = []
    for joint, name in enumerate(clip["joint_names"]):
        bone = armature.data.edit_bones.new(str(name))
        bone.head, bone.tail = Vector(heads[joint]), Vector(tails[joint])
        bone.align_roll(Vector((0, -1, 0)))
        if joint:
            bone.parent = bones[clip["parents"][joint]]
        bones.append(bone)
    clip["bones"] = [bone.name for bone in bones]  # Blender shortens long names and numbers repeated ones
    bpy.ops.object.mode_set(mode="OBJECT")
    for name, joint in zip(clip["bones"], clip["joint_names"], strict=True):
        armature.data.bones[name]["joint"] = str(joint)
    armature.data.display_type = "STICK"
    armature.show_in_front = True
    return armature


def make_action(armature: Any, clip: dict[str, Any]) -> None:
    """Keys on every frame, the first motion frame on frame 1: rotations of all bones, the place of the root.

    A pose bone's own rotation is seen from its rest orientation ``B``: ``B^-1 R B``, of whose quaternion ``B`` turns
    the vector part only.
    """
    action = bpy.data.actions.new(str(clip["action"]) or "motion")
    slot = action.slots.new(id_type="OBJECT", name=armature.name)
    curves = action.layers.new("motion").strips.new(type="KEYFRAME").channelbag(slot, ensure=True)
    frames = 1.0 + np.arange(len(clip["root"]))

    def keys(path: str, index: int, group: Any, values: Any) -> None:
        curve = curves.fcurves.new(path, index=index)
        curve.group = group
        curve.keyframe_points.add(len(frames))
        curve.keyframe_points.foreach_set("co", np.stack((frames, values), axis=-1).astype(np.float32).ravel())
        linear = bpy.types.Keyframe.bl_rna.properties["interpolation"].enum_items["LINEAR"].value
        curve.keyframe_points.foreach_set("interpolation", np.full(len(frames), linear, dtype=np.int32))
        curve.update()

    for joint, name in enumerate(clip["bones"]):
        bone = armature.pose.bones[name]
        bone.rotation_mode = "QUATERNION"
        rest = np.array(bone.bone.matrix_local.to_3x3())
        path = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        group = curves.groups.new(name)
        if joint == 0:
            way = (clip["root"] - clip["heads"][0]) @ UP.T @ rest
            for index in range(3):
                keys(f"{path}.location", index, group, way[:, index])
        xyzw = clip["quaternions"][:, joint]
        turned = np.concatenate((xyzw[:, 3:], xyzw[:, :3] @ UP.T @ rest), axis=-1)
        for index in range(4):
            keys(f"{path}.rotation_quaternion", index, group, turned[:, index])
    armature.animation_data_create()
    armature.animation_data.action = action
    armature.animation_data.action_slot = slot
    action.use_frame_range = True
    action.frame_start, action.frame_end = 1, len(frames)


def make_body(armature: Any, clip: dict[str, Any]) -> None:
    """The mesh, each vertex in the vertex group of its joint's bone."""
    mesh = bpy.data.meshes.new("body")
    mesh.from_pydata((clip["vertices"] @ UP.T).tolist(), [], clip["triangles"].tolist())
    for colour in clip["colours"]:
        material = bpy.data.materials.new("body")
        material.diffuse_color = (*colour, 1.0)
        material.use_nodes = True
        shader = material.node_tree.nodes["Principled BSDF"]
        shader.inputs["Base Color"].default_value = (*colour, 1.0)
        shader.inputs["Roughness"].default_value = 0.7
        mesh.materials.append(material)
    mesh.polygons.foreach_set("material_index", clip["materials"].astype(np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(clip["triangles"]), dtype=bool))
    mesh.update()
    body = bpy.data.objects.new("body", mesh)
    bpy.context.scene.collection.objects.link(body)
    for joint, name in enumerate(clip["bones"]):
        carried = np.flatnonzero(clip["carriers"] == joint)
        if len(carried):
            body.vertex_groups.new(name=name).add(carried.tolist(), 1.0, "REPLACE")
    body.parent = armature
    body.modifiers.new("motion", "ARMATURE").object = armature


def make_scene(clip: dict[str, Any]) -> None:
    """Frame range and rate, a camera that frames the whole trajectory, and a sun."""
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, len(clip["root"])
    fps = float(clip["fps"])
    scene.render.fps = max(1, round(fps))
    scene.render.fps_base = scene.render.fps / fps
    scene.unit_settings.system = "METRIC"
    way = clip["root"] @ UP.T
    middle = (way.min(0) + way.max(0)) / 2
    distance = 1.2 * float(np.linalg.norm(np.ptp(way, axis=0))) + 2.2 * float(clip["size"])
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = Vector(middle + distance * np.array([-0.55, -0.8, 0.22]))
    camera.rotation_euler = (Vector(middle) - camera.location).to_track_quat("-Z", "Y").to_euler()
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", type="SUN"))
    sun.data.energy = 3.0
    sun.rotation_euler = (0.6, 0.2, -0.5)
    for thing in (camera, sun):
        scene.collection.objects.link(thing)
    scene.camera = camera
    world = bpy.data.worlds.new("world")
    world.color = (0.4, 0.4, 0.4)
    scene.world = world
    scene.frame_set(1)


def main(source: str, target: str) -> None:
    """Read the arrays, build everything in an empty file, save it."""
    with np.load(source, allow_pickle=False) as archive:
        clip: dict[str, Any] = {name: archive[name] for name in archive.files}
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.filepaths.save_version = 0  # no .blend1 beside the file
    armature = make_armature(clip)
    make_action(armature, clip)
    make_body(armature, clip)
    make_scene(clip)
    bpy.context.view_layer.objects.active = armature
    armature.select_set(True)
    bpy.ops.wm.save_as_mainfile(filepath=target, compress=True, check_existing=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
