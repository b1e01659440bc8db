"""What the benchmark drives: set an image, click, get a probability map.

`NetworkSegmenter` runs FDRN models and stock networks in an `InteractiveSession`; `BrsSegmenter`
the stock back-propagating refinement, which a session does not have.
"""

import importlib
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from fdrn_adapter.evaluation.methods.modes import CVPR, CVPR_SIDE, DEFAULT_MODE, crop_of_mode
from fdrn_adapter.hosts.catalogue import host_of, is_fdrn
from fdrn_adapter.session.interactive import InteractiveSession

BRS_MODES = {"brs": "RGB-BRS", "fbrs": "f-BRS-B"}


class Segmenter(Protocol):
    """A method of interactive segmentation.

    Attributes:
        name: as the user called it on the command line; unique in a run.
    """

    name: str

    def set_image(self, image: np.ndarray) -> None:
        """Take an image, (H, W, 3) uint8 RGB, do the work of once per image, start an object."""

    def start_object(self) -> None:
        """Forget the clicks; the work of once per image stays."""

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        """Click at column x, row y of the image; returns the probability (H, W) float32."""


class NetworkSegmenter:
    """An FDRN model or a stock network.

    Args:
        name: see `Segmenter`.
        model: in eval mode.
        engine: passed to `InteractiveSession`.
        eval_mode: "default": what the project runs, for an FDRN its fixed crop (288, FocalClick
            256) zoomed in from the first click, for a stock network the stock zoom-in; "cvpr": the
            stock zoom-in for both; "fixedN": crops of N x N from the first click for both.
        flip: average with the mirrored image.
        own_crop: side of the crops of an FDRN in mode "default", where the zoo has another.
    """

    def __init__(
        self, name: str, model: nn.Module, engine: str = "auto", eval_mode: str = DEFAULT_MODE,
        flip: bool = False, own_crop: int | None = None,
    ):
        self.name = name
        self.model = model
        self.eval_mode = eval_mode
        crop = crop_of_mode(eval_mode)
        if eval_mode == DEFAULT_MODE and is_fdrn(model):
            crop = own_crop
        self._session = InteractiveSession(model, engine=engine, crop=crop, flip=flip)
        self.engine = self._session.engine
        if self.engine == "eager":  # others are compiled for points in single precision
            self._session.click_like_stock_evaluation()
        self.for_dataset("")

    def for_dataset(self, dataset: str) -> None:
        """Mode "cvpr" has larger crops for DAVIS, as the stock script has."""
        if self.eval_mode == CVPR:
            self._session.zoom_in_like_stock(CVPR_SIDE.get(dataset, 400))

    def set_image(self, image: np.ndarray) -> None:
        self._session.forget_features()  # an image seen before is encoded, and timed, anew
        self._session.set_image(image)

    def start_object(self) -> None:
        self._session.reset_object()

    def set_mask(self, mask: np.ndarray) -> None:
        """Start on an object from a mask, (H, W); see `InteractiveSession.set_mask`."""
        self._session.set_mask(mask)

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        self._session.add_click(x, y, positive)
        return self._session.prob


class BrsSegmenter:
    """A stock network with the stock back-propagating refinement.

    Args:
        name: see `Segmenter`.
        model: a stock network in eval mode.
        method: "brs" for RGB-BRS, "fbrs" for f-BRS-B.
        eval_mode: as for `NetworkSegmenter`; "default" is "cvpr".
        flip: as there.

    Raises:
        ValueError: the model is an FDRN.
    """

    def __init__(
        self, name: str, model: nn.Module, method: str, eval_mode: str = DEFAULT_MODE,
        flip: bool = False,
    ):
        if is_fdrn(model):
            raise ValueError(
                f"{name}: BRS modes back-propagate through the image for every click, and this is "
                "an FDRN, which encodes it once. Pass a stock network, or the FDRN without "
                f"`{method}:`."
            )
        self.name = name
        self.model = model
        self.method, self.eval_mode, self.flip = method, eval_mode, flip
        self._package = host_of(model)[1].package
        self._image: np.ndarray | None = None
        self.for_dataset("")

    def for_dataset(self, dataset: str) -> None:
        """See `NetworkSegmenter.for_dataset`."""
        crop = crop_of_mode(self.eval_mode)
        zoom_in: dict[str, Any] = {"target_size": CVPR_SIDE.get(dataset, 400)}
        if crop is not None:
            zoom_in = {"skip_clicks": -1, "target_size": (crop, crop)}
        predictors = importlib.import_module(f"{self._package}.inference.predictors")
        device = next(self.model.parameters()).device
        self._predictor = predictors.get_predictor(
            self.model, BRS_MODES[self.method], device, with_flip=self.flip,
            zoom_in_params=zoom_in,
        )

    @torch.no_grad()
    def set_image(self, image: np.ndarray) -> None:
        clicker = importlib.import_module(f"{self._package}.inference.clicker")
        self._predictor.set_input_image(image)
        self._image = image
        self._clicker, self._click = clicker.Clicker(), clicker.Click

    def start_object(self) -> None:
        if self._image is None:
            raise RuntimeError("No image yet: call set_image(image) first.")
        self.set_image(self._image)

    @torch.no_grad()  # as in the stock evaluation; BRS enables gradients where it needs them
    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        if self._image is None:
            raise RuntimeError("No image yet: call set_image(image) first.")
        coords = (np.int64(y), np.int64(x))  # as `InteractiveSession.click_like_stock_evaluation`
        self._clicker.add_click(self._click(is_positive=positive, coords=coords))
        return np.asarray(self._predictor.get_prediction(self._clicker), np.float32)
