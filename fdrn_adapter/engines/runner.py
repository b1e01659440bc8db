"""A network in an engine: what compiles it, keeps it, and runs a click with it."""

import logging
import threading
import weakref
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter import hosts
from fdrn_adapter.engines import graphs, torch_threads
from fdrn_adapter.engines.compilers import COMPILERS, Compiled
from fdrn_adapter.engines.disks import draw_maps
from fdrn_adapter.engines.refinement import on_focus_crop
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import Recycling
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps, split_current_click
from fdrn_adapter.model.network import _recycled

logger = logging.getLogger(__name__)

MAX_FIXED = 4  # sizes that are compiled each for itself; further ones share a graph of any size
TOLERANCE = 1e-3  # largest logit difference between a compiled graph and the network
KEPT_CROPS = 8


class Runner:
    """One network with one state of its weights in one engine.

    Args:
        model: FDRN model or stock network, float32 on the CPU, in eval mode.
        engine: a key of COMPILERS.
    """

    def __init__(self, model: nn.Module, engine: str):
        self.model = weakref.ref(model)
        self.engine = engine
        self.is_fdrn, (_, self.info) = hosts.is_fdrn(model), hosts.host_of(model)
        self._compiled: dict[tuple, Any] = {}
        self._sizes: list[tuple] = []
        self._lock = threading.RLock()
        # The image's part of recent crops: what they were cut from, and what it gave.
        self._prepared: OrderedDict[tuple, tuple] = OrderedDict()

    # -- image ---------------------------------------------------------------------------------

    def encode(self, image: Tensor, max_side: int | None = None) -> ImageFeatures:
        """F1 in the engine; as `FDRNModel.encode_image` without its checks."""
        return self.model().image_encoder(image, max_side, compute=self._encoder_maps)

    def _encoder_maps(self, x: Tensor) -> dict[str, Tensor]:
        encoder = self.model().image_encoder
        if encoder.backbone.runs_itself:
            return encoder.backbone.maps_in(self.engine, x)
        run, names = self._get(("encode",), lambda: self._compile_encoder(x))
        return dict(zip(names, run(x), strict=True))

    def _compile_encoder(self, x: Tensor) -> tuple[Compiled, tuple[str, ...]]:
        encoder = graphs.private_copy(self.model().image_encoder)
        graph = graphs.Encode(encoder).eval()
        graphs.fold_parts(graph, lambda: graph(x))
        axes = {"image": {0: "batch", 2: "rows", 3: "cols"}}
        run = self._compile(graph, [x], ["image"], graph.names, axes)
        self._check_encoder(run, graph.names, x)
        return run, graph.names

    @torch.no_grad()
    def _check_encoder(self, run: Compiled, names: tuple[str, ...], x: Tensor) -> None:
        """Compare F1 with eager torch, on a size other than the one it was traced with, too."""
        for image in (x, x[:, :, : max(1, x.shape[2] - 21), : max(1, x.shape[3] - 10)]):
            wanted = self.model().image_encoder.maps(image)
            for name, made in zip(names, run(image.contiguous()), strict=True):
                same = made.shape == wanted[name].shape
                scale = wanted[name].abs().max().clamp(min=1e-6)
                if not same or (made - wanted[name]).abs().max() > 1e-3 * scale:
                    raise RuntimeError(
                        f"F1 in {self.engine} gives another {name!r} than torch: use "
                        "engine='eager', and please report the encoder "
                        f"{self.model().image_encoder.name!r}."
                    )

    # -- clicks --------------------------------------------------------------------------------

    def click(
        self, image: Tensor, points: Tensor, recycling: Recycling | None
    ) -> dict[str, Tensor]:
        """One forward pass: "instances" (B, 1, H, W), and "feature" for FocalClick."""
        size = tuple(image.shape[2:])
        network = self._network(size, image, points, recycling)
        outputs = network.run(image, points, recycling)
        return dict(zip(network.outputs, outputs, strict=True))

    def _network(self, size, image, points, recycling) -> "ClickNetwork":
        key = (len(image), *size)
        with self._lock:
            if key not in self._sizes and len(self._sizes) < MAX_FIXED:
                self._sizes.append(key)
            fixed = key in self._sizes
        name = ("click", *key) if fixed else ("click", "any")
        return self._get(name, lambda: ClickNetwork(self, size if fixed else None, image, points,
                                                    recycling))

    def _get(self, name: tuple, build) -> Any:
        name = (*name, torch_threads.number())
        found = self._compiled.get(name)
        if found is None:
            with self._lock:
                found = self._compiled.get(name)
                if found is None:
                    found = self._compiled[name] = build()
        return found

    def _compile(self, graph, inputs, names, outputs, dynamic=None) -> Compiled:
        return COMPILERS[self.engine](graph, inputs, names, outputs, dynamic)

    # -- FocalClick's second stage -------------------------------------------------------------

    def refine(self, image, points, features, logits, boxes) -> dict[str, Tensor]:
        """`refine` of the host with its network in the engine.

        `features` are what `click` gave, or the host's own.
        """
        from torchvision.ops import roi_align

        model, projection = self.model(), self._projection()
        if projection is not None and features.shape[1] != projection.out_channels:
            features = projection(features)
        aligned = on_focus_crop(features, image.shape[-1], boxes)
        coarse = roi_align(logits, boxes, image.shape[2:], 1.0, aligned=True)
        maps = draw_maps(model.dist_maps_refine, points, tuple(image.shape[2:]))
        inputs = [image, maps, aligned, coarse]

        def build():
            graph = graphs.Refine(graphs.private_copy(model)).eval()
            graphs.fold_parts(graph, lambda: graph(*inputs))
            run = self._compile(graph, inputs, ["image", "maps", "features", "logits"], ["out"])
            self._check_refinement(run, inputs, points, logits, boxes, features.shape[2:])
            return run

        run = self._get(("refine", *image.shape), build)
        return {"instances_refined": run(*inputs)[0], "instances_coarse": coarse}

    def _projection(self) -> nn.Conv2d | None:
        return self._get(("projection",), lambda: graphs.projection_of(self.model()))

    @torch.no_grad()
    def _check_refinement(self, run, inputs, points, logits, boxes, size) -> None:
        """Compare with the host's `refine`, on features of the host's own kind."""
        model, projection = self.model(), self._projection()
        image, maps, features, coarse = inputs
        channels = features.shape[1] if projection is None else projection.in_channels
        given = torch.rand(len(image), channels, *size)
        wanted = model.refine(image, points, given, logits, boxes)["instances_refined"]
        projected = given if projection is None else projection(given)
        got = run(image, maps, on_focus_crop(projected, image.shape[-1], boxes), coarse)[0]
        check_logits(self.engine, f"{self.info.name}, refinement", wanted, got)


