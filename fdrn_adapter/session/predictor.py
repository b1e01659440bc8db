"""The stock predictor, recycling: same pipeline, but F1 runs once per image.

The pipeline itself (zoom-in, longest-side limit, flip, click limit, previous mask, states) is the
stock code's, through inheritance. Added here: which region of the image the crop shows, and the
features to go with it.

FocalClick's second stage needs nothing: `refine` cuts its focus crop out of the maps that the
network returned for the global crop, and these were computed from the image's one encoding.
"""

import functools
import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdrn_adapter import engines
from fdrn_adapter.engines.accelerated import AcceleratedModel
from fdrn_adapter.features.cache import FeatureCache, cache_of, content_key, encode_cached
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.hosts.catalogue import is_fdrn
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.session import lean_focalclick
from fdrn_adapter.session.lean_ritm import LeanPredictorMixin, LeanZoomMixin, lean_class


class RecyclingMixin:
    """What a stock predictor needs to recycle features; mixed in by `recycling_class`."""

    def __init__(
        self, model: Any, device: Any, *args: Any, feature_cache: FeatureCache | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, device, *args, **kwargs)
        self._cache = feature_cache
        self._content: str | None = None
        self._given: ImageFeatures | None = None
        self._roi: tuple[int, int, int, int] | None = None
        # `with_flip` alone does not tell: FocalClick's BaselinePredictor sets it and never flips.
        self.mirrors = any(type(t).__name__ == "AddHorizontalFlip" for t in self.transforms)

    def set_input_image(self, image: np.ndarray, features: ImageFeatures | None = None) -> None:
        """Take an image (H, W, 3), as the stock predictor does, and encode it unless it is known.

        The same content again, also from another predictor of the model, keeps its features: the
        stock demo sets the image anew for every object.

        Args:
            image: as in the stock code.
            features: of this image, encoded before.
        """
        super().set_input_image(image)
        content = content_key(np.asarray(image))
        if content != self._content or features is not None:
            self._content, self._given = content, features
        self.image_features()

    def image_features(self) -> ImageFeatures:
        """Features of the current image; with flip a batch of two, the image and its mirror.

        Raises:
            RuntimeError: no image was set.
        """
        if self.original_image is None:
            raise RuntimeError("No image yet: call set_input_image(image) first.")
        if self._given is not None:
            return self._given
        net = self.net.model if isinstance(self.net, AcceleratedModel) else self.net
        cache = self._cache if self._cache is not None else cache_of(net)
        return encode_cached(self.net, self.original_image, self._content, self.mirrors, cache)

    def use_features(self, features: ImageFeatures) -> None:
        """Use features that were encoded elsewhere for the current image, as `image_features`."""
        self._given = features

    def apply_transforms(self, image_nd: Tensor, clicks_lists: list) -> tuple:
        """The stock loop; remembers which region of the image the zoom-in cut out."""
        rows, cols = image_nd.shape[2:]
        self._roi = (0, rows - 1, 0, cols - 1)
        is_image_changed = False
        for transform in self.transforms:
            before = image_nd
            image_nd, clicks_lists = transform.transform(image_nd, clicks_lists)
            is_image_changed |= transform.image_changed
            # The zoom-in passes the image through untouched until it has something to zoom to.
            # Other transforms resize or mirror the whole crop and move no border.
            zoomed = getattr(transform, "zoomed", image_nd is not before)
            if transform is self.zoom_in and zoomed:
                self._roi = tuple(int(v) for v in transform._object_roi)
        return image_nd, clicks_lists, is_image_changed

    def _get_prediction(self, image_nd: Tensor, clicks_lists: list, is_image_changed: bool):
        rmin, rmax, cmin, cmax = self._roi
        rois = [self._roi]
        if self.mirrors:
            last = self.original_image.shape[3] - 1
            rois.append((rmin, rmax, last - cmax, last - cmin))
        features = self.image_features()
        if self._given is None:  # found by the weights they were made with: nothing to check
            using = self.net._using(recycle(features, rois))
        else:
            using = self.net.recycling(features, rois)
        with using:
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
    base: type, net: nn.Module, device: Any, engine: str = "eager", **kwargs: Any
) -> Any:
    """The recycling counterpart of `base(net, device, **kwargs)` for an FDRN model.

    Args:
        base: the stock predictor class.
        net: an FDRN model.
        device: as in the stock code.
        engine: what the network runs in, see `fdrn_adapter.engines`; "eager" is the network as it
            is, bit for bit.
        **kwargs: as in the stock code (zoom_in, with_flip, max_size, net_clicks_limit ...), and
            `feature_cache`, a FeatureCache; by default one is shared by all predictors of the
            model.
    """
    return recycling_class(base)(engines.accelerate(net, engine), device, **kwargs)


def stock_predictor(
    model: nn.Module, info: HostInfo, device: Any, crop: int | None, flip: bool,
    feature_cache: FeatureCache | None = None, engine: str = "eager",
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
        feature_cache, engine: see `recycling_predictor_for`. Beside engine "cuda" image and mask
            stay on the CPU, where the zoom-in looks at them; what it cuts out goes to the GPU.
    """
    if engine == engines.CUDA:
        device = "cpu"
    stock_zoom = importlib.import_module(f"{info.package}.inference.transforms").ZoomIn
    name = "focalclick.FocalPredictor" if info.refines else "base.BasePredictor"
    module, _, class_name = f"{info.package}.inference.predictors.{name}".rpartition(".")
    base, zoom_class = _lean(getattr(importlib.import_module(module), class_name), stock_zoom, info)
    zoom_in = zoom_class(
        **({} if crop is None else {"skip_clicks": -1, "target_size": (crop, crop)})
    )
    options: dict[str, Any] = {"zoom_in": zoom_in, "with_flip": flip}
    if info.refines:
        options["infer_size"] = info.fdrn_crop if crop is None else crop
    if is_fdrn(model):
        return recycling_predictor_for(
            base, model, device, engine, feature_cache=feature_cache, **options
        )
    return base(engines.accelerate(model, engine), torch.device(device), **options)


def _lean(base: type, zoom_in: type, info: HostInfo) -> tuple[type, type]:
    """Lean subclasses of a stock predictor and its zoom-in, where theirs are known."""
    if not info.refines:
        return lean_class(base, LeanPredictorMixin), lean_class(zoom_in, LeanZoomMixin)
    if not lean_focalclick.fits(base):
        return base, zoom_in
    return (
        lean_class(base, lean_focalclick.LeanFocalMixin),
        lean_class(zoom_in, lean_focalclick.LeanFocalZoomMixin),
    )
