"""Features of recently seen images, found again by content."""

import hashlib
import threading
import weakref
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from fdrn_adapter import freed_memory
from fdrn_adapter.features.image_features import ImageFeatures

DEFAULT_BYTES = 512 * 2**20


def content_key(image: np.ndarray) -> str:
    """Hash of an image's pixels, shape and dtype."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{image.shape}{image.dtype}".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()


class FeatureCache:
    """Least recently used features by image content, up to a number of bytes.

    Thread safe. The newest entry stays even when it alone is larger than the limit.

    Args:
        max_bytes: limit of the features' own bytes.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES):
        if max_bytes < 0:
            raise ValueError(f"max_bytes should be 0 or more, got {max_bytes}.")
        self.max_bytes = max_bytes
        self._items: OrderedDict[tuple, ImageFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def nbytes(self) -> int:
        """Bytes of all features held."""
        with self._lock:
            return sum(f.nbytes for f in self._items.values())

    def get(self, key: tuple) -> ImageFeatures | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: tuple, features: ImageFeatures) -> None:
        with self._lock:
            self._items[key] = features
            self._items.move_to_end(key)
            total = sum(f.nbytes for f in self._items.values())
            full = total > self.max_bytes
            while len(self._items) > 1 and total > self.max_bytes:
                total -= self._items.popitem(last=False)[1].nbytes
        if full:
            freed_memory.give_back()

    def clear(self) -> None:
        with self._lock:
            self._items.clear()


# The stock demo makes a new predictor for every object, and nothing of the old one reaches it but
# the network. Features are a pure function of network and image, so they may be shared by both.
_by_model: "weakref.WeakKeyDictionary[nn.Module, FeatureCache]" = weakref.WeakKeyDictionary()
_by_model_lock = threading.Lock()


def cache_of(model: nn.Module) -> FeatureCache:
    """The cache that predictors of one model share when they are not given one."""
    with _by_model_lock:
        return _by_model.setdefault(model, FeatureCache())


@torch.no_grad()
def encode_cached(
    model: nn.Module, image: torch.Tensor, key: str, with_mirror: bool, cache: FeatureCache
) -> ImageFeatures:
    """Features of an image, from the cache if its content was encoded with these weights before.

    Whoever takes an image calls `look_at_weights` of the model first.

    Args:
        model: FDRN model, in an engine or as it is.
        image: (1, 3, H, W), RGB in [0, 1], on the model's device.
        key: `content_key` of the image.
        with_mirror: encode the image and its mirror, left to right, in one batch of two.
        cache: where to look and to store.
    """
    encoder = model.image_encoder
    identity = () if encoder is None else (
        encoder.architecture, encoder.fingerprint(), encoder.max_side
    )
    # Features from two engines differ in the last bits, and results should not depend on who came
    # first.
    engine = (getattr(model, "engine", "eager"), getattr(model, "precision", "exact"))
    full_key = (key, with_mirror, str(image.device), engine, *identity)
    features = cache.get(full_key)
    if features is None:
        features = model.encode_image(
            torch.cat([image, image.flip(-1)]) if with_mirror else image, looked=True
        )
        cache.put(full_key, features)
    return features
