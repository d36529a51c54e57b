from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from icube_common.errors import InputError
from motiondiff.export import FORMATS, export
from motiondiff.export.images.drawing import LEFT, RIGHT, TORSO, Camera, Scene, side_colour
from motiondiff.export.images.render import write_contact_sheet, write_gif, write_mp4


def gif_durations(path) -> list[int]:
    """Milliseconds of each frame."""
    with Image.open(path) as image:
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    return durations


def has_colour(image: Image.Image, colour: str) -> np.ndarray:
    """(H, W) pixels of about this colour."""
    wanted = [int(colour[index : index + 2], 16) for index in (1, 3, 5)]
    return np.abs(np.asarray(image.convert("RGB"), dtype=int) - wanted).max(-1) < 40


@pytest.mark.parametrize(
    ("fps", "frames", "shown", "durations"),
    [
        (20, 40, 40, {50}),
        (30, 60, 60, {30, 40}),  # 3.33 hundredths
        (120, 120, 30, {30, 40}),  # every fourth frame
        (50, 100, 50, {40}),
    ],
)
def test_gif_plays_in_real_time(tmp_path, walker, fps, frames, shown, durations):
    path = write_gif(walker(frames, fps), tmp_path / "m.gif", size=(160, 120))
    played = gif_durations(path)
    assert len(played) == shown
    assert set(played) == durations
    assert sum(played) == pytest.approx(1000 * frames / fps, abs=10)
    with Image.open(path) as image:
        assert image.size == (160, 120)


def test_gif_of_three_seconds_is_small(tmp_path, walker):
    assert write_gif(walker(90, 30), tmp_path / "m.gif").stat().st_size < 1_000_000


def test_gif_of_one_frame(tmp_path, walker):
    assert gif_durations(write_gif(walker(1), tmp_path / "m.gif")) == [50]


@pytest.mark.parametrize(("fps", "rate"), [(30, Fraction(30)), (29.97, Fraction(2997, 100)), (20, Fraction(20))])
def test_mp4_has_every_frame_at_its_rate(tmp_path, walker, fps, rate):
    path = write_mp4(walker(24, fps), tmp_path / "m.mp4", size=(161, 120))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(float(rate), rel=1e-3)
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.name == ("h264" if "libx264" in av.codecs_available else "mpeg4")
        decoded = list(container.decode(video=0))
    assert len(decoded) == 24
    assert (decoded[0].width, decoded[0].height) == (162, 120)
    # what was drawn came through: the last picture's limbs are where the scene puts them
    drawn = Scene(walker(24, fps), (162, 120), caption="walk").draw(23, progress=True)
    difference = np.abs(decoded[-1].to_ndarray(format="rgb24").astype(int) - np.asarray(drawn, dtype=int))
    assert difference.mean() < 4


def test_contact_sheet_has_a_row_for_each_motion(tmp_path, walker):
    path = write_contact_sheet(
        [walker(30), walker(50), walker(3)], ["walk", "walk on", "start"], tmp_path / "s.png", frames=5, cell=(100, 120)
    )
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        caption = round(1.8 * 12)
        assert sheet.size == (5 * 100 + 4 * 4, 3 * (120 + caption) + 2 * 8)
        for row in range(3):
            for column in range(5):
                top = row * (120 + caption + 8) + caption
                picture = sheet.crop((column * 104, top, column * 104 + 100, top + 120))
                assert has_colour(picture, LEFT).any() and has_colour(picture, RIGHT).any()


def test_all_points_stay_in_the_image(walker):
    """No body pixel touches the edge, though the walk goes three metres towards the camera."""
    motion = walker(60, 20)
    scene = Scene(motion, (200, 150))
    for frame in range(0, 60, 10):
        picture = scene.draw(frame)
        body = has_colour(picture, LEFT) | has_colour(picture, RIGHT) | has_colour(picture, TORSO)
        rows, columns = np.nonzero(body)
        assert len(rows) > 50
        assert rows.min() > 0 and rows.max() < 149 and columns.min() > 0 and columns.max() < 199


def test_walk_moves_across_the_image_unless_followed(walker):
    motion = walker(40, 20, speed=1.5)

    def centre(scene: Scene, frame: int) -> float:
        picture = scene.draw(frame)
        return float(np.nonzero(has_colour(picture, LEFT) | has_colour(picture, RIGHT))[1].mean())

    fixed, followed = Scene(motion, (200, 150)), Scene(motion, (200, 150), follow=True)
    assert centre(fixed, 39) - centre(fixed, 0) > 40
    assert abs(centre(followed, 39) - centre(followed, 0)) < 10


