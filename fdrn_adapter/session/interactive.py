"""Interactive segmentation of images, object by object: what an annotation tool needs."""

import importlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fdrn_adapter import engines
from fdrn_adapter.errors import FeatureMismatchError
from fdrn_adapter.features.cache import DEFAULT_BYTES, FeatureCache
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.hosts.catalogue import host_of
from fdrn_adapter.images import as_rgb
from fdrn_adapter.session.edits import Edits, nearest_pixel
from fdrn_adapter.session.lean_ritm import NOWHERE, box_of, extent, written, zero_outside
from fdrn_adapter.session.objects import Objects
from fdrn_adapter.session.predictor import stock_predictor
from fdrn_adapter.session.start_box import StartBox
from fdrn_adapter.session.state_file import StateFile


@dataclass(frozen=True)
class SessionClick:
    """A click in image pixels: x is the column, y the row."""

    x: int
    y: int
    positive: bool


@dataclass(frozen=True)
class _Snapshot:
    """Everything that a click changes; undo puts an earlier one back.

    The predictor never writes into the tensors it hands out, so snapshots share them.
    """

    clicks: tuple[SessionClick, ...]
    prob: np.ndarray | None  # (H, W) float32, None before the first click
    prev_prediction: torch.Tensor
    transforms: list[Any]
    index_offset: int  # 1 when the object started from a mask
    region: tuple[slice, slice]  # rows and columns outside of which prob is 0


