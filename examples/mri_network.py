"""A 3-D network for MRI as the encoder of debian_mri, on a simulated cohort.

    python examples/mri_network.py OUT

The network maps a whole preprocessed volume to one feature. On the command line:
debian-mri train ... vlm.encoder=examples/mri_network.py:VolumeNetwork vlm.encoder_weights=weights.pth
Networks of MONAI need no file: vlm.encoder=monai:DenseNet121
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torch import Tensor, nn

from debian_mri import MriConfig, MriModel, MriPipeline, ProtocolOptions, ScanDataset, evaluate, train
from debian_mri.simulation.cohort import CohortConfig, simulate_cohort
from icube_common.config import load_config


class VolumeNetwork(nn.Module):
    """3-D convolutions with averages over the eight octants of the head: (N, 1, S, S, S) to (N, 128)."""

    kind = "volume"
    volume_size = 48

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 8, 3, stride=2, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Conv3d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(2),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Features of volumes."""
        features: Tensor = self.layers(volumes)
        return features.flatten(1)


def main() -> None:
    """Simulate, evaluate, train and predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--subjects", type=int, default=40, help="simulated people")
    parser.add_argument("--spacing", type=float, default=4.0, help="mm between voxels")
    parser.add_argument("--name", default="icube-minilm", help="backbone whose text tower reads the prompts")
    arguments = parser.parse_args()
    cohort = CohortConfig(subjects=arguments.subjects, classes=["CN", "AD"], spacing=arguments.spacing)
    simulate_cohort(arguments.out / "data", cohort)
    data = ScanDataset(arguments.out / "data")
    keys = ["concepts.enabled=false", "train.device=cpu", f"preprocess.spacing={arguments.spacing}"]
    config = load_config(MriConfig, overrides=[f"vlm.name={arguments.name}", "calibration.folds=2", *keys])

    options = ProtocolOptions(folds=2, repeats=1)
    result = evaluate(data, config, encoder=VolumeNetwork, options=options)
    print(f"AUC, simulated people left out: {result.metrics['auc'].mean:.3f}")
    print(f"backbone: {result.facts['backbone']}")

    model = MriModel.for_dataset(data, config, encoder=VolumeNetwork)
    train(model, data, out=arguments.out / "run")
    # an encoder that was given as a class is given again
    pipeline = MriPipeline.from_pretrained(arguments.out / "run", encoder=VolumeNetwork)
    scan = data.manifest.scans[0]
    print(f"{scan.id}: {pipeline(data=data, scan_id=scan.id).label}")


if __name__ == "__main__":
    sys.exit(main())
