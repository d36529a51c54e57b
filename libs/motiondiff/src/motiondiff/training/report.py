"""Report page of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icube_common.config import config_to_dict
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, read_json
from motiondiff.config import MotionDiffConfig
from motiondiff.data.store import MotionStore
from motiondiff.training.copy_test import FIGURES, FILTER, MEANING
from motiondiff.training.copy_test import FILE as COPY_TEST

LOSSES = ("loss", "simple", "positions", "root", "velocity", "contact", "feet")


def run_report(run: RunFolder, store: MotionStore, config: MotionDiffConfig) -> Report:
    """Report page: data, losses over steps, copy test, settings and machine."""
    info = store.info()
    subtitle = f"{info['splits'].get('train', 0)} training clips, {len(info['actions'])} actions"
    if info["simulated"]:
        subtitle = f"simulated motions, not recordings of people: {subtitle}"
    report = Report("Motion diffusion training", subtitle=subtitle)
    report.section("Data")
    report.facts(
        {
            "clips": info["clips"],
            "splits": ", ".join(f"{name} {count}" for name, count in info["splits"].items()),
            "split by": info["split_by"],
            "frames per second": info["fps"],
            "joints": info["joints"],
            "fingerprint": store.fingerprint,
        }
    )
    report.table(["action", "clips"], list(info["actions"].items()))
    records = [record for record in run.read_metrics() if "loss" in record]
    if records:
        report.section("Losses")
        names = [name for name in LOSSES if any(record.get(name, 0) > 0 for record in records)]
        report.metrics(
            records,
            names,
            log_y=True,
            alt="Training losses over steps, logarithmic",
            caption="loss is the weighted sum",
        )
    if (run.path / COPY_TEST).is_file():
        add_copy_test(report, read_json(run.path / COPY_TEST))
    for name, values in config_to_dict(config).items():
        report.section(f"Settings: {name}")
        report.facts(values)
    report.section("Environment")
    environment = read_json(run.environment)
    report.facts({name: value for name, value in environment.items() if not isinstance(value, (dict, list))})
    report.facts(environment.get("packages", {}))
    return report


def add_copy_test(report: Report, result: Mapping[str, Any]) -> None:
    """Add a `motiondiff.training.copy_test.copy_test`: curves over noise, and their numbers."""
    report.section("Copy test")
    clips = f"{result['clips']} clips of the {result['split']} split"
    if result["split"] == "train":
        clips += ", which the model was trained on: the store has no validation split"
    report.paragraph(
        f"Clips are noised, denoised once with their own conditions and compared with themselves ({clips}; median over "
        "clips). A denoiser that copies has 1, 1 and 0 cm at little noise."
    )
    noise = result["noise"]
    plots = (
        (
            (*FIGURES[:2], FILTER),
            "",
            "Movement and explained velocity after denoising, over the deviation of the noise",
        ),
        (FIGURES[2:], "cm", "Distance of the root from its place after denoising, over the deviation of the noise"),
    )
    for names, unit, alt in plots:
        points = {name: [(x, y) for x, y in zip(noise, result[name], strict=True) if y is not None] for name in names}
        series = {name: ([x for x, _ in pairs], [y for _, y in pairs]) for name, pairs in points.items() if pairs}
        if series:
            caption = "; ".join(f"{name}: {MEANING[name]}" for name in series)
            report.plot(series, alt=alt, x_label="deviation of the noise", y_label=unit, caption=caption)
    columns = (*FIGURES, FILTER)
    report.table(["noise", *columns], list(zip(noise, *(result[name] for name in columns), strict=True)))
