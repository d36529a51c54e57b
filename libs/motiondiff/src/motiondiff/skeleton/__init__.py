"""Skeletons, rotations and forward kinematics: the ground everything else in motiondiff stands on."""
