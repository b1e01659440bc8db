"""Interactive segmentation of images, object by object: what an annotation tool needs."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from torch import nn

from fdrn_adapter import engines
from fdrn_adapter.click_places import nearest_pixel
from fdrn_adapter.features.cache import DEFAULT_BYTES, FeatureCache
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.hosts.catalogue import host_of
from fdrn_adapter.images import as_rgb
from fdrn_adapter.model.checks import check_usable
from fdrn_adapter.model.inference import check_flag
from fdrn_adapter.session.as_stock import AsStock
from fdrn_adapter.session.defaults import defaults
from fdrn_adapter.session.edits import Edits, as_sign
from fdrn_adapter.session.objects import Objects
from fdrn_adapter.session.one_by_one import OneByOne, one_by_one
from fdrn_adapter.session.pipeline import Pipeline
from fdrn_adapter.session.regions import as_probabilities
from fdrn_adapter.session.start_box import StartBox
from fdrn_adapter.session.state_file import StateFile
from fdrn_adapter.session.steps import SessionClick, Step


@one_by_one
class InteractiveSession(Objects, Edits, StartBox, StateFile, AsStock, OneByOne):
    """Click, undo and go on to the next object or image, with one encoding per image.

    Works with FDRN models and with stock networks alike. Many sessions may share one model, each in
    its own thread; nothing of a session is stored on the model. Calls of one session wait for each
    other, and one that ends in an error (also Ctrl-C) leaves the session as it was.

    Args:
        model: an FDRN model or a stock RITM or FocalClick network, in eval mode.
        engine: "auto" for the fastest that is installed, or one of `fdrn_adapter.engines.names()`;
            the attribute `engine` says which one it is. "eager" runs the network as it is, others
            give the same logits to some 1e-6 (1e-3 is checked when an engine compiles).
        crop: side in pixels of the fixed crop the network sees, zoomed in from the first click;
            default what the network was trained for (`model.inference`), 288 for an FDRN on RITM
            and 256 on FocalClick that do not say. None for a stock network means the stock zoom-in
            (longest side 400, from the second click on; 256 for FocalClick).
        flip: average with the mirrored image, as RITM's evaluation does, at twice the cost.
        threshold: probability from which a pixel belongs to the mask; default that of
            `model.inference`, 0.5 where there is none.
        first_twice: look at the first click twice, on the whole image and zoomed in on what was
            found; default what `model.inference` says, else False.
        honour_clicks: set pixels under clicks to what they say; default as above.
        cache_bytes: limit of the features kept for images seen before, and as much again for the
            objects of images that were left, see `set_image`.
        feature_cache: to be used in place of one of its own, by several sessions on one model.
        precision: "exact", or "fast": fewer bits where masks stay the same and the processor is
            faster with them (the log says what was chosen); default what the variable
            FDRN_PRECISION says, else "exact".
        batches: runs clicks of sessions in several threads together; shared by them.

    Raises:
        ValueError: unknown or missing engine, unknown precision, a model in training mode or of
            another kind.
    """

    def __init__(
        self, model: nn.Module, engine: str = "auto", crop: int | None = None, flip: bool = False,
        threshold: float | None = None, cache_bytes: int = DEFAULT_BYTES,
        feature_cache: FeatureCache | None = None, first_twice: bool | None = None,
        honour_clicks: bool | None = None, precision: str | None = None,
        batches: engines.Batches | None = None,
    ):
        self._start_calls()
        engine = engines.resolve(engine, model if isinstance(model, nn.Module) else None)
        host, info = host_of(model)
        is_fdrn = host is not model
        check_usable(model)
        check_flag("flip", flip)
        trained = getattr(model, "inference", None) if is_fdrn else None
        use = defaults(
            trained, info.fdrn_crop if is_fdrn else None, crop=crop, threshold=threshold,
            first_twice=first_twice, honour_clicks=honour_clicks,
        )
        self.model, self.engine, self.threshold = model, engine, use["threshold"]
        expansion = use.pop("expansion")
        self._options = {**use, "flip": flip, "precision": precision, "batches": batches}
        self._cache = FeatureCache(cache_bytes) if feature_cache is None else feature_cache
        device = next(model.parameters()).device
        self.pipeline = Pipeline(
            model, info, device, use["crop"], flip, self._cache, engine, expansion,
            use["first_twice"], use["honour_clicks"], precision, batches,
        )
        self._image: np.ndarray | None = None
        self._left, self._left_bytes = OrderedDict(), cache_bytes
        self._start_objects()

    # -- image ---------------------------------------------------------------------------------

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
                if it was set before; the last images' are remembered, up to `cache_bytes`.

        Raises:
            ValueError: not an image; the session keeps the one it had.
        """
        rgb = as_rgb(image)
        check_usable(self.model)
        if features is not None:
            self._require_fdrn()
            self.pipeline.recycled.check(features, rgb.shape[:2])
        self.pipeline.set_image(rgb, features)
        self._leave_image()
        self._image = rgb
        self._start_objects()
        if not (resume and self._resume_image()):
            self._start_history(0)

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

    @property
    def image(self) -> np.ndarray | None:
        """The current image, (H, W, 3) uint8 RGB; not to be written to."""
        if self._image is None:
            return None
        view = self._image.view()
        view.flags.writeable = False
        return view

    def get_features(self) -> ImageFeatures:
        """Features of the current image, to be saved or sent elsewhere.

        Raises:
            RuntimeError: no image is set, or the model is a stock network.
        """
        self._require_image()
        self._require_fdrn()
        return self.pipeline.recycled.features()

    def set_features(self, features: ImageFeatures) -> None:
        """Use features encoded elsewhere for the current image.

        Raises:
            RuntimeError: no image is set, or the model is a stock network.
            FeatureMismatchError: they are of another model or image size.
        """
        self._require_image()
        self._require_fdrn()
        self.pipeline.recycled.check(features, self._image.shape[:2])
        self.pipeline.recycled.use(features)

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
            ValueError: outside the image, or positive neither true nor false.
        """
        self._require_image()
        col, row = nearest_pixel(x, y, self._image.shape[:2])
        before = self._step
        clicks = (*before.clicks, SessionClick(col, row, as_sign(positive)))
        self.pipeline.predict(clicks, before.index_offset)
        del self._history[self._now + 1 :]
        self._history.append(Step(clicks, before.index_offset, self.pipeline.snapshot()))
        self._now += 1
        return self.mask

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

    def reset_object(self) -> None:
        """Forget all clicks and start on the next object of the image; features stay.

        Raises:
            RuntimeError: no image is set.
        """
        self._require_image()
        self.pipeline.reset()
        self._start_history(0)

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
        self.pipeline.start_from(as_probabilities(mask, self._image.shape[:2]))
        self._start_history(1)

    # -- results -------------------------------------------------------------------------------

    @property
    def clicks(self) -> tuple[SessionClick, ...]:
        """The clicks on the current object."""
        return self._step.clicks if self._history else ()

    @property
    def prob(self) -> np.ndarray:
        """Probability of the object, (H, W) float32; zeros before the first click."""
        self._require_image()
        prob = self._step.prob
        return np.zeros(self._image.shape[:2], np.float32) if prob is None else prob.copy()

    @property
    def mask(self) -> np.ndarray:
        """The current object, (H, W) bool."""
        self._require_image()
        return self._step.mask(self.threshold)

    @property
    def score(self) -> float:
        """How sure the network is of the mask: the mean probability inside of it, 0 where empty."""
        self._require_image()
        return self._step.score(self.threshold)

    # -- steps ---------------------------------------------------------------------------------

    @property
    def _step(self) -> Step:
        return self._history[self._now]

    def _start_history(self, index_offset: int) -> None:
        self._history, self._now = [Step((), index_offset, self.pipeline.snapshot())], 0
        self._objects[self._index].box = None

    def _restore(self) -> None:
        self.pipeline.restore(self._step.state)

    def _require_image(self) -> None:
        if self._image is None:
            raise RuntimeError("No image yet: call set_image(image) first.")

    def _require_fdrn(self) -> None:
        if self.pipeline.recycled is None:
            raise RuntimeError(
                "A stock network has no image features; wrap it with fdrn_adapter.wrap first."
            )
