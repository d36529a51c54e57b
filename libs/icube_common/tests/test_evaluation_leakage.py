from __future__ import annotations

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.evaluation import Samples, check_train_test_overlap

SAMPLES = Samples(ids=["a1", "a2", "b1"], labels=np.array([0, 1, 0]), class_names=["x", "y"], groups=["a", "a", "b"])


def test_others_are_tested() -> None:
    check_train_test_overlap(SAMPLES, [2], {"ids": ["a1"], "subjects": ["a"]})


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ({"ids": ["a1"], "subjects": ["a"]}, r"subject 'a' \(1 of the set's\): .*--subjects b takes the others"),
        ({"ids": ["a2"], "subjects": []}, r"clip 'a2': .*--subjects a,b takes the others"),
        ({"ids": [], "subjects": ["a", "b"]}, r"subject 'a' \(2 of the set's\): .*it has no other subjects"),
    ],
)
def test_people_and_samples_of_the_training_are_refused(trained: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_train_test_overlap(SAMPLES, [0, 1, 2], trained, kind="clip")
