"""Golden values: numbers of whole runs, taken before a change of structure and compared after it.

`check` compares by a relative tolerance, since another processor rounds otherwise. On the machine of the numbers
``ICUBE_GOLDEN=exact`` asks for equality to the last bit; ``ICUBE_GOLDEN=write`` writes them again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-3  # relative, of a mean and of a standard deviation


def summary(value: Any) -> Any:
    """A value as JSON: an array by shape, digest of its bytes, mean and standard deviation; others as they are."""
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return {
            "shape": list(array.shape),
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            "mean": float(array.mean(dtype=np.float64)),
            "std": float(array.std(dtype=np.float64)),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): summary(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [summary(item) for item in value]
    return value


def differences(golden: Any, value: Any, *, exact: bool, tolerance: float = TOLERANCE, where: str = "") -> list[str]:
    """Every place in which two summaries differ, as text; an empty list where none does."""
    if isinstance(golden, dict) and isinstance(value, dict):
        if golden.keys() != value.keys():
            return [f"{where}: keys {sorted(golden.keys() ^ value.keys())} on one side only"]
        keys = [key for key in golden if exact or key != "sha256"]
        return [
            line
            for key in keys
            for line in differences(golden[key], value[key], exact=exact, tolerance=tolerance, where=f"{where}/{key}")
        ]
    if isinstance(golden, list) and isinstance(value, list):
        if len(golden) != len(value):
            return [f"{where}: {len(value)} items, golden {len(golden)}"]
        pairs = enumerate(zip(golden, value, strict=True))
        return [
            line
            for k, (a, b) in pairs
            for line in differences(a, b, exact=exact, tolerance=tolerance, where=f"{where}/{k}")
        ]
    same = golden == value or (golden != golden and value != value)
    if not exact and isinstance(golden, float) and isinstance(value, (int, float)):
        same = same or math.isclose(golden, value, rel_tol=tolerance, abs_tol=tolerance)
    return [] if same else [f"{where}: {value!r}, golden {golden!r}"]


def check(file: Path, name: str, values: Mapping[str, Any], *, tolerance: float = TOLERANCE) -> None:
    """Compare ``values`` with those under ``name`` in the JSON ``file``.

    Raises:
        AssertionError: a value differs, or the file has no such name.
    """
    mode = os.environ.get("ICUBE_GOLDEN", "")
    stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = json.loads(json.dumps(summary(values)))
    if mode == "write":
        stored[name] = found
        file.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    assert name in stored, f"{file.name} has no golden values {name!r}"
    wrong = differences(stored[name], found, exact=mode == "exact", tolerance=tolerance)
    assert wrong == [], "\n".join(wrong)
