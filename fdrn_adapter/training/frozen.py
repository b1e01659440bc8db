"""Maps of a frozen image encoder, kept on disk: F1 costs nothing after the first epoch."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.features.cache import content_key
from fdrn_adapter.output_folders import whole_file
from fdrn_adapter.training import rois


class FrozenFeatures:
    """f_low and f_high of whole images and their mirrors, in half precision.

    Files are named by the encoder's weights, the size and the image's content: another encoder or
    size never meets them. They are what the frozen backbone returns, before the trainable views.
    Safe with worker processes, and after a crash: a file is there whole or not at all.

    Args:
        encoder: a model's `image_encoder`, frozen.
        folder: where to keep them; made if needed. About 0.35 MB an image at 320x320 with
            EfficientNet-Lite0.
        global_size: rows and columns that images are resized to.

    Raises:
        ValueError: the encoder is not frozen, so its maps would not stay as they are, or reads
            f_mid.
    """

    def __init__(self, encoder: ImageEncoder, folder: str | Path, global_size: tuple[int, int]):
        if not encoder.frozen:
            raise ValueError(
                "Only features of a frozen encoder can be kept: wrap(..., freeze_encoder=True)."
            )
        if encoder.backbone.mid is not None:
            raise ValueError(
                "Features are kept for f_low and f_high alone: train without kept features, or "
                "wrap(..., use_mid=False)."
            )
        self.encoder, self.global_size = encoder, tuple(global_size)
        size = "x".join(map(str, self.global_size))
        self.folder = Path(folder) / f"{backbone_fingerprint(encoder)}_{size}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def of(self, image: np.ndarray, mirrored: bool) -> tuple[Tensor | None, Tensor | None]:
        """(f_low, f_high) of one image, each (C, h, w) half; encoded if they are not kept yet.

        Args:
            image: (H, W, 3) uint8 RGB, not mirrored.
            mirrored: of its mirror instead.
        """
        path = self.folder / f"{content_key(image)}{'_mirror' if mirrored else ''}.npz"
        if not path.is_file():
            self._write(path, self._encode(image[:, ::-1] if mirrored else image))
        with np.load(path) as stored:
            maps = [torch.from_numpy(stored[k]) if k in stored else None for k in ("low", "high")]
        return tuple(maps)

    @torch.no_grad()
    def _encode(self, image: np.ndarray) -> dict[str, np.ndarray]:
        x = rois.shrink(image, self.global_size)[None]
        encoder = self.encoder
        device = encoder.mean.device
        low, high = encoder.backbone.eval()((x.to(device) - encoder.mean) / encoder.std)
        maps = {"low": low, "high": high}
        return {k: m[0].half().cpu().numpy() for k, m in maps.items() if m is not None}

    @staticmethod
    def _write(path: Path, maps: dict[str, np.ndarray]) -> None:
        with whole_file(path) as part, part.open("wb") as file:
            np.savez(file, **maps)


def backbone_fingerprint(encoder: ImageEncoder) -> str:
    """Hash of the backbone alone: the views in front of it are trained, and must not count."""
    import hashlib

    digest = hashlib.sha1(encoder.architecture.encode())
    for tensor in encoder.backbone.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
