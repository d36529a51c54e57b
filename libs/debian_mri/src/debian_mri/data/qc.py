"""Quality control: a page of all scans of a prepared set, those that differ most from the others first.

Outlyingness is the largest robust z among a few measures, each ``|value - median| / (1.4826 MAD)`` over the set (of the
same plane, for slice images); of the correlation to the template only low values count. Above `ODD` a scan is marked.
Failed scans and unusual brains both have high values: inspect the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64

from debian_mri import RESEARCH_ONLY
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.imaging.preprocess import PreprocessConfig, Volume
from debian_mri.imaging.regions import PLANES
from debian_mri.imaging.slices import SliceConfig, SliceImage, read_slices, upright, window_intensity
from debian_mri.imaging.template import template_on_grid
from debian_mri.imaging.volume_cache import load_volume, preprocess_all
from icube_common.errors import InputError
from icube_common.io.csv import read_table
from icube_common.io.progress import progress_bar
from icube_common.io.reports import format_value, jpeg_uri, render_page
from icube_common.io.runs import atomic_file, check_output_path

# robust z above which a scan is marked
OUTLIER_Z = 3.5
# three planes of a brain that show hippocampus, ventricles and midline
QC_PLANES = (("coronal", -22.0), ("axial", 14.0), ("sagittal", -12.0))
_IMAGE_PIXELS = 220
MEASURES: Mapping[str, str] = {
    "correlation": "correlation to the template (to the mean image, for slices)",
    "volume": "volume of the mask, mL (share of bright pixels, for slices)",
    "contrast": "spread between quartiles (of z-scores; of grey, for slices)",
    "skewness": "skewness of intensities",
    "sharpness": "mean gradient between neighbours",
}
_ONLY_LOW = ("correlation",)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanQuality:
    """Quality measures of a scan in the order of `MEASURES`, its images with captions, and the source of its mask."""

    scan: Scan
    values: tuple[float, ...]
    images: tuple[tuple[Float32[np.ndarray, "h w"], str], ...]
    mask: str = ""


def write_qc_page(
    data: str | Path,
    out: str | Path,
    config: PreprocessConfig,
    *,
    root: str | Path | None = None,
    limit: int = 400,
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the quality control page of a prepared set.

    Volumes are read through the cache of preprocessed ones; unusable ones are listed with the reason.

    Returns:
        Counts of scans shown, marked and rejected, and the most outlying ones.

    Raises:
        InputError: ``out`` exists, ``limit`` is below 1, or no scan can be used.
    """
    out = check_output_path(out, overwrite=overwrite)
    if limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1")
    manifest = Manifest.load(data, root=root)
    rejected = [
        {"source": row["source"], "when": "prepare", "reason": row["reason"]}
        for _, row in read_table(manifest.folder / "rejected.csv", ("source", "reason"))
    ]
    results, refused = measure(manifest, config, workers=workers)
    rejected += [{"source": scan_id, "when": "qc", "reason": reason} for scan_id, reason in refused.items()]
    if not results:
        raise InputError(f"{data}: none of its {len(manifest.scans)} scans can be used; {next(iter(refused.values()))}")
    values = np.array([item.values for item in results])
    scores = robust_z(values, [item.scan.kind + ",".join(item.scan.planes) for item in results])
    order = np.argsort(-scores.max(axis=1), kind="stable")
    html = render_page(
        "qc.html.j2",
        package="debian_mri.data",
        title="Quality of the scans",
        subtitle=f"{manifest.description['title']}, {len(results)} scans",
        notice=RESEARCH_ONLY,
        simulated=manifest.simulated,
        facts=_facts(manifest, config, len(results), len(rejected), int((scores.max(axis=1) > OUTLIER_Z).sum())),
        method=(
            "Outlyingness is the largest robust z of the measures below: the distance from the median over 1.4826 "
            f"times the median absolute deviation; of the correlation only low values count. Scans above {OUTLIER_Z} "
            "are marked. An unusual brain and a failed scan may both stand first: look at them."
        ),
        measures=_measure_rows(values),
        rejected=rejected,
        left_out=max(0, len(results) - limit),
        scans=[_shown(results[index], scores[index]) for index in order[:limit]],
    )
    with atomic_file(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return {
        "page": str(out),
        "scans": len(results),
        "marked": int((scores.max(axis=1) > OUTLIER_Z).sum()),
        "rejected": len(rejected),
        "most_outlying": {results[index].scan.id: round(float(scores[index].max()), 2) for index in order[:5]},
        "notice": RESEARCH_ONLY,
    }


def robust_z(values: Float64[np.ndarray, "n m"], groups: Sequence[str]) -> Float64[np.ndarray, "n m"]:
    """Robust z-scores: distance from the median of the group over 1.4826 MAD.

    0 for the value of more than half of the group; at most 99.
    """
    scores = np.zeros_like(values)
    names = np.array(groups)
    for group in dict.fromkeys(groups):
        members = names == group
        apart = values[members] - np.median(values[members], axis=0)
        spread = 1.4826 * np.median(abs(apart), axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores[members] = np.where(abs(apart) < 1e-12, 0.0, apart / spread)
    for index, name in enumerate(MEASURES):
        scores[:, index] = np.maximum(-scores[:, index], 0) if name in _ONLY_LOW else abs(scores[:, index])
    return np.minimum(scores, 99.0)


def measure(
    manifest: Manifest, config: PreprocessConfig, *, workers: int = 1
) -> tuple[list[ScanQuality], dict[str, str]]:
    """Quality measures of all usable scans, and scan id -> reason for the others."""
    refused: dict[str, str] = {}
    results: list[ScanQuality] = []
    volumes = [scan for scan in manifest.scans if scan.kind == "volume"]
    paths: dict[str, Path] = {}
    if volumes:
        try:
            paths = preprocess_all(manifest, config, scans=volumes, workers=workers)
        except InputError:
            paths = {}  # none can be used: the table of reasons says why
        table = manifest.folder / "volumes" / "rejected.csv"
        refused |= {row["source"]: row["reason"] for _, row in read_table(table, ("source", "reason"))}
    for scan in progress_bar([scan for scan in volumes if scan.id in paths], desc="measures", unit="scan"):
        results.append(_measured_volume(scan, load_volume(paths[scan.id]), config))
    sets = [scan for scan in manifest.scans if scan.kind == "slices"]
    slice_images: dict[str, list[SliceImage]] = {}
    for scan in progress_bar(sets, desc="slices", unit="scan", disable=not sets):
        try:
            config_all = SliceConfig(planes=list(PLANES))
            slice_images[scan.id] = list(read_slices(manifest.paths_of(scan), scan.planes, config_all))
        except InputError as error:
            refused[scan.id] = str(error).rpartition("/")[2]
    means = _median_images(list(slice_images.values()))
    results += [_measured_slices(scan, slice_images[scan.id], means) for scan in sets if scan.id in slice_images]
    return results, refused


def _measured_volume(scan: Scan, volume: Volume, config: PreprocessConfig) -> ScanQuality:
    inside = volume.data[volume.mask]
    correlation = 1.0
    if config.space == "mni":
        template = template_on_grid(config.spacing, config.field_of_view)
        correlation = _correlation(volume.data[template.brain], template.t1[template.brain])
    size = float(volume.mask.sum() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000)
    shown = window_intensity(volume, 1.0, 99.5)
    images = []
    for plane, position in QC_PLANES:
        axis = PLANES[plane]
        middle = volume.data.shape[axis] // 2
        nearest = round((position - volume.affine[axis, 3]) / volume.affine[axis, axis])
        index = int(np.clip(nearest if config.space == "mni" else middle, 0, volume.data.shape[axis] - 1))
        caption = f"{'xyz'[axis]} = {position:g} mm" if config.space == "mni" else "middle"
        images.append((upright(shown, plane, index), f"{plane} plane of {scan.id}, {caption}"))
    values = (correlation, size, *_intensities(inside, volume.data))
    mask = f"mask {volume.mask_source}, {volume.intracranial_ml:.0f} mL in the head's size"
    return ScanQuality(scan=scan, values=values, images=tuple(images), mask=mask)


def _measured_slices(
    scan: Scan, slice_images: Sequence[SliceImage], means: Mapping[str, Float32[np.ndarray, "h w"]]
) -> ScanQuality:
    """Measures of slice images: minimum of the correlation, mean of all others."""
    rows = []
    for slice_image in slice_images:
        bright = slice_image.image > 0.1
        inside = slice_image.image[bright] if bright.sum() > 16 else slice_image.image.reshape(-1)
        similar = _correlation(_small(slice_image.image), means[slice_image.plane])
        rows.append((similar, float(bright.mean()), *_intensities(inside, slice_image.image)))
    values = np.array(rows)
    shown = tuple((slice_image.image, f"{slice_image.plane} slice of {scan.id}") for slice_image in slice_images)
    return ScanQuality(scan=scan, values=(float(values[:, 0].min()), *values[:, 1:].mean(0).tolist()), images=shown)


def _intensities(inside: npt.NDArray[np.float32], image: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Spread between quartiles, skewness, mean gradient."""
    low, high = np.percentile(inside, [25, 75])
    centred = inside.astype(np.float64) - inside.mean(dtype=np.float64)
    deviation = float(np.sqrt((centred**2).mean())) or 1.0
    gradients = [float(abs(np.diff(image, axis=axis)).mean()) for axis in range(image.ndim)]
    return float(high - low), float((centred**3).mean() / deviation**3), float(np.mean(gradients))


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    a, b = a.reshape(-1) - a.mean(), b.reshape(-1) - b.mean()
    return float((a * b).sum() / max(1e-12, float(np.sqrt((a * a).sum() * (b * b).sum()))))


def _small(image: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "64 64"]:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BOX), dtype=np.float32)


def _median_images(sets: Sequence[Sequence[SliceImage]]) -> dict[str, Float32[np.ndarray, "64 64"]]:
    """Median image of each plane, at 64 x 64 pixels."""
    by_plane: dict[str, list[Float32[np.ndarray, "64 64"]]] = {}
    for slice_images in sets:
        for slice_image in slice_images:
            by_plane.setdefault(slice_image.plane, []).append(_small(slice_image.image))
    return {plane: np.median(np.stack(images), axis=0) for plane, images in by_plane.items()}


def _facts(
    manifest: Manifest, config: PreprocessConfig, shown: int, rejected: int, marked: int
) -> list[tuple[str, str]]:
    counts = manifest.description["counts"]
    steps = (
        f"space {config.space}, registration {config.registration}, {config.spacing:g} mm, N4 {format_value(config.n4)}"
    )
    facts: dict[str, Any] = {
        "scans": shown,
        "subjects": counts["subjects"],
        "classes": counts["classes"],
        "sites": counts["sites"] or None,
        "outliers": marked,
        "rejected": rejected,
        "preprocessing": steps if any(scan.kind == "volume" for scan in manifest.scans) else "slice images as they are",
    }
    return [(name, format_value(value)) for name, value in facts.items()]


def _measure_rows(values: Float64[np.ndarray, "n m"]) -> list[dict[str, str]]:
    columns: dict[str, Callable[[Any], Any]] = {
        "median": np.median,
        "spread": lambda column: 1.4826 * np.median(abs(column - np.median(column))),
        "low": np.min,
        "high": np.max,
    }
    return [
        {"words": words, **{key: format_value(float(of(values[:, index]))) for key, of in columns.items()}}
        for index, words in enumerate(MEASURES.values())
    ]


def _shown(item: ScanQuality, scores: Float64[np.ndarray, " m"]) -> dict[str, Any]:
    scan, worst = item.scan, int(scores.argmax())
    who = [scan.label, f"subject {scan.subject}", f"site {scan.site}" if scan.site else "", scan.sequence, item.mask]
    return {
        "id": scan.id,
        "who": ", ".join(word for word in who if word),
        "score": f"{scores.max():.1f}",
        "odd": bool(scores.max() > OUTLIER_Z),
        "why": tuple(MEASURES)[worst],
        "measured": ", ".join(
            f"{name} {format_value(value)}" for name, value in zip(MEASURES, item.values, strict=True)
        ),
        "pictures": [{"uri": _uri(image), "alt": alt} for image, alt in item.images],
    }


def _uri(image: Float32[np.ndarray, "h w"]) -> str:
    """Grey image as a small JPEG in a data URI."""
    from PIL import Image

    slice_image = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    scale = _IMAGE_PIXELS / max(slice_image.size)
    slice_image = slice_image.resize(
        (max(1, round(slice_image.width * scale)), max(1, round(slice_image.height * scale))), Image.Resampling.BICUBIC
    )
    return jpeg_uri(slice_image, quality=80)
