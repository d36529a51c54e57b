from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.evaluation.intervals import group_interval
from icube_common.evaluation.metrics import default_names, macro_f1
from icube_common.evaluation.predictions import Predictions, concatenate


def make(
    rows: int = 24, *, repeats: int = 1, seed: int = 0, names: tuple[str, ...] = ("CN", "AD, mild", "é")
) -> Predictions:
    generator = np.random.default_rng(seed)
    count = rows * repeats
    labels = np.tile(np.arange(rows) % len(names), repeats)
    values = generator.dirichlet(np.ones(len(names)), count) + 0.5 * np.eye(len(names))[labels]
    return Predictions(
        ids=[f"OAS1_{row:04d}_MR1" for row in range(rows)] * repeats,
        subjects=[f"OAS1_{row // 2:04d}" for row in range(rows)] * repeats,
        repeats=np.repeat(np.arange(repeats), rows),
        folds=np.tile(np.arange(rows) // 2 % 4, repeats),
        labels=labels,
        probabilities=values / values.sum(axis=1, keepdims=True),
        class_names=names,
    )


def test_file_format_of_predictions(tmp_path: Path) -> None:
    found = Predictions(
        ids=["a.mp4", "b.mp4"], subjects=["s1", "s2"], repeats=np.array([0, 0]), folds=np.array([0, 1]),
        labels=np.array([0, 0]), probabilities=np.array([[0.75, 0.25], [0.1, 0.9]]), class_names=["sit", "wave"],
    )  # fmt: skip
    assert found.write_csv(tmp_path / "predictions.csv").read_text() == (
        "id,subject,repeat,fold,label,predicted,p_sit,p_wave\n"
        "a.mp4,s1,0,0,sit,sit,0.75,0.25\n"
        "b.mp4,s2,0,1,sit,wave,0.1,0.9\n"
    )


def test_predictions_round_trip(tmp_path: Path) -> None:
    found = make(repeats=3)
    again = Predictions.read_csv(found.write_csv(tmp_path / "p.csv"))
    for name in ("ids", "subjects", "class_names"):
        assert getattr(again, name) == getattr(found, name)
    for name in ("repeats", "folds", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert again.metrics() == found.metrics()


def edit(row: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    def change(lines: list[list[str]]) -> None:
        lines[row][column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(0, 0, "name"), "need id, subject, repeat"),
        (edit(0, 7, "CN"), "need id, subject, repeat"),
        (edit(0, 7, "p_CN"), "need id, subject, repeat"),
        (edit(3, 4, "DLB"), "row 4: unknown class 'DLB'"),
        (edit(3, 5, "AD"), "row 4: unknown class 'AD': did you mean 'AD, mild'"),
        (edit(3, 2, "one"), "row 4: invalid literal"),
        (edit(3, 6, "much"), "row 4: could not convert"),
        (edit(3, 6, "nan"), "row 4: predicted|between 0 and 1"),
        (edit(2, 0, "OAS1_0000_MR1"), "'OAS1_0000_MR1' is there twice in repeat 0"),
        (lambda lines: lines[1].pop(), "row 2: 8 values, need 9"),
        (lambda lines: lines.__delitem__(slice(1, None)), "no row"),
        (lambda lines: lines.clear(), "need id, subject"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, change: Callable[[list[list[str]]], None], message: str) -> None:
    path = make().write_csv(tmp_path / "p.csv")
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    change(lines)
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(lines)
    with pytest.raises(InputError, match=message) as caught:
        Predictions.read_csv(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_predicted_class_that_is_not_the_most_probable_is_refused(tmp_path: Path) -> None:
    path = make().write_csv(tmp_path / "p.csv")
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    lines[1][5] = next(name for name in ("CN", "é") if name != lines[1][5])
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(lines)
    with pytest.raises(InputError, match=r"row 2: predicted .* is not the most probable"):
        Predictions.read_csv(path)
    with pytest.raises(InputError, match="cannot be read"):
        Predictions.read_csv(tmp_path / "missing.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a CSV table"):
        Predictions.read_csv(tmp_path / "bytes.csv")


def change(found: Predictions, **values: object) -> Predictions:
    fields = {name: getattr(found, name) for name in Predictions.__dataclass_fields__}
    return Predictions(**{**fields, **values})


def test_wrong_predictions() -> None:
    found = make()
    with pytest.raises(InputError, match=r"sums to 0\.5"):
        change(found, probabilities=found.probabilities / 2)
    with pytest.raises(InputError, match="'ids': 23"):
        change(found, ids=found.ids[1:])
    with pytest.raises(InputError, match="2 class names"):
        change(found, class_names=["a", "b"])
    twice = make(repeats=2)
    with pytest.raises(InputError, match="'OAS1_0000_MR1' has two subjects or two labels"):
        change(twice, subjects=["someone", *twice.subjects[1:]])


def test_intervals_are_over_subjects() -> None:
    found = make(repeats=2)
    values = found.metrics()
    assert list(values) == default_names(3) and {value.groups for value in values.values()} == {12}
    wanted = group_interval(macro_f1, found.labels, found.probabilities, found.subjects, repeats=found.repeats)
    assert values["macro_f1"] == wanted
    assert list(found.metrics(["top1", "top_2"])) == ["top1", "top_2"]


def test_joining_folds() -> None:
    whole = make(repeats=2)
    parts = []
    for repeat in (0, 1):
        for fold in range(4):
            rows = np.flatnonzero((whole.repeats == repeat) & (whole.folds == fold))
            picked = {
                name: [getattr(whole, name)[row] for row in rows]
                for name in ("ids", "subjects", "repeats", "folds", "labels", "probabilities")
            }
            parts.append(Predictions(**picked, class_names=whole.class_names))  # type: ignore[arg-type]
    joined = concatenate(parts)
    assert sorted(zip(joined.ids, joined.repeats, strict=True)) == sorted(zip(whole.ids, whole.repeats, strict=True))
    assert joined.metrics(["auc"])["auc"].mean == pytest.approx(whole.metrics(["auc"])["auc"].mean)
    with pytest.raises(InputError, match="twice in repeat 0"):
        concatenate([parts[0], parts[0]])
    with pytest.raises(InputError, match="cannot be joined"):
        concatenate([parts[0], make(names=("a", "b"))])
    with pytest.raises(InputError, match="nothing to join"):
        concatenate([])


def test_comparing_runs_pairs_rows_by_id() -> None:
    a, b = make(seed=0), make(seed=1)
    order = np.random.default_rng(5).permutation(len(b))
    fields = ("ids", "subjects", "repeats", "folds", "labels", "probabilities")
    mixed = change(b, **{name: [getattr(b, name)[row] for row in order] for name in fields})
    plain, paired = a.compare(b, ["top1", "auc"]), a.compare(mixed, ["top1", "auc"])
    for name in plain:
        assert paired[name].p_value == plain[name].p_value
        assert paired[name].difference.mean == pytest.approx(plain[name].difference.mean)
        means = a.metrics([name])[name].mean - b.metrics([name])[name].mean
        assert plain[name].difference.mean == pytest.approx(means)


def test_runs_on_other_rows_are_not_compared() -> None:
    a = make()
    for other, message in (
        (make(rows=22), "'OAS1_0022_MR1' of repeat 0 .2 in one only"),
        (make(repeats=2), "'OAS1_0000_MR1' of repeat 1"),
        (make(names=("CN", "AD", "é")), "two runs with classes"),
        (change(a, labels=(a.labels + 1) % 3), "'OAS1_0000_MR1' different labels"),
        (change(a, subjects=a.ids), "'OAS1_0000_MR1' different labels or subjects"),
    ):
        with pytest.raises(InputError, match=message):
            a.compare(other)
