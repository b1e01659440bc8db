"""The stock networks that can be wrapped: recognised by structure, described by data."""

from fdrn_adapter.errors import UnsupportedHostError
from fdrn_adapter.hosts.catalogue import (
    FAMILIES,
    describe_host,
    encoder_of,
    family_of,
    host_of,
    is_fdrn,
)
from fdrn_adapter.hosts.description import (
    HIGH_BRANCH,
    HIGH_STRIDE,
    LOW_BRANCH,
    LOW_STRIDE,
    MID_BRANCH,
    MID_STRIDE,
    HostInfo,
)
from fdrn_adapter.hosts.family import HostFamily
from fdrn_adapter.hosts.stock import HOST_PACKAGES, build_host

__all__ = [
    "FAMILIES",
    "HIGH_BRANCH",
    "HIGH_STRIDE",
    "HOST_PACKAGES",
    "LOW_BRANCH",
    "LOW_STRIDE",
    "MID_BRANCH",
    "MID_STRIDE",
    "HostFamily",
    "HostInfo",
    "UnsupportedHostError",
    "build_host",
    "describe_host",
    "encoder_of",
    "family_of",
    "host_of",
    "is_fdrn",
]
