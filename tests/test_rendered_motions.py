"""Generated motions as videos with skeletons in class folders are read by ``actprompt prepare --format folder``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actprompt.cli import main as actprompt
from actprompt.data.manifest import Manifest
from actprompt.skeleton.roles import body_joints
from actprompt.skeleton.trajectory import TrajectoryEncoder
from motiondiff.cli import main as motiondiff
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips
from motiondiff.export.datasets.video_folder import write_video_folder


def test_rendered_videos_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    store = write_store(simulate_clips(10, fps=10), tmp_path / "store", PrepareOptions(), description=description)
    assert write_video_folder(store, tmp_path / "videos", split="train", size=(64, 64)) == len(store.select("train"))
    capsys.readouterr()
    words = ["prepare", str(tmp_path / "videos"), "--format", "folder", "--out", str(tmp_path / "data"), "--json"]
    assert actprompt(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clips"] == told["skeletons"] == len(store.select("train")) and not told.get("rejected")
    text = json.dumps(told)
    train = store.select("train").tolist()
    assert all(action in text for action in store.names("action", train))
    manifest = Manifest.load(tmp_path / "data")
    assert manifest.joint_names() == store.joint_names
    for clip in manifest.clips:  # the motion itself, at its own times
        motion = store[store.clip_ids.index(Path(clip.path).stem)]
        skeleton = manifest.skeleton(clip)
        assert skeleton is not None and clip.label == motion.action
        np.testing.assert_allclose(skeleton[0], motion.positions, atol=1e-6)
        np.testing.assert_allclose(skeleton[1], np.arange(len(motion)) / motion.fps, atol=1e-6)
    # the skeleton branch: the body is recognised by the roles of its joints
    encoder = TrajectoryEncoder.unfitted(manifest.joint_names(), 16)
    assert body_joints(skeleton[0], manifest.joint_names()) is not None
    assert np.isfinite(encoder.vector(skeleton[0])).all()


def test_splits_become_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    write_store(simulate_clips(10, fps=10), tmp_path / "store", PrepareOptions(), description=description)
    store = MotionStore(tmp_path / "store")
    out = tmp_path / "videos"
    assert motiondiff(["export", str(store.path), "--to", "video-folder", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["motions"] == len(store)
    parts = {file.relative_to(out).parts[0] for file in out.rglob("*.npz")}
    expected = {name.replace("validation", "val") for name in store.info()["splits"]}
    assert parts == expected and len(list(out.rglob("*.mp4"))) == len(store)