def test_left_is_blue_and_nearer_things_hide_farther_ones(walker):
    """A body seen from its right front shows its left arm on the viewer's right."""
    picture = Scene(walker(1), (200, 200)).draw(0)
    assert np.nonzero(has_colour(picture, LEFT))[1].mean() > np.nonzero(has_colour(picture, RIGHT))[1].mean()


def test_camera_projects_by_hand():
    """Looking along -z from 2 m with a focal length of 100 pixels: 0.5 m right and 1 m up is 25 and 50 pixels."""
    camera = Camera(np.zeros(3), np.eye(3), distance=2.0, focal=100.0, centre=(10.0, 20.0))
    pixels, scale = camera.project(np.array([[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]]))
    np.testing.assert_allclose(pixels, [[10 + 25, 20 - 50], [10 + 50, 20]])
    np.testing.assert_allclose(scale, [50, 100])


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("LeftUpLeg", LEFT), ("left_hip", LEFT), ("UpperArm_L", LEFT), ("L_Hip", LEFT), ("LHip", LEFT), ("handL", LEFT),
        ("mixamorig:RightArm", RIGHT), ("ShoulderRight", RIGHT), ("r_knee", RIGHT), ("RKnee", RIGHT),
        ("LowerBack", TORSO), ("spine_lower", TORSO), ("Root", TORSO), ("Hips", TORSO), ("NECK", TORSO),
    ],
)  # fmt: skip
def test_sides_by_name(name, colour):
    assert side_colour(name) == colour


def test_odd_motions_are_drawn(random_motion, walker):
    """One joint, one frame, no names that give a side, bones without length, far from the floor: never an error."""
    for motion in (random_motion(0, 1, 1), random_motion(4, 3, 12), walker(2, speed=500.0)):
        assert Scene(motion, (64, 48), caption="x" * 500).draw(0, progress=True, note="0.0 s").size == (64, 48)
    still = walker(2)
    collapsed = type(still)(
        still.root - (0, 30, 0),
        still.rotations,
        type(still.skeleton)(still.skeleton.names, still.skeleton.parents, np.zeros((13, 3))),
        fps=20,
    )
    assert Scene(collapsed, (64, 48), follow=True).draw(1).size == (64, 48)


@pytest.mark.parametrize("format", ["gif", "mp4"])
def test_a_failure_halfway_leaves_nothing(tmp_path, walker, monkeypatch, format):
    drawn = Scene.draw

    def fail_late(self, frame, **options):
        if frame == 17:
            raise RuntimeError("stop here")
        return drawn(self, frame, **options)

    monkeypatch.setattr(Scene, "draw", fail_late)
    with pytest.raises(RuntimeError, match="stop here"):
        export(walker(30), tmp_path / f"m.{format}")
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_is_named(tmp_path, walker):
    motion = walker(3)
    with pytest.raises(InputError, match="size 10x300"):
        write_gif(motion, tmp_path / "m.gif", size=(10, 300))
    with pytest.raises(InputError, match="no motions"):
        write_contact_sheet([], [], tmp_path / "s.png")
    with pytest.raises(InputError, match="1 captions for 2 motions"):
        write_contact_sheet([motion, motion], ["walk"], tmp_path / "s.png")
    with pytest.raises(InputError, match="frames 0"):
        write_contact_sheet([motion], None, tmp_path / "s.png", frames=0)
    (tmp_path / "file").write_text("")
    for format in ("gif", "mp4"):
        with pytest.raises(InputError, match="cannot be written"):
            export(motion, tmp_path / "file" / f"m.{format}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_write_dispatches_on_format(tmp_path, walker):
    motion = walker(4)
    starts = {}
    for format in set(FORMATS) - {"blend", "amass"}:  # which want a Blender, and SMPL's body
        starts[format] = export(motion, tmp_path / f"x.{format}", format, caption="go").read_bytes()[:8]
    assert starts["gif"].startswith(b"GIF89a") and starts["mp4"][4:] == b"ftyp"
    assert starts["bvh"] == b"HIERARCH" and starts["npz"].startswith(b"PK")
    assert starts["glb"].startswith(b"glTF") and starts["gltf"].startswith(b"{") and starts["html"] == b"<!doctyp"
