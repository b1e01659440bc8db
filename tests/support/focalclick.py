"""The FocalClick release (a ClickSEG checkout) for tests: its networks, predictor and clicks."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import codebase
from fdrn_adapter.hosts.catalogue import host_of, is_fdrn
from fdrn_adapter.session.interactive import SessionClick
from fdrn_adapter.session.regions import whole_roi
from support.codebase_fixtures import checkout
from support.networks import enliven, make_object, make_points
from support.stock import CLICKS

VARIABLE = "FDRN_CLICKSEG_ROOT"
KINDS = {
    "18s": ("is_hrnet_model.HRNetModel", {"width": 18, "ocr_width": 48, "small": True}),
    "32": ("is_hrnet_model.HRNetModel", {"width": 32, "ocr_width": 128, "small": False}),
    "b0": ("is_segformer_model.SegFormerModel", {"model_version": "b0"}),
    "b3": ("is_segformer_model.SegFormerModel", {"model_version": "b3"}),
}
ALL = list(itertools.product(KINDS, ("s1", "s2")))


@contextlib.contextmanager
def clickseg() -> Iterator[codebase.CodeBase]:
    """The checkout, active in this process for as long as the context lasts; a skip without it.

    RITM checkouts have a package of the same name, so none may be active outside.
    """
    code_base = codebase.activate(checkout(VARIABLE))
    try:
        yield code_base
    finally:
        codebase.deactivate(code_base)


def build(kind: str, pipeline: str = "s2", seed: int = 0) -> nn.Module:
    """A stock network in eval mode whose output depends on image, clicks and mask."""
    torch.manual_seed(seed)
    path, options = KINDS[kind]
    module, _, name = path.rpartition(".")
    network = getattr(importlib.import_module(f"isegm.model.{module}"), name)
    return enliven(network(
        pipeline_version=pipeline, use_leaky_relu=True, use_rgb_conv=False, use_disks=True,
        norm_radius=5, with_prev_mask=True, with_aux_output=True, **options,
    )).eval()


def taught(kind: str, pipeline: str = "s2", crop: int = 64) -> nn.Module:
    """A host whose coarse masks follow `make_object()`."""
    return teach(build(kind, pipeline), crop)


@torch.no_grad()
def teach(model: nn.Module, crop: int = 64) -> nn.Module:
    """The same network, its last layer fitted to the picture: its coarse masks follow the object.

    Args:
        model: a stock network or an FDRN, in eval mode.
        crop: side of what the network sees.
    """
    image, mask = make_object()
    small = F.interpolate(image, (crop, crop), mode="bilinear", align_corners=True)
    extractor, seen = host_of(model)[0].feature_extractor, []
    segformer = hasattr(extractor, "decode_head")
    head = extractor.decode_head.linear_pred if segformer else extractor.cls_head
    hook = head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    target = F.interpolate(mask[None, None].double(), (crop, crop))
    row, col = target[0, 0].nonzero().double().mean(0).tolist()
    with contextlib.ExitStack() as stack:
        if is_fdrn(model):
            roi = whole_roi(image.shape[2:])
            stack.enter_context(model.recycling(model.encode_image(image[:, :3]), [roi]))
        model(small, make_points([[row, col, 0]]))
    hook.remove()
    features = seen[0][0].flatten(1).T.double()  # (hw, C)
    values = F.interpolate(target, seen[0].shape[-2:]).flatten() * 8 - 4  # logits
    centred = features - features.mean(0)
    ridge = torch.eye(features.shape[1], dtype=torch.float64) * centred.square().sum() * 1e-6
    weight = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (values - values.mean()))
    middle = sum((features[side] @ weight).mean() for side in (values > 0, values < 0)) / 2
    head.weight.copy_(weight.float().view_as(head.weight))
    head.bias.fill_(-middle.item())
    return model


def focal_predictor_class() -> type:
    return importlib.import_module("isegm.inference.predictors.focalclick").FocalPredictor


def zoom_in(**options):
    return importlib.import_module("isegm.inference.transforms").ZoomIn(**options)


@torch.no_grad()
def run_clicks(predictor, image: np.ndarray, clicks=CLICKS) -> tuple[np.ndarray, list]:
    """Probabilities (n, H, W), and (global roi, focus roi) after each click.

    The stock pipeline prints; that is swallowed.
    """
    stock = importlib.import_module("isegm.inference.clicker")
    clicker, probs, rois = stock.Clicker(), [], []
    with contextlib.redirect_stdout(io.StringIO()):
        predictor.set_input_image(image)
        for row, col, positive in clicks:
            clicker.add_click(stock.Click(is_positive=positive, coords=(row, col)))
            probs.append(predictor.get_prediction(clicker).copy())
            rois.append((predictor.global_roi, predictor.focus_roi))
    return np.stack(probs), rois


def run_pipeline(pipeline, image: np.ndarray, clicks=CLICKS) -> tuple[np.ndarray, list]:
    """As `run_clicks`, through a pipeline of ours."""
    made, probs, rois = [], [], []
    pipeline.set_image(image)
    for row, col, positive in clicks:
        made.append(SessionClick(col, row, positive))
        probs.append(pipeline.predict(made))
        rmin, rmax, cmin, cmax = pipeline.state.roi or whole_roi(image.shape)
        rois.append(((rmin, rmax + 1, cmin, cmax + 1), pipeline.state.focus))
    return np.stack(probs), rois


def record(net: nn.Module) -> dict[str, list[Tensor]]:
    """Lists that every coarse pass and every refinement of `net` append their logits to."""
    seen: dict[str, list[Tensor]] = {"coarse": [], "refined": []}
    owner = getattr(net, "host", net)
    owner.register_forward_hook(
        lambda module, args, out: seen["coarse"].append(out["instances"].detach().clone())
    )
    owner.refiner.register_forward_hook(
        lambda module, args, out: seen["refined"].append(out[0].detach().clone())
    )
    return seen
