"""Reading of numpy's files: damage, object arrays and errors in the block are one line."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.io.arrays import open_arrays


def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, joints=np.arange(600.0).reshape(10, 20, 3), names=np.array(["a", "b"]))
    return path


def test_arrays_by_name(tmp_path):
    with open_arrays(archive(tmp_path), "not mine") as arrays:
        assert arrays["joints"][9, 19, 2] == 599 and list(arrays["names"]) == ["a", "b"]
    np.save(tmp_path / "b.npy", np.ones(3))
    with open_arrays(tmp_path / "b.npy", "not mine", archive=False) as array:
        assert array.sum() == 3


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda path: path.unlink(), r"a\.npz: not mine \(.*No such file.*\): write it again$"),
        (lambda path: path.write_bytes(b""), r"not mine \(No data left in file\)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "not mine"),
        (
            lambda path: np.save(path.with_suffix(".npy"), np.ones(3)) or path.with_suffix(".npy").rename(path),
            r"not mine \(one array, not an \.npz of several\)",
        ),
        (lambda path: np.savez(path, joints=np.array([{}], dtype=object)), "not mine .*allow_pickle"),
        (lambda path: np.savez(path, other=np.ones(3)), "not mine .*joints"),
    ],
)
def test_damage_is_one_line(tmp_path, make, pattern):
    path = archive(tmp_path)
    make(path)
    with pytest.raises(InputError, match=pattern), open_arrays(path, "not mine", remedy=": write it again") as arrays:
        np.asarray(arrays["joints"], dtype=np.float64)


def test_mutated_files_are_read_or_refused(tmp_path):
    data, generator, refused = archive(tmp_path).read_bytes(), random.Random(0), 0
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 6)):
            changed[generator.randrange(len(data))] = generator.randrange(256)
        path = tmp_path / "b.npz"
        path.write_bytes(changed[: generator.choice([len(data), generator.randrange(len(data))])])
        try:
            with open_arrays(path, "not mine") as arrays:
                assert arrays["joints"].sum() == 179700
        except InputError as error:
            refused += str(error).startswith(f"{path}: not mine (")
    assert refused > 200


def test_an_error_of_the_block_that_is_of_the_user_remains(tmp_path):
    with pytest.raises(InputError, match=r"^mine$"), open_arrays(archive(tmp_path), "not mine"):
        raise InputError("mine")
