"""Viewer page with simulated motions, photographed by Chromium: ``docs/images/viewer.png``.

Usage: python benchmarks/images/viewer.py --out docs/images/viewer.png (needs ``chromium``)
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from motiondiff.data.synthetic import simulate_motion
from motiondiff.export.html.page import write_html

ACTIONS = ("sit down", "walk", "wave", "run")


def main(out: Path) -> None:
    """Write the page, open it at a chosen moment with two motions side by side."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "viewer.html"
        names = [f"{action.replace(' ', '-')}-000" for action in ACTIONS]
        motions = [simulate_motion(action, 0, fps=30) for action in ACTIONS]
        write_html(motions, page, names=names, title=f"{len(ACTIONS)} simulated motions")
        address = f"{page.as_uri()}#t=1&play=0&motion=wave-000&with=walk-000&view=side"
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,600"]
        subprocess.run([*browser, f"--screenshot={out.resolve()}", address], check=True, capture_output=True)
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args().out)