class ClickNetwork:
    """F2 (or a stock network) compiled for one batch and crop size, or for any."""

    def __init__(self, runner: Runner, size, image: Tensor, points: Tensor, recycling):
        self.runner, self.info = runner, runner.info
        model = runner.model()
        self.host, _ = hosts.host_of(model)
        self.size = size
        self.parts = graphs.build_parts(model, self.info, size)
        if self.parts is None:
            raise hosts.UnsupportedHostError(
                f"{self.info.name} has parts that engine={runner.engine!r} does not know; use "
                "engine='eager'."
            )
        self.stem = self.parts.stem
        self.with_prev_mask = bool(self.host.with_prev_mask)
        self.binary = bool(getattr(self.host, "binary_prev_mask", False))
        self.outputs = ("instances", "feature") if self.info.refines else ("instances",)
        prepare = graphs.Prepare(self.parts).eval()
        low, affinity = self._aligned(image, recycling)
        self.takes_low = self.info.family == "segformer" and low is not None
        with torch.no_grad():
            self._compile(prepare, image, points, low, affinity)
        self._check(image, points, recycling)

    def _compile(self, prepare, image, points, low, affinity) -> None:
        dynamic = self.size is None
        first = [image[:, :3], *([low] if self.takes_low else [])]
        pre = prepare(*first)
        given = self._given(pre, image, points, low, affinity)
        click = graphs.Click(self.parts, tuple(given)).eval()

        def both():
            prepare(*first)
            click(*given.values())

        graphs.fold_parts(self.parts, both)
        compile_ = self.runner._compile
        axes = {0: "batch", 2: "rows", 3: "cols"}
        self.prepare = compile_(
            prepare, first, ["image", "low"][: len(first)], ["pre"],
            {"image": axes, "low": {0: "batch", 2: "low_rows", 3: "low_cols"}} if dynamic else None,
        )
        shapes = {
            name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_cols"} if t.ndim == 4
            else {0: "batch", 1: "cells", 2: "cells"} for name, t in given.items()
        }
        self.run_click = compile_(
            click, list(given.values()), list(given), self.outputs, shapes if dynamic else None
        )

    def _check(self, image, points, recycling) -> None:
        """Compare with the network itself, on the first input."""
        model = self.runner.model()
        prev = torch.rand_like(image[:, 3:])
        image = torch.cat([image[:, :3], prev], dim=1)
        with torch.no_grad():
            want = _reference(model, image, points, recycling)["instances"]
        got = self.run(image, points, recycling)[0]
        check_logits(self.runner.engine, self.info.name, want, got)

    def run(self, image: Tensor, points: Tensor, recycling) -> tuple[Tensor, ...]:
        low, affinity, pre = self._prepared(image, recycling)
        return self.run_click(*self._given(pre, image, points, low, affinity).values())

    def _given(self, pre, image, points, low, affinity) -> dict[str, Tensor]:
        """The inputs of the click graph."""
        prev = None
        if self.with_prev_mask:
            prev = image[:, 3:]
            if self.binary:
                prev = (prev > 0.5).to(prev)
        given = {"pre": pre}
        if self.stem is not None:
            given["pre"] = self.stem.add_disks(pre, points, prev)
            if prev is not None:
                given["coords"] = prev
        elif prev is not None and getattr(self.parts, "click_maps", None) is not None:
            given["coords"] = prev
            for name, part in zip(("current", "history"), split_current_click(points), strict=True):
                stock = self.parts.click_maps.host_maps
                given[name] = draw_maps(stock, part, tuple(image.shape[2:]))
        else:
            maps = self._maps(points, tuple(image.shape[2:]))
            given["coords"] = maps if prev is None else torch.cat([prev, maps], dim=1)
        if low is not None and not self.takes_low:
            given["low"] = low
        if affinity is not None:
            given["affinity"] = affinity
        return given

    def _maps(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        module = getattr(self.host, self.info.click_maps)
        if isinstance(module, DecoupledClickMaps):
            return module(points, points, lambda part: draw_maps(module.host_maps, part, size))
        return draw_maps(module, points, size)

    def _aligned(self, image, recycling) -> tuple[Tensor | None, Tensor | None]:
        if recycling is None:
            return None, None
        model = self.runner.model()
        crop = self.info.network_size(tuple(image.shape[2:]))

        def where(stride: int) -> tuple:
            return crop, Grid(stride), tuple(-(-side // stride) for side in crop), True

        low = affinity = None
        if model.tfi is not None:
            low = recycling.low(*where(hosts.LOW_STRIDE))
        if model.sfi is not None:
            affinity = recycling.affinity(*where(hosts.HIGH_STRIDE))
        return low, affinity

    def _prepared(self, image: Tensor, recycling) -> tuple:
        """Aligned features and the image's part of the stem, kept while the crop stays."""
        crop = image[:, :3]
        kept, lock = self.runner._prepared, self.runner._lock
        key = (id(self), id(recycling))
        with lock:
            found = kept.get(key)
        if found is not None and found[0]() is recycling and torch.equal(found[1], crop):
            return found[2]
        low, affinity = self._aligned(image, recycling)
        made = (low, affinity, self.prepare(crop, *([low] if self.takes_low else []))[0])
        if recycling is not None:  # without features nothing tells one image from another
            with lock:
                kept[key] = (weakref.ref(recycling), crop.clone(), made)
                kept.move_to_end(key)
                while len(kept) > KEPT_CROPS:
                    kept.popitem(last=False)
        return made


def check_logits(engine: str, name: str, want: Tensor, got: Tensor) -> None:
    """Compare logits of a compiled graph with the network's own.

    Raises:
        RuntimeError: they differ by more than TOLERANCE of their size.
    """
    off = (want - got).abs().max().item()
    scale = max(1.0, want.abs().max().item())
    if not off <= TOLERANCE * scale:
        raise RuntimeError(
            f"{name}: engine={engine!r} gives logits that are off by {off:.3g} (of at most "
            f"{scale:.3g}) from the network's own; use engine='eager' and report this."
        )
    logger.info("%s in %s: within %.2g of eager torch", name, engine, off)


def _reference(model: nn.Module, image: Tensor, points: Tensor, recycling) -> dict[str, Tensor]:
    token = _recycled.set({} if recycling is None else {id(model): recycling})
    try:
        return model(image, points)
    finally:
        _recycled.reset(token)
