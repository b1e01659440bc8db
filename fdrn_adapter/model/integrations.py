"""The modules in which recycled features meet the host's, as the settings want them."""

from torch import nn

from fdrn_adapter import hosts
from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.grafts.integration import SemanticFeatureIntegration, TextureFeatureIntegration
from fdrn_adapter.model.settings import Settings


def integrations(
    settings: Settings, info: hosts.HostInfo, encoder: ImageEncoder | None,
    host_norm: type[nn.Module],
) -> tuple[
    SemanticFeatureIntegration | None, TextureFeatureIntegration | None,
    TextureFeatureIntegration | None,
]:
    """SFI, TFI and the TFI of f_mid; None for a level that is not recycled.

    Args:
        settings: with all defaults filled in.
        info: description of the host.
        encoder: F1, None where no level is recycled.
        host_norm: the host's class of norms, for settings that want some.
    """
    norm = host_norm if settings.norms else None
    kernel = settings.shortcut_kernel
    sfi: SemanticFeatureIntegration | None = None
    tfi: TextureFeatureIntegration | None = None
    tfi_mid: TextureFeatureIntegration | None = None
    if settings.use_high:
        values = settings.value_channels
        if values is None:
            values = info.high_channels * hosts.family_of(info).value_factor
        sfi = SemanticFeatureIntegration(
            info.high_channels, settings.identity, norm, values, kernel, settings.affinity
        )
    if settings.use_low:
        assert encoder is not None
        extra = encoder.low_channels + encoder.context_channels
        tfi = TextureFeatureIntegration(info.low_channels, extra, settings.identity, norm, kernel)
    if settings.use_mid:
        assert encoder is not None
        tfi_mid = TextureFeatureIntegration(
            info.mid_channels, encoder.mid_channels, settings.identity, norm, kernel
        )
    return sfi, tfi, tfi_mid
