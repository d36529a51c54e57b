"""Committed binary files: images, each made by a script of the repository that ``benchmarks/README.md`` lists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "benchmarks" / "README.md"
ROW = re.compile(r"(?m)^\| \[`([^`]+)`\]\(([^)]+)\) \| \[`([^`]+)`\]\(([^)]+)\) \|")
MAX_BYTES = 500_000


def is_binary(content: bytes) -> bool:
    """No text: a NUL byte, or no UTF-8."""
    if b"\0" in content:
        return True
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def committed() -> list[str]:
    """Committed and new files, without those that git ignores."""
    if not (ROOT / ".git").exists():
        pytest.skip("no clone: the committed files are not listed")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode("utf-8")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def images() -> dict[str, str]:
    """Image -> its script, both from the repository's root."""
    rows = ROW.findall(LIST.read_text(encoding="utf-8").partition("\n## Images\n")[2])
    places = [(LIST.parent / image, LIST.parent / script) for _, image, _, script in rows]
    return {str(a.resolve().relative_to(ROOT)): str(b.resolve().relative_to(ROOT)) for a, b in places}


def test_binary_files_have_a_script() -> None:
    binary = {name for name in committed() if is_binary((ROOT / name).read_bytes())}
    listed = images()
    assert binary == set(listed)
    assert [script for script in listed.values() if not (ROOT / script).is_file()] == []
    assert [name for name in binary if (ROOT / name).stat().st_size > MAX_BYTES] == []


def test_binary_files_are_detected() -> None:
    assert is_binary(b"\x89PNG\r\n\0") and is_binary(b"\xff\xfe\xfd")
    assert not is_binary("é, ü and mm³".encode())
