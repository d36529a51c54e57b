"""A video network of your own as the encoder of actprompt, on simulated clips.

    python examples/video_network.py OUT

The network maps a whole clip to one feature. On the command line:
actprompt train ... vlm.encoder=examples/video_network.py:MotionNetwork vlm.encoder_weights=weights.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from actprompt import ActConfig, ActionModel, ActionPipeline, VideoDataset, evaluate, train
from actprompt.data.synthetic import write_simulated
from icube_common.config import load_config


class MotionNetwork(nn.Module):
    """3-D convolutions over a clip and over the differences of its frames: (N, T, 3, H, W) to (N, 64)."""

    kind = "clip"
    image_size = 48

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(6, 16, 3, stride=(1, 2, 2), padding=1),
            nn.ReLU(),
            nn.Conv3d(16, 32, 3, stride=(2, 2, 2), padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d((2, 1, 1)),
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Features of clips."""
        motion = torch.diff(clips, dim=1, prepend=clips[:, :1])
        # convolutions take channels before frames
        features: Tensor = self.layers(torch.cat([clips, motion], dim=2).transpose(1, 2))
        return features.flatten(1)


def main() -> None:
    """Simulate, evaluate, train and predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--takes", type=int, default=3, help="simulated clips of each person and action")
    parser.add_argument("--name", default="icube-minilm", help="backbone whose text tower reads the prompts")
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    arguments = parser.parse_args()
    write_simulated(arguments.out / "data", takes=arguments.takes)
    data = VideoDataset(arguments.out / "data")
    keys = [
        "prompt.init=template",
        "skeleton.enabled=false",
        "train.device=cpu",
        "train.report_to=none",
        f"train.max_steps={arguments.steps}",
    ]
    config = load_config(ActConfig, overrides=[f"vlm.name={arguments.name}", *keys])

    result = evaluate(data, config, encoder=MotionNetwork, protocol="leave-one-subject-out")
    print(f"top1, simulated people left out: {result.metrics['top1'].mean:.3f}")
    print(f"backbone: {result.facts['backbone']}")

    model = ActionModel.for_dataset(data, config, encoder=MotionNetwork)
    train(model, data, out=arguments.out / "run")
    # an encoder that was given as a class is given again
    pipeline = ActionPipeline.from_pretrained(arguments.out / "run", encoder=MotionNetwork)
    clip = data.manifest.clips[0]
    print(f"{clip.id}: {pipeline(data.manifest.video(clip)).label}")


if __name__ == "__main__":
    sys.exit(main())
