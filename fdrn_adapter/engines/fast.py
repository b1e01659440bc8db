"""Precision "fast" on a CPU: fewer bits where masks stay the same and the processor gains.

A part of a network, F1 or what a click runs, is compiled twice: in float32, and in the precision
that the processor is fast at (`engine.Engine.lower`). Both answer the same clicks, made on the
picture at hand: three starts, the user's own click among them, with three further clicks each, on
and beside what the first one gave. Where their masks agree (IoU, mean) and the smaller numbers are
faster (medians of runs in turns), these are used; otherwise float32, and the log says why. Which is
faster is kept on disk with the compiled graphs; masks are compared whenever something is compiled.
Kernels have given NaN for some inputs only: whoever gets NaN goes on in float32 for good.
"""

import logging
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.engines import compile_cache, torch_threads
from fdrn_adapter.engines.click_network import ClickNetwork
from fdrn_adapter.engines.engine import EXACT, FAST, Compiled, Engine
from fdrn_adapter.engines.runner import Runner, encoder_in
from fdrn_adapter.engines.same_masks import SAME_MASK, mask_iou
from fdrn_adapter.features.recycling import Recycling
from fdrn_adapter.hosts.catalogue import host_of

logger = logging.getLogger(__name__)

STARTS, MORE = 3, 3  # first clicks, and clicks after each
TURNS = 7  # runs of each that are timed
CROP = 192  # side of the picture that clicks are made on to judge F1

Made = TypeVar("Made")
Click = tuple[Tensor, Tensor]  # image (B, 3 or 4, H, W), points (B, 2N, 3)


class FastRunner(Runner):
    """As `Runner`, with parts in fewer bits where they serve.

    Args:
        model, engine: see `Runner`.
        lower: the precision that the processor is fast at, by its name.

    Attributes:
        chosen: part -> the precision it runs in, with the figures that decided.
    """

    def __init__(self, model: nn.Module, engine: Engine, lower: str):
        super().__init__(model, engine)
        self.lower = lower
        self.chosen: dict[str, str] = {}

    def click(
        self, image: Tensor, points: Tensor, recycling: Recycling | None
    ) -> dict[str, Tensor]:
        """As `Runner.click`; once more in float32 where fewer bits give NaN."""
        outputs = super().click(image, points, recycling)
        if self.lower and not outputs["instances"].isfinite().all():
            self._give_up("a click")
            outputs = super().click(image, points, recycling)
        return outputs

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """As `Runner.encode`; once more in float32 where fewer bits give NaN."""
        maps = super().encode(x)
        if self.lower and not all(t.sum().isfinite() for t in maps.values()):
            self._give_up("F1")
            maps = super().encode(x)
        return maps

    def _give_up(self, part: str) -> None:
        """Go on in float32: the trial's clicks did not find what this picture does."""
        with self._lock:
            if self.lower:
                logger.warning("%s: %s in %s gives NaN; it goes on in float32",
                               self.name, part, self.lower)
                self.chosen = dict.fromkeys(self.chosen, f"float32: {self.lower} gave NaN")
                self.lower = ""
                self._compiled.clear()

    def _network(self, size: tuple[int, int] | None, example: tuple) -> ClickNetwork:
        exact = super()._network(size, example)
        if not self.lower:
            return exact
        image, points, recycling = example
        clicks, wanted = trial(lambda x, p: exact.run(x, p, recycling)[0], image, points)
        return self._choose(
            "a click", exact,
            lambda: self._network_in(self.engine.lower_compiler(), size, example, lower=True),
            wanted, lambda network: [network.run(*click, recycling)[0] for click in clicks],
            lambda network: network.run(image, points, recycling), exact.parts, [image, points],
        )

    def _compile_encoder(self, x: Tensor) -> tuple[Compiled, tuple[str, ...]]:
        exact, names = super()._compile_encoder(x)
        if not self.lower:
            return exact, names
        model = self.model()
        graph = self._encoder_graph(x)
        crop = F.interpolate(x[:1], (CROP, CROP), mode="bilinear", align_corners=False)
        if host_of(model)[0].with_prev_mask:
            crop = torch.cat([crop, torch.zeros_like(crop[:, :1])], 1)
        logits_of = _logits_with_f1(model, x[:1], names)
        clicks, wanted = trial(
            lambda image, points: logits_of(exact, [(image, points)])[0], crop,
            crop.new_zeros(1, 0, 3),
        )
        run = self._choose(
            "F1", exact,
            lambda: encoder_in(self.engine.lower_compiler(), graph, x),
            wanted, lambda run: logits_of(run, clicks), lambda run: run(x), graph, [x],
        )
        return run, names

    def _choose(
        self, part: str, exact: Made, compile_lower: Callable[[], Made], wanted: list[Tensor],
        logits: Callable[[Made], list[Tensor]], run: Callable[[Made], Any],
        graph: nn.Module, inputs: list[Tensor],
    ) -> Made:
        """`exact`, or what `compile_lower` makes."""
        lower = cache(lambda: compile_cache.checked(compile_lower))

        def measured() -> tuple[str, bytes]:
            gain = speedup(lambda: run(exact), lambda: run(lower()))
            said = f"{self.lower if gain > 1 else EXACT} {gain:.2f}"
            return said, said.encode()

        settings = (FAST, self.engine.name, self.lower, part, torch_threads.number())
        said, gain = compile_cache.compiled(
            lambda: compile_cache.key_of(settings, graph, inputs, [], [], None), bytes.decode,
            measured,
        ).split()
        if said == EXACT:
            return self._say(part, exact, f"float32: {self.lower} takes 1/{gain} of its time")
        same = agreement(wanted, logits(lower()))
        if same != same:
            return self._say(part, exact, f"float32: {self.lower} gives NaN")
        if same < SAME_MASK:
            return self._say(part, exact, f"float32: masks in {self.lower} have IoU {same:.4f}")
        return self._say(part, lower(), f"{self.lower}: {gain} times as fast, IoU {same:.4f}")

    def _say(self, part: str, made: Made, what: str) -> Made:
        self.chosen[part] = what
        logger.info("%s, precision %r: %s in %s", self.name, FAST, part, what)
        return made


