"""Where the time of a click goes, and what it grows with."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import nn

from fdrn_adapter.hosts.catalogue import family_of, host_of
from fdrn_adapter.session.interactive import InteractiveSession
from fdrn_adapter.timing.scene import ellipse
from fdrn_adapter.timing.speed import wait_for_gpu

REPEATS = 9
IMAGE = (321, 481)  # rows, columns
CLICKS = ((0.5, 0.5, True), (0.42, 0.55, True), (0.1, 0.1, False), (0.55, 0.45, True))

Part = tuple[str, float, float]  # name, ms, share of the click
ROIS = {True: "new roi", False: "same roi"}  # at every click, or kept


def profile(
    model: nn.Module, crop: int | None = None, engine: str = "eager", new_roi: bool = False
) -> list[Part]:
    """Parts of a click of a session: (name, median ms, share of the whole click).

    In "eager" the network's parts are timed by hooks. Engines fuse layers across parts, so there
    the network is one row; what surrounds it is timed in the same way. Parts that lie within
    another are indented. The bare network is the call of the network (and of its `refine`), which
    turns crop, previous mask, clicks and recycled features into logits, with ROI Align and click
    maps, and in an engine with a look at whether weights changed; the last row is all the rest.

    Args:
        model: FDRN model or stock network, in eval mode.
        crop: as for `InteractiveSession`.
        engine: see `fdrn_adapter.engines`.
        new_roi: let every click start from a mask of its own, so that the zoom-in looks elsewhere
            each time, as FocalClick's does; else clicks follow each other, and networks with random
            weights keep the roi. Needs a network with previous mask.
    """
    session = InteractiveSession(model, engine=engine, crop=crop)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*IMAGE, 3), np.uint8)
    session.set_image(image)
    rounds: list[dict[str, float]] = []
    with _timers(session) as times:
        for turn in range(-2, REPEATS):
            session.reset_object()
            for i, (y, x, positive) in enumerate(CLICKS):
                if new_roi:
                    session.set_mask(ellipse(IMAGE, 0.02 * i + 0.005 * (turn % 3)))
                times.clear()
                start = time.perf_counter()
                session.add_click(int(x * IMAGE[1]), int(y * IMAGE[0]), positive)
                times["click"] = time.perf_counter() - start
                if turn >= 0:
                    rounds.append(dict(times))
    names = sorted({name for r in rounds for name in r}, key=_ORDER.index)
    median = {n: 1000 * float(np.median([r.get(n, 0.0) for r in rounds])) for n in names}
    surroundings = median["click"] - median["bare network"]
    rows = [(_LABEL.get(n, n), median[n], median[n] / median["click"]) for n in names]
    rows.append((_SURROUNDINGS, surroundings, surroundings / median["click"]))
    return rows


_SURROUNDINGS = "what the session adds"


_ORDER = [
    "click", "preprocess", "network", "bare network", "roi align and affinity", "click maps",
    "click encoder", "stem and layer 1", "stage 2", "stage 3", "SFI", "TFI", "stage 4", "head",
    "refine", "postprocess",
]
_LABEL = {
    name: f"    {name}" for name in _ORDER[4:14]
} | {"SFI": "      SFI (in stage 3)", "TFI": "      TFI", "click": "click, in all",
     "network": "network, as the predictor calls it", "bare network": "  bare network",
     "preprocess": "preprocess (zoom-in, flip)", "postprocess": "postprocess (paste)"}
_PRINTED = [*(_LABEL.get(name, name) for name in _ORDER), _SURROUNDINGS]


@contextlib.contextmanager
def _timers(session: InteractiveSession) -> Iterator[dict[str, float]]:
    """Time what a click calls, while the context lasts."""
    times: dict[str, float] = defaultdict(float)
    predictor, undo = session._predictor, []

    def around(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            wait_for_gpu()
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                wait_for_gpu()
                times[label] += time.perf_counter() - start

        owner.__dict__[name] = timed  # past nn.Module, which would refuse or register it
        undo.append(lambda: owner.__dict__.pop(name))

    around(predictor, "apply_transforms", "preprocess")
    around(predictor, "_get_prediction", "network")
    if hasattr(predictor, "_get_refine"):
        around(predictor, "_get_refine", "refine")
    for transform in predictor.transforms:
        around(transform, "inv_transform", "postprocess")
    if session.engine == "eager":
        around(session.model, "forward", "bare network")
        if hasattr(session.model, "refine"):
            around(session.model, "refine", "bare network")
        for label, module in _parts(session.model).items():
            for part in module:
                around(part, "forward", label)
    else:
        around(predictor.net, "_click", "bare network")
        around(predictor.net, "refine", "bare network")
    from fdrn_adapter.features.recycling import Recycling

    methods = {name: getattr(Recycling, name) for name in ("low", "affinity")}
    for name, method in methods.items():
        setattr(Recycling, name, _timed_method(method, times))
    try:
        yield times
    finally:
        for restore in undo:
            restore()
        for name, method in methods.items():
            setattr(Recycling, name, method)


def _timed_method(method: Callable, times: dict[str, float]) -> Callable:
    def timed(self: Any, *args: Any) -> Any:
        wait_for_gpu()
        start = time.perf_counter()
        try:
            return method(self, *args)
        finally:
            wait_for_gpu()
            times["roi align and affinity"] += time.perf_counter() - start

    return timed


def _parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Modules of F2 (or a stock network) by part."""
    host, info = host_of(model)
    parts = {
        "click maps": [getattr(host, info.click_maps)],
        "click encoder": [host.get_submodule(info.click_encoder)],
    }
    if host is not model:
        parts["SFI"] = [m for m in (model.sfi,) if m is not None]
        parts["TFI"] = [m for m in (model.tfi,) if m is not None]
    return parts | family_of(info).timed_parts(host, info)
