"""Motions on skeletons: forward and inverse kinematics, retargeting, mirroring."""
