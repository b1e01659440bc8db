"""The table of host families, and which of them a network belongs to."""

from torch import nn

from fdrn_adapter.errors import UnsupportedHostError
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.hosts.family import HostFamily
from fdrn_adapter.hosts.hrnet import HRNET
from fdrn_adapter.hosts.segformer import SEGFORMER
from fdrn_adapter.table import Table

FAMILIES: Table[HostFamily] = Table("fdrn_adapter.hosts", (HRNET, SEGFORMER))


def describe_host(net: nn.Module) -> HostInfo:
    """Recognise a stock network by its structure.

    Where a network has the parts of several families, it is taken for the one that asks for most.

    Raises:
        UnsupportedHostError: it lacks something; the message lists what was looked for.
    """
    if not isinstance(net, nn.Module):
        raise UnsupportedHostError(
            f"wrap() takes a stock network (torch.nn.Module), got {type(net).__name__}. Build it "
            "with HRNetModel(...) or load a checkpoint with the code base's load_is_model first."
        )
    families = list(FAMILIES.values())
    missing = {family.name: family.missing(net, family.parts) for family in families}
    fitting = [family for family in families if not missing[family.name]]
    if fitting:
        return max(fitting, key=lambda family: len(family.parts)).describe(net)
    closest = min(families, key=lambda family: len(missing[family.name]) / len(family.parts))
    raise UnsupportedHostError(
        f"{type(net).__module__}.{type(net).__name__} is not a supported host: looked for the "
        f"parts of a {closest.title} and did not find {', '.join(missing[closest.name])}. "
        f"Supported: {', and '.join(family.supported for family in families)}."
    )


def family_of(info: HostInfo) -> HostFamily:
    """The family that a described network belongs to."""
    return FAMILIES[info.family]


def is_fdrn(net: object) -> bool:
    """Whether something is an FDRN model, or an engine's stand-in for one."""
    return bool(getattr(net, "is_fdrn", False))


def host_of(net: nn.Module) -> tuple[nn.Module, HostInfo]:
    """The stock network inside of an FDRN model, or a stock network itself, and what it is.

    Raises:
        UnsupportedHostError: neither of the two.
    """
    if is_fdrn(net):
        return net.host, net.info
    return net, describe_host(net)


def encoder_of(net: object) -> nn.Module | None:
    """F1 of an FDRN model; None for a stock network, and for an FDRN without one."""
    return net.image_encoder if is_fdrn(net) else None