def runner_in(precision: str, model: nn.Module, engine: Engine) -> Runner:
    """What runs a model in an engine that compiles graphs, in a precision of users."""
    if precision == FAST:
        lower = engine.lower_precision()
        if lower:
            return FastRunner(model, engine, lower)
        logger.warning(
            "Precision 'fast' is 'exact' in engine %r on this processor: it is not faster at fewer "
            "bits there.", engine.name,
        )
    return Runner(model, engine)


def _logits_with_f1(model: nn.Module, x: Tensor, names: tuple[str, ...]) -> Callable:
    """(compiled F1, clicks on the whole of x) -> logits of the network itself with its features."""
    encoder, size = model.image_encoder, tuple(x.shape[-2:])

    @torch.no_grad()
    def logits(run: Compiled, clicks: list[Click]) -> list[Tensor]:
        maps = dict(zip(names, run(x), strict=True))
        features = encoder.features_from(maps, size, size)
        with model.recycling(features, [(0, size[0] - 1, 0, size[1] - 1)]):
            return [model(*click)["instances"] for click in clicks]

    return logits


# -- clicks ------------------------------------------------------------------------------------


def trial(
    run: Callable[[Tensor, Tensor], Tensor], image: Tensor, points: Tensor
) -> tuple[list[Click], list[Tensor]]:
    """Clicks of somebody at work, and the masks they give; the same ones for the same picture.

    Args:
        run: (image, points) -> logits (B, 1, H, W).
        image: (B, 3 or 4, H, W), as the network takes it.
        points: (B, 2N, 3) of a user, to start from as well; N may be 0.
    """
    chance = torch.Generator().manual_seed(0)
    rows, cols = image.shape[-2:]
    clicks, masks = [], []
    for start in range(STARTS):
        given, prev, target = points[:, :0], torch.zeros_like(image[:, :1]), None
        if start == 0 and points.shape[1]:
            given = points
        else:
            row, col = (torch.rand(2, generator=chance) * 0.5 + 0.25).tolist()
            given = with_click(given, int(row * rows), int(col * cols), True)
        for more in range(1 + MORE):
            if more:
                positive = more % 2 == 1
                places = (target == positive).nonzero()
                if not len(places):
                    break
                row, col = places[int(torch.randint(len(places), (), generator=chance))].tolist()
                given = with_click(given, row, col, positive)
            seen = torch.cat([image[:, :3], prev], 1) if image.shape[1] > 3 else image
            logits = run(seen, given)
            prev = torch.sigmoid(logits)
            clicks.append((seen, given))
            masks.append(logits > 0)
            if target is None:
                target = masks[-1][0, 0]
    return clicks, masks


def with_click(points: Tensor, row: int, col: int, positive: bool) -> Tensor:
    """Points (B, 2N, 3) of the stock layout and one more click on each crop: (B, 2N + 2, 3)."""
    half, batch = points.shape[1] // 2, len(points)
    new = points.new_tensor([[row, col, int((points[0, :, 2] >= 0).sum())]]).expand(batch, 1, 3)
    none = torch.full_like(new, -1)
    first, second = (new, none) if positive else (none, new)
    return torch.cat([points[:, :half], first, points[:, half:], second], 1)


def agreement(wanted: list[Tensor], got: list[Tensor]) -> float:
    """Mean IoU of masks with those of logits; two empty ones agree. NaN where a logit is."""
    if not all(logits.isfinite().all() for logits in got):
        return float("nan")
    return statistics.fmean(mask_iou(mask, logits > 0) for mask, logits in zip(
        wanted, got, strict=True
    ))


def speedup(exact: Callable[[], Any], lower: Callable[[], Any]) -> float:
    """How many times as fast the second is: medians of runs in turns, after one of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(1 + TURNS):
        for run, found in zip((exact, lower), seconds, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                found.append(time.perf_counter() - start)
    return statistics.median(seconds[0]) / max(1e-9, statistics.median(seconds[1]))
