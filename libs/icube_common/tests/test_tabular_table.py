"""Tables of numbers, their scaling and their groups: hand-computed, and blind to what is not for training."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from icube_common.errors import InputError
from icube_common.tabular import Scaler, TabularConfig, TabularData, group_features
from icube_common.tabular.fusion import class_means
from icube_common.tabular.groups import spearman

from .tabular_data import FOLD, Rows, make_table, with_other_test_rows, with_values

NAN = float("nan")


def one_column(*values: float) -> TabularData:
    ids = tuple(str(row) for row in range(len(values)))
    return TabularData(ids=ids, names=("speed",), values=np.array(values)[:, None], units=("m/s",))


def test_configuration_and_tables_need_no_torch() -> None:
    code = (
        "import sys; from icube_common.tabular import TabularConfig, TabularData, Scaler; TabularConfig();"
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_read_csv(tmp_path: Path) -> None:
    file = tmp_path / "walks.csv"
    file.write_text("\ufeffid,note,walking_speed,age\na,x,0.92,74\nb,y,,n/a\nc,z,1e0, 61 \n", encoding="utf-8")
    table = TabularData.read_csv(file, id_column="id", columns=["age", "walking_speed"], units={"walking_speed": "m/s"})
    assert table.ids == ("a", "b", "c")
    assert table.names == ("age", "walking speed")
    assert table.units == ("", "m/s")
    np.testing.assert_array_equal(table.values, [[74, 0.92], [NAN, NAN], [61, 1]])
    np.testing.assert_array_equal(table.rows(["c", "a"]), [[61, 1], [74, 0.92]])
    with pytest.raises(InputError, match="unknown id of the tabular data 'd'"):
        table.rows(["a", "d"])


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("id,age\na,old\n", ["age"], r"walks\.csv:2: age=old: must be a finite number"),
        ("id,age\na,1\nb,inf\n", ["age"], r"walks\.csv:3: age=inf: must be a finite number"),
        ("id,age\na,7,4\n", ["agee"], r"unknown column 'agee': did you mean 'age'"),
        ("name,age\na,7\n", ["age"], r"unknown column 'id'"),
        ("id,age\na,7\na,8\n", ["age"], r"id 'a' comes 2 times"),
        ("", ["age"], r"unknown column 'id'"),
    ],
)
def test_read_csv_refuses(tmp_path: Path, text: str, columns: list[str], message: str) -> None:
    file = tmp_path / "walks.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        TabularData.read_csv(file, id_column="id", columns=columns)
    with pytest.raises(InputError, match="unknown column with a unit 'x'"):
        TabularData.read_csv(file, id_column="id", columns=columns, units={"x": "m"})


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_whatever_a_file_holds(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(b"id,age\n" + content)
    try:
        table = TabularData.read_csv(file, id_column="id", columns=["age"])
    except InputError:
        return
    assert len(table.ids) == len(table.values) and not np.isinf(table.values).any()


def test_tables_refuse() -> None:
    with pytest.raises(InputError, match="is infinite"):
        one_column(1.0, float("inf"))
    with pytest.raises(InputError, match=r"values of shape \(2, 1\) for 3 ids"):
        TabularData(ids=("a", "b", "c"), names=("x",), values=np.zeros((2, 1)), units=("",))
    with pytest.raises(InputError, match="column 'x' comes 2 times"):
        TabularData(ids=("a",), names=("x", "x"), values=np.zeros((1, 2)), units=("", ""))


@pytest.mark.parametrize(
    ("values", "method", "center", "scale"),
    [
        # quartiles of 0, 1, 2, 3, 4 by linear interpolation: 1, 2, 3
        ((0.0, 1.0, 2.0, 3.0, 4.0), "robust", 2.0, 2 / 1.3489795003921634),
        # an outlier moves neither
        ((0.0, 1.0, 2.0, 3.0, 4e6), "robust", 2.0, 2 / 1.3489795003921634),
        ((0.0, NAN, 2.0, 1.0, 3.0, NAN, 4.0), "robust", 2.0, 2 / 1.3489795003921634),
        ((1.0, 3.0, NAN), "standard", 2.0, 1.0),
        ((0.0, 0.0, 0.0, 4.0), "standard", 1.0, 3**0.5),
        # the quartiles of 0, 0, 0, 0, 0, 6 coincide: the deviation serves
        ((0.0, 0.0, 0.0, 0.0, 0.0, 6.0), "robust", 0.0, 5**0.5),
        ((7.0, 7.0, NAN), "robust", 7.0, 1.0),
    ],
)
def test_scaler_by_hand(values: tuple[float, ...], method: str, center: float, scale: float) -> None:
    table = one_column(*values)
    scaler = Scaler.fit(table, Rows(table.ids), method=method)
    assert scaler.center == pytest.approx((center,))
    assert scaler.scale == pytest.approx((scale,))
    np.testing.assert_allclose(scaler.transform(table.values), (table.values - center) / scale)
    assert Scaler.from_dict(json.loads(json.dumps(scaler.to_dict()))) == scaler


def test_scaler_reports_constant_and_missing_columns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="icube_common"):
        assert Scaler.fit(one_column(7.0, 7.0, 8.0), Rows(["0", "1"])).constant == ("speed",)
    assert "single value in training: speed" in caplog.text
    assert Scaler.fit(one_column(0.0, 0.0, 0.0, 0.0, 0.0, 6.0), Rows("012345")).coarse == ("speed",)
    with pytest.raises(InputError, match="'speed': has no value in any of the 2 training rows"):
        Scaler.fit(one_column(NAN, NAN, 1.0), Rows("01"))
    with pytest.raises(InputError, match="the fold has no training row"):
        Scaler.fit(one_column(1.0, 2.0), Rows([]))
    with pytest.raises(InputError, match="1 columns were fitted"):
        Scaler.fit(one_column(1.0, 2.0), Rows("01")).transform(np.zeros((2, 3)))


@pytest.mark.parametrize("method", ["robust", "standard"])
def test_fitting_is_independent_of_test_rows(method: str) -> None:
    table, other = make_table(), with_other_test_rows(make_table())
    scaler = Scaler.fit(table, FOLD, method=method)
    assert Scaler.fit(other, FOLD, method=method) == scaler
    assert group_features(other, FOLD) == group_features(table, FOLD)
    np.testing.assert_array_equal(class_means(other, FOLD, scaler), class_means(table, FOLD, scaler))
    # and each would change with a training row
    changed = table.values.copy()
    changed[0] = [3.0, -3.0, 500.0, 7.0]
    assert Scaler.fit(with_values(table, changed), FOLD, method=method) != scaler


def test_spearman_against_scipy() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(40, 4)) @ generator.normal(size=(4, 4))
    values[:, 2] = values[:, 2].round()  # ties
    np.testing.assert_allclose(spearman(values), np.abs(spearmanr(values).statistic), atol=1e-12)
    values[3, 1] = np.nan
    both = np.delete(values, 3, axis=0)
    assert spearman(values)[0, 1] == pytest.approx(abs(spearmanr(both[:, 0], both[:, 1]).statistic))


def test_correlation_that_is_not_defined_counts_as_full() -> None:
    values = np.array([[1.0, 5.0, 1.0], [2.0, 5.0, NAN], [4.0, 5.0, 2.0], [3.0, 5.0, NAN]])
    np.testing.assert_array_equal(spearman(values), np.ones((3, 3)))


def groups_of(columns: list[list[float]], **options: float) -> tuple[tuple[int, ...], ...]:
    values = np.array(columns, dtype=float).T
    names = tuple(f"n{j}" for j in range(len(columns)))
    table = TabularData(ids=tuple(map(str, range(len(values)))), names=names, values=values, units=("",) * len(names))
    return group_features(table, Rows(table.ids), **options)  # type: ignore[arg-type]


def test_groups_by_hand() -> None:
    rising, falling = [1.0, 2, 3, 4, 5], [5.0, 4, 3, 2, 1]
    peak = [1.0, 2, 5, 4, 3]  # ranks' correlation with rising: 1 - 6 * 8 / 120 = .6
    valley = [3.0, 1, 2, 5, 4]  # with rising: 1 - 6 * 8 / 120 = .6; with peak: 1 - 6 * 16 / 120 = .2
    assert groups_of([rising, falling, peak], max_correlation=0.7) == ((0, 2), (1,))
    assert groups_of([rising, falling, peak], max_correlation=0.5) == ((0,), (1,), (2,))
    assert groups_of([rising, falling, peak], max_correlation=1.0) == ((0, 1, 2),)
    assert groups_of([rising, peak, valley], max_correlation=0.5) == ((0,), (1, 2))
    assert groups_of([rising, peak, valley], max_correlation=1.0, size=2) == ((0, 1), (2,))


@pytest.mark.parametrize("size", [1, 3, 8])
def test_groups_part_the_columns_and_keep_their_promise(size: int) -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=(60, 12)) @ generator.normal(size=(12, 12))
    groups = groups_of(values.T.tolist(), max_correlation=0.3, size=size)
    assert sorted(column for group in groups for column in group) == list(range(12))
    assert max(map(len, groups)) <= size
    rho = spearman(values)
    assert all(rho[a, b] <= 0.3 for group in groups for a in group for b in group if a != b)
    assert groups_of(values.T.tolist(), max_correlation=0.3, size=size) == groups


def test_class_means_by_hand() -> None:
    table = one_column(1.0, 3.0, NAN, 10.0, 99.0)
    scaler = Scaler(names=("speed",), center=(1.0,), scale=(2.0,))
    means = class_means(table, Rows("3012", np.array([2, 0, 0, 0])), scaler)
    # (0 + 1) / 2; class 1 is not in training; 4.5
    np.testing.assert_allclose(means, [[0.5], [NAN], [4.5]])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{name} {unit}", "must hold {name} and {value} once each"),
        ("{name} {value} {value}", "must hold {name} and {value} once each"),
        ("{name} {value} {sex}", "must hold {name} and {value} once each"),
        ("{name} {value", "expected '}'"),
    ],
)
def test_templates_are_checked(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TabularConfig(template=template)
