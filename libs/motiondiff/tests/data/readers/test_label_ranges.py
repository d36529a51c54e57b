"""Labels that cut one recording: overlaps and slips of the pen are rejected, touching ends are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_formats import pku_text, seen

from motiondiff.data.readers import Clip, Rejection, get_reader, read_or_reject
from motiondiff.data.readers.kinect.label_ranges import LabelRange, check_ranges, median_lengths


def read(name: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    results = [item for ref in get_reader(name).find_clips(folder) for item in read_or_reject(ref)]
    reasons = {item.clip_id: item.reason for item in results if isinstance(item, Rejection)}
    return sorted(item.clip_id for item in results if isinstance(item, Clip)), reasons


def test_touching_ends_are_no_overlap() -> None:
    ranges = [LabelRange("walk", 0, 30), LabelRange("sit down", 30, 60), LabelRange("walk", 61, 90)]
    assert check_ranges(ranges, {}) == {}


def test_two_that_overlap_are_both_rejected_where_none_is_too_long() -> None:
    reasons = check_ranges([LabelRange("walk", 0, 32), LabelRange("sit down", 30, 60), LabelRange("bow", 70, 80)], {})
    assert sorted(reasons) == [0, 1]
    assert reasons[0].startswith("walk 0 to 32 overlaps sit down 30 to 60")


def test_a_range_inside_one_that_is_too_long_is_kept() -> None:
    ranges = [LabelRange("throw", 3226, 3282), LabelRange("push", 2556, 3622), LabelRange("pull", 3660, 3730)]
    reasons = check_ranges(ranges, {"push": 36.0, "throw": 48.0, "pull": 45.0})
    assert list(reasons) == [1]
    assert "push 2556 to 3622 is 29.6 times as long as push is in the median (36 frames)" in reasons[1]


def test_a_median_takes_three_ranges() -> None:
    two = [LabelRange("walk", 0, length) for length in (10, 500)]
    assert median_lengths(two) == {}
    assert median_lengths([*two, LabelRange("walk", 0, 12)]) == {"walk": 12}


@pytest.mark.parametrize("times", [5, 6])
def test_pku_mmd_compares_lengths_over_the_whole_set(tmp_path: Path, times: int) -> None:
    for folder in ("skeletons", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        (tmp_path / "skeletons" / f"000{number}-L.txt").write_text(pku_text(seen(90, seed=number)))
        last = 10 * (times if number == 4 else 1)
        # the last recording also has two labels that overlap, and two that touch
        more = "3,70,80,2\n4,79,89,2\n" if number == 4 else "3,20,30,2\n4,30,40,2\n"
        (tmp_path / "labels" / f"000{number}-L.txt").write_text(f"8,0,{last},2\n{more}")
    clips, reasons = read("pku-mmd", tmp_path)
    expected = {"0004-L.002", "0004-L.003"} | ({"0004-L.001"} if times > 5 else set())
    assert set(reasons) == expected and len(clips) == 15 - len(expected)
    assert "0004-L.txt: line 2: brushing teeth 70 to 80 overlaps check time" in reasons["0004-L.002"]
    if times > 5:
        assert "line 1: drink water 0 to 60 is 6.0 times as long as drink water is" in reasons["0004-L.001"]


def test_utkinect_rejects_the_label_that_is_too_long_not_the_one_it_covers(tmp_path: Path, moving_kinect) -> None:
    labels = ""
    for number in range(1, 6):
        ids = range(0, 360, 2)
        rows = (
            f"{frame} " + " ".join(f"{value:.5f}" for value in positions.ravel()) + "\n"
            for frame, positions in zip(ids, moving_kinect(frames=len(ids), seed=number, amount=0.2), strict=True)
        )
        (tmp_path / f"joints_s01_e0{number}.txt").write_text("".join(rows))
        last = 300 if number == 3 else 30
        labels += f"s01_e0{number}\npush: 0 {last}\nthrow: 100 150\npull: 150 200\n"
    (tmp_path / "actionLabel.txt").write_text(labels)
    clips, reasons = read("utkinect", tmp_path)
    assert list(reasons) == ["joints_s01_e03_push"] and len(clips) == 14
    assert "actionLabel.txt: line 10: s01_e03: push 0 to 300 is 10.0 times as long" in reasons["joints_s01_e03_push"]
