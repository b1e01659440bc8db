"""From an image and clicks to probabilities: between a session and a network.

`Pipeline` holds the image and the state of one object. A click is one `look` of the network at a
crop, with recycled features if it is an FDRN, and for FocalClick a second one at the focus crop;
the steps around them are `lean_ritm` and `lean_focalclick`. Where a code base has another loop, its
own predictor runs as it is.

This file alone reaches into the stock code's predictors, transforms and clicks (`StockRules`); what
the steps need of them has a name of ours here. Longer than 300 lines, so that it can be the one.
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdrn_adapter import engines
from fdrn_adapter.features.cache import FeatureCache
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.hosts.catalogue import is_fdrn
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.session import lean_focalclick
from fdrn_adapter.session.clicked_disks import honoured
from fdrn_adapter.session.lean_focalclick import LeanFocalClick
from fdrn_adapter.session.lean_ritm import LeanRitm, State
from fdrn_adapter.session.predictor import RecycledImage, recycling_predictor_for
from fdrn_adapter.session.regions import (
    EVERYWHERE,
    NOWHERE,
    Box,
    Roi,
    box_of,
    extent,
    region_of,
    whole_roi,
)


def stock_predictor(
    model: nn.Module, info: HostInfo, device: Any, crop: int | None, flip: bool,
    feature_cache: FeatureCache | None = None, engine: str = "eager", expansion: float = 1.4,
    precision: str | None = None,
) -> Any:
    """A stock predictor for any supported network, recycling where the network is an FDRN.

    Args:
        model: FDRN model or stock network.
        info: description of the (host) network.
        device: where the model is.
        crop: side in pixels of a fixed crop, zoomed in from the first click; None for the stock
            default (RITM: longest side 400, from the second click on; FocalClick: 256).
        flip: average with the prediction for the mirrored image (doubles the cost); FocalClick
            does so for the global crop and refines the image's own side alone.
        expansion: of the object's box by the zoom-in.
        feature_cache, engine, precision: see `recycling_predictor_for`. Beside engine "cuda" image
            and mask stay on the CPU, where the zoom-in looks at them; what it cuts out goes to the
            GPU.
    """
    if engine == engines.CUDA:
        device = "cpu"
    zoom_class = importlib.import_module(f"{info.package}.inference.transforms").ZoomIn
    fixed = {} if crop is None else {"skip_clicks": -1, "target_size": (crop, crop)}
    zoom_in = zoom_class(expansion_ratio=expansion, **fixed)
    name = "focalclick.FocalPredictor" if info.refines else "base.BasePredictor"
    module, _, class_name = f"{info.package}.inference.predictors.{name}".rpartition(".")
    base = getattr(importlib.import_module(module), class_name)
    options: dict[str, Any] = {"zoom_in": zoom_in, "with_flip": flip}
    if info.refines:
        options["infer_size"] = info.fdrn_crop if crop is None else crop
    if is_fdrn(model):
        return recycling_predictor_for(
            base, model, device, engine, precision, feature_cache=feature_cache, **options
        )
    return base(engines.accelerate(model, engine, precision), torch.device(device), **options)


def own_precision(method: Callable) -> Callable:
    """A method of `Pipeline`, run without gradients, and without autocast if the caller has it on.

    What is computed is kept, and should not depend on who asked first.
    """

    @functools.wraps(method)
    def wrapped(self, *args: Any, **kwargs: Any) -> Any:
        kind = next(self.net.parameters()).device.type
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            return method(self, *args, **kwargs)

    return wrapped


class Pipeline:
    """Probabilities of one object after the other, on one image after the other.

    Args:
        model, info, device, crop, flip, feature_cache, engine, expansion: see `stock_predictor`.
        first_twice, honour_clicks: see `model.inference.Inference`.
        precision: see `stock_predictor`.
        batches: gathers clicks of pipelines in several threads, see `engines.batches`.

    Attributes:
        net: what is called: the model, in an engine or as it is.
        predictor: the stock predictor whose parameters and rules are in force.
        recycled: the features of the image; None for a stock network.
        state: of the object; replaced by each click, never changed.
        numbers: type that clicks' coordinates are handed on in.
        watch: called with the name of each step of a click; the context it returns is around it.
    """

    def __init__(
        self, model: nn.Module, info: HostInfo, device: Any, crop: int | None, flip: bool,
        feature_cache: FeatureCache | None = None, engine: str = "eager", expansion: float = 1.4,
        first_twice: bool = False, honour_clicks: bool = False, precision: str | None = None,
        batches: engines.Batches | None = None,
    ):
        self.first_twice, self.honour_clicks = first_twice, honour_clicks
        self.predictor = stock_predictor(
            model, info, device, crop, flip, feature_cache, engine, expansion, precision
        )
        self.crop = info.fdrn_crop if crop is None else crop
        net = self.predictor.net
        self.net = net if batches is None else engines.Batched(net, batches)
        self._coming = nullcontext if batches is None else batches.coming
        self.recycled: RecycledImage | None = getattr(self.predictor, "recycled", None)
        self.rules = StockRules(self.predictor, info.package)
        self.steps: LeanRitm | None = LeanRitm(self.rules)
        if info.refines:
            is_known = lean_focalclick.fits(type(self.predictor))
            self.steps = LeanFocalClick(self.rules) if is_known else None
        self.numbers: type = int
        self.watch: Callable[[str], AbstractContextManager] = lambda step: nullcontext()
        self.image: Tensor | None = None
        self.state: State | None = None

    # -- image and object ----------------------------------------------------------------------

    @own_precision
    def set_image(self, image: np.ndarray, features: ImageFeatures | None = None) -> None:
        """Take an image (H, W, 3) uint8 RGB, encode it if need be, and start on an object.

        On an error the pipeline stays as it was.

        Args:
            image: (H, W, 3) uint8 RGB.
            features: of this image, encoded before.
        """
        with engines.beside(self.net, image.shape[0] * image.shape[1]):
            tensor = self.rules.tensor_of(image)
            state = self._blank(tensor)
            if self.recycled is not None:
                self.recycled.take(tensor, image, features)
            elif isinstance(self.predictor.net, engines.AcceleratedModel):
                self.net.look_at_weights()
        self.image, self.state = tensor, state

    @torch.no_grad()
    def reset(self) -> None:
        """Start on another object of the image."""
        with engines.beside(self.net, self.image.shape[2] * self.image.shape[3]):
            self.state = self._blank(self.image)

    def share(self, other: "Pipeline") -> None:
        """Take the image of another pipeline of the network, and its features, and start anew."""
        self.image = other.image
        if self.recycled is not None:
            self.recycled.share(other.recycled)
        self.reset()

    def _blank(self, image: Tensor) -> State:
        mask = torch.zeros_like(image[:, :1], dtype=torch.float32)
        return self.rules.fresh(State(None, mask, NOWHERE))

    @torch.no_grad()
    def start_from(self, prob: np.ndarray) -> None:
        """Start on an object from probabilities (H, W) float32, which clicks then correct."""
        mask = torch.from_numpy(prob)[None, None].to(self.image.device)
        self.state = self.rules.fresh(State(prob, mask, extent(prob)))

    def cut_off(self, box: Box) -> None:
        """Let nothing outside of these rows and columns belong to the object."""
        state, (rows, cols) = self.state, region_of(box)
        prob = np.zeros_like(state.prob)
        prob[rows, cols] = state.prob[rows, cols]
        mask = torch.from_numpy(prob)[None, None].to(state.mask.device)
        self.state = replace(state, prob=prob, mask=mask, region=extent(prob))

    def snapshot(self) -> State:
        """All that clicks change, to be handed to `restore`."""
        return self.state

    def restore(self, state: State) -> None:
        """Go back, or forth, to a snapshot of this image."""
        self.state = state

    def everything(self) -> tuple:
        """Image, features and state, to be handed to `put_back`."""
        recycled = None if self.recycled is None else self.recycled.everything()
        return self.image, self.state, recycled

    def put_back(self, everything: tuple) -> None:
        """Make all as it was."""
        self.image, self.state, recycled = everything
        if recycled is not None:
            self.recycled.put_back(recycled)

    def pixels_in_use(self) -> int:
        """About how many the next click works on: the object's surroundings, or all without one."""
        size = tuple(self.image.shape[2:])
        if self.state.prob is None:
            return size[0] * size[1]
        y1, y2, x1, x2 = box_of(self.state.region, size)
        return (y2 - y1) * (x2 - x1)

    # -- clicks --------------------------------------------------------------------------------

    @own_precision
    def predict(self, clicks: Sequence[Any], index_offset: int = 0) -> np.ndarray:
        """Probabilities (H, W) float32 after the last of all clicks on the object.

        An error, also Ctrl-C, leaves the state as it was.

        Args:
            clicks: with x, y, positive, in image pixels.
            index_offset: what their order starts from; 1 after a mask that was given.
        """
        stock = self.rules.clicks(clicks, index_offset, self.numbers)
        with engines.beside(self.net, self.pixels_in_use()), self._coming():
            click = self._stock_click if self.steps is None else self._clicked
            state = click(stock, self.state)
            if self.first_twice and len(clicks) == 1 and self.state.prob is None:
                state = self._looked_again(click, stock, state)
            if self.honour_clicks:
                honoured(state, clicks, self.crop)
            self.state = state
        return self.state.prob

    def _stock_click(self, clicks: Any, state: State) -> State:
        return self.rules.predicted(self.image, clicks, state)

    def _looked_again(self, click: Callable, clicks: Any, found: State) -> State:
        """The first click once more, zoomed in on what it found, as if nothing was known of it."""
        if not (found.prob > self.rules.prob_thresh).any():
            return found
        return click(clicks, replace(found, mask=torch.zeros_like(found.mask), roi=None))

    def _clicked(self, clicks: Any, state: State) -> State:
        clicks, steps, watch = clicks.get_clicks(), self.steps, self.watch
        with watch("preprocess"):
            look = steps.look(self.image, clicks, state)
        with watch("network"), self._features_under(look.shown), watch("bare network"):
            outputs = self.net(look.crop, look.points)
        logits = outputs["instances"].float()
        if torch.isnan(logits).any():
            raise RuntimeError(
                "The network gives NaN for this click: its weights are damaged or have grown too "
                "large. Take an earlier checkpoint."
            )
        if not steps.refines:
            with watch("postprocess"):
                return steps.merge(look, logits, state)
        with watch("focus crop"):
            focus = steps.focus(self.image, clicks, look, logits, state)
        with watch("network"), watch("bare network"), watch("refine"):
            refined = self.net.refine(
                focus.image, focus.points, outputs["feature"], logits.to(self.rules.dtype),
                focus.boxes.to(self.rules.dtype),
            )["instances_refined"].float()
        with watch("postprocess"):
            return steps.merge_refined(look, focus, refined, state, len(clicks))

    def _features_under(self, roi: Roi) -> AbstractContextManager:
        return nullcontext() if self.recycled is None else self.recycled.under(roi)

    def zoom_in_like_stock(self, longest_side: int) -> None:
        """From the next object on zoom in from the second click on, to this longest side."""
        zoom_in = self.predictor.zoom_in
        zoom_in.skip_clicks, zoom_in.target_size = 1, longest_side


