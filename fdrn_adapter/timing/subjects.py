"""What `fdrn demo` and `fdrn benchmark --protocol speed` time of a network, for `speed.measure`."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import engines
from fdrn_adapter.hosts.catalogue import is_fdrn
from fdrn_adapter.timing.complexity import click_points

PAPER_INPUT = (321, 481)  # rows, columns of the image in Table 2
NUM_ROIS = 8  # more than the alignments an ImageFeatures keeps, so that each is new when it returns


@dataclass(frozen=True)
class Subject:
    """A network to be timed.

    Attributes:
        name: for the keys of its candidates.
        model: FDRN or stock network, in eval mode.
        crop_size: rows and columns of the crops it is given.
        engine: it runs in; see `engines`.
    """

    name: str
    model: nn.Module
    crop_size: tuple[int, int]
    engine: str = "eager"

    @property
    def is_fdrn(self) -> bool:
        return is_fdrn(self.model)


@torch.inference_mode()
def candidates_of(
    subject: Subject, image: Tensor, num_clicks: int = 20
) -> dict[str, Callable[[], object]]:
    """What is timed of one network; keys are "<name>/<what>".

    "click" is one forward pass on a crop, for FocalClick networks with the refinement of a focus
    crop; with an FDRN the image features are recycled from before and the roi is one they were not
    aligned to, "click, same roi" is a click that keeps the roi. "encode" is F1 on the photograph,
    "encode 481x321" on the paper's typical size.

    Args:
        subject: a network.
        image: (1, 3, H, W) in [0, 1]; it and all crops are where the network is before the clock
            starts.
        num_clicks: in the points tensor.
    """
    model = engines.accelerate(subject.model, subject.engine)
    image = image.to(next(subject.model.parameters()).device)
    name, crop_size = subject.name, subject.crop_size
    rows, cols = image.shape[-2:]
    rois = [(i, rows - 1, i, cols - 1) for i in range(NUM_ROIS + 1)]
    crops = [crop_of(image, roi, crop_size, model.with_prev_mask) for roi in rois]
    points = click_points(crop_size, num_clicks).to(image.device)
    if not subject.is_fdrn:
        turn = itertools.cycle(crops[1:])
        return {f"{name}/click": lambda: _forward(model, next(turn), points)}
    features = model.encode_image(image)
    small = resized(image, PAPER_INPUT)

    def click(roi: tuple, crop: Tensor) -> object:
        with model.recycling(features, [roi]):
            return _forward(model, crop, points)

    turn = itertools.cycle(zip(rois[1:], crops[1:], strict=True))
    return {
        f"{name}/encode": lambda: model.encode_image(image),
        f"{name}/encode 481x321": lambda: model.encode_image(small),
        f"{name}/click": lambda: click(*next(turn)),
        f"{name}/click, same roi": lambda: click(rois[0], crops[0]),
    }


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (1, 3, H, W) in [0, 1] at another size, antialiased."""
    small = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    return small.clamp(0, 1)


def crop_of(image: Tensor, roi: tuple, size: tuple[int, int], with_prev_mask: bool) -> Tensor:
    """The crop as the stock zoom-in cuts it: inclusive roi, resized with align_corners=True."""
    rmin, rmax, cmin, cmax = roi
    part = image[:, :, rmin : rmax + 1, cmin : cmax + 1]
    crop = F.interpolate(part, size, mode="bilinear", align_corners=True)
    prev_mask = torch.zeros_like(crop[:, :1])
    return torch.cat([crop, prev_mask], dim=1) if with_prev_mask else crop


def _forward(model: nn.Module, crop: Tensor, points: Tensor) -> object:
    outputs = model(crop, points)
    if "feature" not in outputs:  # of FocalClick networks alone; an engine's stand-in has refine
        return outputs
    rows, cols = crop.shape[-2:]  # the focus crop: a part of it, at the crop's size
    focus = torch.tensor([[0, cols / 4, rows / 4, cols / 2, rows / 2]], device=crop.device)
    return model.refine(crop[:, :3], points, outputs["feature"], outputs["instances"], focus)
