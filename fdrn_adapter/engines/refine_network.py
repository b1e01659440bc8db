"""FocalClick's second stage, compiled."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from fdrn_adapter.engines import graphs
from fdrn_adapter.engines.click_maps import draw_maps
from fdrn_adapter.engines.click_network import check_logits
from fdrn_adapter.engines.refinement import on_focus_crop

NAMES = ("image", "maps", "features", "logits")


class RefineNetwork:
    """`refine` of a host, for focus crops of one size.

    Args:
        model: FDRN model or stock network.
        compile_graph: see `ClickNetwork`.
        example: arguments of a first `refine`, to compile and to check with.
        name: of network and engine, for messages.

    Raises:
        RuntimeError: what was compiled gives other logits than the network.
    """

    def __init__(
        self, model: nn.Module, compile_graph: Callable, example: tuple[Tensor, ...], name: str
    ):
        copy = graphs.private_copy(model)
        self._projection = graphs.projection_of(copy)
        self._maps = copy.dist_maps_refine
        graph = graphs.Refine(copy).eval()
        with torch.no_grad():
            inputs = self._inputs(*example)
            graphs.fold_parts(graph, lambda: graph(*inputs))
            self._run = compile_graph(graph, inputs, NAMES, ["out"], None)
            self._check(model, *example, name=name)

    def run(
        self, image: Tensor, points: Tensor, features: Tensor, logits: Tensor, boxes: Tensor
    ) -> dict[str, Tensor]:
        """As the host's `refine`, without its trimap.

        Args:
            features: of the coarse stage: what `ClickNetwork` gave, or the host's own.
        """
        inputs = self._inputs(image, points, features, logits, boxes)
        return {"instances_refined": self._run(*inputs)[0], "instances_coarse": inputs[-1]}

    def _inputs(self, image, points, features, logits, boxes) -> list[Tensor]:
        projection = self._projection
        if projection is not None and features.shape[1] != projection.out_channels:
            features = projection(features)
        return [
            image, draw_maps(self._maps, points, tuple(image.shape[2:])),
            on_focus_crop(features, image.shape[-1], boxes),
            roi_align(logits, boxes, image.shape[2:], 1.0, aligned=True),
        ]

    def _check(self, model: nn.Module, image, points, features, logits, boxes, name: str) -> None:
        """Compare with the host's `refine`, on features of the host's own kind."""
        channels = features.shape[1] if self._projection is None else self._projection.in_channels
        features = torch.rand(len(features), channels, *features.shape[2:])
        want = model.refine(image, points, features, logits, boxes)["instances_refined"]
        got = self.run(image, points, features, logits, boxes)["instances_refined"]
        check_logits(f"{name}, refinement,", want, got)