class BrsPipeline:
    """The stock back-propagating refinement of a stock network, as the stock evaluation runs it.

    Args:
        model: a stock network in eval mode.
        info: its description.
        mode: of the stock code: "RGB-BRS", "f-BRS-B" and others.
        crop: as for `stock_predictor`.
        longest_side: of the stock zoom-in, where there is no fixed crop.
        flip: as for `stock_predictor`.
    """

    def __init__(
        self, model: nn.Module, info: HostInfo, mode: str, crop: int | None, longest_side: int,
        flip: bool,
    ):
        predictors = importlib.import_module(f"{info.package}.inference.predictors")
        zoom_in = {"target_size": longest_side} if crop is None else \
            {"skip_clicks": -1, "target_size": (crop, crop)}
        device = next(model.parameters()).device
        self._predictor = predictors.get_predictor(
            model, mode, device, with_flip=flip, zoom_in_params=zoom_in
        )
        self._rules = StockRules(self._predictor, info.package)

    @torch.no_grad()
    def set_image(self, image: np.ndarray) -> None:
        """Start on an object of an image, (H, W, 3) uint8 RGB."""
        self._predictor.set_input_image(image)

    @torch.no_grad()  # BRS enables gradients where it needs them
    def predict(self, clicks: Sequence[Any]) -> np.ndarray:
        """Probabilities (H, W) after all clicks of the object, the last of which is new."""
        clicker = self._rules.clicks(clicks, 0, np.int64)  # as the stock evaluation draws them
        return np.asarray(self._predictor.get_prediction(clicker), np.float32)


