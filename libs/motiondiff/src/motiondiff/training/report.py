"""Report page of a training."""

from __future__ import annotations

from icube_common.config import config_to_dict
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, read_json
from motiondiff.config import MotionDiffConfig
from motiondiff.data.store import MotionStore

LOSSES = ("loss", "simple", "positions", "root", "velocity", "contact")


def run_report(run: RunFolder, store: MotionStore, config: MotionDiffConfig) -> Report:
    """Report page: data, losses over steps, settings and machine."""
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
    for name, values in config_to_dict(config).items():
        report.section(f"Settings: {name}")
        report.facts(values)
    report.section("Environment")
    environment = read_json(run.environment)
    report.facts({name: value for name, value in environment.items() if not isinstance(value, (dict, list))})
    report.facts(environment.get("packages", {}))
    return report
