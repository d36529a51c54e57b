"""The page that a training leaves behind."""

from __future__ import annotations

from icube_common.config import config_to_yaml
from icube_common.reports import Report
from icube_common.runs import RunFolder, read_json
from motiondiff.config import MotionDiffConfig
from motiondiff.data.store import MotionStore

LOSSES = ("loss", "simple", "positions", "velocity", "contact")


def write_training_report(run: RunFolder, store: MotionStore, config: MotionDiffConfig) -> None:
    """Write ``report.html``: the data, the losses over steps, the settings and the machine."""
    info = store.info()
    environment = read_json(run.environment)
    report = Report("Motion diffusion training")
    if info["simulated"]:
        report.paragraph("Trained on simulated motions, not on recordings of people.")
    report.heading("Data")
    report.key_values(
        {
            "clips": info["clips"],
            "training clips": info["splits"].get("train", 0),
            "actions": len(info["actions"]),
            "frames per second": info["fps"],
            "joints": info["joints"],
            "split by": info["split_by"],
            "fingerprint": store.fingerprint,
        }
    )
    report.table(["action", "clips"], [[name, count] for name, count in info["actions"].items()])
    records = run.read_metrics()
    curves = {
        name: [(record["step"], record[name]) for record in records if name in record and record[name] > 0]
        for name in LOSSES
    }
    curves = {name: points for name, points in curves.items() if points}
    if curves:
        report.heading("Losses")
        report.line_plot(curves, x_label="step", y_label="loss", log_y=True)
    report.heading("Settings")
    report.code(config_to_yaml(config))
    report.heading("Environment")
    report.key_values({name: value for name, value in environment.items() if not isinstance(value, (dict, list))})
    report.save(run.report)
