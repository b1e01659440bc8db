"""F2, or a stock network, compiled: what a click runs in an engine."""

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fdrn_adapter import hosts
from fdrn_adapter.engines import graphs
from fdrn_adapter.features import current
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.recycling import Recycling

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # largest logit difference between a compiled graph and the network
KEPT_CROPS = 8


class ClickNetwork:
    """F2 (or a stock network) compiled for one batch and crop size, or for any.

    Args:
        model: FDRN model or stock network.
        info: description of the host.
        size: rows and columns of the crop; None for any, and any batch.
        compile_graph: (graph, inputs, their names, names of outputs, dynamic axes) -> compiled.
        example: image, points and recycling of a first click, to compile and to check with.
        name: of network and engine, for messages.
        lower: whether in fewer bits than float32, whose logits are not the network's own: they are
            not compared here, and `Parts.for_fewer_bits` is asked for.

    Raises:
        UnsupportedHostError: a network of unknown structure.
        RuntimeError: what was compiled gives other logits than the network.
    """

    def __init__(
        self, model: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None,
        compile_graph: Callable, example: tuple[Tensor, Tensor, Recycling | None], name: str,
        lower: bool = False,
    ):
        self.info, self.size, self.name = info, size, name
        self.outputs = ("instances", "feature") if info.refines else ("instances",)
        self.intakes: tuple[Intake, ...] = getattr(model, "intakes", ())
        self.parts = graphs.build_parts(model, info, size)
        if lower:
            self.parts.for_fewer_bits()
        self._crops = Crops()
        image, points, recycling = example
        with torch.no_grad():
            self._compile(compile_graph, image, points, self._taken(image, recycling))
            if not lower:
                self._check(model, image, points, recycling)

    def _compile(self, compile_graph, image: Tensor, points: Tensor, taken: dict) -> None:
        early = {name: taken.pop(name) for name in self.parts.early if name in taken}
        first = {"image": image[:, :3], **early}
        prepare = graphs.Prepare(self.parts, tuple(first)).eval()
        inputs = self.parts.click_inputs(prepare(*first.values()), image, points) | taken
        click = graphs.Click(self.parts, tuple(inputs)).eval()

        def both() -> None:
            prepare(*first.values())
            click(*inputs.values())

        graphs.fold_parts(self.parts, both)
        fixed = self.size is not None
        self._prepare = compile_graph(
            prepare, list(first.values()), prepare.names, ["pre"], None if fixed else _axes(first)
        )
        self._click = compile_graph(
            click, list(inputs.values()), click.names, self.outputs,
            None if fixed else _axes(inputs),
        )

    def _check(self, model: nn.Module, image: Tensor, points: Tensor, recycling) -> None:
        """Compare with the network itself, on the first crop with a lively previous mask."""
        image = torch.cat([image[:, :3], torch.rand_like(image[:, 3:])], dim=1)
        if self.intakes:
            with current.using(model, recycling):
                want = model(image, points)["instances"]
        else:
            want = model(image, points)["instances"]
        check_logits(self.name, want, self.run(image, points, recycling)[0])

    def run(
        self, image: Tensor, points: Tensor, recycling: Recycling | None
    ) -> tuple[Tensor, ...]:
        """The outputs named in `outputs`."""
        pre, taken = self._prepared(image, recycling)
        inputs = self.parts.click_inputs(pre, image, points) | taken
        return self._click(*inputs.values())

    def _taken(self, image: Tensor, recycling: Recycling | None) -> dict[str, Tensor]:
        if recycling is None:
            return {}
        size = self.info.network_size(tuple(image.shape[2:]))
        return dict(recycling.aligned(self.intakes, size, separable=True).tensors)

    def _prepared(self, image: Tensor, recycling: Recycling | None) -> tuple[Tensor, dict]:
        """The image's part, and what the click's graph takes beside it; kept for recent crops."""
        crop = image[:, :3]
        found = self._crops.find(crop, recycling)
        if found is None:
            taken = self._taken(image, recycling)
            early = [taken.pop(name) for name in self.parts.early if name in taken]
            found = (self._prepare(crop, *early)[0], taken)
            self._crops.keep(crop, recycling, found)
        return found


class Crops:
    """What recent crops of images gave, as long as the features they go with are there."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, crop: Tensor, recycling: Recycling | None) -> tuple | None:
        """What was kept for this crop, if its pixels are the same."""
        if not _has_place(recycling):
            return None
        with self._lock:
            owner, pixels, found = self._kept.get(id(recycling.kept), (None, None, None))
        same = owner is not None and owner() is recycling.kept and torch.equal(pixels, crop)
        return found if same else None

    def keep(self, crop: Tensor, recycling: Recycling | None, made: tuple) -> None:
        if not _has_place(recycling):
            return
        key = id(recycling.kept)
        with self._lock:
            self._kept[key] = (weakref.ref(recycling.kept), crop.clone(), made)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_CROPS:
                self._kept.popitem(last=False)


def _has_place(recycling: Recycling | None) -> bool:
    """Whether something tells one image from another: not without features, nor in a batch of
    sessions, which will hardly come again."""
    return recycling is not None and recycling.kept is not None


def _axes(inputs: dict[str, Tensor]) -> dict[str, dict[int, str]]:
    """Axes that may have any size: of maps, and of affinities between their cells."""
    return {
        name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_cols"} if t.ndim == 4
        else {0: "batch", **dict.fromkeys(range(1, t.ndim), f"{name}_cells")}
        for name, t in inputs.items()
    }


def check_logits(what: str, want: Tensor, got: Tensor) -> None:
    """Compare logits of a compiled graph with the network's own.

    Args:
        what: network and engine, for messages.
        want, got: of the network, and of what was compiled.

    Raises:
        RuntimeError: they differ by more than TOLERANCE of their size.
    """
    off = (want - got).abs().max().item()
    scale = max(1.0, want.abs().max().item())
    if not off <= TOLERANCE * scale:
        raise RuntimeError(
            f"{what} gives logits that are off by {off:.3g} (of at most {scale:.3g}) from the "
            "network's own; use engine='eager' and report this."
        )
    logger.info("%s: within %.2g of eager torch", what, off)
