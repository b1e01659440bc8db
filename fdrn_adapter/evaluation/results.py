"""From what was recorded of each sample to results.json and the stock pickles."""

import importlib.metadata
import json
import pickle
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation import metrics
from fdrn_adapter.evaluation.settings import Settings
from fdrn_adapter.timing import speed

FORMAT = "fdrn-benchmark/1"
NAME = "results.json"
TIMES = ("ms", "encode_ms", "object_ms", "object_alone_ms")  # of a sample, and of `multi`
TOTALS_AT = (1, 5, 10, 20, 100)  # clicks
PACKAGES = (
    "fdrn_adapter", "torch", "torchvision", "numpy", "opencv-python-headless", "ritm-annotation",
    "albumentations", "scipy", "scikit-image", "nibabel", "timm", "onnxruntime", "openvino",
)
MEMORY_NOTE = "peak_memory_mb is of the whole process, with every model of the run in it"


def machine() -> dict[str, Any]:
    """Where and with what something is measured."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        **asdict(speed.Machine.here()), "python": platform.python_version(),
        "packages": versions, "notes": [MEMORY_NOTE],
    }


def run_of(
    head: dict[str, Any], entries: Sequence[dict[str, Any]], skipped: list[dict[str, str]],
    settings: Settings,
) -> dict[str, Any]:
    """One run: a model on a data set under a protocol.

    Args:
        head: model, dataset, protocol, engine, threads and whatever else describes it.
        entries: of the journal: records, seconds, peak_memory_mb. If any ran beside others
            ("timed" is false), all times are left out: they would be of a busy machine.
        skipped: id and reason of the samples that could not be evaluated.
        settings: of the benchmark.
    """
    records = [record for entry in entries for record in entry["records"]]
    timed = all(entry.get("timed", True) for entry in entries)
    target = settings.target_iou if head["protocol"] != "long" else None
    run = {
        **head, "n_samples": len(records), "max_clicks": settings.max_clicks,
        "threshold": settings.threshold, "target_iou": target,
        **metrics.summary([r["ious"] for r in records], settings.max_clicks, target),
        **(times(records) if timed else {}), "skipped": skipped,
        "samples": records if timed else list(map(_without_times, records)),
    }
    if not timed:
        run["timed"] = False
    elif entries:
        seconds = sum(entry["seconds"] for entry in entries)
        run["spc_s"] = seconds / sum(len(r["ms"]) for r in records)
        run["seconds"] = seconds
    if entries:
        run["peak_memory_mb"] = max(entry["peak_memory_mb"] for entry in entries)
    if entries and timed and head["protocol"] == "long":
        run["t_ave_ms"] = _measured_average(records)
    if entries and head["protocol"] == "multi":
        shared = _shared(records)
        run.update(shared if timed else {k: v for k, v in shared.items() if k not in TIMES})
    return {key: value for key, value in run.items() if value is not None}


def _without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in TIMES}


def times(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over samples and over all clicks, and eq. 6 and 7 from them."""
    clicks = [ms for record in records for ms in record["ms"]]
    encodes = [record["encode_ms"] for record in records if "encode_ms" in record]
    if not clicks or not encodes:
        return {}
    first = [r["encode_ms"] + r["ms"][0] for r in records if "encode_ms" in r]
    return {
        "encode_ms": float(np.median(encodes)),
        "click_p95_ms": float(np.percentile(clicks, 95)),
        "first_click_ms": float(np.median(first)),
        **equations(float(np.median(encodes)), float(np.median(clicks))),
    }


def equations(encode_ms: float, click_ms: float) -> dict[str, Any]:
    """Time of a click with the totals (eq. 6) and averages (eq. 7) that follow."""
    return {
        "click_ms": click_ms,
        "total_ms": {str(n): speed.total_ms(encode_ms, click_ms, n) for n in TOTALS_AT},
        "average_ms": {str(n): speed.average_ms(encode_ms, click_ms, n) for n in TOTALS_AT},
    }


def _measured_average(records: Sequence[dict[str, Any]]) -> list[float]:
    """Average time of a click after n of them, encoding included, as measured; mean of samples."""
    totals = np.array([np.cumsum(r["ms"]) + r["encode_ms"] for r in records])
    return (totals / np.arange(1, totals.shape[1] + 1)).mean(axis=0).tolist()


def _shared(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What sharing an image's work among its objects comes to.

    object_ms is the mean time of an object with its share of the encoding, object_alone_ms with an
    encoding of its own.
    """
    encodes = {r["image"]: r["encode_ms"] for r in records if "encode_ms" in r}
    clicks_ms = sum(sum(r["ms"]) for r in records)
    alone_ms = sum(encodes[r["image"]] for r in records)
    return {
        "n_images": len(encodes), "n_objects": len(records), "encodings": len(encodes),
        "object_ms": (clicks_ms + sum(encodes.values())) / len(records),
        "object_alone_ms": (clicks_ms + alone_ms) / len(records),
    }


def write(results: dict[str, Any], folder: Path) -> Path:
    """Write results.json; returns its path."""
    path = folder / NAME
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return path


def write_iou_analysis(results: dict[str, Any], folder: Path) -> list[Path]:
    """The pickles of the stock `--iou-analysis`, for `scripts/plot_ious_analysis.py --folder`.

    One for each `noc` run in which every sample had all clicks: the stock script averages rows of
    equal length.
    """
    written = []
    for run in results["runs"]:
        ious = [np.array(s["ious"], np.float32) for s in run.get("samples", [])]
        if run["protocol"] != "noc" or not ious or len({len(row) for row in ious}) > 1:
            continue
        name = f"{run['model']}_{run['dataset']}_{run['max_clicks']}"
        path = folder / "iou_analysis" / (re.sub(r"[^\w.+-]", "-", name) + ".pickle")
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            pickle.dump(
                {"dataset_name": run["dataset"], "model_name": run["model"], "all_ious": ious},
                file,
            )
        written.append(path)
    return written