class StockRules:
    """What a pipeline takes from the stock code, under names of ours.

    Args:
        predictor: a stock predictor with a zoom-in.
        package: of the stock code.
    """

    def __init__(self, predictor: Any, package: str):
        self._predictor, self._package = predictor, package
        self._zoom_in = predictor.zoom_in
        self._resize = next(
            (t for t in predictor.transforms if type(t).__name__ == "ResizeTrans"), None
        )
        self._last = [t for t in predictor.transforms if t not in (self._zoom_in, self._resize)]
        self._module = importlib.import_module(type(self._zoom_in).__module__)
        self.dtype = next(predictor.net.parameters()).dtype  # of what the network is given

    # -- the image, clicks ---------------------------------------------------------------------

    def tensor_of(self, image: np.ndarray) -> Tensor:
        """An image (H, W, 3) as the stock code hands it to networks: (1, 3, H, W) in [0, 1]."""
        return self._predictor.to_tensor(image)[None].to(self._predictor.device, self.dtype)

    def clicks(self, clicks: Sequence[Any], index_offset: int, numbers: type) -> Any:
        """A stock Clicker that holds clicks; see `Pipeline.predict`."""
        stock = importlib.import_module(f"{self._package}.inference.clicker")
        clicker = stock.Clicker(click_indx_offset=index_offset)
        for click in clicks:
            coords = (numbers(click.y), numbers(click.x))
            clicker.add_click(stock.Click(is_positive=click.positive, coords=coords))
        return clicker

    @property
    def takes_mask(self) -> bool:
        """Whether the network takes the previous mask."""
        return bool(getattr(self._predictor.net, "with_prev_mask", False))

    # -- the zoom-in -----------------------------------------------------------------------------

    @property
    def skip_clicks(self) -> int:
        """So many clicks see the whole image."""
        return self._zoom_in.skip_clicks

    @property
    def prob_thresh(self) -> float:
        """From where on a pixel belongs to the object that is zoomed into."""
        return self._zoom_in.prob_thresh

    @property
    def zoom(self) -> dict[str, float]:
        """The numbers that the zoom-in goes by, as exported files name them."""
        zoom = self._zoom_in
        return {
            "threshold": zoom.prob_thresh, "expansion": zoom.expansion_ratio,
            "min_side_px": zoom.min_crop_size, "keep_iou": zoom.recompute_thresh_iou,
        }

    def widened(self, roi: Roi, size: tuple[int, int]) -> Roi:
        """The surroundings of an object within an image of that size."""
        zoom = self._zoom_in
        wide = self._module.expand_bbox(roi, zoom.expansion_ratio, zoom.min_crop_size)
        rmin, rmax, cmin, cmax = whole_roi(size)
        return self._module.clamp_bbox(wide, rmin, rmax, cmin, cmax)

    def stays(self, roi: Roi, found: Roi, clicks: Sequence) -> bool:
        """Whether a roi still serves where another was found."""
        near = self._module.get_bbox_iou(found, roi) >= self._zoom_in.recompute_thresh_iou
        return near and self._module.check_object_roi(roi, clicks)

    def crop(self, part: Tensor) -> Tensor:
        """A part of the image, resized as the zoom-in does."""
        whole = whole_roi(tuple(part.shape[2:]))
        size = self._zoom_in.target_size
        if isinstance(size, int) and 2 * size * min(part.shape[2:]) <= max(part.shape[2:]):
            # So narrow that the stock code would resize it to nothing.
            size = tuple(size if side == max(part.shape[2:]) else 1 for side in part.shape[2:])
        return self._module.get_roi_image_nd(part, whole, size)

    def moved(self, clicks: Sequence, roi: Roi, size: Sequence[int]) -> list:
        """Clicks on a crop of that size of a roi."""
        rmin, rmax, cmin, cmax = roi
        return [click.copy(coords=(
            size[0] * (click.coords[0] - rmin) / (rmax - rmin + 1),
            size[1] * (click.coords[1] - cmin) / (cmax - cmin + 1),
        )) for click in clicks]

    # -- from the crop to the network and back -------------------------------------------------

    def resized(self, part: Tensor, clicks: Sequence) -> tuple[Tensor, list]:
        """A part of the image at the size that FocalClick's network sees, with its clicks."""
        crop, (clicks,) = self._resize.transform(part, [clicks])
        return crop, clicks

    def points(self, crop: Tensor, clicks: Sequence) -> tuple[Tensor, Tensor]:
        """The crop, with its mirror image where that is wanted, and the clicks as (B, 2N, 3)."""
        lists = [clicks]
        for transform in self._last:
            crop, lists = transform.transform(crop, lists)
        return crop, self._in_dtype(self._predictor.get_points_nd(lists))

    def _in_dtype(self, points: Tensor) -> Tensor:
        """Points as the network takes them; see also `click_like_stock_evaluation` of sessions."""
        if self.dtype == torch.float32 == torch.get_default_dtype():
            return points  # as the stock code makes them, in single or double precision
        return points.to(self.dtype)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits of the crop as (1, 1, h, w) probabilities, at the size it was cut with."""
        for transform in reversed(self._last):
            logits = transform.inv_transform(logits)
        return logits if self._resize is None else self._resize.inv_transform(logits)

    # -- FocalClick's second stage -------------------------------------------------------------

    @property
    def focus_rules(self) -> Any:
        """The module with the rules of focus crops."""
        return importlib.import_module(f"{self._package}.utils.crop_local")

    @property
    def focus_ratio(self) -> float:
        """Of a focus crop to what changed."""
        return self._predictor.focus_crop_r

    @property
    def crop_side(self) -> int:
        """Of the crops that both stages see."""
        return self._predictor.crop_l

    def on_crop(self, box: Sequence[int], region: Sequence[int]) -> tuple[float, ...]:
        """A box of the image on the coarse stage's crop of a region: top, bottom, left, right."""
        return self._predictor.mapp_roi(box, region)

    def focus_points(self, clicks: Sequence, box: Sequence[int]) -> Tensor:
        """Clicks on the focus crop, (1, 2N, 3)."""
        return self._in_dtype(self._predictor.get_points_nd_inbbox(clicks, *box))

    # -- the stock loop ------------------------------------------------------------------------

    def fresh(self, state: State) -> State:
        """A state of a new object, with what the stock loop's transforms remember of it."""
        for transform in self._predictor.transforms:
            transform.reset()
        if state.prob is not None:  # where the zoom-in looks for the object
            self._zoom_in._prev_probs = state.prob[None, None]
        return replace(state, transforms=self._remembered())

    def predicted(self, image: Tensor, clicker: Any, state: State) -> State:
        """The state after a click, by the stock predictor's own loop."""
        predictor = self._predictor
        predictor.original_image, predictor.prev_prediction = image, state.mask
        # Not by the predictor's own method: FocalClick's prints.
        for transform, remembered in zip(predictor.transforms, state.transforms, strict=True):
            transform.set_state(remembered)
        prob = predictor.get_prediction(clicker)
        roi = self._zoom_in._object_roi
        return State(
            prob, predictor.prev_prediction, EVERYWHERE, roi, getattr(predictor, "shown", roi),
            getattr(predictor, "focus_roi", None), self._remembered(),
        )

    def _remembered(self) -> tuple[Any, ...]:
        return tuple(transform.get_state() for transform in self._predictor.transforms)
