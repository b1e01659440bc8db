"""What a family of stock networks has to say of itself: one object a family, a row of the table."""

from operator import attrgetter

from torch import nn

from fdrn_adapter.features import current
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.grafts.click_encoder import DecoupledClickEncoder
from fdrn_adapter.grafts.injection import Injection
from fdrn_adapter.hosts.description import HostInfo


class HostFamily:
    """All that the package does in another way for another kind of network.

    A family is a subclass in a file of its own, and one object of it in `catalogue.FAMILIES`.

    Attributes:
        name: `HostInfo.family` of its networks.
        title: class of the networks, for messages.
        supported: which networks these are, for messages.
        parts: what a network of the family has, as paths of attributes; it is told by them.
        engine_parts: what the engines' graphs need besides.
        default_encoder: the image encoder where none is named.
        low_stage, mid_stage, high_stage: what b_low_tilde, b_mid_tilde and b_high_tilde index, for
            messages; where the first and the last are one stage, f_low may not enter behind f_high.
        value_factor: channels of the values of eq. 4, as multiple of the map's, for networks of the
            time before they could be chosen (`value_channels=None`).
        click_encoder: class that stands in for the host's click encoder.
    """

    name: str = ""
    title: str = ""
    supported: str = ""
    parts: tuple[str, ...] = ()
    engine_parts: tuple[str, ...] = ()
    default_encoder: str = "hrnet18"
    low_stage: str = "the host's stage 3"
    mid_stage: str = "the host's stage 3"
    high_stage: str = "the host's stage 3"
    value_factor: int = 1
    click_encoder: type[DecoupledClickEncoder] = DecoupledClickEncoder

    def describe(self, net: nn.Module) -> HostInfo:
        """Describe a network that has the family's parts.

        Raises:
            UnsupportedHostError: a part is not what it should be.
        """
        raise NotImplementedError

    def injection(self, module: nn.Module, intake: Intake, key: current.Key) -> Injection:
        """The forward hook that lets recycled features into the output of a block.

        Args:
            module, intake, key: see `Injection`.
        """
        raise NotImplementedError

    def timed_parts(self, host: nn.Module, info: HostInfo) -> dict[str, list[nn.Module]]:
        """The modules between click encoder and output for `fdrn profile`, by part.

        Of "stem and layer 1", "stage 2", "stage 3", "stage 4" and "head" those that there are.
        """
        return {}

    def missing(self, net: nn.Module, parts: tuple[str, ...]) -> list[str]:
        """Those of `parts` that a network does not have."""
        return [path for path in parts if not _has(net, path)]


def _has(net: nn.Module, path: str) -> bool:
    try:
        attrgetter(path)(net)
    except AttributeError:
        return False
    return True
