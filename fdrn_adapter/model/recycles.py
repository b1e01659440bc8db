"""What a model does with features that were encoded before, and what it refuses to take."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fdrn_adapter.errors import FeatureMismatchError
from fdrn_adapter.features import current
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.intake import Aligned
from fdrn_adapter.features.recycling import DeferredRecycling, Recycling, recycle
from fdrn_adapter.model import checks


class Recycles:
    """Mixed into FDRNModel: recycling, and the checks of inputs."""

    def current_recycling(self, batch: int) -> Recycling | None:
        """What `recycling` is in force in this context, None outside of one.

        Raises:
            FeatureMismatchError: it was given another number of rois than `batch`.
        """
        recycling = current.of(self)
        if isinstance(recycling, Aligned):  # called from within its own forward
            recycling = recycling.source
        if recycling is not None and recycling.batch != batch:
            raise FeatureMismatchError(
                f"recycling() was given {recycling.batch} rois, and a batch of {batch} crops "
                "came. Pass one roi for each crop."
            )
        return recycling.now() if isinstance(recycling, DeferredRecycling) else recycling

    def aligned(
        self, recycling: Recycling | None, crops: Tensor, separable: bool = False
    ) -> Aligned:
        """What this model's injections take.

        Args:
            recycling: None where nothing is recycled.
            crops: (B, C, H, W) that the host is given.
            separable: see `Recycling.aligned`.
        """
        if recycling is None:
            return Aligned({})
        size = self.info.network_size(tuple(crops.shape[-2:]))
        return recycling.aligned(self.intakes, size, separable)

    @contextmanager
    def recycling(
        self,
        features: ImageFeatures | Sequence[ImageFeatures],
        rois: Tensor | Sequence[Sequence[float]],
        image_index: Sequence[int] | None = None,
        anywhere: bool = False,
    ) -> Iterator[Recycling]:
        """Let `model(crops, points)` use features encoded before, in this thread and context.

        Args:
            features: from this model's `encode_image`: a batch of images of one size, or a list of
                encodings of any sizes.
            rois: (B, 4) rmin, rmax, cmin, cmax, inclusive, in image pixels: where each crop was
                cut. The crops may have any size.
            image_index: (B,) the image of each roi; default one roi per image in order, or all
                on the one image.
            anywhere: take features on any device, for an engine that moves them itself.

        Raises:
            ValueError: rois that are empty or outside their image.
            FeatureMismatchError: features of another model, or a number that does not fit.
        """
        for part in [features] if isinstance(features, ImageFeatures) else features:
            self.check_features(part, anywhere)
        with current.using(self, recycle(features, rois, image_index)) as placed:
            yield placed

    @contextmanager
    def recycling_deferred(
        self, encode: Callable[[], ImageFeatures], rois: Tensor
    ) -> Iterator[DeferredRecycling]:
        """As `recycling`, for training: encode when first needed, once per phase.

        Args:
            encode: returns the features of the batch, one image for each roi.
            rois: (B, 4), see `recycling`; not checked.
        """
        with current.using(self, DeferredRecycling(encode, rois)) as deferred:
            yield deferred

    # -- checks --------------------------------------------------------------------------------

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.host.parameters()).dtype

    def check_image(self, image: Tensor) -> None:
        """Refuse what `encode_image` does not take.

        Raises:
            ValueError: another shape, dtype or range.
        """
        checks.check_image(image, self._dtype)

    def check_click(self, image: Tensor, points: Tensor) -> None:
        """Refuse what `forward` does not take.

        Raises:
            ValueError: another shape or dtype.
        """
        checks.check_click(image, points, self.host.with_prev_mask, self._dtype)

    def check_features(self, features: ImageFeatures, anywhere: bool = False) -> None:
        """Refuse features of another model, or unless `anywhere` on another device.

        Raises:
            FeatureMismatchError: they do not fit.
        """
        device = None if anywhere else next(self.host.parameters()).device
        checks.check_features(features, self.image_encoder, device)
