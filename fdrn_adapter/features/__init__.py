"""Image features: encoded once, recycled over clicks, objects and undo steps."""

from fdrn_adapter.features.cache import FeatureCache, cache_of, content_key, encode_cached
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import DeferredRecycling, Recycling, affinity, recycle
from fdrn_adapter.features.roi import Grid, Placement

__all__ = [
    "DeferredRecycling",
    "FeatureCache",
    "Grid",
    "ImageFeatures",
    "Placement",
    "Recycling",
    "affinity",
    "cache_of",
    "content_key",
    "encode_cached",
    "recycle",
]
