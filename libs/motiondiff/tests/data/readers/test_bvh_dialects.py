"""BVH as programs write it: every dialect gives the same motion as the plain file."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.data.readers.bvh.reader import read_bvh
from motiondiff.skeleton.motion import Motion

PLAIN = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Leg
  {
    OFFSET 10 0 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT Knee
    {
      OFFSET 0 -42 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 0 -42 0
      }
    }
  }
  JOINT Spine
  {
    OFFSET 0 50 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 20 0
    }
  }
}
MOTION
Frames: 6
Frame Time: 0.05
"""
ROWS = "".join(f"{i} 90.5 {2 * i} 0 0 {i} 10.25 {i} 0 0 {i / 2} 1e1 0 5 0\n" for i in range(6))
TEXT = PLAIN + ROWS
THREE = "CHANNELS 3 Zrotation Xrotation Yrotation"
HEAD, BLOCK = TEXT.split("MOTION")
END = "End Site\n      {\n        OFFSET 0 -42 0\n      }"


def read(folder: Path, content: str | bytes, **options: object) -> Motion:
    path = folder / "clip.bvh"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_bvh(path, **options)


DIALECTS = {
    "CRLF": TEXT.replace("\n", "\r\n"),
    "CR": TEXT.replace("\n", "\r"),
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "tabs": TEXT.replace("  ", "\t").replace(" ", "\t").replace("End\tSite", "End Site").replace("Frame\tT", "Frame T"),
    "blank first lines": "\n \n" + TEXT,
    "blank lines among the rows": TEXT.replace("\n", "\n\n"),
    "capitals": TEXT.replace("position", "POSITION").replace("rotation", "ROTATION"),
    "capital P and R": TEXT.replace("position", "Position").replace("rotation", "Rotation"),
    "lower case": TEXT.lower(),
    "braces on the joint's line": re.sub(r"\n +{", "{", HEAD) + "MOTION" + BLOCK,
    "end site on one line": TEXT.replace(END, "End Site { OFFSET 0 -42 0 }"),
    "end site with a name": TEXT.replace("End Site", "End Site KneeEnd"),
    "one word EndSite": TEXT.replace("End Site", "EndSite"),
    "hierarchy on one line": " ".join(HEAD.split()) + "\nMOTION" + BLOCK,
    "frames with a space": TEXT.replace("Frames:", "Frames :").replace("Frame Time:", "Frame Time :"),
    "frame time in lower case": TEXT.replace("Frame Time:", "Frame time:").replace("Frames:", "frames:"),
    "comments": TEXT.replace("  JOINT", "# one\n // more\n  JOINT").replace("0.05\n", "0.05\n# rows\n"),
    "Ctrl-Z": TEXT + "\x1a",
    "NUL": TEXT + "\x00\x00\x00",
    "trailing spaces": TEXT.replace("\n", " \t\n"),
    "offset after channels": TEXT.replace(
        f"OFFSET 0 50 0\n    {THREE}", f"{THREE}\nOFFSET 0 50 0"
    ),
    "decimal commas": HEAD + "MOTION" + BLOCK.replace(".", ","),
    "commas between numbers": PLAIN + ROWS.replace(" ", ", "),
    "Latin-1": TEXT.replace("Knee", "Genou_é").replace("Spine", "Rücken").encode("latin1"),
    "Shift-JIS": TEXT.replace("Knee", "左ひざ").replace("Spine", "ボーン").encode("shift_jis"),
    "GBK": TEXT.replace("Knee", "左膝").replace("Spine", "脊柱").encode("gbk"),
    "names with spaces": TEXT.replace("JOINT Knee", "JOINT left knee"),
    "names twice": TEXT.replace("JOINT Knee", "JOINT Spine"),
    "root and joint of one name": TEXT.replace("JOINT Knee", "JOINT Hips"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_the_same_motion(tmp_path, name):
    plain, other = read(tmp_path, TEXT), read(tmp_path, DIALECTS[name])
    assert other.skeleton.parents == plain.skeleton.parents and other.fps == plain.fps == 20
    np.testing.assert_allclose(other.positions, plain.positions, atol=1e-6)


def test_names_come_back_in_their_letters_and_repeated_ones_get_a_number(tmp_path):
    assert read(tmp_path, DIALECTS["Latin-1"]).skeleton.names == ("Hips", "Leg", "Genou_é", "Rücken")
    assert read(tmp_path, DIALECTS["Shift-JIS"]).skeleton.names == ("Hips", "Leg", "左ひざ", "ボーン")
    assert read(tmp_path, DIALECTS["GBK"]).skeleton.names == ("Hips", "Leg", "左膝", "脊柱")
    assert read(tmp_path, DIALECTS["names twice"]).skeleton.names == ("Hips", "Leg", "Spine", "Spine_2")
    assert read(tmp_path, DIALECTS["root and joint of one name"]).skeleton.names[2] == "Hips_2"


@pytest.mark.parametrize(
    ("channels", "columns"), [("Xrotation", [1]), ("Zrotation", [0]), ("Zrotation Xrotation", [0, 1]), ("", [])]
)
@pytest.mark.parametrize("frames", [1, 6])
def test_a_joint_may_have_fewer_than_three_rotation_channels(tmp_path, channels, columns, frames):
    def text(knee: str, kept: list[int]) -> str:
        rows = [row.split() for row in ROWS.splitlines()[:frames]]
        for number, row in enumerate(rows):
            row[9:12] = [str((7 + number) * (axis in columns)) for axis in kept]
        head = PLAIN.replace(
            "OFFSET 0 -42 0\n      CHANNELS 3 Zrotation Xrotation Yrotation",
            f"OFFSET 0 -42 0\n      CHANNELS {len(knee.split())} {knee}",
        )
        return head.replace("Frames: 6", f"Frames: {frames}") + "".join(" ".join(row) + "\n" for row in rows)

    whole = read(tmp_path, text("Zrotation Xrotation Yrotation", [0, 1, 2]))
    part = read(tmp_path, text(channels, columns))
    np.testing.assert_allclose(part.rotations, whole.rotations, atol=1e-6)


def test_more_rows_than_announced_are_used_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        assert len(read(tmp_path, TEXT.replace("Frames: 6", "Frames: 5"))) == 6
    assert "5 frames announced, all 6 rows are used" in caplog.text
    with pytest.raises(InputError, match="7 frames announced, 6 rows found; the file is truncated"):
        read(tmp_path, TEXT.replace("Frames: 6", "Frames: 7"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("JOINT Spine\n  {", "JOINT Spine"), "line 21: '{' expected after JOINT Spine, found 'OFFSET'"),
        (TEXT.replace("CHANNELS 6", "CHANNELS 5"), "line 5: joint 'Hips': 5 channels announced, 6 named"),
        (TEXT.replace("CHANNELS 6", "CHANNELS six"), "line 5: number of channels .* expected, found 'six'"),
        (TEXT.replace("Zrotation X", "Zscale X"), "channel 'Zscale' is unknown or repeated"),
        (TEXT.replace("Frames: 6\n", ""), "line 31: Frames: expected, found 'Frame Time: 0.05'"),
        (TEXT.replace("\n}\nMOTION", "\nMOTION"), "line 29: .* expected in joint 'Hips', found 'MOTION'"),
    ],
)  # fmt: skip
def test_unknown_dialect_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text, unit="cm")
    assert "clip.bvh" in str(caught.value) and "\n" not in str(caught.value)


def test_a_joint_called_motion_does_not_end_the_hierarchy(tmp_path):
    assert read(tmp_path, TEXT.replace("JOINT Knee", "JOINT Motion")).skeleton.names[2] == "Motion"


def test_the_files_rate_is_doubted_outside_5_to_1000_fps_and_overridden(tmp_path, caplog):
    slow = TEXT.replace("Frame Time: 0.05", "Frame Time: 33.33")
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        read(tmp_path, slow)
    assert "0.03 fps is outside 5 to 1000: --source-fps sets the right rate" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        assert read(tmp_path, slow, source_fps=30.0).fps == 30
    assert not caplog.text
