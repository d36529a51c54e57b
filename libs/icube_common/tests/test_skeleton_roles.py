"""Joint roles of real rigs: hierarchies as their programs write them, each with the joint of every role."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from icube_common.data.skeleton_roles import ground_joints, joint_roles, mirror_order, read_joint_name

ARM = ("shoulder", "elbow", "wrist")
LEG = ("hip", "knee", "ankle", "foot")


class Rig(NamedTuple):
    """A hierarchy: chains from a joint that is there already; ``{}`` is the side's word.

    ``arm``: collar or "-", shoulder, elbow, wrist; ``leg``: hip, knee, ankle, foot or "-".
    """

    sides: tuple[str, str]
    trunk: tuple[str, ...]
    limbs: tuple[str, ...]
    arm: str
    leg: str
    pelvis: str
    neck: str
    head: str


def _bip(name: str) -> Rig:
    return Rig(
        ("L", "R"),
        (f"{name},{name} Pelvis,{name} Spine,{name} Spine1,{name} Neck,{name} Head,{name} HeadNub",),
        (
            f"{name} Pelvis,{name} {{}} Thigh,{name} {{}} Calf,{name} {{}} Foot,{name} {{}} Toe0,{name} {{}} Toe0Nub",
            f"{name} Neck,{name} {{}} Clavicle,{name} {{}} UpperArm,{name} {{}} Forearm,{name} {{}} Hand,"
            f"{name} {{}} Finger0,{name} {{}} Finger0Nub",
        ),
        f"{name} {{}} Clavicle,{name} {{}} UpperArm,{name} {{}} Forearm,{name} {{}} Hand",
        f"{name} {{}} Thigh,{name} {{}} Calf,{name} {{}} Foot,{name} {{}} Toe0",
        f"{name} Pelvis", f"{name} Neck", f"{name} Head",
    )  # fmt: skip


def _motionbuilder(prefix: str = "") -> Rig:
    p = prefix
    return Rig(
        ("Left", "Right"),
        (f"{p}Hips,{p}Spine,{p}Spine1,{p}Spine2,{p}Neck,{p}Head,{p}HeadTop_End",),
        (
            f"{p}Spine2,{p}{{}}Shoulder,{p}{{}}Arm,{p}{{}}ForeArm,{p}{{}}Hand,{p}{{}}HandThumb1,{p}{{}}HandThumb2",
            f"{p}{{}}Hand,{p}{{}}HandIndex1,{p}{{}}HandIndex2,{p}{{}}HandIndex3,{p}{{}}HandIndex4",
            f"{p}Hips,{p}{{}}UpLeg,{p}{{}}Leg,{p}{{}}Foot,{p}{{}}ToeBase,{p}{{}}Toe_End",
        ),
        f"{p}{{}}Shoulder,{p}{{}}Arm,{p}{{}}ForeArm,{p}{{}}Hand",
        f"{p}{{}}UpLeg,{p}{{}}Leg,{p}{{}}Foot,{p}{{}}ToeBase",
        f"{p}Hips", f"{p}Neck", f"{p}Head",
    )  # fmt: skip


RIGS = {
    "motionbuilder": _motionbuilder(),
    "mixamo": _motionbuilder("mixamorig:"),
    "mixamo, second character": _motionbuilder("mixamorig1:"),
    "humanik": _motionbuilder("Character1_"),
    "namespaces": _motionbuilder("scene:left_actor:"),
    "3ds max": _bip("Bip01"),
    "3ds max, later": _bip("Bip001"),
    "cmu as bvh": Rig(
        ("Left", "Right"),
        ("Hips,LowerBack,Spine,Spine1,Neck,Neck1,Head",),
        (
            "Spine1,{}Shoulder,{}Arm,{}ForeArm,{}Hand,{}FingerBase,{}HandIndex1",
            "Hips,{0}HipJoint,{}UpLeg,{}Leg,{}Foot,{}ToeBase",
        ),
        "{}Shoulder,{}Arm,{}ForeArm,{}Hand", "{}UpLeg,{}Leg,{}Foot,{}ToeBase", "Hips", "Neck", "Head",
    ),
    "cmu, daz friendly": Rig(
        ("Left", "Right"),
        ("Hips,lowerback,Chest,Chest2,lowerneck,Neck,Head",),
        (
            "Chest2,{}Collar,{}Shoulder,{}Elbow,{}Wrist,{0}hand,{0}Fingers",
            "{}Wrist,{0}Thumb",
            "Hips,{0}HipJoint,{}Hip,{}Knee,{}Ankle,{}Toe",
        ),
        "{}Collar,{}Shoulder,{}Elbow,{}Wrist", "{}Hip,{}Knee,{}Ankle,{}Toe", "Hips", "Neck", "Head",
    ),
    "acclaim": Rig(
        ("l", "r"),
        ("root,lowerback,upperback,thorax,lowerneck,upperneck,head",),
        (
            "thorax,{}clavicle,{}humerus,{}radius,{}wrist,{}hand,{}fingers",
            "{}wrist,{}thumb",
            "root,{}hipjoint,{}femur,{}tibia,{}foot,{}toes",
        ),
        "{}clavicle,{}humerus,{}radius,{}wrist", "{}femur,{}tibia,{}foot,{}toes", "root", "lowerneck", "head",
    ),
    "poser": Rig(
        ("l", "r"),
        ("hip,abdomen,chest,neck,head,leftEye",),
        ("chest,{}Collar,{}Shldr,{}ForeArm,{}Hand,{}Thumb1", "hip,{}Buttock,{}Thigh,{}Shin,{}Foot,{}Toe"),
        "{}Collar,{}Shldr,{}ForeArm,{}Hand", "{}Thigh,{}Shin,{}Foot,{}Toe", "hip", "neck", "head",
    ),
    "daz genesis 8": Rig(
        ("l", "r"),
        ("hip,pelvis", "hip,abdomenLower,abdomenUpper,chestLower,chestUpper,neckLower,neckUpper,head,upperJaw"),
        (
            "chestUpper,{}Collar,{}ShldrBend,{}ShldrTwist,{}ForearmBend,{}ForearmTwist,{}Hand,{}Thumb1",
            "pelvis,{}ThighBend,{}ThighTwist,{}Shin,{}Foot,{}Metatarsals,{}Toe,{}BigToe",
        ),
        "{}Collar,{}ShldrBend,{}ForearmBend,{}Hand", "{}ThighBend,{}Shin,{}Foot,{}Metatarsals",
        "hip", "neckLower", "head",
    ),
    "optitrack": Rig(
        ("L", "R"),
        ("Bob_Hip,Bob_Ab,Bob_Chest,Bob_Neck,Bob_Head",),
        (
            "Bob_Chest,Bob_{}Shoulder,Bob_{}UArm,Bob_{}FArm,Bob_{}Hand",
            "Bob_Hip,Bob_{}Thigh,Bob_{}Shin,Bob_{}Foot,Bob_{}Toe",
        ),
        "Bob_{}Shoulder,Bob_{}UArm,Bob_{}FArm,Bob_{}Hand", "Bob_{}Thigh,Bob_{}Shin,Bob_{}Foot,Bob_{}Toe",
        "Bob_Hip", "Bob_Neck", "Bob_Head",
    ),
    "bvh of lower and upper arms": Rig(
        ("Left", "Right"),
        ("Hips,Chest,Neck,Head",),
        ("Chest,{}Collar,{}UpArm,{}LowArm,{}Hand", "Hips,{}UpLeg,{}LowLeg,{}Foot"),
        "{}Collar,{}UpArm,{}LowArm,{}Hand", "{}UpLeg,{}LowLeg,{}Foot,-", "Hips", "Neck", "Head",
    ),
    "rigify": Rig(
        ("L", "R"),
        ("spine,spine.001,spine.002,spine.003,spine.004,spine.005,spine.006,face,nose",),
        (
            "spine.003,shoulder.{},upper_arm.{},forearm.{},hand.{},palm.01.{},f_index.01.{}",
            "spine,pelvis.{}",
            "spine,thigh.{},shin.{},foot.{},toe.{}",
            "foot.{},heel.02.{}",
            "spine.003,breast.{}",
        ),
        "shoulder.{},upper_arm.{},forearm.{},hand.{}", "thigh.{},shin.{},foot.{},toe.{}",
        "spine", "spine.004", "spine.006",
    ),
    "rigify's deform bones": Rig(
        ("L", "R"),
        ("DEF-spine,DEF-spine.001,DEF-spine.002,DEF-spine.003,DEF-spine.004,DEF-spine.005,DEF-spine.006",),
        (
            "DEF-spine.003,DEF-shoulder.{},DEF-upper_arm.{},DEF-upper_arm.{}.001,DEF-forearm.{},DEF-forearm.{}.001,"
            "DEF-hand.{}",
            "DEF-spine,DEF-thigh.{},DEF-thigh.{}.001,DEF-shin.{},DEF-shin.{}.001,DEF-foot.{},DEF-toe.{}",
        ),
        "DEF-shoulder.{},DEF-upper_arm.{},DEF-forearm.{},DEF-hand.{}",
        "DEF-thigh.{},DEF-shin.{},DEF-foot.{},DEF-toe.{}",
        "DEF-spine", "DEF-spine.004", "DEF-spine.006",
    ),
    "unreal": Rig(
        ("l", "r"),
        (
            "root,pelvis,spine_01,spine_02,spine_03,neck_01,head",
            "root,ik_foot_root", "root,ik_hand_root,ik_hand_gun",
        ),
        (
            "ik_foot_root,ik_foot_{}", "ik_hand_gun,ik_hand_{}",
            "spine_03,clavicle_{},upperarm_{},lowerarm_{},hand_{},index_01_{},index_02_{}",
            "lowerarm_{},lowerarm_twist_01_{}", "upperarm_{},upperarm_twist_01_{}",
            "pelvis,thigh_{},calf_{},foot_{},ball_{}", "calf_{},calf_twist_01_{}", "thigh_{},thigh_twist_01_{}",
        ),
        "clavicle_{},upperarm_{},lowerarm_{},hand_{}", "thigh_{},calf_{},foot_{},ball_{}", "pelvis", "neck_01", "head",
    ),
    "vrm": Rig(
        ("L", "R"),
        ("Root,J_Bip_C_Hips,J_Bip_C_Spine,J_Bip_C_Chest,J_Bip_C_UpperChest,J_Bip_C_Neck,J_Bip_C_Head",),
        (
            "J_Bip_C_UpperChest,J_Bip_{}_Shoulder,J_Bip_{}_UpperArm,J_Bip_{}_LowerArm,J_Bip_{}_Hand,J_Bip_{}_Index1",
            "J_Bip_C_UpperChest,J_Sec_{}_Bust1",
            "J_Bip_C_Hips,J_Bip_{}_UpperLeg,J_Bip_{}_LowerLeg,J_Bip_{}_Foot,J_Bip_{}_ToeBase",
        ),
        "J_Bip_{}_Shoulder,J_Bip_{}_UpperArm,J_Bip_{}_LowerArm,J_Bip_{}_Hand",
        "J_Bip_{}_UpperLeg,J_Bip_{}_LowerLeg,J_Bip_{}_Foot,J_Bip_{}_ToeBase",
        "J_Bip_C_Hips", "J_Bip_C_Neck", "J_Bip_C_Head",
    ),
    "arkit": Rig(
        ("left", "right"),
        ("root,hips_joint,spine_1_joint,spine_2_joint,neck_1_joint,neck_2_joint,head_joint,jaw_joint",),
        (
            "spine_2_joint,{}_shoulder_1_joint,{}_arm_joint,{}_forearm_joint,{}_hand_joint,{}_handThumbStart_joint",
            "hips_joint,{}_upLeg_joint,{}_leg_joint,{}_foot_joint,{}_toes_joint,{}_toesEnd_joint",
            "head_joint,{}_eye_joint,{}_eyeball_joint",
        ),
        "{}_shoulder_1_joint,{}_arm_joint,{}_forearm_joint,{}_hand_joint",
        "{}_upLeg_joint,{}_leg_joint,{}_foot_joint,{}_toes_joint", "hips_joint", "neck_1_joint", "head_joint",
    ),
    "snake": Rig(
        ("l", "r"),
        ("root,spine,chest,neck,head",),
        ("chest,{}_shoulder,{}_arm,{}_hand", "root,{}_up_leg,{}_low_leg,{}_foot,{}_toe"),
        "-,{}_shoulder,{}_arm,{}_hand", "{}_up_leg,{}_low_leg,{}_foot,{}_toe", "root", "neck", "head",
    ),
    "mass": Rig(
        ("L", "R"),
        ("Pelvis,Spine,Torso,Neck,Head",),
        ("Torso,Shoulder{},Arm{},ForeArm{},Hand{}", "Pelvis,Femur{},Tibia{},Talus{},FootThumb{}",
         "Talus{},FootPinky{}"),
        "Shoulder{},Arm{},ForeArm{},Hand{}", "Femur{},Tibia{},Talus{},FootThumb{}", "Pelvis", "Neck", "Head",
    ),
    "smpl": Rig(
        ("L", "R"),
        ("Pelvis,Spine1,Spine2,Spine3,Neck,Head",),
        (
            "Spine3,{}_Collar,{}_Shoulder,{}_Elbow,{}_Wrist,{}_Hand",
            "Pelvis,{}_Hip,{}_Knee,{}_Ankle,{}_Foot",
        ),
        "{}_Collar,{}_Shoulder,{}_Elbow,{}_Wrist", "{}_Hip,{}_Knee,{}_Ankle,{}_Foot", "Pelvis", "Neck", "Head",
    ),
    "kinect v1": Rig(
        ("Left", "Right"),
        ("HipCenter,Spine,ShoulderCenter,Head",),
        ("ShoulderCenter,Shoulder{},Elbow{},Wrist{},Hand{}", "HipCenter,Hip{},Knee{},Ankle{},Foot{}"),
        "-,Shoulder{},Elbow{},Wrist{}", "Hip{},Knee{},Ankle{},Foot{}", "HipCenter", "ShoulderCenter", "Head",
    ),
    "azure kinect": Rig(
        ("LEFT", "RIGHT"),
        ("PELVIS,SPINE_NAVEL,SPINE_CHEST,NECK,HEAD,NOSE",),
        (
            "SPINE_CHEST,CLAVICLE_{},SHOULDER_{},ELBOW_{},WRIST_{},HAND_{},HANDTIP_{}", "WRIST_{},THUMB_{}",
            "PELVIS,HIP_{},KNEE_{},ANKLE_{},FOOT_{}",
        ),
        "CLAVICLE_{},SHOULDER_{},ELBOW_{},WRIST_{}", "HIP_{},KNEE_{},ANKLE_{},FOOT_{}", "PELVIS", "NECK", "HEAD",
    ),
    "bandai-namco": Rig(
        ("L", "R"),
        ("joint_Root,Hips,Spine,Chest,Neck,Head",),
        ("Chest,Shoulder_{},UpperArm_{},LowerArm_{},Hand_{}", "Hips,UpperLeg_{},LowerLeg_{},Foot_{},Toes_{}"),
        "Shoulder_{},UpperArm_{},LowerArm_{},Hand_{}", "UpperLeg_{},LowerLeg_{},Foot_{},Toes_{}",
        "Hips", "Neck", "Head",
    ),
    "xsens": Rig(
        ("Left", "Right"),
        ("Pelvis,L5,L3,T12,T8,Neck,Head",),
        ("T8,{}Shoulder,{}UpperArm,{}ForeArm,{}Hand", "Pelvis,{}UpperLeg,{}LowerLeg,{}Foot,{}Toe"),
        "{}Shoulder,{}UpperArm,{}ForeArm,{}Hand", "{}UpperLeg,{}LowerLeg,{}Foot,{}Toe", "Pelvis", "Neck", "Head",
    ),
    "xsens as bvh": Rig(
        ("Left", "Right"),
        ("Hips,Chest,Chest2,Chest3,Chest4,Neck,Head",),
        ("Chest4,{}Collar,{}Shoulder,{}Elbow,{}Wrist", "Hips,{}Hip,{}Knee,{}Ankle,{}Toe"),
        "{}Collar,{}Shoulder,{}Elbow,{}Wrist", "{}Hip,{}Knee,{}Ankle,{}Toe", "Hips", "Neck", "Head",
    ),
    "plug-in gait": Rig(
        ("L", "R"),
        ("PEL,THX,Neck,HED",),
        ("THX,{}CL,{}HU,{}RA,{}HN", "PEL,{}FE,{}TI,{}FO,{}TO"),
        "{}CL,{}HU,{}RA,{}HN", "{}FE,{}TI,{}FO,{}TO", "PEL", "Neck", "-",
    ),
    "character creator": Rig(
        ("L", "R"),
        (
            "RL_BoneRoot,CC_Base_Hip,CC_Base_Pelvis",
            "CC_Base_Hip,CC_Base_Waist,CC_Base_Spine01,CC_Base_Spine02,CC_Base_NeckTwist01,CC_Base_NeckTwist02,CC_Base_Head",
        ),
        (
            "CC_Base_Spine02,CC_Base_{}_Clavicle,CC_Base_{}_Upperarm,CC_Base_{}_Forearm,CC_Base_{}_Hand,CC_Base_{}_Mid1",
            "CC_Base_{}_Upperarm,CC_Base_{}_UpperarmTwist01", "CC_Base_{}_Forearm,CC_Base_{}_ForearmTwist01",
            "CC_Base_Pelvis,CC_Base_{}_Thigh,CC_Base_{}_Calf,CC_Base_{}_Foot,CC_Base_{}_ToeBase",
        ),
        "CC_Base_{}_Clavicle,CC_Base_{}_Upperarm,CC_Base_{}_Forearm,CC_Base_{}_Hand",
        "CC_Base_{}_Thigh,CC_Base_{}_Calf,CC_Base_{}_Foot,CC_Base_{}_ToeBase",
        "CC_Base_Hip", "CC_Base_NeckTwist01", "CC_Base_Head",
    ),
    "joints, upper case": Rig(
        ("L", "R"),
        ("HIPS,SPINE,CHEST,NECK,HEAD",),
        ("CHEST,{}SHOULDER,{}ELBOW,{}HAND", "HIPS,{}HIP,{}KNEE,{}FOOT"),
        "-,{}SHOULDER,{}ELBOW,{}HAND", "{}HIP,{}KNEE,{}FOOT,-", "HIPS", "NECK", "HEAD",
    ),
    "legs in two numbered bones": Rig(
        ("l", "r"),
        ("pelvis,spine,neck,head",),
        ("spine,shoulder_{},arm1_{},arm2_{},hand_{}", "pelvis,leg1_{},leg2_{},foot_{}"),
        "shoulder_{},arm1_{},arm2_{},hand_{}", "leg1_{},leg2_{},foot_{},-", "pelvis", "neck", "head",
    ),
}  # fmt: skip


def build(rig: Rig) -> tuple[list[str], list[int]]:
    """Names and parents, depth first as in a file is not needed: a parent comes before its children."""
    names, parents = [rig.trunk[0].split(",")[0]], [-1]
    chains = [(chain, "") for chain in rig.trunk]
    chains += [(chain, side) for side in rig.sides for chain in rig.limbs]
    for chain, side in chains:
        joints = [_named(name, side) for name in chain.split(",")]
        for above, joint in pairwise(joints):
            if joint not in names:
                parents.append(names.index(above))
                names.append(joint)
    return names, parents


def _named(name: str, side: str) -> str:
    return name.replace("{0}", side[:1]).replace("{}", side)


def expected_roles(rig: Rig) -> dict[str, str]:
    roles = {"pelvis": rig.pelvis, "neck": rig.neck, "head": rig.head}
    for word, side in zip(("left", "right"), rig.sides, strict=True):
        parts = zip(("collar", *ARM, *LEG), [*rig.arm.split(","), *rig.leg.split(",")], strict=True)
        roles |= {f"{word} {part}": _named(name, side) for part, name in parts}
    return {role: name for role, name in roles.items() if name != "-"}


@pytest.mark.parametrize("rig", RIGS)
def test_roles_of_rigs(rig: str) -> None:
    names, parents = build(RIGS[rig])
    found = {role: names[joint] for role, joint in joint_roles(names, parents).items()}
    for word in ("left", "right"):
        for extra in ("hand", "thumb", "tip"):
            found.pop(f"{word} {extra}", None)
    assert found == expected_roles(RIGS[rig])


@pytest.mark.parametrize("rig", RIGS)
def test_mirror_order_of_rigs(rig: str) -> None:
    names, parents = build(RIGS[rig])
    order = mirror_order(names)
    assert order is not None and [order[other] for other in order] == list(range(len(names)))
    roles = joint_roles(names, parents)
    for role, joint in roles.items():
        side, _, part = role.partition(" ")
        other = {"left": "right", "right": "left"}.get(side)
        assert order[joint] == (roles[f"{other} {part}"] if other else joint), role
    # the tree is the same in the mirror
    assert all(order[parent] == parents[order[joint]] for joint, parent in enumerate(parents) if parent >= 0)


@pytest.mark.parametrize("rig", RIGS)
def test_ground_joints_of_rigs(rig: str) -> None:
    """Feet and toes, and no target of inverse kinematics."""
    if rig == "plug-in gait":
        pytest.skip("its feet have no word in them")
    names, parents = build(RIGS[rig])
    roles, ground = joint_roles(names, parents), ground_joints(names, parents)
    for side in ("left", "right"):
        assert {roles[f"{side} foot"] if f"{side} foot" in roles else roles[f"{side} ankle"]} <= set(ground)
    assert not [names[joint] for joint in ground if "ik" in names[joint].split("_")]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("HipLeft", "left"), ("left_hip", "left"), ("UpperLeg_L", "left"), ("LHip", "left"), ("lThigh", "left"),
        ("rShin", "right"), ("LFArm", "left"), ("RUArm", "right"), ("FemurL", "left"), ("upperarm_r", "right"),
        ("Bip01 R Thigh", "right"), ("thigh.R.001", "right"), ("mixamorig:RightUpLeg", "right"), ("rhand", "right"),
        ("R-Hand", "right"), ("LEFT_ELBOW", "left"), ("handRight", "right"), ("leftupleg", "left"),
        ("RWrist", "right"), ("Spine", None), ("Larynx", None), ("L5", None), ("collar", None), ("Head", None),
        ("Reference", None), ("lowerback", None), ("root", None), ("upright", None), ("right:Head", None),
    ],
)  # fmt: skip
def test_side_of_a_name(name: str, side: str | None) -> None:
    assert read_joint_name(name).side == side


def test_names_alone_where_there_is_no_tree() -> None:
    names = ["Hips", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftUpLeg", "LeftLeg", "RightHip", "RightKnee"]
    roles = joint_roles(names, [-1] + [0] * 7)
    assert {role: names[joint] for role, joint in roles.items()} == {
        "pelvis": "Hips",
        "left collar": "LeftShoulder",
        "left shoulder": "LeftArm",
        "left elbow": "LeftForeArm",
        "left hip": "LeftUpLeg",
        "left knee": "LeftLeg",
        "right hip": "RightHip",
        "right knee": "RightKnee",
    }


@pytest.mark.parametrize("front", [1, -1])
def test_sides_by_the_rest_pose_without_names(front: int) -> None:
    """Toes show the front, and left follows from front and up."""
    names = ["Hips", "UpLeg", "Leg", "Foot", "Toe", "UpLeg2", "Leg2", "Foot2", "Toe2"]
    parents = [-1, 0, 1, 2, 3, 0, 5, 6, 7]
    offsets = np.array([[0, -0.4, 0]] * 9)
    offsets[[1, 5]] = [[0.1 * front, 0, 0], [-0.1 * front, 0, 0]]
    offsets[[4, 8]] = [0, 0, 0.1 * front]
    roles = joint_roles(names, parents, offsets)
    assert (roles["left hip"], roles["left knee"], roles["right ankle"], roles["right foot"]) == (1, 2, 7, 8)
    assert set(joint_roles(names, parents)) == {"pelvis"}


def test_no_body_has_no_sides() -> None:
    assert joint_roles(["base", "arm", "bulb"], [-1, 0, 1], np.eye(3)) == {"pelvis": 0}
    assert mirror_order(["base", "arm", "bulb"]) is None
