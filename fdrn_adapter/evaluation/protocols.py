"""How a sample is run: the paper's protocols, with time measured apart from everything else."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.clicks import (
    ClickSimulator,
    MisleadingSimulator,
    misleading_definitions,
)
from fdrn_adapter.evaluation.datasets.sample import Sample
from fdrn_adapter.evaluation.methods.method import Segmenter
from fdrn_adapter.evaluation.metrics import iou
from fdrn_adapter.evaluation.settings import Settings
from fdrn_adapter.timing.speed import timed


@dataclass
class Trace:
    """One object's clicks.

    Attributes:
        ious: after each click, single precision as the stock script keeps them.
        clicks: [x, y, positive].
        ms: time of each `add_click`.
    """

    ious: list[float] = field(default_factory=list)
    clicks: list[list] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)


def interact(
    segmenter: Segmenter, mask: np.ndarray, simulator: ClickSimulator, settings: Settings,
    stops: bool = True,
) -> Trace:
    """Click until the target IoU or the last click; the segmenter has its image and a new object.

    Args:
        segmenter: to be evaluated.
        mask: (H, W): 1 the object, -1 what does not count.
        simulator: places the clicks.
        settings: target, number of clicks, threshold.
        stops: whether the target IoU ends it.
    """
    trace = Trace()
    prediction = np.zeros(mask.shape, bool)
    for _ in range(settings.max_clicks):
        click = simulator.next(prediction)
        simulator.add(click)
        prob, ms = timed(lambda c=click: segmenter.add_click(c.x, c.y, c.positive))
        prediction = prob > settings.threshold
        reached = iou(mask, prediction)
        trace.ious.append(float(np.float32(reached)))
        trace.clicks.append([click.x, click.y, click.positive])
        trace.ms.append(ms)
        if stops and settings.target_iou is not None and reached >= settings.target_iou:
            break
    return trace


def run_sample(
    protocol: str, segmenter: Segmenter, sample: Sample, settings: Settings
) -> list[dict[str, Any]]:
    """Run a sample through a segmenter.

    Returns:
        plain values for JSON, one record for each object: id, ious, clicks, ms, and encode_ms with
        the first object after the image was set.
    """
    _, encode_ms = timed(lambda: segmenter.set_image(sample.image))
    records = []
    multi = protocol == "multi"
    masks = sample.objects if multi else (sample.mask,)
    ids = sample.object_ids if multi else (sample.id,)
    for object_id, mask in zip(ids, masks, strict=True):
        if records:
            segmenter.start_object()
        definitions = []
        simulator = ClickSimulator(mask)
        if protocol == "misleading":
            definitions = misleading_definitions(object_id, settings.seed, settings.max_clicks)
            simulator = MisleadingSimulator(mask, definitions)
        trace = interact(segmenter, mask, simulator, settings, stops=protocol != "long")
        record = {"id": object_id, "ious": trace.ious, "clicks": trace.clicks, "ms": trace.ms}
        if not records:
            record["encode_ms"] = encode_ms
        if multi:
            record["image"] = sample.id
        if definitions:
            record["misleading"] = [d.as_dict() for d in definitions]
        records.append(record)
    return records
