"""A network whose calls are run together with those of other sessions, see `batches`."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.engines.accelerated import AcceleratedModel
from fdrn_adapter.engines.batches import Batches, Outputs
from fdrn_adapter.engines.choice import CUDA, EAGER
from fdrn_adapter.engines.click_maps import with_rows
from fdrn_adapter.engines.engine import EXACT
from fdrn_adapter.features import current
from fdrn_adapter.features.recycling import JoinedRecycling, Recycling
from fdrn_adapter.hosts.catalogue import host_of


class Batched:
    """Stands in for a network where a session calls it; other attributes are the network's own.

    Calls return "instances" and what else has a sample for each crop.

    Args:
        net: FDRN model or stock network, in an engine or as it is.
        batches: what its calls go through.
    """

    def __init__(self, net: Any, batches: Batches):
        self.net, self.batches = net, batches
        self._model = net.model if isinstance(net, AcceleratedModel) else net
        host, self._info = host_of(self._model)
        self._is_fdrn = host is not self._model
        engine = getattr(net, "engine", EAGER.name)
        self._who = (id(self._model), engine, getattr(net, "precision", EXACT))
        self._pinned = engine == CUDA and torch.cuda.is_available()

    def __call__(self, image: Tensor, points: Tensor) -> Outputs:
        """See `FDRNModel.forward`.

        Args:
            image: (B, 3 or 4, H, W); B is 1, or 2 with the mirrored crop.
            points: (B, 2N, 3).
        """
        recycling = current.of(self.net) if self._is_fdrn else None
        if self._is_fdrn:
            if not isinstance(recycling, Recycling):
                return self.net(image, points)
            # Here, while others run; kept with the features, where the network finds it.
            self._model.aligned(recycling, image, separable=self.net is not self._model)
        key = ("click", *self._who, _kind(image), points.dtype, points.device)
        return self.batches.run(
            key, (image, points, recycling), self._click, lambda: self.net(image, points),
            followed=self._info.refines,
        )

    def _click(self, calls: Sequence[tuple]) -> list[Outputs]:
        images, points, recyclings = zip(*calls, strict=True)
        room = max(p.shape[1] // 2 for p in points)
        context = nullcontext()
        if self._is_fdrn:
            context = current.using(self.net, JoinedRecycling(recyclings))
        with context:
            outputs = self.net(
                self._joined(images), self._joined([with_rows(p, room) for p in points])
            )
        return _split(outputs, [len(image) for image in images])

    def refine(
        self, image: Tensor, points: Tensor, features: Tensor, logits: Tensor, boxes: Tensor
    ) -> Outputs:
        """FocalClick's second stage, as the host's `refine`."""
        inputs = (image, points, features, logits, boxes)
        key = ("refine", *self._who, points.dtype, points.device,
               *map(_kind, (image, features, logits, boxes)))
        return self.batches.run(key, inputs, self._refine, lambda: self.net.refine(*inputs))

    def _refine(self, calls: Sequence[tuple]) -> list[Outputs]:
        images, points, features, logits, boxes = zip(*calls, strict=True)
        room = max(p.shape[1] // 2 for p in points)
        # Boxes name the sample they are on, counted through the batch.
        moved, first = [], 0
        for box, maps in zip(boxes, features, strict=True):
            moved.append(torch.cat([box[:, :1] + first, box[:, 1:]], dim=1))
            first += len(maps)
        outputs = self.net.refine(*map(self._joined, (
            images, [with_rows(p, room) for p in points], features, logits, moved
        )))
        return _split(outputs, [len(image) for image in images])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Along the batch; in page-locked memory where a GPU takes it from there."""
        if not self._pinned or parts[0].device.type != "cpu":
            return torch.cat(list(parts))
        size = (sum(map(len, parts)), *parts[0].shape[1:])
        return torch.cat(list(parts), out=torch.empty(size, dtype=parts[0].dtype, pin_memory=True))

    def __getattr__(self, name: str) -> Any:
        if name == "net":  # not set yet: a copy or an unpickled one
            raise AttributeError(name)
        return getattr(self.net, name)


def _kind(t: Tensor) -> tuple:
    """What tensors have in common that can be joined along the batch."""
    return (tuple(t.shape[1:]), t.dtype, t.device)


def _split(outputs: dict[str, Any], sizes: list[int]) -> list[Outputs]:
    """Each call's part of the outputs."""
    parts = {
        name: made.split(sizes) for name, made in outputs.items()
        if isinstance(made, Tensor) and len(made) == sum(sizes)
    }
    return [{name: part[i] for name, part in parts.items()} for i in range(len(sizes))]
