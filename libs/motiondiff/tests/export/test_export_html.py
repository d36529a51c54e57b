"""The viewer page: what is in it, that it asks nothing of the network, and what a browser shows."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from icube_common.errors import InputError
from motiondiff.export import export
from motiondiff.export.body import LEFT, RIGHT
from motiondiff.export.html.page import write_html
from motiondiff.skeleton.skeleton import Skeleton


def page_data(path: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def positions_of(data: Any, index: int) -> np.ndarray:
    """(T, J, 3) metres, as the page's script unpacks them."""
    motion = data["motions"][index]
    content, frames = base64.b64decode(motion["data"]), motion["frames"]
    root = np.frombuffer(content, "<f4", frames * 3).reshape(frames, 1, 3)
    return root + motion["step"] * np.frombuffer(content, "<i2", offset=frames * 12).reshape(frames, -1, 3)


def test_positions_come_back(tmp_path, random_motion, walker):
    """Random bodies reach 1.5 m, the walker 1 m from the root; all within a tenth of a millimetre."""
    motions = [random_motion(1, frames=9, joints=5, fps=29.97), walker(30, speed=40.0), walker(1)]
    data = page_data(write_html(motions, tmp_path / "p.html", names=["a", "b", "c"]))
    assert [motion["fps"] for motion in data["motions"]] == [29.97, 20, 20]
    assert [motion["skeleton"] for motion in data["motions"]] == [0, 1, 1]
    assert data["skeletons"][1]["parents"] == list(motions[1].skeleton.parents)
    for index, motion in enumerate(motions):
        np.testing.assert_allclose(positions_of(data, index), motion.positions, atol=1e-4)
    names = data["skeletons"][1]["names"]
    sides = dict(zip(names, data["skeletons"][1]["sides"], strict=True))
    assert (sides["spine"], sides["left_arm"], sides["right_foot"]) == (0, 1, 2)
    assert data["skeletons"][1]["head"] == names.index("head") and data["skeletons"][0]["head"] == -1


def test_the_page_asks_nothing_of_the_network(tmp_path, walker):
    """Nothing is named that could be loaded, and the page's own policy would refuse it."""
    text = write_html([walker()], tmp_path / "p.html").read_text()
    assert not re.search(
        r"https?:|//[a-z0-9-]+\.[a-z]|\bsrc\s*=|\bhref\s*=|@import|url\(|\bimport\b|fetch\(|XMLHttp", text
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy and policy[1].startswith("default-src 'none'; ")
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]


def test_the_page_is_small(tmp_path, walker):
    """Three seconds of 13 joints: less than an image of them."""
    assert write_html([walker(90, 30)], tmp_path / "p.html").stat().st_size < 60_000


def test_names_stay_text(tmp_path, walker):
    name = "</script><script>alert(1)</script> & {{style}} é"
    path = write_html([walker(2, action=name), walker(2)], tmp_path / "p.html")
    text = path.read_text()
    assert text.count("<script") == 2 and f"<title>{html.escape(name)}</title>" in text
    assert page_data(path)["motions"][0]["name"] == name


