"""Where the time of a click goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from torch import nn

from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.hosts.catalogue import family_of, host_of
from fdrn_adapter.session.interactive import InteractiveSession
from fdrn_adapter.timing.scene import ellipse
from fdrn_adapter.timing.speed import wait_for_gpu

REPEATS = 9
IMAGE = (321, 481)  # rows, columns
CLICKS = ((0.5, 0.5, True), (0.42, 0.55, True), (0.1, 0.1, False), (0.55, 0.45, True))
ROIS = {True: "new roi", False: "same roi"}  # at every click, or kept

Part = tuple[str, float, float]  # label, ms, share of the click

ALIGNING = "roi align and affinity"
# What is timed -> its label, in the order of the table; indented what lies within another.
ROWS = {
    "click": "click, in all",
    "preprocess": "preprocess (zoom-in, flip)",
    "network": "network, as the predictor calls it",
    "bare network": "  bare network",
    ALIGNING: "    roi align and affinity",
    "click maps": "    click maps",
    "click encoder": "    click encoder",
    "stem and layer 1": "    stem and layer 1",
    "stage 2": "    stage 2",
    "stage 3": "    stage 3",
    "SFI": "      SFI (in stage 3)",
    "TFI": "      TFI",
    "stage 4": "    stage 4",
    "head": "    head",
    "refine": "    refine",
    "focus crop": "focus crop (where to refine)",
    "postprocess": "postprocess (paste)",
    "surroundings": "what the session adds",
}


def profile(
    model: nn.Module, crop: int | None = None, engine: str = "eager", new_roi: bool = False
) -> list[Part]:
    """Parts of a click of a session: (label, median ms, share of the whole click).

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
    session.set_image(np.random.default_rng(0).integers(0, 256, (*IMAGE, 3), np.uint8))
    clock = Clock()
    with ExitStack() as stack:
        stack.enter_context(watched(session, clock))
        if session.engine == "eager":
            stack.enter_context(hooked(parts_of(model), clock))
        clicks = list(_clicked(session, clock, new_roi))
    median = {
        name: 1000 * float(np.median([times.get(name, 0.0) for times in clicks]))
        for name in ROWS if any(name in times for times in clicks)
    }
    median["surroundings"] = median["click"] - median["bare network"]
    return [(ROWS[name], ms, ms / median["click"]) for name, ms in median.items()]


def _clicked(
    session: InteractiveSession, clock: "Clock", new_roi: bool
) -> Iterator[dict[str, float]]:
    """Seconds by part, of one click after the other; two rounds to warm up come before."""
    for turn in range(-2, REPEATS):
        session.reset_object()
        for i, (y, x, positive) in enumerate(CLICKS):
            if new_roi:
                session.set_mask(ellipse(IMAGE, 0.02 * i + 0.005 * (turn % 3)))
            clock.times.clear()
            with clock("click"):
                session.add_click(int(x * IMAGE[1]), int(y * IMAGE[0]), positive)
            if turn >= 0:
                yield dict(clock.times)


class Clock:
    """Adds up seconds by name; `with clock(name):` around what is to be timed."""

    def __init__(self) -> None:
        self.times: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        wait_for_gpu()
        start = time.perf_counter()
        try:
            yield
        finally:
            wait_for_gpu()
            self.times[name] += time.perf_counter() - start


@contextmanager
def watched(session: InteractiveSession, clock: Clock) -> Iterator[None]:
    """Time the steps of a session's clicks, and the alignment of recycled features."""
    pipeline, recycled = session.pipeline, session.pipeline.recycled

    def place(*args: Any) -> TimedRecycling:
        return TimedRecycling(recycle(*args), clock)

    unwatched = pipeline.watch
    pipeline.watch = clock
    if recycled is not None:
        recycled.place = place
    try:
        yield
    finally:
        pipeline.watch = unwatched
        if recycled is not None:
            recycled.place = recycle


class TimedRecycling:
    """A `Recycling` whose alignments are timed."""

    def __init__(self, recycling: Any, clock: Clock):
        self._recycling, self._clock = recycling, clock

    def aligned(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock(ALIGNING):
            return self._recycling.aligned(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recycling, name)


@contextmanager
def hooked(parts: dict[str, list[nn.Module]], clock: Clock) -> Iterator[None]:
    """Time the calls of modules, by the part that they belong to."""
    hooks = []
    for name, modules in parts.items():
        for module in modules:
            starts: list[float] = []  # of calls that have not returned

            def before(*_: Any, starts: list = starts) -> None:
                wait_for_gpu()
                starts.append(time.perf_counter())

            def after(*_: Any, name: str = name, starts: list = starts) -> None:
                wait_for_gpu()
                clock.times[name] += time.perf_counter() - starts.pop()

            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def parts_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Modules of F2 (or a stock network) by part."""
    host, info = host_of(model)
    parts = {
        "click maps": [getattr(host, info.click_maps)],
        "click encoder": [host.get_submodule(info.click_encoder)],
    }
    if host is not model:
        parts["SFI"] = [m for m in (model.sfi,) if m is not None]
        parts["TFI"] = [m for m in (model.tfi, model.tfi_mid) if m is not None]
    return parts | family_of(info).timed_parts(host, info)