class InteractiveSession(Objects, Edits, StartBox, StateFile):
    """Click, undo and go on to the next object or image, with one encoding per image.

    Works with FDRN models and with stock networks alike. Many sessions may share one model, each
    in its own thread; nothing of a session is stored on the model.

    Args:
        model: an FDRN model or a stock RITM or FocalClick network, in eval mode.
        engine: "auto" for the fastest that is installed, or one of `fdrn_adapter.engines.names()`;
            the attribute `engine` says which one it is. "eager" runs the network as it is, others
            give the same logits to some 1e-6 (1e-3 is checked when an engine compiles).
        crop: side in pixels of the fixed crop the network sees, zoomed in from the first click;
            default 288 for an FDRN on RITM, 256 on FocalClick. None for a stock network means the
            stock zoom-in (longest side 400, from the second click on; 256 for FocalClick).
        flip: average with the mirrored image, as RITM's evaluation does, at twice the cost.
        threshold: probability from which a pixel belongs to the mask.
        cache_bytes: limit of the features kept for images seen before.
        feature_cache: to be used in place of one of its own, by several sessions on one model.

    Raises:
        ValueError: unknown or missing engine, a model in training mode or of another kind.
    """

    def __init__(
        self,
        model: nn.Module,
        engine: str = "auto",
        crop: int | None = None,
        flip: bool = False,
        threshold: float = 0.5,
        cache_bytes: int = DEFAULT_BYTES,
        feature_cache: FeatureCache | None = None,
    ):
        engine = engines.resolve(engine, model if isinstance(model, nn.Module) else None)
        host, info = host_of(model)
        self._recycles = host is not model
        if model.training:
            raise ValueError("The model is in training mode; call model.eval() first.")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold should be between 0 and 1, got {threshold}.")
        self.model, self.engine, self.threshold = model, engine, threshold
        self._package = info.package
        if crop is None and self._recycles:
            crop = info.fdrn_crop
        self._options = {"crop": crop, "flip": flip, "threshold": threshold}
        self._cache = FeatureCache(cache_bytes) if feature_cache is None else feature_cache
        device = next(model.parameters()).device
        self._predictor = stock_predictor(
            model, info, device, crop, flip, self._cache, engine
        )
        self._integer: type = int  # of click coordinates, for the stock code
        self._image: np.ndarray | None = None
        self._left = OrderedDict()
        self._start_objects()

    # -- image ---------------------------------------------------------------------------------

    @torch.no_grad()
    def set_image(
        self, image: np.ndarray | str | Path, features: ImageFeatures | None = None,
        resume: bool = False,
    ) -> None:
        """Start on an image, without clicks.

        An image seen before (by content) is not encoded again while the cache holds it.

        Args:
            image: (H, W, 3) uint8 RGB; gray, RGBA and floats in [0, 1] are converted; or a path.
            features: of this image, encoded before, to be used instead of running F1.
            resume: go on with the objects and clicks that this image (by content) was left with,
                if it was set before; the last images' are remembered, up to 512 MiB.

        Raises:
            ValueError: not an image; the session keeps the one it had.
        """
        rgb = as_rgb(image)
        if features is not None:
            self._check_features(features, rgb.shape[:2])
        before = (self._image, self._history, self._now)
        known = {} if features is None else {"features": features}
        try:
            with engines.beside(self._predictor.net, rgb.shape[0] * rgb.shape[1]):
                self._predictor.set_input_image(rgb, **known)
        except BaseException:
            self._restore_image(*before)
            raise
        self._leave_image()
        self._image = rgb
        self._start_objects()
        if not (resume and self._resume_image()):
            self.reset_object()

    def _restore_image(self, image, history, now) -> None:
        self._image, self._history, self._now = image, history, now
        if image is not None:
            self._predictor.set_input_image(image)
            self._restore()

    def warm_up(self) -> None:
        """Compile what the engine needs, for all sessions on the model; this one's state stays.

        Otherwise the first image and the first click take seconds longer than others.
        """
        other = InteractiveSession(self.model, self.engine, cache_bytes=0, **self._options)
        rows, cols = np.indices((240, 320)) // 8
        other.set_image((rows * 3 + cols * 5).astype(np.uint8))
        other.add_clicks([(160, 120, True), (40, 40, False)])

    def forget_features(self) -> None:
        """Encode the next image in any case, also one that was seen before."""
        self._cache.clear()

    def click_like_stock_evaluation(self) -> None:
        """Give results that equal the stock evaluation's to the last bit, from the next click on.

        The stock zoom-in computes where a click lies on the crop in the precision of the click:
        single for Python's integers, which the stock GUI hands it, double for NumPy's, which the
        stock click simulation does. Probabilities differ by up to 1e-3.
        """
        self._integer = np.int64

    def zoom_in_like_stock(self, longest_side: int = 400) -> None:
        """Zoom in as the stock evaluation does (`--eval-mode cvpr`), instead of the fixed crop.

        From the second click on, the object's surroundings are cut out and resized to a longest
        side of so many pixels. Takes effect with the next image or object.
        """
        zoom_in = self._predictor.zoom_in
        zoom_in.skip_clicks, zoom_in.target_size = 1, longest_side

    @property
    def image(self) -> np.ndarray | None:
        """The current image, (H, W, 3) uint8 RGB."""
        return self._image

    def get_features(self) -> ImageFeatures:
        """Features of the current image, to be saved or sent elsewhere.

        Raises:
            RuntimeError: no image is set, or the model is a stock network.
        """
        self._require_image()
        self._require_fdrn()
        return self._predictor.image_features()

    def set_features(self, features: ImageFeatures) -> None:
        """Use features encoded elsewhere for the current image.

        Raises:
            RuntimeError: no image is set, or the model is a stock network.
            FeatureMismatchError: they are of another model or image size.
        """
        self._require_image()
        self._check_features(features, self._image.shape[:2])
        self._predictor.use_features(features)

    def _check_features(self, features: ImageFeatures, size: tuple[int, int]) -> None:
        self._require_fdrn()
        self.model.check_features(features, anywhere=self.engine == engines.CUDA)
        wanted = 1 + self._predictor.mirrors  # the image, and its mirror
        if tuple(features.image_size) != tuple(size) or features.batch != wanted:
            raise FeatureMismatchError(
                f"These features are of {features.batch} image(s) of {features.image_size[0]} x "
                f"{features.image_size[1]} pixels (rows x columns), the image has {size[0]} x "
                f"{size[1]} and this session needs {wanted} encoding(s). Take them from "
                "get_features() of a session with the same image and the same `flip`."
            )

    # -- clicks --------------------------------------------------------------------------------

    def add_click(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """Click and predict.

        Args:
            x, y: column and row in image pixels; fractions are rounded to the nearest pixel.
            positive: on the object, or on what should not belong to it.

        Returns:
            the mask, (H, W) bool.

        Raises:
            RuntimeError: no image is set.
            ValueError: outside the image. The session stays as it was in either case.
        """
        self._require_image()
        col, row = nearest_pixel(x, y, self._image.shape[:2])
        state = self._state
        clicks = (*state.clicks, SessionClick(col, row, bool(positive)))
        try:
            prob = self._predict(clicks, state.index_offset)
        except BaseException:  # also Ctrl-C: a half-done click must not leave traces
            self._restore()
            raise
        self._push(clicks, prob, state.index_offset)
        return self.mask

    @torch.no_grad()
    def _predict(self, clicks: tuple[SessionClick, ...], index_offset: int) -> np.ndarray:
        stock = importlib.import_module(f"{self._package}.inference.clicker")
        clicker = stock.Clicker(click_indx_offset=index_offset)
        for click in clicks:
            coords = (self._integer(click.y), self._integer(click.x))
            clicker.add_click(stock.Click(is_positive=click.positive, coords=coords))
        with engines.beside(self._predictor.net, self._pixels_in_use()):
            return self._predictor.get_prediction(clicker)

    def _pixels_in_use(self) -> int:
        """About how many the next click works on: the object's surroundings, or all without one."""
        rows, cols = self._image.shape[:2]
        if self._state.prob is None:
            return rows * cols
        y1, y2, x1, x2 = box_of(self._state.region, (rows, cols))
        return (y2 - y1) * (x2 - x1)

    def undo(self) -> np.ndarray:
        """Take the last click back; the mask is exactly what it was before. Returns the mask.

        Raises:
            RuntimeError: there is nothing to undo.
        """
        self._require_image()
        if self._now <= 0:
            raise RuntimeError("There is no click to undo.")
        self._now -= 1
        self._restore()
        return self.mask

    def redo(self) -> np.ndarray:
        """Bring an undone click back, unless another came in between. Returns the mask.

        Raises:
            RuntimeError: there is nothing to redo.
        """
        self._require_image()
        if self._now + 1 >= len(self._history):
            raise RuntimeError("There is no undone click to redo.")
        self._now += 1
        self._restore()
        return self.mask

    @torch.no_grad()
    def reset_object(self) -> None:
        """Forget all clicks and start on the next object of the image; features stay.

        Raises:
            RuntimeError: no image is set.
        """
        self._require_image()
        for transform in self._predictor.transforms:
            transform.reset()
        with engines.beside(self._predictor.net, self._image.shape[0] * self._image.shape[1]):
            blank = torch.zeros_like(self._predictor.original_image[:, :1])
        self._predictor.prev_prediction = blank
        zero_outside(self._predictor.zoom_in, NOWHERE)
        self._history, self._now = [], -1
        self._objects[self._index].box = None
        self._push((), None, 0)

    def set_mask(self, mask: np.ndarray) -> None:
        """Start on an object from a mask that exists already; clicks then correct it.

        Args:
            mask: (H, W), boolean, 0 and 255 in uint8, or probabilities in [0, 1].

        Raises:
            RuntimeError: no image is set.
            ValueError: another size or range, or a network without previous mask.
        """
        self._require_image()
        if not self.model.with_prev_mask:
            raise ValueError("This network takes no previous mask (with_prev_mask=False).")
        prob = np.asarray(mask)
        if prob.shape != self._image.shape[:2]:
            raise ValueError(
                f"The mask has the shape {prob.shape}, the image {self._image.shape[:2]} (rows, "
                "columns)."
            )
        if prob.dtype == np.uint8 and prob.max() == 255 and not ((prob > 0) & (prob < 255)).any():
            prob = prob > 0
        prob = prob.astype(np.float32)
        if not (prob.min() >= 0 and prob.max() <= 1):
            raise ValueError(
                f"A mask is boolean or in [0, 1]; values run from {prob.min():g} to "
                f"{prob.max():g}. For an instance map pass `instances == label`."
            )
        self.reset_object()
        device = self._predictor.original_image.device
        self._predictor.prev_prediction = torch.from_numpy(prob)[None, None].to(device)
        # The zoom-in looks at the last prediction to find the object.
        zoom_in = self._predictor.zoom_in
        zoom_in._prev_probs = prob[None, None]
        zero_outside(zoom_in, extent(prob))
        self._history, self._now = [], -1
        self._push((), prob, 1)

    # -- results -------------------------------------------------------------------------------

    @property
    def clicks(self) -> tuple[SessionClick, ...]:
        """The clicks on the current object."""
        return self._state.clicks if self._history else ()

    @property
    def prob(self) -> np.ndarray:
        """Probability of the object, (H, W) float32; zeros before the first click."""
        self._require_image()
        prob = self._state.prob
        return np.zeros(self._image.shape[:2], np.float32) if prob is None else prob.copy()

    @property
    def mask(self) -> np.ndarray:
        """The current object, (H, W) bool."""
        self._require_image()
        return self._mask_of(self._state)

    def _mask_of(self, state: _Snapshot) -> np.ndarray:
        mask = np.zeros(self._image.shape[:2], bool)
        if state.prob is not None:
            np.greater(state.prob[state.region], self.threshold, out=mask[state.region])
        return mask

    @property
    def score(self) -> float:
        """How sure the network is of the mask: the mean probability inside of it, 0 where empty."""
        self._require_image()
        state = self._state
        if state.prob is None:
            return 0.0
        inside = state.prob[state.region]
        inside = inside[inside > self.threshold]
        return float(inside.mean()) if inside.size else 0.0

    # -- state ---------------------------------------------------------------------------------

    @property
    def _state(self) -> _Snapshot:
        return self._history[self._now]

    def _push(
        self, clicks: tuple[SessionClick, ...], prob: np.ndarray | None, index_offset: int
    ) -> None:
        del self._history[self._now + 1 :]
        predictor = self._predictor
        self._history.append(
            _Snapshot(
                clicks, prob, predictor.prev_prediction, predictor._get_transform_states(),
                index_offset, written(predictor.zoom_in),
            )
        )
        self._now += 1

    def _restore(self) -> None:
        self._predictor.prev_prediction = self._state.prev_prediction
        # Not by the predictor's own method: FocalClick's prints.
        states = self._state.transforms
        for transform, state in zip(self._predictor.transforms, states, strict=True):
            transform.set_state(state)
        zero_outside(self._predictor.zoom_in, self._state.region)

    def _require_image(self) -> None:
        if self._image is None:
            raise RuntimeError("No image yet: call set_image(image) first.")

    def _require_fdrn(self) -> None:
        if not self._recycles:
            raise RuntimeError(
                "A stock network has no image features; wrap it with fdrn_adapter.wrap first."
            )