def test_wrong_input_is_named(tmp_path, walker):
    target, motion = tmp_path / "p.html", walker(3)
    for words, arguments in {
        "no motions to show": {"motions": []},
        "1 names for 2 motions": {"motions": [motion, motion], "names": ["a"]},
        "one motion only, nothing to compare": {"motions": [motion], "compare": True},
        "unknown view 'sied': did you mean 'side'": {"motions": [motion], "view": "sied"},
        "make a page of 10[0-9] MB, at most 64": {"motions": [walker(100)] * 10_000},
    }.items():
        with pytest.raises(InputError, match=words):
            write_html(**arguments, path=target)
    bones = motion.skeleton
    millimetres = replace(motion, skeleton=Skeleton(bones.names, bones.parents, bones.offsets * 1000))
    with pytest.raises(InputError, match=r"joints are 9\d\d\.\d m from the root.*is it in metres\?"):
        write_html([millimetres], target)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_html([motion], tmp_path / "file" / "p.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- in a browser ---------------------------------------------------------------------------------------------------
Browser = Callable[..., Any]


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """Opens a page from disk; returns its screenshot, or with ``script`` what that leaves in ``window.said``."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        pytest.skip("needs a Chromium on PATH")

    def look(page: Path, fragment: str = "", *, script: str = "", size: tuple[int, int] = (900, 600)) -> Any:
        if script:
            # the page's policy would refuse a script that is not its own
            text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text())
            run = f"document.documentElement.dataset.said = JSON.stringify((() => {{{script}}})());"
            end = f"<script>{run}</script></body>"
            page = tmp_path / "driven.html"
            page.write_text(text.replace("</body>", end))
        picture = tmp_path / "shot.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
        options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1000", "--enable-logging=stderr"]
        options += [f"--window-size={size[0]},{size[1]}", "--dump-dom" if script else f"--screenshot={picture}"]
        command = [program, *options, f"{page.as_uri()}#{fragment}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert "CONSOLE" not in done.stderr, done.stderr
        if script:
            said = re.search(r'<html[^>]* data-said="([^"]*)"', done.stdout)
            assert said, done.stdout[:500]
            return json.loads(html.unescape(said[1]))
        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"), dtype=int)

    return look


def pixels(picture: np.ndarray, colour: str) -> np.ndarray:
    """(N, 2) rows and columns of the pixels of about this colour, above the controls and below the title."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    rows, columns = np.nonzero(np.abs(picture[60:-120] - wanted).max(-1) < 25)
    return np.stack((rows, columns), axis=-1)


def test_two_times_show_two_poses(tmp_path, walker, browser):
    """At t = 0 and 1 s arms and legs hang, 2 m apart; at t = 0.25 s they swing by 29 degrees."""
    page = write_html([walker(30, 20, speed=2.0)], tmp_path / "p.html")
    start, later, far = (browser(page, f"t={time}&play=0&theme=light") for time in (0, 0.25, 1))
    for picture in (start, later, far):
        for colour in (LEFT, RIGHT):
            assert len(pixels(picture, colour)) > 300
    assert np.ptp(pixels(later, LEFT)[:, 1]) > 1.3 * np.ptp(pixels(start, LEFT)[:, 1])
    assert abs(pixels(far, LEFT)[:, 1].mean() - pixels(start, LEFT)[:, 1].mean()) > 40
    dark = browser(page, "t=0&play=0&theme=dark")
    assert dark[100, 5].max() < 40 < 200 < start[100, 5].min()
    assert np.array_equal(browser(page, "t=0&play=0&theme=light"), start)


def test_two_skeletons_stand_side_by_side(tmp_path, walker, random_motion, browser):
    """Different joints and rates: each has its half of the image."""
    page = write_html([walker(20), random_motion(3, 30, 8)], tmp_path / "p.html", names=["a", "b"], compare=True)
    script = "return [document.getElementById('legend').textContent, document.getElementById('views').hidden];"
    words, hidden = browser(page, "t=0.2&play=0", script=script)
    assert "two skeletons: joints are not compared" in words and hidden is False
    alone = browser(page, "t=0.2&play=0&with=&theme=light")
    beside = browser(page, "t=0.2&play=0&theme=light")
    middle = 270 + (900 - 270) // 2
    assert pixels(beside, LEFT)[:, 1].max() < middle < pixels(alone, LEFT)[:, 1].max()
    grey = pixels(beside, "#3a4150")  # random joints have no sides
    assert len(grey[grey[:, 1] > middle]) > 100


def test_distance_of_two_motions_is_reported(tmp_path, walker, browser):
    """The second stands 0.3 m beside the first, everything else alike."""
    first = walker(20)
    second = replace(first, root=first.root + np.array([0.3, 0, 0], dtype=np.float32))
    page = write_html([first, second], tmp_path / "p.html", names=["a", "b"], compare=True, view="overlay")
    script = "return document.getElementById('legend').textContent;"
    assert "mean distance of the joints 30.0 cm" in browser(page, "t=0.3&play=0", script=script)
    assert "mean distance of the joints 0.0 cm" in browser(page, "t=0.3&play=0&align=1", script=script)


_DRIVE = """
const $ = (id) => document.getElementById(id), out = {};
const key = (name) => document.dispatchEvent(new KeyboardEvent("keydown", { key: name, cancelable: true }));
const time = () => $("clock").textContent.split(" ")[0];
out.start = $("clock").textContent;
key("ArrowRight"); key("ArrowRight"); out.two = time();
key("ArrowLeft"); out.one = time();
key("End"); out.end = time(); key("ArrowRight"); out.beyond = time();
key("Home"); key("ArrowLeft"); out.home = time();
const label = () => $("play").getAttribute("aria-label");
key(" "); out.plays = label(); $("play").click(); out.paused = label();
$("scrub").value = 0.7; $("scrub").dispatchEvent(new Event("input")); out.scrubbed = time();
key("]"); out.faster = $("speed").value; for (let i = 0; i < 9; i++) key("["); out.slowest = $("speed").value;
key("d"); out.theme = document.documentElement.dataset.theme;
key("n"); out.next = document.querySelector(".name[aria-pressed=true]").textContent;
out.views = $("views").hidden;
document.querySelectorAll(".with")[2].click(); out.with = document.querySelectorAll(".with[aria-pressed=true]").length;
key("s"); out.view = $("overlay").getAttribute("aria-pressed");
key("n"); out.itself = document.querySelectorAll(".with[aria-pressed=true]").length;
key("f"); key("j"); out.checked = [$("follow").checked, $("joints").checked];
key("h"); out.help = $("keys").hidden;
$("filter").value = "0"; $("filter").dispatchEvent(new Event("input"));
out.listed = [...$("list").children].filter((item) => !item.hidden).length;
const canvas = $("canvas"), shot = () => canvas.toDataURL();
const point = (type, x, y, pointerId) =>
  canvas.dispatchEvent(new PointerEvent(type, { pointerId, clientX: x, clientY: y, buttons: 1 }));
canvas.setPointerCapture = () => {};
point("pointerdown", 300, 200, 1); point("pointermove", 340, 210, 1); point("pointerup", 340, 210, 1);
canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -200, cancelable: true }));
point("pointerdown", 300, 200, 1); point("pointerdown", 340, 200, 2);
point("pointermove", 400, 200, 2); point("pointerup", 400, 200, 2); point("pointerup", 300, 200, 1);
canvas.dispatchEvent(new MouseEvent("dblclick"));
return out;
"""


def test_keys_and_buttons(tmp_path, walker, browser):
    motions = [walker(21 + number) for number in range(10)]
    page = write_html(motions, tmp_path / "p.html", names=[f"walk {number}" for number in range(10)])
    assert browser(page, "play=0&theme=light", script=_DRIVE) == {
        "start": "0.00 / 1.00 s · frame 1 of 21", "two": "0.10", "one": "0.05", "end": "1.00", "beyond": "1.00",
        "home": "0.00", "plays": "Pause", "paused": "Play", "scrubbed": "0.70", "faster": "1.5", "slowest": "0.1",
        "theme": "dark", "next": "walk 1walk · 1.1 s", "views": True, "with": 1, "view": "true", "itself": 0,
        "checked": [True, True], "help": False, "listed": 1,
    }  # fmt: skip


def test_odd_motions_and_addresses_are_shown(tmp_path, walker, random_motion, browser):
    """One frame, one joint, bones without length, nonsense in the address: drawn, with nothing in the console."""
    flat = replace(
        walker(2), skeleton=Skeleton(walker(2).skeleton.names, walker(2).skeleton.parents, np.zeros((13, 3)))
    )
    page = write_html([walker(1), random_motion(0, 1, 1), flat], tmp_path / "p.html", names=["a", "b", "c"])
    script = "return document.getElementById('clock').textContent;"
    assert (
        browser(page, "t=abc&motion=99&with=-1&view=up&theme=pink&play=1", script=script)
        == "0.00 / 0.00 s · frame 1 of 1"
    )
    for motion in "bc":
        assert browser(page, f"motion={motion}&t=9&names=1&play=0").shape == (600, 900, 3)


def test_export_takes_html(tmp_path, walker):
    page = export(walker(4), tmp_path / "x.html", clip_id="walk-7")
    assert page_data(page)["motions"][0]["name"] == "walk-7"
