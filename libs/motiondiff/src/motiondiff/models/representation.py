"""From motions to the numbers that are diffused, and back.

Shapes: B batch, T frames, J joints, D = 3 + 6 J features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from icube_common.data.skeleton_roles import ancestors
from motiondiff.skeleton.kinematics import matrix_to_rotation_6d, positions_from_6d, rotation_6d_to_matrix
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

# a feature that hardly moves is scaled as if it moved this much: its noise must not count as much as real motion
MIN_STD = 0.05
# the root is scaled by its deviation over this: it is three features of many, and its errors are those of all joints
ROOT_SCALE = 5.0
# bone lengths enter the shape condition in units of this many metres around the mean body
SHAPE_UNIT = 0.05

ANY_ACTION = ""


SMOOTHING = 0.15
"""Seconds: standard deviation of the window over which the legs' height is smoothed; at 1 Hz 0.64 of it is left."""


class MotionRepresentation(ModelMixin, ConfigMixin):
    """Normalised per-frame features: absolute root translation and 6D rotations.

    With ``height="feet"`` the vertical feature is the height of the lowest foot, and that of the root follows from it
    and the legs. With features for root and legs, the root of a body that crouches disagrees with its legs: it hangs in
    the air or sinks. The legs' height is smoothed over time (`SMOOTHING`), else their jitter is that of the whole body.

    The part of a pipeline that holds the body: topology, mean rest offsets, and mean and standard deviation of the
    features, all from training clips only.

    Args:
        joint_names: J names.
        parents: J parents.
        fps: frames per second of the training data.
        feet: joints that touch the ground.
        action_frames: action -> rising quantiles of its training clips' lengths in frames, to draw lengths from; under
            `ANY_ACTION` where the training clips name no action.
        simulated: whether the training data were simulated.
        guidance: action -> scale of classifier-free guidance (`motiondiff.augmentation.calibration`).
        height: the vertical feature: ``root``, or ``feet``, which is ``root`` where no joint is a foot by name.
        format_version: of the saved model.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        joint_names: Sequence[str],
        parents: Sequence[int],
        fps: float,
        feet: Sequence[int] = (),
        action_frames: dict[str, list[int]] | None = None,
        simulated: bool = False,
        format_version: int | None = None,
        height: str = "root",
        guidance: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        joints = len(joint_names)
        self.parents = tuple(parents)
        self.feet = tuple(feet)
        # joints from the root to the feet, by which the height of the feet above it is computed
        legs = sorted({0, *(joint for foot in self.feet for joint in (foot, *ancestors(parents, foot)))})
        self.leg_parents = tuple(legs.index(parents[joint]) if joint else -1 for joint in legs)
        self.register_buffer("legs", torch.tensor(legs, dtype=torch.long), persistent=False)
        ends = [legs.index(foot) for foot in self.feet]
        self.register_buffer("leg_ends", torch.tensor(ends, dtype=torch.long), persistent=False)
        self.register_buffer("feet_index", torch.tensor(self.feet, dtype=torch.long), persistent=False)
        self.register_buffer("mean", torch.zeros(3 + 6 * joints))
        self.register_buffer("std", torch.ones(3 + 6 * joints))
        self.register_buffer("offsets", torch.zeros(joints, 3))

    @property
    def skeleton(self) -> Skeleton:
        """The mean training body."""
        return Skeleton(tuple(self.config.joint_names), self.parents, self.offsets.cpu().numpy())

    @property
    def from_feet(self) -> bool:
        """True where the vertical feature is the height of the lowest foot."""
        return self.config.height == "feet" and bool(self.feet)

    @property
    def feature_size(self) -> int:
        """D."""
        return len(self.mean)

    def set_statistics(self, mean: Tensor, std: Tensor, offsets: Tensor | None = None) -> None:
        """Fix mean (D,), standard deviation (D,) and, where given, mean rest offsets (J, 3) of the training clips."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=MIN_STD))
        # turning a body to another heading must not change how its path is scaled
        self.std[[0, 2]] = self.std[[0, 2]].mean()
        self.std[:3] /= ROOT_SCALE
        if offsets is not None:
            self.offsets.copy_(offsets)

    def normalise(
        self,
        features: Float[Tensor, "*B T D"],
        offsets: Float[Tensor, "*B J 3"],
        mask: Bool[Tensor, "*B T"] | None = None,
        positions: Float[Tensor, "*B T J 3"] | None = None,
    ) -> Float[Tensor, "*B T D"]:
        """Metres and rotation columns to zero mean and unit standard deviation.

        Args:
            features: root translation and 6D rotations.
            offsets: rest offsets of each body, metres.
            mask: True on a motion's own frames; None: all are.
            positions: `positions` of the features, metres, where the caller has them.
        """
        return (self.with_height(features, offsets, mask, positions) - self.mean) / self.std

    def denormalise(
        self,
        normalised: Float[Tensor, "*B T D"],
        offsets: Float[Tensor, "*B J 3"],
        mask: Bool[Tensor, "*B T"] | None = None,
    ) -> Float[Tensor, "*B T D"]:
        """The inverse of `normalise`."""
        features = normalised * self.std + self.mean
        if not self.from_feet:
            return features
        return _replace_height(features, features[..., 1] - self._leg_height(features, offsets, mask))

    def with_height(
        self,
        features: Float[Tensor, "*B T D"],
        offsets: Float[Tensor, "*B J 3"],
        mask: Bool[Tensor, "*B T"] | None = None,
        positions: Float[Tensor, "*B T J 3"] | None = None,
    ) -> Float[Tensor, "*B T D"]:
        """Features with the vertical one of ``height`` in place of the root's height, metres."""
        if not self.from_feet:
            return features
        if positions is None:
            legs = self._leg_height(features, offsets, mask)
        else:
            legs = self._smooth(self._lowest_foot(positions) - features[..., 1], mask)
        return _replace_height(features, features[..., 1] + legs)

    def _leg_height(
        self, features: Float[Tensor, "*B T D"], offsets: Float[Tensor, "*B J 3"], mask: Bool[Tensor, "*B T"] | None
    ) -> Float[Tensor, "*B T"]:
        """Height of the lowest foot relative to the root, metres, smoothed."""
        six = rearrange(features[..., 3:], "... (joints six) -> ... joints six", six=6).index_select(-2, self.legs)
        legs = offsets.index_select(-2, self.legs)[..., None, :, :]
        positions = positions_from_6d(torch.zeros_like(features[..., :3]), six, legs, self.leg_parents)
        return self._smooth(positions.index_select(-2, self.leg_ends)[..., 1].amin(-1), mask)

    def _lowest_foot(self, positions: Float[Tensor, "*B T J 3"]) -> Float[Tensor, "*B T"]:
        return positions.index_select(-2, self.feet_index)[..., 1].amin(-1)

    def _smooth(self, values: Float[Tensor, "*B T"], mask: Bool[Tensor, "*B T"] | None) -> Float[Tensor, "*B T"]:
        """Weighted mean over a Gaussian window of `SMOOTHING` seconds around each frame, over a motion's own frames."""
        deviation = SMOOTHING * float(self.config.fps)
        reach = max(1, math.ceil(3 * deviation))
        steps = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
        kernel = torch.exp(-0.5 * (steps / deviation) ** 2)[None, None]
        valid = torch.ones_like(values) if mask is None else mask.to(values)
        flat = torch.stack([torch.where(valid > 0, values, 0.0), valid]).reshape(-1, 1, values.shape[-1])
        total, weight = F.conv1d(flat, kernel, padding=reach).reshape(2, *values.shape)
        return total / weight.clamp(min=1e-6)

    def split(self, features: Float[Tensor, "*B T D"]) -> tuple[Float[Tensor, "*B T 3"], Float[Tensor, "*B T J 3 3"]]:
        """Unnormalised features to root translation (m) and proper rotation matrices."""
        six = rearrange(features[..., 3:], "... (joints six) -> ... joints six", six=6)
        return features[..., :3], rotation_6d_to_matrix(six)

    def positions(self, features: Float[Tensor, "B T D"], offsets: Float[Tensor, "B J 3"]) -> Float[Tensor, "B T J 3"]:
        """World positions (m) of unnormalised features on bodies with the given rest offsets (m)."""
        six = rearrange(features[..., 3:], "b t (joints six) -> b t joints six", six=6)
        return positions_from_6d(features[..., :3], six, offsets[:, None], self.parents)

    def normalised_positions(
        self,
        normalised: Float[Tensor, "B T D"],
        offsets: Float[Tensor, "B J 3"],
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T J 3"]:
        """`positions` of normalised features; the kinematics give the height of the root as well.

        On a CPU those of padding are not computed: of clips of mixed lengths a third is padding.

        Args:
            normalised: normalised features.
            offsets: rest offsets of each body, metres.
            mask: True on a motion's own frames; None: all are.
        """
        features = normalised * self.std + self.mean
        positions = self.masked_positions(features, offsets, mask)
        if not self.from_feet:
            return positions
        height = features[..., 1]
        legs = self._smooth(self._lowest_foot(positions) - height, mask)
        return positions - F.pad(legs[..., None, None], (1, 1))

    def masked_positions(
        self,
        features: Float[Tensor, "B T D"],
        offsets: Float[Tensor, "B J 3"],
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T J 3"]:
        """`positions`; on a CPU those of padding are 0 and not computed."""
        if mask is None or features.device.type != "cpu":
            return self.positions(features, offsets)
        clip, frame = mask.nonzero(as_tuple=True)
        of_frames = self.positions(features[clip, frame][:, None], offsets[clip])[:, 0]
        return of_frames.new_zeros(*mask.shape, *of_frames.shape[1:]).index_put((clip, frame), of_frames)

    def shape_condition(self, offsets: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J"]:
        """Bone lengths relative to the mean training body, in units of `SHAPE_UNIT`."""
        return (offsets.norm(dim=-1) - self.offsets.norm(dim=-1)) / SHAPE_UNIT

    def encode(self, motion: Motion) -> Float[Tensor, "T D"]:
        """Normalised features of a motion in the common frame."""
        rotations = matrix_to_rotation_6d(torch.from_numpy(motion.rotations))
        features = torch.cat([torch.from_numpy(motion.root), rearrange(rotations, "t j six -> t (j six)")], dim=-1)
        return self.normalise(features.to(self.mean), torch.tensor(motion.skeleton.offsets).to(self.mean))

    def decode(
        self,
        normalised: Float[Tensor, "T D"],
        skeleton: Skeleton,
        *,
        action: str | None = None,
        style: str | None = None,
        text: str | None = None,
    ) -> Motion:
        """Normalised features back to a motion on the given body."""
        offsets = torch.tensor(skeleton.offsets, device=normalised.device)
        root, rotations = self.split(self.denormalise(normalised.float(), offsets))
        return Motion(
            root=root.cpu().numpy(),
            rotations=rotations.cpu().numpy(),
            skeleton=skeleton,
            fps=float(self.config.fps),
            action=action,
            style=style,
            texts=() if text is None else (text,),
            source="simulated training data" if self.config.simulated else "generated",
        )

    def sample_length(self, action: str | None, generator: np.random.Generator) -> int:
        """A clip length in frames as the training clips of an action (of one drawn at random, for None) have it."""
        table = self.config.action_frames or {}
        if not table:
            return round(3 * self.config.fps)
        quantiles = table[action] if action in table else table[str(generator.choice(sorted(table)))]
        return round(float(np.interp(generator.uniform(0, len(quantiles) - 1), range(len(quantiles)), quantiles)))


def _replace_height(features: Float[Tensor, "*B T D"], height: Float[Tensor, "*B T"]) -> Float[Tensor, "*B T D"]:
    return torch.cat([features[..., :1], height[..., None], features[..., 2:]], dim=-1)
