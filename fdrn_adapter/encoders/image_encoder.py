"""F1, the image encoder: runs once per image (Sec. 3.2)."""

import torch
from torch import Tensor, nn

from fdrn_adapter.encoders.aligned_views import AlignedViews
from fdrn_adapter.encoders.backbone import EMBEDDING, Backbone, Tap
from fdrn_adapter.encoders.fingerprint import Fingerprint, numbers_of
from fdrn_adapter.encoders.sizes import resized_to, shrink_to
from fdrn_adapter.encoders.starts import Starts
from fdrn_adapter.features import recycling
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import HIGH, LOW, MID
from fdrn_adapter.hosts.description import HIGH_STRIDE, LOW_STRIDE, MID_STRIDE

VIEW_CHANNELS = 128  # C^k of eq. 2
LOW_CHANNELS = 32  # f_low, and f_mid, of encoders that are not HRNets
MAX_SIDE = 1280  # default cap of the longest side, pixels


class ImageEncoder(Starts, nn.Module):
    """Turn an image into the features that every click recycles.

    Two 3x3 convolutions give the two views of f_high, K and Q. Encoders other than HRNets get a
    further 3x3 that brings f_low to 32 channels, and another for f_mid. Any other map that the
    backbone offers is recycled as it comes.

    Args:
        backbone: from `catalogue.build_backbone`.
        name: how the user called it.
        mean, std: normalisation of the RGB image in [0, 1].
        project_low: add the 3x3 for f_low and f_mid.
        max_side: larger images are shrunk to this longest side, pixels.
        frozen: never train the backbone (its batch-norm statistics neither). The views stay
            trainable: they start at random and belong to the adapter.
        context_channels: of a third view of f_high, which enters the host beside f_low (not in the
            paper); 0 for none.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        project_low: bool,
        max_side: int = MAX_SIDE,
        frozen: bool = False,
        context_channels: int = 0,
    ):
        super().__init__()
        self.name, self.max_side, self.frozen = name, max_side, frozen
        self.backbone = backbone
        low, mid, high = backbone.low, backbone.mid, backbone.high
        self.key_view = self.query_view = self.context_view = None
        self.low_projection = self.mid_projection = None
        if high is not None:
            self.key_view = nn.Conv2d(high.channels, VIEW_CHANNELS, 3, padding=1)
            self.query_view = nn.Conv2d(high.channels, VIEW_CHANNELS, 3, padding=1)
            if context_channels:
                self.context_view = nn.Conv2d(high.channels, context_channels, 3, padding=1)
        if low is not None and project_low:
            self.low_projection = nn.Conv2d(low.channels, LOW_CHANNELS, 3, padding=1)
        if mid is not None and project_low:
            self.mid_projection = nn.Conv2d(mid.channels, LOW_CHANNELS, 3, padding=1)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.views = None
        if EMBEDDING in backbone.taps:
            self.views = AlignedViews(
                backbone.taps[EMBEDDING].channels, context_channels, backbone.key_channels
            )
        if frozen:
            backbone.requires_grad_(False)
        self._fingerprint: Fingerprint | None = None
        self._built_with = numbers_of(self)

    @property
    def low_channels(self) -> int:
        """Channels of the recycled f_low, 0 when it is not used."""
        return _channels(self.backbone.low, self.low_projection)

    @property
    def mid_channels(self) -> int:
        """Channels of the recycled f_mid, 0 when it is not used."""
        return _channels(self.backbone.mid, self.mid_projection)

    @property
    def context_channels(self) -> int:
        """Channels of what joins f_low in the TFI besides it, 0 when there is nothing."""
        if self.views is not None:
            return self.views.context_channels
        return 0 if self.context_view is None else self.context_view.out_channels

    @property
    def grids(self) -> dict[str, Grid]:
        """Where the cells of each recycled map lie on the encoder's input."""
        of_high = ["key", "query", *["context"] * (self.context_view is not None)]
        return {
            name: tap.grid for level, tap in self.backbone.taps.items()
            for name in (of_high if level == HIGH else [level])
        }

    def intakes(self) -> dict[str, Intake]:
        """What the host takes of the maps, by level: LOW and MID (TFI) and HIGH (SFI)."""
        found = {}
        if self.views is not None:
            used = {LOW: ("low", LOW_STRIDE, self.views.context_view),
                    HIGH: ("affinity", HIGH_STRIDE, self.views.key_view)}
            return {level: Intake(name, (EMBEDDING,), Grid(stride), view)
                    for level, (name, stride, view) in used.items() if view is not None}
        if self.backbone.low is not None:
            maps = ("low",) if self.context_view is None else ("low", "context")
            found[LOW] = Intake("low", maps, Grid(LOW_STRIDE))
        if self.backbone.mid is not None:
            found[MID] = Intake("mid", ("mid",), Grid(MID_STRIDE))
        if self.backbone.high is not None:
            found[HIGH] = Intake(
                "affinity", ("key", "query"), Grid(HIGH_STRIDE), recycling.affinity
            )
        return found

    def train(self, mode: bool = True) -> "ImageEncoder":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of an image (B, 3, H, W) in [0, 1] that is small enough already."""
        return self.maps_of(self.backbone((x - self.mean) / self.std))

    def maps_of(self, read: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """The recycled maps out of what the backbone gives for an image."""
        return self._views(dict(zip(self.backbone.offers, read, strict=True)))

    def _views(self, read: dict[str, Tensor | None]) -> dict[str, Tensor]:
        """The recycled maps out of the backbone's."""
        maps = {name: m for name, m in read.items() if m is not None and name != HIGH}
        for level, projection in ((LOW, self.low_projection), (MID, self.mid_projection)):
            if level in maps and projection is not None:
                maps[level] = projection(maps[level])
        high = read.get(HIGH)
        if high is not None:
            maps["key"], maps["query"] = self.key_view(high), self.query_view(high)
            if self.context_view is not None:
                maps["context"] = self.context_view(high)
        return maps

    def forward(
        self, image: Tensor, max_side: int | None = None, hashed: bool = True
    ) -> ImageFeatures:
        """Encode images of one size.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], un-normalised.
            max_side: see `resized`.
            hashed: see `features_from`.

        Returns:
            features with maps "low" (B, C, H/4, W/4), "key" and "query" (B, 128, H/16, W/16), and
            where there are such "mid" (B, C, H/8, W/8) and "context" (B, context_channels, H/16,
            W/16).
        """
        x = self.resized(image, max_side)
        return self.features_from(
            self.maps(x), tuple(image.shape[-2:]), tuple(x.shape[-2:]), hashed
        )

    def resized(self, image: Tensor, max_side: int | None = None) -> Tensor:
        """What the backbone is to see of an image (B, 3, H, W).

        An embedding is of images of one longest side, so that smaller ones are enlarged; other
        backbones see images as they are, up to the cap.

        Args:
            max_side: cap of the longest side in pixels; the encoder's own where None.
        """
        if self.backbone.side is not None:
            return resized_to(image, self.backbone.side)
        return shrink_to(image, self.max_side if max_side is None else max_side)

    def features_from(
        self, maps: dict[str, Tensor], image_size: tuple[int, int],
        input_size: tuple[int, int], hashed: bool = True,
    ) -> ImageFeatures:
        """Image features out of maps that were computed, here or in an engine.

        Args:
            maps: as `self.maps` gives them, by name.
            image_size: rows and columns of the images.
            input_size: rows and columns of what `maps` was given.
            hashed: note whose weights the features are of, so that another model refuses them;
                hashing takes milliseconds, and is left out while weights are learning.
        """
        learning = torch.is_grad_enabled() and any(m.requires_grad for m in maps.values())
        return ImageFeatures(
            maps=maps,
            grids=self.grids,
            image_size=image_size,
            input_size=input_size,
            architecture=self.architecture,
            weights="" if learning or not hashed else self.fingerprint(),
        )

    def features_of(
        self, low: Tensor | None, high: Tensor | None, size: tuple[int, int],
        mid: Tensor | None = None,
    ) -> ImageFeatures:
        """The recycled features out of the backbone's two maps, for training.

        A frozen backbone's maps can be kept, and only this be run anew while the views are trained.

        Args:
            low: (B, C, H/4, W/4), None where it is not used.
            high: (B, C, H/16, W/16), None where it is not used.
            size: rows and columns of the images.
            mid: (B, C, H/8, W/8), None where it is not used.
        """
        maps = self._views({LOW: low, MID: mid, HIGH: high})
        return self.features_from(maps, size, size, hashed=False)

    @property
    def architecture(self) -> str:
        """What the features look like, for telling those of another model apart."""
        taps = self.backbone.taps
        views = [self.low_channels, VIEW_CHANNELS,
                 *filter(None, [self.context_channels, self.mid_channels])]
        others = [tap.channels for name, tap in taps.items() if name not in (LOW, MID, HIGH)]
        channels = [*(views if len(others) < len(taps) else ()), *others]
        paths = ", ".join(tap.path for tap in taps.values())
        return f"{self.name}({paths}; {', '.join(map(str, channels))})"

    def fingerprint(self) -> str:
        """Hash of the encoder's weights, see `Fingerprint`."""
        return self.watched.state()

    def look_at_weights(self) -> None:
        """Let `fingerprint` see what was changed past torch's counters, see `Weights.look`."""
        self.watched.look()

    @property
    def watched(self) -> Fingerprint:
        """What the fingerprint is taken by."""
        if self._fingerprint is None:
            self._fingerprint = Fingerprint(self, self._built_with)
        return self._fingerprint

    def _apply(self, fn, recurse=True):
        # `.to()` and its kin put new tensors in place of old ones.
        self._fingerprint = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        # It watches this object's modules; a copy has its own.
        return {**self.__dict__, "_fingerprint": None}


def _channels(tap: Tap | None, projection: nn.Conv2d | None) -> int:
    """Of a recycled map."""
    if tap is None:
        return 0
    return tap.channels if projection is None else projection.out_channels
