"""A network in an engine: what compiles its parts when they are first used, and keeps them."""

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter import hosts
from fdrn_adapter.engines import compile_cache, graphs, torch_threads
from fdrn_adapter.engines.click_network import ClickNetwork
from fdrn_adapter.engines.engine import Compiled, Engine
from fdrn_adapter.engines.refine_network import RefineNetwork
from fdrn_adapter.features.recycling import Recycling

MAX_FIXED = 4  # sizes that are compiled each for itself; further ones share a graph of any size
TOLERANCE = 1e-3  # largest difference of a map of F1, relative to its largest value


class Runner:
    """One network with one state of its weights in one engine.

    Args:
        model: FDRN model or stock network, float32 on the CPU, in eval mode.
        engine: that compiles its graphs.
    """

    def __init__(self, model: nn.Module, engine: Engine):
        self.model = weakref.ref(model)
        self.engine = engine
        _, self.info = hosts.host_of(model)
        self.name = f"{self.info.name} in engine={engine.name!r}"
        self._compiled: dict[tuple, Any] = {}
        self._sizes: list[tuple] = []
        self._lock = threading.RLock()

    def click(
        self, image: Tensor, points: Tensor, recycling: Recycling | None
    ) -> dict[str, Tensor]:
        """One forward pass: "instances" (B, 1, H, W), and "feature" for FocalClick."""
        key = (len(image), *image.shape[2:])
        with self._lock:
            if key not in self._sizes and len(self._sizes) < MAX_FIXED:
                self._sizes.append(key)
            fixed = key in self._sizes
        size, example = tuple(image.shape[2:]) if fixed else None, (image, points, recycling)
        network = self._get(
            ("click", *key) if fixed else ("click", "any"), lambda: self._network(size, example)
        )
        outputs = network.run(image, points, recycling)
        return dict(zip(network.outputs, outputs, strict=True))

    def refine(
        self, image: Tensor, points: Tensor, features: Tensor, logits: Tensor, boxes: Tensor
    ) -> dict[str, Tensor]:
        """FocalClick's second stage, see `RefineNetwork.run`."""
        example = (image, points, features, logits, boxes)
        network = self._get(("refine", *image.shape), lambda: RefineNetwork(
            self.model(), self.engine.compiler(), example, self.name
        ))
        return network.run(*example)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of F1, of an image (B, 3, H, W) in [0, 1] that is small enough already."""
        run, names = self._get(("encode",), lambda: self._compile_encoder(x))
        return dict(zip(names, run(x), strict=True))

    # -- compiling -----------------------------------------------------------------------------

    def _network(self, size: tuple[int, int] | None, example: tuple) -> ClickNetwork:
        return self._network_in(self.engine.compiler(), size, example)

    def _network_in(
        self, compile_graph: Callable[..., Compiled], size: tuple[int, int] | None,
        example: tuple, lower: bool = False,
    ) -> ClickNetwork:
        return ClickNetwork(
            self.model(), self.info, size, compile_graph, example, self.name, lower
        )

    def _get(self, name: tuple, build: Callable[[], Any]) -> Any:
        """What was compiled under a name, and for this many threads."""
        name = (*name, torch_threads.number())
        found = self._compiled.get(name)
        if found is None:
            with self._lock:
                found = self._compiled.get(name)
                if found is None:
                    found = self._compiled[name] = compile_cache.checked(build)
        return found

    def _compile_encoder(self, x: Tensor) -> tuple[Compiled, tuple[str, ...]]:
        graph = self._encoder_graph(x)
        run = encoder_in(self.engine.compiler(), graph, x)
        self._check_encoder(run, graph.names, x)
        return run, graph.names

    def _encoder_graph(self, x: Tensor) -> graphs.Encode:
        graph = graphs.Encode(graphs.private_copy(self.model().image_encoder)).eval()
        graphs.fold_parts(graph, lambda: graph(x))
        return graph

    @torch.no_grad()
    def _check_encoder(self, run: Compiled, names: tuple[str, ...], x: Tensor) -> None:
        """Compare F1 with eager torch, on a size other than the one it was traced with, too."""
        for image in (x, x[:, :, : max(1, x.shape[2] - 21), : max(1, x.shape[3] - 10)]):
            wanted = self.model().image_encoder.maps(image)
            for name, made in zip(names, run(image.contiguous()), strict=True):
                same = made.shape == wanted[name].shape
                scale = wanted[name].abs().max().clamp(min=1e-6)
                if not same or (made - wanted[name]).abs().max() > TOLERANCE * scale:
                    raise RuntimeError(
                        f"F1 in {self.engine.name} gives another {name!r} than torch: use "
                        "engine='eager', and please report the encoder "
                        f"{self.model().image_encoder.name!r}."
                    )


def encoder_in(compile_graph: Callable[..., Compiled], graph: graphs.Encode, x: Tensor) -> Compiled:
    """F1 compiled for images of any size; `x` is one of them."""
    axes = {"image": {0: "batch", 2: "rows", 3: "cols"}}
    return compile_graph(graph, [x], ["image"], graph.names, axes)
