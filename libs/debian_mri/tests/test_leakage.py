"""Numbers by hand: association of site and class, and allowed test subjects."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from debian_mri.cli import main
from debian_mri.cli.info import describe
from debian_mri.data.leakage import (
    check_site_confounding,
    check_train_test_overlap,
    site_association,
    training_scans,
)
from debian_mri.data.manifest import Manifest, Scan, write_manifest
from icube_common.errors import InputError
from icube_common.evaluation import Samples

CLASSES = "abcd"


@pytest.fixture(autouse=True)
def _logs_go_nowhere() -> Iterator[None]:
    """A command line logs to the standard error of its test, which is closed after it."""
    yield
    logging.getLogger("debian_mri").handlers[:] = [logging.NullHandler()]


def _samples(table: dict[str, str], groups: list[str] | None = None) -> Samples:
    """Site -> the classes of its scans, one letter of `CLASSES` each."""
    labels = [letter for letters in table.values() for letter in letters]
    sites = [site for site, letters in table.items() for _ in letters]
    return Samples(
        ids=[f"s{n}" for n in range(len(labels))],
        labels=np.array([CLASSES.index(letter) for letter in labels]),
        class_names=tuple(CLASSES),
        groups=groups,
        sites=sites,
    )


def _association(table: dict[str, str]) -> tuple[float, float]:
    samples = _samples(table)
    assert samples.sites is not None
    found = site_association([samples.class_names[k] for k in samples.labels], samples.sites, samples.ids)
    assert found is not None
    return found.cramers_v, found.mutual_information


def test_association_by_hand() -> None:
    assert _association({"x": "aa", "y": "bb"}) == (pytest.approx(1.0), pytest.approx(1.0))
    assert _association({"x": "ab", "y": "ab"}) == (0.0, pytest.approx(0.0))
    # 3 of 4 in each site: phi2 = 1/4; corrected (1/4 - 1/7) / (1 - 1/7) = 1/8
    v, information = _association({"x": "aaab", "y": "abbb"})
    assert v == pytest.approx(math.sqrt(1 / 8))
    assert information == pytest.approx(1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))


def test_rescans_of_a_person_count_once() -> None:
    once = site_association(["a", "b", "a"], ["x", "x", "y"], ["p", "q", "r"])
    often = site_association(["a", "b", "a", "a", "a"], ["x", "x", "y", "y", "y"], ["p", "q", "r", "r", "r"])
    assert once == often and once is not None and once.people == 3
    assert site_association(["a", "b"], ["x", None], ["p", "q"]) is None


@pytest.mark.parametrize(
    "table", [{"x": "aa", "y": "bb"}, {"x": "aaa", "y": "bb", "z": "aa"}, {"x": "aa", "y": "bb", "z": "a"}]
)
def test_a_site_that_names_the_class_is_refused(table: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"the site determines the class \(x: a, y: b"):
        check_site_confounding(_samples(table))


@pytest.mark.parametrize(
    "table",
    [
        {"x": "ab", "y": "bb"},  # one site knows both
        {"x": "ab"},
        {"x": "aa", "y": "aa"},  # nothing to confound
        {"x": "a", "y": "b", "z": "b"},  # sites of one person each say nothing
        {"x": "ab", "y": "bc", "z": "cd"},  # no site has all, but each pair is joined by others
    ],
)
def test_distinguishable_scans_are_not_refused(table: dict[str, str]) -> None:
    check_site_confounding(_samples(table))


@pytest.mark.parametrize(
    "table",
    [
        *({"x": "abab", "y": "cdcd"}, {"x": "ab", "y": "cc"}, {"x": "ab", "y": "bb", "z": "cd"}),
        {"x": "aaaa", **{f"y{n}": "b" for n in range(4)}},  # sites of one person each, all of one class
        {"x": "aaaa", "unknown": "bbb"},
    ],
)
def test_cohorts_of_different_classes_are_refused(table: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"there are classes that share no site with the others"):
        check_site_confounding(_samples(table))


@pytest.mark.parametrize(
    ("table", "accuracy"),
    [({"x": "a" * 20 + "b", "y": "b" * 20}, "0.98"), ({"x": "ab" * 10, "y": "c" * 19 + "a", "z": "c"}, "0.96")],
)
def test_a_site_that_nearly_names_the_class_is_refused(table: dict[str, str], accuracy: str) -> None:
    with pytest.raises(InputError, match=f"separates classes with a balanced accuracy of {accuracy}"):
        check_site_confounding(_samples(table))


def test_accuracy_of_the_site_by_hand() -> None:
    def accuracy(table: dict[str, str]) -> float:
        samples = _samples(table)
        assert samples.sites is not None
        found = site_association([samples.class_names[k] for k in samples.labels], samples.sites, samples.ids)
        assert found is not None
        return found.balanced_accuracy

    # four of five in each site; the other one is wrong
    assert accuracy({"x": "aaaab", "y": "abbbb"}) == pytest.approx(0.8)
    # without the person the other class is larger at each site
    assert accuracy({"x": "ab" * 5, "y": "ab" * 5}) == pytest.approx(0)
    # many small sites tell nothing, though half of them have one class
    generator = np.random.default_rng(0)
    assert accuracy({f"s{n}": "".join(generator.choice(["a", "b"], 2)) for n in range(60)}) < 0.7


def test_training_is_refused_though_one_site_is_blank(tmp_path: Path) -> None:
    scans = [
        Scan(id=f"s{n}", subject=f"p{n}", label="CN" if n % 2 else "AD", site="xy"[n % 2], paths=(f"{n}.nii",))
        for n in range(8)
    ]
    scans.append(Scan(id="s8", subject="p8", label="CN", paths=("8.nii",)))
    description = {"format": "csv", "title": "Pool", "root": ".", "class_names": ["CN", "AD"]}
    write_manifest(tmp_path, description, scans, {})
    for command in (["train", "--out", str(tmp_path / "run")], ["evaluate", "--out", str(tmp_path / "eval")]):
        assert main([*command, "--data", str(tmp_path)]) == 2
    with pytest.raises(InputError, match="the site determines the class"):
        check_site_confounding(Manifest.load(tmp_path).samples())
    assert any("the site determines the class" in line for line in describe(tmp_path)["warnings"])


def _manifest(folder: Path, title: str, *rows: tuple[str, str, str]) -> Manifest:
    folder.mkdir()
    scans = [
        Scan(id=name, subject=subject, label="CN", paths=(f"{name}.nii",), sha256=digest * 64)
        for name, subject, digest in rows
    ]
    write_manifest(folder, {"format": "csv", "title": title, "root": ".", "class_names": ["CN"]}, scans, {})
    return Manifest.load(folder)


def test_people_of_the_training_are_not_tested(tmp_path: Path) -> None:
    one = _manifest(tmp_path / "one", "one", ("s1", "p1", "1"), ("s2", "p2", "2"), ("s3", "OAS1_0001", "3"))
    trained = training_scans(one, [0, 2])
    assert trained["subjects"] == ["OAS1_0001", "p1"] and trained["ids"] == ["s1", "s3"]
    check_train_test_overlap(one, [1], trained)
    with pytest.raises(InputError, match=r"subject 'p1' .*--subjects p2 takes the others"):
        check_train_test_overlap(one, [0, 1], trained)
    other = _manifest(tmp_path / "two", "two", ("s1", "p1", "4"), ("x", "OAS1_0001", "5"), ("y", "p9", "1"))
    check_train_test_overlap(other, [0], trained)  # another set's p1 is somebody else
    with pytest.raises(InputError, match="subject 'OAS1_0001'"):
        check_train_test_overlap(other, [1], trained)
    with pytest.raises(InputError, match=r"the image of scan 'y' \(1 of 1\), under another id"):
        check_train_test_overlap(other, [2], trained)
