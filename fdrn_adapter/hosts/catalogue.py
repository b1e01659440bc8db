"""Which family a stock network belongs to, told by its structure."""

from torch import nn

from fdrn_adapter.errors import UnsupportedHostError
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.hosts.hrnet import describe_hrnet
from fdrn_adapter.hosts.segformer import describe_segformer

_HRNET_PARTS = ("conv1", "layer1", "stage2", "stage3", "stage4", "transition2")
_SEGFORMER_STAGE = ("patch_embed{}", "block{}", "norm{}")


def describe_host(net: nn.Module) -> HostInfo:
    """Recognise a stock network by its structure.

    Raises:
        UnsupportedHostError: it lacks something; the message lists what was looked for.
    """
    if not isinstance(net, nn.Module):
        raise UnsupportedHostError(
            f"wrap() takes a stock network (torch.nn.Module), got {type(net).__name__}. Build it "
            "with HRNetModel(...) or load a checkpoint with the code base's load_is_model first."
        )
    extractor = getattr(net, "feature_extractor", None)
    missing = [n for n in ("normalization", "prepare_input") if not hasattr(net, n)]
    if hasattr(getattr(extractor, "backbone", None), "patch_embed1"):
        family, prefix = "SegFormerModel", "feature_extractor.backbone"
        parts = [part.format(i) for part in _SEGFORMER_STAGE for i in (1, 2, 3)]
        missing += _missing(extractor.backbone, prefix, (*parts, "patch_embed_side1"))
    else:
        family, prefix = "HRNetModel", "feature_extractor"
        missing += _missing(extractor, prefix, _HRNET_PARTS)
    if missing:
        raise UnsupportedHostError(
            f"{type(net).__module__}.{type(net).__name__} is not a supported host: looked for the "
            f"parts of a RITM or FocalClick {family} and did not find {', '.join(missing)}. "
            "Supported: HRNetModel (HRNet-18s, 18, 32 with OCR) of RITM, ritm-annotation or "
            "FocalClick (ClickSEG), and SegFormerModel (B0, B3) of FocalClick."
        )
    return describe_hrnet(net) if family == "HRNetModel" else describe_segformer(net)


def _missing(module: nn.Module | None, prefix: str, parts: tuple[str, ...]) -> list[str]:
    return [f"{prefix}.{part}" for part in parts if not hasattr(module, part)]
