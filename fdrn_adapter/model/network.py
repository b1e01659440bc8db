"""FDRNModel: a stock network with an image encoder beside it, used like the stock network."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fdrn_adapter import hosts
from fdrn_adapter.encoders.catalogue import build_backbone, build_encoder, check_stored
from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.features import current
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.recycling import whole_images
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps, without_decoupled_maps
from fdrn_adapter.grafts.injection import HIGH, LOW, MID, injections
from fdrn_adapter.model.inference import Inference
from fdrn_adapter.model.integrations import integrations
from fdrn_adapter.model.recycles import Recycles
from fdrn_adapter.model.settings import Settings, takes_settings


class FDRNModel(Recycles, nn.Module):
    """The FDRN variant of a stock network; build it with `fdrn_adapter.wrap`.

    A drop-in for the host: `model(image, points)`, `with_prev_mask`, `with_aux_output`, `_config`
    and every other attribute of the host answer as before. Without features it encodes each crop
    itself; inside `with model.recycling(features, rois):` it recycles.

    Args:
        host: the stock network, changed in place, or its `_config`, from which it is built (this
            is how the stock `load_is_model` rebuilds an FDRN model).
        encoder_source: where F1's weights came from, for `repr`.
        **options: the fields of `Settings`, described at `wrap`; others are passed to the host's
            class when it is built from its config.

    Attributes:
        settings: what the model was built by, with every default filled in.
        info: description of the host.
    """

    is_fdrn = True
    host_held = False  # its batch norms stay in eval mode, see training.hold_host

    @takes_settings
    def __init__(
        self, host: nn.Module | dict[str, Any] | None = None, *, encoder_source: str = "random",
        **options: Any,
    ):
        super().__init__()
        settings, host_options = Settings.split(options)
        if isinstance(host, dict):  # out of a checkpoint
            check_stored(settings.encoder)
            host = hosts.build_host(host, **host_options)
        elif host_options:
            raise TypeError(
                f"{', '.join(host_options)}: options of a host are for one that is built from its "
                "config; this one was built before."
            )
        self.info = hosts.describe_host(host)
        self.settings = settings.for_host(self.info)
        self.encoder_source = encoder_source
        self.recycling_key = current.Key()
        self.intakes: tuple[Intake, ...] = ()
        # What `unwrap` puts back: module flags, and stock modules that are replaced below.
        self._training_flags = {name: m.training for name, m in host.named_modules()}
        self._replaced: dict[str, nn.Module] = {}
        self.image_encoder = self._build_encoder(host)
        self._note_checksum()
        self.sfi, self.tfi, self.tfi_mid = integrations(
            self.settings, self.info, self.image_encoder,
            getattr(host.get_submodule(self.info.backbone), "norm_layer", nn.BatchNorm2d),
        )
        self.host = host
        self._graft()
        reference = next(host.parameters())
        self.to(device=reference.device, dtype=reference.dtype)
        self.train(host.training)
        self._restore_modes(host)

    # -- grafting ------------------------------------------------------------------------------

    def _build_encoder(self, host: nn.Module) -> ImageEncoder | None:
        settings = self.settings
        if not settings.levels:
            return None
        backbone = build_backbone(
            settings.encoder, host, self.info, settings.tapped("low"), settings.tapped("high"),
            settings.tapped("mid"),
        )
        return build_encoder(
            backbone, settings.encoder, host.normalization, settings.encoder_max_side,
            settings.freeze_encoder, settings.context_channels,
        )

    def _note_checksum(self) -> None:
        """Keep which file F1 is in, or warn where it is another than the model was trained with."""
        found = "" if self.image_encoder is None else self.image_encoder.backbone.sha256
        known = self.settings.encoder_sha256
        if found and known and found != known:
            warnings.warn(
                f"The model was trained on the embeddings of {self.settings.encoder} (sha256 "
                f"{known[:12]}), and {self.image_encoder.backbone.path} has another content "
                f"({found[:12]}). Embeddings of one space are interchangeable; others give bad "
                "masks.",
                stacklevel=4,
            )
        elif found:
            self.settings = dataclasses.replace(self.settings, encoder_sha256=found)

    def _graft(self) -> None:
        """Change the host in place: hooks where features enter, and the decoupled click encoder."""
        self._inject()
        if self.settings.decouple_clicks:
            self._decouple_clicks()

    def _inject(self) -> None:
        info, settings, family = self.info, self.settings, hosts.family_of(self.info)
        places = {
            LOW: (self.tfi, info.low_site, settings.b_low_tilde),
            MID: (self.tfi_mid, info.mid_site, settings.b_mid_tilde),
            HIGH: (self.sfi, info.high_site, settings.b_high_tilde),
        }
        intakes = {} if self.image_encoder is None else self.image_encoder.intakes()
        for level, intake in intakes.items():
            module, site, b = places[level]
            if module is None:  # of an embedding the host need not take all
                continue
            hook = family.injection(module, intake, self.recycling_key)
            self.host.get_submodule(site)[b].register_forward_hook(hook)
            self.intakes += (intake,)

    def _decouple_clicks(self) -> None:
        info = self.info
        encoder = hosts.family_of(info).click_encoder
        maps, stock = map(self.host.get_submodule, (info.click_maps, info.click_encoder))
        self._replaced = {info.click_maps: maps, info.click_encoder: stock}
        _set_module(self.host, info.click_maps, DecoupledClickMaps(maps))
        decoupled = encoder(stock, info.click_channels, identity=self.settings.identity)
        _set_module(self.host, info.click_encoder, decoupled)

    def _restore_modes(self, host: nn.Module) -> None:
        """Put the host's modules in the modes they had when they were wrapped."""
        for name, module in host.named_modules():
            module.training = self._training_flags.get(name, module.training)

    def release_host(self) -> nn.Module:
        """Undo the grafting and return the host; this model is of no use afterwards."""
        host = self.host
        for module, key, _ in injections(host):
            del module._forward_hooks[key]
        reference = next(host.parameters())
        for path, module in self._replaced.items():
            _set_module(host, path, module.to(reference.device, reference.dtype))
        self._restore_modes(host)
        del self.host
        return host

    # -- use -----------------------------------------------------------------------------------

    def forward(self, image: Tensor, points: Tensor) -> dict[str, Tensor]:
        """Predict, exactly as the host does (eq. 1).

        Args:
            image: (B, 3 or 4, H, W): RGB in [0, 1], un-normalised, and the previous mask where
                the host takes one.
            points: (B, 2N, 3) rows of (row, col, order) on the crop, N positive then N negative,
                rows of -1 are padding.

        Returns:
            the host's outputs: "instances" (B, 1, H, W) logits and whatever else it returns, for
            FocalClick "feature" and "click_map" among it, which `refine` and its losses take.
        """
        self.check_click(image, points)
        recycling = self.current_recycling(len(image))
        if recycling is None and self.image_encoder is not None:
            recycling = whole_images(self.image_encoder(image[:, :3]))
        with current.using(self, self.aligned(recycling, image)):
            outputs = self.host(image, points)
        if self.settings.decouple_clicks and "click_map" in outputs:
            outputs["click_map"] = without_decoupled_maps(outputs["click_map"])
        return outputs

    def encode_image(
        self, image: Tensor, max_side: int | None = None, looked: bool = False
    ) -> ImageFeatures:
        """Run F1 once on an image (Sec. 3.2); recycle the result with `recycling`.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], un-normalised, at its own resolution.
            max_side: cap of the longest side in pixels instead of the model's own
                (`encoder_max_side`).
            looked: the caller has called `look_at_weights` for this image.

        Raises:
            ValueError: another shape, dtype or range.
        """
        self.check_image(image)
        if not looked:
            self.look_at_weights()
        if self.image_encoder is None:
            size = tuple(image.shape[-2:])
            return ImageFeatures({}, {}, size, size, "none", batch=len(image))
        return self.image_encoder(image, max_side)

    def look_at_weights(self) -> None:
        """Let F1's fingerprint see weights that were changed past torch's counters.

        As through `.data` or numpy. `encode_image` and whoever keeps features over images do so.
        """
        if self.image_encoder is not None:
            self.image_encoder.look_at_weights()

    # -- training ------------------------------------------------------------------------------

    def stock_modules(self) -> Iterator[nn.Module]:
        """The host's modules that were there before wrapping and are no part of what was added."""
        added: set[nn.Module] = set()
        for path in self._replaced:
            added.update(self.host.get_submodule(path).modules())
        return (module for module in self.host.modules() if module not in added)

    def train(self, mode: bool = True) -> "FDRNModel":
        super().train(mode)
        if self.host_held:
            for module in self.stock_modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    # -- being a drop-in -----------------------------------------------------------------------

    @property
    def init(self) -> str:
        """How the model was initialised, see `wrap`."""
        return self.settings.init

    @property
    def inference(self) -> Inference | None:
        """How the model was trained to be used; None where nobody has said."""
        return self.settings.inference

    @inference.setter
    def inference(self, value: Inference | dict[str, Any] | None) -> None:
        self.settings = dataclasses.replace(self.settings, inference=Inference.of(value))

    @property
    def decouple_clicks(self) -> bool:
        """Whether the current click is encoded apart from the history."""
        return self.settings.decouple_clicks

    @property
    def _settings(self) -> dict[str, Any]:
        return self.settings.as_dict()

    @property
    def _config(self) -> dict[str, Any]:
        """What the stock code stores in checkpoints and rebuilds the model from."""
        values = {
            "host": self.host._config, **self.settings.as_dict(),
            "encoder_source": self.encoder_source,
        }
        return {
            "class": "fdrn_adapter.model.FDRNModel",
            "params": {
                name: {"type": "builtin", "value": value, "specified": True}
                for name, value in values.items()
            },
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            host = self.__dict__.get("_modules", {}).get("host")
            if host is None or name.startswith("__"):
                raise
            return getattr(host, name)

    def extra_repr(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.settings.as_dict().items())
        return f"host={self.info.name}, {settings}, encoder_weights={self.encoder_source!r}"


def _set_module(net: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(net.get_submodule(owner), name, module)
