"""The stock predictor, recycling: same pipeline, but F1 runs once per image. For stock scripts.

The pipeline itself (zoom-in, longest-side limit, flip, click limit, previous mask, states) is the
stock code's, through inheritance. Added here: which region of the image the crop shows, and the
features to go with it. Sessions have a pipeline of their own, see `pipeline`.

FocalClick's second stage needs nothing: `refine` cuts its focus crop out of the maps that the
network returned for the global crop, and these were computed from the image's one encoding.
"""

import functools
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdrn_adapter import engines
from fdrn_adapter.engines.accelerated import AcceleratedModel
from fdrn_adapter.errors import FeatureMismatchError
from fdrn_adapter.features import current
from fdrn_adapter.features.cache import FeatureCache, cache_of, content_key, encode_cached
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.session.clicked_disks import honoured
from fdrn_adapter.session.lean_ritm import State
from fdrn_adapter.session.regions import EVERYWHERE, Roi, whole_roi
from fdrn_adapter.session.steps import SessionClick


class RecycledImage:
    """The features of one image after the other, under whatever crop of it.

    Args:
        net: FDRN model, in an engine or as it is.
        mirrors: whether crops come with their mirror images.
        cache: where features are looked for first; None for one shared by all of the model.
    """

    def __init__(self, net: Any, mirrors: bool, cache: FeatureCache | None = None):
        self.net, self.mirrors = net, mirrors
        model = net.model if isinstance(net, AcceleratedModel) else net
        self.cache = cache_of(model) if cache is None else cache
        self.place = recycle  # how features are placed under crops
        self._image: Tensor | None = None
        self._content = ""
        self._given: ImageFeatures | None = None

    def take(self, tensor: Tensor, image: np.ndarray, given: ImageFeatures | None = None) -> None:
        """Go on to an image and encode it unless it is known; on an error all stays as it was.

        The same content again, also from another predictor of the model, keeps its features: the
        stock demo sets the image anew for every object.

        Args:
            tensor: (1, 3, H, W), the image for the network.
            image: (H, W, 3), the same for the eye.
            given: features of this image, encoded before.
        """
        before = self.everything()
        content = content_key(np.asarray(image))
        if content != self._content or given is not None:
            self._content, self._given = content, given
        self._image = tensor
        try:
            self.net.look_at_weights()
            self.features()
        except BaseException:
            self.put_back(before)
            raise

    def everything(self) -> tuple:
        """The image and its features, to be handed to `put_back`."""
        return self._image, self._content, self._given

    def put_back(self, everything: tuple) -> None:
        """Make all as it was."""
        self._image, self._content, self._given = everything

    def features(self) -> ImageFeatures:
        """Of the current image; with mirrors a batch of two, the image and its mirror.

        Raises:
            RuntimeError: no image was set.
        """
        if self._image is None:
            raise RuntimeError("No image yet: call set_input_image(image) first.")
        if self._given is not None:
            return self._given
        return encode_cached(self.net, self._image, self._content, self.mirrors, self.cache)

    def check(self, features: ImageFeatures, size: tuple[int, int]) -> None:
        """Refuse features that are not of this model and of an image of `size` (rows, columns).

        Raises:
            FeatureMismatchError: with what they are of.
        """
        self.net.check_features(features)
        wanted = 1 + self.mirrors  # the image, and its mirror
        if tuple(features.image_size) != tuple(size) or features.batch != wanted:
            raise FeatureMismatchError(
                f"These features are of {features.batch} image(s) of {features.image_size[0]} x "
                f"{features.image_size[1]} pixels (rows x columns), the image has {size[0]} x "
                f"{size[1]} and this session needs {wanted} encoding(s). Take them from "
                "get_features() of a session with the same image and the same `flip`."
            )

    def use(self, features: ImageFeatures) -> None:
        """Go on with features that were encoded elsewhere."""
        self._given = features

    def share(self, other: "RecycledImage") -> None:
        """Go on to the image of another one, which has its features."""
        self._image, self._content, self._given = other._image, other._content, other._given

    def under(self, roi: Roi) -> AbstractContextManager:
        """Lets the network use the features for a crop of this part of the image."""
        rmin, rmax, cmin, cmax = roi
        features, rois = self.features(), [roi]
        if self.mirrors:
            last = self._image.shape[3] - 1
            rois.append((rmin, rmax, last - cmax, last - cmin))
        if self._given is not None:
            return self.net.recycling(features, rois)
        # Found by the weights they were made with: nothing to check.
        return current.using(self.net, self.place(features, rois))


