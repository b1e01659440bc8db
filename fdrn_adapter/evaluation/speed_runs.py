"""`--protocol speed`: encode and click times at the paper's sizes, of any models, in one run."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fdrn_adapter.evaluation.methods.method import Built
from fdrn_adapter.evaluation.results import equations
from fdrn_adapter.evaluation.runner import described
from fdrn_adapter.hosts.catalogue import host_of
from fdrn_adapter.timing import speed
from fdrn_adapter.timing.scene import ellipse, picture
from fdrn_adapter.timing.speed import timed
from fdrn_adapter.timing.subjects import PAPER_INPUT, Subject, candidates_of

SESSION = "session"
MEASURED = ("encode_ms", "click_ms", "click_p95_ms", "first_click_ms")  # of every run
RITM_CROP, FOCALCLICK_CROP = (400, 400), (256, 256)  # of stock networks (Sec. 4.2)

# On the bright ellipse of `picture()`, off it, near its border; relative x, y, positive.
_CLICKS = (
    (0.42, 0.48, True), (0.85, 0.20, False), (0.50, 0.55, True), (0.10, 0.90, False),
    (0.35, 0.40, True),
)


@dataclass
class SessionTimes:
    """What one round of a session took: set the image, then five clicks, then five on new rois.

    Attributes:
        encode_ms, first_ms: one for each round.
        click_ms: of all clicks.
        new_roi_ms: of clicks whose zoom-in looks elsewhere than the one before; of networks only.
    """

    encode_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    click_ms: list[float] = field(default_factory=list)
    new_roi_ms: list[float] = field(default_factory=list)


def speed_runs(
    models: Sequence[Built], head: dict[str, Any], repeats: int = speed.REPEATS,
    warmup: int = speed.WARMUP, progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Time models in turns, by the measurement of `fdrn demo`.

    Of a network, encode_ms is F1 on 481x321 pixels and click_ms a forward pass on a crop
    of the zoo's size that is cut already; `session` is what a caller of `InteractiveSession` waits
    for on the same image, with zoom-in, resizing and what else belongs to a click. Where
    masks stay the same, as those of random weights do, the zoom-in stays, too, and with it what
    belongs to a roi; so there are clicks that start from given masks, each at another place. Of
    other methods the session's times are all there is ("measured": "session").

    Args:
        models: see `methods.catalogue.build`.
        head: what every run says of itself: threads ...
        repeats, warmup, progress: see `speed.measure`.
    """
    image = picture(PAPER_INPUT)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    candidates: dict[str, Callable[[], object]] = {}
    sessions: dict[str, SessionTimes] = {}
    for built in models:
        name = built.spec.name
        if built.takes_crops:
            subject = Subject(name, built.model, crop_size_of(built), built.engine)
            found = candidates_of(subject, tensor)
            # The image has the paper's size here: "encode 481x321" is "encode".
            candidates.update({k: c for k, c in found.items() if not k.endswith(" 481x321")})
        sessions[name] = SessionTimes()
        candidates[f"{name}/{SESSION}"] = _session_round(built, image, sessions[name], warmup)
    measured = speed.measure(candidates, repeats, warmup, progress)
    return [_run(b, measured, sessions[b.spec.name], head) for b in models]


def crop_size_of(built: Built) -> tuple[int, int]:
    """The zoo's, or for a checkpoint what Sec. 4.2 says of its kind."""
    if built.crop_size is not None:
        return built.crop_size
    host, info = host_of(built.model)
    if host is not built.model:
        return (info.fdrn_crop,) * 2
    return FOCALCLICK_CROP if info.refines else RITM_CROP


def _session_round(
    built: Built, image: np.ndarray, times: SessionTimes, warmup: int
) -> Callable[[], None]:
    """One candidate of `speed.measure`, which keeps its own, finer times after the warm-up."""
    rows, cols = image.shape[:2]
    clicks = [(int(x * cols), int(y * rows), positive) for x, y, positive in _CLICKS]
    segmenter, turns = built.segmenter, itertools.count()
    zooms = built.takes_crops and bool(built.model.with_prev_mask)
    places = itertools.cycle(np.linspace(0, 0.1, 7))

    def on_another_roi(click: tuple) -> float:
        segmenter.set_mask(ellipse((rows, cols), next(places)))
        return timed(lambda: segmenter.add_click(*click))[1]

    def run() -> None:
        with torch.inference_mode(False):  # BRS needs gradients
            _, encode_ms = timed(lambda: segmenter.set_image(image))
            clicks_ms = [timed(lambda c=click: segmenter.add_click(*c))[1] for click in clicks]
            new_roi_ms = [on_another_roi(click) for click in clicks] if zooms else []
        if next(turns) >= warmup:
            times.encode_ms.append(encode_ms)
            times.first_ms.append(encode_ms + clicks_ms[0])
            times.click_ms.extend(clicks_ms)
            times.new_roi_ms.extend(new_roi_ms)

    return run


def _run(
    built: Built, measured: speed.Measurement, session: SessionTimes, head: dict[str, Any]
) -> dict[str, Any]:
    name = built.spec.name
    timings = {
        key.removeprefix(f"{name}/"): timing
        for key, timing in measured.timings.items()
        if key.startswith(f"{name}/") and not key.endswith(f"/{SESSION}")
    }
    encode, click = (float(np.median(v)) for v in (session.encode_ms, session.click_ms))
    waited = {
        "encode_ms": encode, "click_ms": click,
        "click_p95_ms": float(np.percentile(session.click_ms, 95)),
        "first_click_ms": float(np.median(session.first_ms)),
    }
    usual = click
    if session.new_roi_ms:
        waited["new_roi_ms"] = usual = float(np.median(session.new_roi_ms))
    waited["total_20_ms"] = speed.total_ms(encode, usual, 20)
    run = {
        "model": name, "dataset": "-", "protocol": "speed", **described(built), **head,
        "n_samples": 0, "image_size": list(PAPER_INPUT), "repeats": measured.repeats,
        "measured": "network" if timings else SESSION, SESSION: waited,
    }
    if not timings:
        return _without_none({
            **run, **{key: waited[key] for key in MEASURED}, **equations(encode, click)
        })
    run["crop_size"] = list(crop_size_of(built))
    run["timings"] = {what: timing.summary() for what, timing in timings.items()}
    click_ms = timings["click"].median_ms
    encode_ms = timings["encode"].median_ms if "encode" in timings else None
    run.update(
        encode_ms=encode_ms, click_p95_ms=timings["click"].p95_ms,
        first_click_ms=(encode_ms or 0.0) + click_ms, **equations(encode_ms or 0.0, click_ms),
    )
    return _without_none(run)


def _without_none(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if value is not None}
