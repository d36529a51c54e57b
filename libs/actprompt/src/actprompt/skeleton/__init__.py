"""Skeletons: files, joint angles, trajectories, named parameters and captions."""