def mirrors(predictor: Any) -> bool:
    """Whether a stock predictor shows the network each crop with its mirror image.

    `with_flip` alone does not tell: FocalClick's BaselinePredictor sets it and never flips.
    """
    return any(type(t).__name__ == "AddHorizontalFlip" for t in predictor.transforms)


class RecyclingMixin:
    """What a stock predictor needs to recycle features; mixed in by `recycling_class`."""

    def __init__(
        self, model: Any, device: Any, *args: Any, feature_cache: FeatureCache | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, device, *args, **kwargs)
        self.recycled = RecycledImage(self.net, mirrors(self), feature_cache)
        self.shown: Roi | None = None

    def set_input_image(self, image: np.ndarray, features: ImageFeatures | None = None) -> None:
        """Take an image (H, W, 3), as the stock predictor does, and encode it unless it is known.

        Args:
            image: as in the stock code.
            features: of this image, encoded before.
        """
        super().set_input_image(image)
        self.recycled.take(self.original_image, image, features)

    def get_prediction(self, clicker: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        """The stock prediction, as the network was trained to be used (`model.inference`)."""
        use = getattr(self.net, "inference", None)
        if use is None:
            return super().get_prediction(clicker, *args, **kwargs)
        clicks = clicker.get_clicks()
        first = len(clicks) == 1 and not self.prev_prediction.any() and not any(args)
        found = super().get_prediction(clicker, *args, **kwargs)
        if first and use.first_twice and self.zoom_in is not None and (
            found > self.zoom_in.prob_thresh
        ).any():
            self.prev_prediction = torch.zeros_like(self.prev_prediction)
            found = super().get_prediction(clicker, *args, **kwargs)
        if use.honour_clicks:
            places = [
                SessionClick(int(c.coords[1]), int(c.coords[0]), c.is_positive) for c in clicks
            ]
            state = State(found, self.prev_prediction, EVERYWHERE, shown=self.shown)
            honoured(state, places, use.crop)
        return found

    def apply_transforms(self, image_nd: Tensor, clicks_lists: list) -> tuple:
        """The stock loop; remembers which region of the image the zoom-in cut out."""
        self.shown = whole_roi(tuple(image_nd.shape[2:]))
        is_image_changed = False
        for transform in self.transforms:
            before = image_nd
            image_nd, clicks_lists = transform.transform(image_nd, clicks_lists)
            is_image_changed |= transform.image_changed
            # The zoom-in passes the image through untouched until it has something to zoom to.
            # Other transforms resize or mirror the whole crop and move no border.
            if transform is self.zoom_in and image_nd is not before:
                self.shown = tuple(int(v) for v in transform._object_roi)
        return image_nd, clicks_lists, is_image_changed

    def _get_prediction(self, image_nd: Tensor, clicks_lists: list, is_image_changed: bool):
        with self.recycled.under(self.shown):
            return super()._get_prediction(image_nd, clicks_lists, is_image_changed)


@functools.cache
def recycling_class(base: type) -> type:
    """A subclass of a stock feed-forward predictor that recycles image features.

    Raises:
        ValueError: the class lacks a method that recycling builds on.
    """
    for name in ("apply_transforms", "_get_prediction", "set_input_image"):
        if not callable(getattr(base, name, None)):
            raise ValueError(
                f"{base.__module__}.{base.__name__} has no method {name}; expected the "
                "BasePredictor of RITM or ritm-annotation, or the FocalPredictor or "
                "BaselinePredictor of FocalClick."
            )
    return type(f"Recycling{base.__name__}", (RecyclingMixin, base), {})


def recycling_predictor_for(
    base: type, net: nn.Module, device: Any, engine: str = "eager", precision: str | None = None,
    **kwargs: Any,
) -> Any:
    """The recycling counterpart of `base(net, device, **kwargs)` for an FDRN model.

    Args:
        base: the stock predictor class.
        net: an FDRN model.
        device: as in the stock code.
        engine: what the network runs in, see `fdrn_adapter.engines`; "eager" is the network as it
            is, bit for bit.
        precision: "exact" or "fast", see `fdrn_adapter.engines.accelerate`.
        **kwargs: as in the stock code (zoom_in, with_flip, max_size, net_clicks_limit ...), and
            `feature_cache`, a FeatureCache; by default one is shared by all predictors of the
            model.
    """
    return recycling_class(base)(engines.accelerate(net, engine, precision), device, **kwargs)
