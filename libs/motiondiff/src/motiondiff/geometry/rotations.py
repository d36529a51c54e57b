"""Rotation representations as differentiable torch functions; anything else about rotations is scipy's."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def rotation_6d_to_matrix(features: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """Gram-Schmidt on two 3-vectors: Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019, eq. 15.

    The six numbers are the first two *columns* of the matrix, one after the other. Any input that is not degenerate
    gives a proper rotation (orthonormal, determinant 1).
    """
    first, second = features[..., :3], features[..., 3:]
    x = torch.nn.functional.normalize(first, dim=-1, eps=1e-8)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1, eps=1e-8)
    return torch.stack((x, y, torch.linalg.cross(x, y)), dim=-1)


def matrix_to_rotation_6d(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 6"]:
    """The first two columns, one after the other; the inverse of `rotation_6d_to_matrix` on rotations."""
    return rearrange(matrix[..., :2], "... row column -> ... (column row)")
