"""Features of videos: what is stored, bad files, going on after a kill, shards, other backbones and frames."""

from __future__ import annotations

import csv
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import actprompt.data.feature_store as features_module
import actprompt.data.video.pixels as pixels_module
from actprompt.cli import main
from actprompt.data.dataset import VideoDataset
from actprompt.data.extract import extract, video_features
from actprompt.data.feature_store import FeatureFolder, FeatureRecord
from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.data.video import read_clip
from icube_common.data.processes import WORKER_DIED
from icube_common.errors import InputError
from icube_common.io.runs import read_json, write_json
from icube_common.vlm import FrozenVLM, VLMConfig

MakeVideo = Callable[..., Path]

TINY = VLMConfig(name="icube-tiny")
SAMPLING = Sampling(frames=3)


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return TINY.load()


@pytest.fixture
def data(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Six videos of different lengths in two classes, one of them of one frame."""
    for number, frames in enumerate((5, 7, 1, 9, 12, 6)):
        make_video(tmp_path / "videos" / ("wave", "sit down")[number % 2] / f"{number}.avi", frames)
    prepare("folder", tmp_path / "videos", tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that get decoded."""
    names: list[str] = []

    def counting(path: Path, *args: Any, **options: Any) -> Any:
        names.append(Path(path).name)
        return read_clip(path, *args, **options)

    monkeypatch.setattr(pixels_module, "read_clip", counting)
    return names


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    yield
    for name in ("icube_common", "actprompt"):
        # the handler that a command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


def run(data: VideoDataset | Path, out: Path, **options: Any) -> dict[str, Any]:
    return extract(data, out, **{"vlm": TINY, "sampling": SAMPLING, **options})


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as handle:
        return list(csv.reader(handle))


def features_of(folder: Path, *, vlm: FrozenVLM, sampling: Sampling) -> dict[str, torch.Tensor]:
    """Features in a folder by clip id, float32."""
    cache = FeatureFolder(folder, vlm=vlm, sampling=sampling).cache
    parts = {name: cache.get(key) for name, key in rows(folder / "index.csv")[1:]}
    return {name: part["features"].float() for name, part in parts.items() if part is not None}


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[0-9a-f][0-9a-f]/*.half.safetensors")}


def test_stored_features_equal_the_encoder_output(data: Path, tmp_path: Path, vlm: FrozenVLM) -> None:
    out = tmp_path / "features"
    result = run(data, out)
    assert (result["clips"], result["computed"], result["there_already"], result["rejected"]) == (6, 6, 0, 0)
    assert result["shape"] == [1, 3, 64] and result["clips_per_second"] > 0
    assert 0 < result["tower_seconds"] < result["seconds"] and result["decode_seconds"] > 0
    manifest, features = Manifest.load(data), features_of(out, vlm=vlm, sampling=SAMPLING)
    assert set(features) == {clip.id for clip in manifest.clips} and len(features) == 6
    for clip in manifest.clips:
        frames = read_clip(manifest.video(clip), SAMPLING).frames[0]
        with torch.no_grad():
            want = vlm.encode_image(torch.stack([vlm.preprocess(Image.fromarray(frame)) for frame in frames]))
        found = features[clip.id]
        assert found.shape == (1, 3, 64) and found.dtype == torch.float32
        torch.testing.assert_close(found[0], want, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(1, 3), atol=2e-3, rtol=0)
    key = dict(rows(out / "index.csv"))["3.avi"]
    assert load_file(out / key[:2] / f"{key}.half.safetensors")["features"].dtype == torch.float16
    description = read_json(out / "features.json")
    assert description["backbone"]["fingerprint"] == vlm.fingerprint and description["sampling"] == SAMPLING.key()
    assert description["manifest"] == manifest.fingerprint and "av" in description["decoder"]
    assert description["counts"] == {"clips": 6, "features": 6, "rejected": 0}
    assert rows(out / "rejected.csv") == [["id", "path", "reason"]]


def test_views_and_dense_windows(data: Path, tmp_path: Path, vlm: FrozenVLM) -> None:
    result = run(data, tmp_path / "f", sampling=Sampling(frames=2, mode="dense", views=3), batch_size=4)
    assert result["shape"] == [3, 2, 64]
    sampling = Sampling(frames=2, mode="dense", views=3)
    found = features_of(tmp_path / "f", vlm=vlm, sampling=sampling)["4.avi"]
    manifest = Manifest.load(data)
    clip = manifest.clips[manifest.index["4.avi"]]
    frames = read_clip(manifest.video(clip), sampling).frames[2]
    with torch.no_grad():
        want = vlm.encode_image(torch.stack([vlm.preprocess(Image.fromarray(frame)) for frame in frames]))
    torch.testing.assert_close(found[2], want, atol=1e-3, rtol=0)


def test_a_second_run_decodes_nothing(
    data: Path, tmp_path: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(data, tmp_path / "features")
    assert sorted(decoded) == [f"{number}.avi" for number in range(6)]
    before = stored(tmp_path / "features")
    decoded.clear()
    with caplog.at_level(logging.INFO, "actprompt"):
        result = run(data, tmp_path / "features")
    assert decoded == [] and (result["computed"], result["there_already"]) == (0, 6)
    assert "6 of 6 clips were there already" in caplog.text
    assert stored(tmp_path / "features") == before


def test_killed_run_resumes(data: Path, tmp_path: Path, vlm: FrozenVLM, decoded: list[str]) -> None:
    """Killed by the hardest signal right after the fourth clip is on the disk; no table has been written by then.

    With one clip in a batch the bytes are the same.
    """
    code = f"""
import os, signal
from icube_common.vlm import FeatureCache
from actprompt.cli import main
put, count = FeatureCache.put, 0
def counting(self, key, tensors):
    global count
    found, count = put(self, key, tensors), count + 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
FeatureCache.put = counting
words = ["--data", {str(data)!r}, "--out", {str(tmp_path / "killed")!r}, "--batch-size", "3"]
main(["extract", *words, "vlm.name=icube-tiny", "video.frames=3"])
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(stored(tmp_path / "killed")) == 4
    assert not (tmp_path / "killed" / "index.csv").exists()
    result = run(data, tmp_path / "killed", batch_size=3)
    assert (result["computed"], result["there_already"]) == (2, 4) and len(decoded) == 2
    run(data, tmp_path / "whole", batch_size=3)
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")
    assert rows(tmp_path / "killed" / "index.csv") == rows(tmp_path / "whole" / "index.csv")


def test_an_error_in_the_middle_leaves_the_tables(
    data: Path, tmp_path: Path, vlm: FrozenVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = FrozenVLM.encode_image, []

    def failing(self: FrozenVLM, pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return encode(self, pixels)

    monkeypatch.setattr(FrozenVLM, "encode_image", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(data, tmp_path / "features", batch_size=3)
    assert calls == [3, 3, 3]
    assert len(features_of(tmp_path / "features", vlm=vlm, sampling=SAMPLING)) == 2


def test_two_shards_at_once_are_one_run(data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "actprompt", "extract", "--data", str(data), "--out", str(tmp_path / "shards")]
    settings = ["vlm.name=icube-tiny", "video.frames=3", "vlm.batch_size=3", "--json"]
    started = [
        subprocess.Popen([*words, "--shard", f"{n}/2", *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in (0, 1)
    ]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    run(data, tmp_path / "one", batch_size=3)
    assert stored(tmp_path / "shards") == stored(tmp_path / "one")
    # in joined batches sums may round otherwise: the same keys, and values to the precision that is kept
    run(data, tmp_path / "joined")
    for file in tmp_path.glob("one/??/*.half.safetensors"):
        alone, joined = (
            load_file(folder / file.parent.name / file.name) for folder in (tmp_path / "one", tmp_path / "joined")
        )
        torch.testing.assert_close(joined["features"], alone["features"], atol=5e-4, rtol=0)
    assert rows(tmp_path / "shards" / "index.csv") == rows(tmp_path / "one" / "index.csv")
    counts = read_json(tmp_path / "shards" / "features.json")["counts"]
    assert counts == {"clips": 6, "features": 6, "rejected": 0}


def test_merged_tables_hold_concurrent_writes(
    data: Path, tmp_path: Path, vlm: FrozenVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.load(data)
    folder = FeatureFolder(tmp_path / "features", vlm=vlm, sampling=SAMPLING)
    first, second = (FeatureRecord(clip.id, clip.path, key="ab" * 32, seen=1) for clip in manifest.clips[:2])
    folder.write_part(manifest, "0-of-2", [first])
    write, late = features_module._write_table, [second]

    def interrupted(path: Path, *args: Any) -> None:
        write(path, *args)
        if path.name == "index.csv" and late:
            folder.write_part(manifest, "1-of-2", [late.pop()])

    monkeypatch.setattr(features_module, "_write_table", interrupted)
    folder.merge(manifest)
    assert [row[0] for row in rows(tmp_path / "features" / "index.csv")] == ["id", first.id, second.id]
    # what was seen last counts, whichever file was written last
    folder.write_part(manifest, "2-of-2", [FeatureRecord(first.id, first.path, reason="gone", seen=2)])
    folder.write_part(manifest, "0-of-2", [first])
    folder.merge(manifest)
    assert rows(tmp_path / "features" / "rejected.csv")[1:] == [[first.id, first.path, "gone"]]


def test_an_executor_gives_the_features_of_one_process(data: Path, tmp_path: Path, make_video: MakeVideo) -> None:
    """In threads, with every call and result as another process would get them; a worker that dies loses its clip."""
    break_some(data, make_video)
    run(data, tmp_path / "one")

    class Pickling(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
            function, arguments = pickle.loads(pickle.dumps((function, arguments)))
            return super().submit(lambda: pickle.loads(pickle.dumps(function(*arguments))))

    with Pickling(1) as pool:
        result = run(data, tmp_path / "workers", executor=pool)
    assert (result["computed"], result["rejected"]) == (2, 4)
    assert stored(tmp_path / "workers") == stored(tmp_path / "one")
    for name in ("index.csv", "rejected.csv"):
        assert rows(tmp_path / "workers" / name) == rows(tmp_path / "one" / name)

    class Dying(Pickling):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
            if any(clip.id == "2.avi" for clip in arguments[0]):
                future: Future[Any] = Future()
                future.set_exception(BrokenExecutor("killed"))
                return future
            return super().submit(function, *arguments)

    with Dying(1) as pool:
        result = run(data, tmp_path / "dying", executor=pool)
    assert (result["computed"], result["rejected"]) == (1, 5)
    reasons = {row[0]: row[2] for row in rows(tmp_path / "dying" / "rejected.csv")[1:]}
    assert reasons["2.avi"] == WORKER_DIED


def break_some(data: Path, make_video: MakeVideo) -> Manifest:
    """A missing file, one without frames, one cut short, one of noise; two are left as they were."""
    manifest = Manifest.load(data)
    path = {clip.id: manifest.video(clip) for clip in manifest.clips}
    path["0.avi"].unlink()
    make_video(path["1.avi"].with_suffix(".mp4"), 0, sound=True).replace(path["1.avi"])
    path["3.avi"].write_bytes(path["3.avi"].read_bytes()[:6000])
    path["5.avi"].write_bytes(b"no video" * 200)
    return manifest


def test_undecodable_clips_are_listed(
    data: Path, tmp_path: Path, vlm: FrozenVLM, make_video: MakeVideo, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = break_some(data, make_video)
    result = run(data, tmp_path / "features")
    assert (result["computed"], result["rejected"]) == (2, 4)
    reasons = {row[0]: row[1:] for row in rows(tmp_path / "features" / "rejected.csv")[1:]}
    assert reasons["0.avi"] == ["wave/0.avi", "no such file"]
    assert reasons["1.avi"] == ["sit down/1.avi", "not a video: only sound in it"]
    assert "decode" in reasons["3.avi"][1] and reasons["5.avi"][1].startswith("cannot be decoded")
    assert "4 clips could not be used: see" in caplog.text
    features = features_of(tmp_path / "features", vlm=vlm, sampling=SAMPLING)
    assert set(features) == {"2.avi", "4.avi"}
    # the video of one frame: three times the same
    one = features["2.avi"][0]
    assert torch.equal(one[0], one[1]) and torch.equal(one[0], one[2])
    # repaired, it is taken up, and no longer listed
    make_video(manifest.video(manifest.clips[manifest.index["0.avi"]]), 5)
    assert run(data, tmp_path / "features")["computed"] == 1
    assert "0.avi" not in {row[0] for row in rows(tmp_path / "features" / "rejected.csv")}
    assert len(features_of(tmp_path / "features", vlm=vlm, sampling=SAMPLING)) == 3


def test_an_odd_error_of_a_decoder_is_a_reason_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "4.avi":
            raise MemoryError("cannot\nallocate")
        return read_clip(path, *args, **options)

    monkeypatch.setattr(pixels_module, "read_clip", odd)
    assert run(data, tmp_path / "features")["rejected"] == 1
    assert rows(tmp_path / "features" / "rejected.csv")[1][2] == "MemoryError: cannot allocate"


def test_strict_stops_with_one_line(
    data: Path, tmp_path: Path, make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    break_some(data, make_video)
    words = ["extract", "--data", str(data), "--out", str(tmp_path / "f"), "vlm.name=icube-tiny", "--quiet"]
    assert main([*words, "--strict"]) == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert out == "" and line.startswith("actprompt: ") and "Traceback" not in err
    assert any(reason in line for reason in ("no such file", "only sound in it", "decode"))


def test_no_clip_that_can_be_used_is_an_error(data: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "videos", tmp_path / "moved")
    with pytest.raises(InputError, match=r"none of its 6 clips can be used .*rejected\.csv.*no such file"):
        run(data, tmp_path / "features")
    assert len(rows(tmp_path / "features" / "rejected.csv")) == 7
    assert run(VideoDataset(data, root=tmp_path / "moved"), tmp_path / "features")["computed"] == 6


def test_another_backbone_and_other_frames_are_refused(data: Path, tmp_path: Path, vlm: FrozenVLM) -> None:
    out = tmp_path / "features"
    run(data, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = VLMConfig(name="icube-tiny", seed=1)
    prints = [vlm.fingerprint[:12], other.load().fingerprint[:12]]
    message = (
        rf"of icube-tiny \(.*seed 0\), fingerprint {prints[0]}; this is icube-tiny \(.*seed 1\), "
        rf"fingerprint {prints[1]}; choose that backbone, or another folder"
    )
    with pytest.raises(InputError, match=message):
        run(data, out, vlm=other)
    with pytest.raises(InputError, match=message):
        features_of(out, vlm=other.load(), sampling=SAMPLING)
    frames = r"of the frames frames=3, mode=uniform.*; wanted are frames=4, mode=uniform.*; choose those, or another"
    with pytest.raises(InputError, match=frames):
        run(data, out, sampling=Sampling(frames=4))
    with pytest.raises(InputError, match=frames):
        features_of(out, vlm=vlm, sampling=Sampling(frames=4))
    bf16 = VLMConfig(name="icube-tiny", precision="bf16").load()
    with pytest.raises(InputError, match=r"\(other precision\); choose that backbone"):
        features_of(out, vlm=bf16, sampling=SAMPLING)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_features_of_other_versions_of_the_libraries_are_used(
    data: Path, tmp_path: Path, vlm: FrozenVLM, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "features"
    run(data, out)
    head = out / "features.json"
    description = read_json(head)
    here = description["backbone"]["versions"]["torch"]
    description["backbone"]["versions"]["torch"] = "1.13.0"
    write_json(head, description)
    assert features_of(out, vlm=vlm, sampling=SAMPLING)
    assert f"{out}: made with other versions (torch 1.13.0, here {here})" in caplog.text
    caplog.clear()
    assert run(data, out)["there_already"] == 6 and "made with other versions" in caplog.text


def test_other_wrong_input(data: Path, tmp_path: Path, vlm: FrozenVLM, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"video\.mode=random: features are stored for one choice of frames"):
        run(data, tmp_path / "f", sampling=Sampling(mode="random"))
    with pytest.raises(InputError, match=r"shard 2/2: must be I/N with I from 0 to N-1"):
        run(data, tmp_path / "f", shard=(2, 2))
    with pytest.raises(InputError, match="batch size 0: must be at least 1"):
        run(data, tmp_path / "f", batch_size=0)
    with pytest.raises(InputError, match="not a prepared set"):
        run(tmp_path / "videos", tmp_path / "f")
    with pytest.raises(InputError, match="exists already and is no folder of features"):
        run(data, data)
    assert not (tmp_path / "f").exists()
    words = ["extract", "--data", str(data), "--out", str(tmp_path / "f"), "vlm.name=icube-tiny"]
    assert main([*words, "--shard", "first"]) == 2
    assert "--shard first: must be I/N" in capsys.readouterr().err
    assert main([*words, "video.frame=3"]) == 2
    assert "video.frames" in capsys.readouterr().err
    run(data, tmp_path / "f")
    write_json(tmp_path / "f" / "features.json", {"backbone": {}})
    with pytest.raises(InputError, match=r"features\.json: backbone or sampling or decoder is missing"):
        run(data, tmp_path / "f")


def test_a_damaged_file_is_computed_again(data: Path, tmp_path: Path, vlm: FrozenVLM, decoded: list[str]) -> None:
    out = tmp_path / "features"
    run(data, out)
    before = stored(out)
    key = dict(rows(out / "index.csv"))["4.avi"]
    path = out / key[:2] / f"{key}.half.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert "4.avi" not in features_of(out, vlm=vlm, sampling=SAMPLING)
    decoded.clear()
    assert run(data, out)["computed"] == 1 and decoded == ["4.avi"]
    assert stored(out) == before and features_of(out, vlm=vlm, sampling=SAMPLING)["4.avi"].shape == (1, 3, 64)


def test_features_come_from_the_folder_or_are_computed(
    data: Path, tmp_path: Path, vlm: FrozenVLM, decoded: list[str]
) -> None:
    manifest = Manifest.load(data)
    plain = video_features(manifest, manifest.clips, vlm, SAMPLING)
    assert list(plain) == [clip.id for clip in manifest.clips] and len(decoded) == 6
    decoded.clear()
    some = [manifest.clips[3], manifest.clips[1]]
    first = video_features(manifest, some, vlm, SAMPLING, folder=tmp_path / "f")
    assert list(first) == [clip.id for clip in some] and len(decoded) == 2
    every = video_features(manifest, manifest.clips, vlm, SAMPLING, folder=tmp_path / "f")
    assert len(decoded) == 6
    again = video_features(manifest, manifest.clips, vlm, SAMPLING, folder=tmp_path / "f")
    assert len(decoded) == 6
    for name, value in plain.items():
        assert value.dtype == torch.float32 and value.shape == (1, 3, 64)
        assert torch.equal(value, every[name]) and torch.equal(value, again[name])
    assert run(data, tmp_path / "f")["there_already"] == 6
    # features serve without the videos
    shutil.rmtree(tmp_path / "videos")
    away = video_features(manifest, manifest.clips, vlm, SAMPLING, folder=tmp_path / "f")
    assert torch.equal(away["4.avi"], plain["4.avi"]) and len(decoded) == 6
    with pytest.raises(InputError, match=r"video\.mode=random"):
        video_features(manifest, manifest.clips, vlm, Sampling(mode="random"))


def test_a_video_that_has_changed_is_computed_again(
    data: Path, tmp_path: Path, vlm: FrozenVLM, make_video: MakeVideo, decoded: list[str]
) -> None:
    manifest = Manifest.load(data)
    first, other = (manifest.video(manifest.clips[manifest.index[name]]) for name in ("4.avi", "5.avi"))
    before = video_features(manifest, manifest.clips, vlm, SAMPLING, folder=tmp_path / "f")
    make_video(first, 12, level=lambda index: 240 - 9 * index)
    os.utime(other, ns=(1, 1))  # another date, the same content
    decoded.clear()
    after = video_features(manifest, manifest.clips, vlm, SAMPLING, folder=tmp_path / "f")
    assert decoded == ["4.avi"]
    assert not torch.equal(after["4.avi"], before["4.avi"]) and torch.equal(after["5.avi"], before["5.avi"])
    found = features_of(tmp_path / "f", vlm=vlm, sampling=SAMPLING)["4.avi"]
    assert torch.equal(found, after["4.avi"])


def test_the_same_name_in_another_set_is_another_clip(
    data: Path, tmp_path: Path, vlm: FrozenVLM, make_video: MakeVideo
) -> None:
    run(data, tmp_path / "f")
    make_video(tmp_path / "others" / "wave" / "4.avi", 25, size=(64, 24))
    others = prepare("folder", tmp_path / "others", tmp_path / "other data")
    shutil.rmtree(tmp_path / "others")
    with pytest.raises(InputError, match=r"4\.avi: no such file: prepare the set again"):
        video_features(others, others.clips, vlm, SAMPLING, folder=tmp_path / "f")
    assert video_features(others, others.clips, vlm, SAMPLING, folder=tmp_path / "f", strict=False) == {}


def test_a_manifest_that_counts_other_frames_has_other_features(
    data: Path, tmp_path: Path, vlm: FrozenVLM, decoded: list[str]
) -> None:
    run(data, tmp_path / "f")
    before = features_of(tmp_path / "f", vlm=vlm, sampling=SAMPLING)["4.avi"]
    text = (data / "manifest.csv").read_text()
    assert text.count(",12,") == 1
    (data / "manifest.csv").write_text(text.replace(",12,", ",4,"))
    decoded.clear()
    assert run(data, tmp_path / "f")["computed"] == 1 and decoded == ["4.avi"]
    assert not torch.equal(features_of(tmp_path / "f", vlm=vlm, sampling=SAMPLING)["4.avi"], before)


def test_another_decoder_may_be_read_and_not_mixed(
    data: Path, tmp_path: Path, vlm: FrozenVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.load(data)
    video_features(manifest, manifest.clips[:3], vlm, SAMPLING, folder=tmp_path / "f")
    newer = {**features_module.decoder_key(), "av": "99.0"}
    monkeypatch.setattr(features_module, "decoder_key", lambda: newer)
    assert len(video_features(manifest, manifest.clips[:3], vlm, SAMPLING, folder=tmp_path / "f")) == 3
    with pytest.raises(InputError, match=r"were decoded by .*, here it is .*av=99\.0.*; name another folder"):
        video_features(manifest, manifest.clips, vlm, SAMPLING, folder=tmp_path / "f")


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["extract", "--data", str(data), "--out", str(tmp_path / "f"), "vlm.name=icube-tiny", "video.frames=3"]
    assert main(words) == 0
    assert "computed          6" in capsys.readouterr().out
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "there_already     6" in out and "6 of 6 clips were there already" in err


@pytest.mark.real_data
def test_real_clips(florence3d: Path, tmp_path: Path, vlm: FrozenVLM) -> None:
    manifest = prepare("florence3d", florence3d, tmp_path / "data")
    clips = manifest.clips[::32]
    found = video_features(manifest, clips, vlm, Sampling(frames=4), folder=tmp_path / "f")
    assert len(found) == len(clips) and all(value.shape == (1, 4, 64) for value in found.values())
    means = torch.stack([value.mean((0, 1)) for value in found.values()])
    assert float(torch.pdist(means).min()) > 1e-3
