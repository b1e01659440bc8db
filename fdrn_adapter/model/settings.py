"""All that is chosen when a network is wrapped, in one object that checks itself."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fdrn_adapter import hosts
from fdrn_adapter.encoders import catalogue
from fdrn_adapter.encoders.backbone import EncoderFamily
from fdrn_adapter.encoders.image_encoder import MAX_SIDE
from fdrn_adapter.grafts.integration import DIRECTIONS
from fdrn_adapter.model import blocks
from fdrn_adapter.model.inference import Inference

INITS = ("identity", "paper")
_SWITCHES = ("decouple_clicks", "use_low", "use_mid", "use_high", "freeze_encoder", "norms")
CONTEXT_CHANNELS = 64  # of an embedding
MIN_SIDE = 32  # pixels of the longest side that F1 sees
# The integration modules before their widths could be chosen, in files and recipes of that time.
EARLIER_MODULES = {
    "value_channels": None, "shortcut_kernel": 1, "affinity": "literal", "norms": True,
}


@dataclass(frozen=True)
class Settings:
    """What an FDRN model is built by, beside its host; the fields are described at `wrap`.

    Checkpoints hold the fields by name. A file that was written before a field existed is read
    with the default here, which therefore is what the model did then; `wrap` may have another.

    Raises:
        ValueError: an option that no host could have.
    """

    b_low: int | None = None
    b_high: int | None = None
    b_low_tilde: int | None = None
    b_high_tilde: int | None = None
    encoder: str | None = None
    init: str = "identity"
    decouple_clicks: bool = True
    use_low: bool = True
    use_high: bool = True
    freeze_encoder: bool = False
    encoder_max_side: int = MAX_SIDE
    context_channels: int = 0
    value_channels: int | None = None  # C, or 2C on SegFormer hosts: before this could be chosen
    shortcut_kernel: int = 1
    affinity: str = "literal"
    norms: bool = True
    use_mid: bool = False
    b_mid: int | None = None
    b_mid_tilde: int | None = None
    encoder_sha256: str = ""  # of an encoder in a file of its own
    inference: Inference | None = None

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise ValueError(f"init should be one of {INITS}, got {self.init!r}.")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is True or False, got {getattr(self, name)!r}.")
        if not _is_int(self.encoder_max_side) or self.encoder_max_side < MIN_SIDE:
            raise ValueError(
                f"encoder_max_side is the longest side in pixels that F1 sees, an int of at least "
                f"{MIN_SIDE} (default {MAX_SIDE}); got {self.encoder_max_side!r}."
            )
        self._check_context()
        if self.value_channels is not None and not (
            _is_int(self.value_channels) and self.value_channels > 0
        ):
            raise ValueError(
                "value_channels is a number of channels, or None for the host's own; got "
                f"{self.value_channels!r}."
            )
        if self.shortcut_kernel not in (1, 3):
            raise ValueError(f"shortcut_kernel is 1 or 3, got {self.shortcut_kernel!r}.")
        if self.affinity not in DIRECTIONS:
            raise ValueError(f"affinity should be one of {DIRECTIONS}, got {self.affinity!r}.")
        object.__setattr__(self, "inference", Inference.of(self.inference))

    def _check_context(self) -> None:
        channels = self.context_channels
        if not _is_int(channels) or channels < 0:
            raise ValueError(
                "context_channels is a number of channels, 0 for no third view of f_high; got "
                f"{channels!r}."
            )
        if channels and not self.levels:
            raise ValueError("context_channels without an encoder: set use_low and use_high.")
        embeds = self.encoder is not None and catalogue.family_of(self.encoder).embeds
        if channels and not (self.use_low and self.use_high) and not embeds:
            raise ValueError(
                "context_channels brings f_high to where f_low enters the host: it needs "
                "use_low=True and use_high=True."
            )

    def _context_for(self, family: EncoderFamily) -> int:
        """Channels of the context; an embedding enters at stride 4 by it alone."""
        if not family.embeds:
            return self.context_channels
        return (self.context_channels or CONTEXT_CHANNELS) if self.use_low else 0

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels of features that are recycled, from `blocks.LEVELS`."""
        return tuple(name for name in blocks.LEVELS if getattr(self, f"use_{name}"))

    @property
    def identity(self) -> bool:
        """Whether the model starts as what the host computes."""
        return self.init == "identity"

    def for_host(self, info: hosts.HostInfo) -> Settings:
        """The same with encoder and blocks chosen, where they were left to the host.

        Raises:
            ValueError: no such encoder or block.
            UnsupportedHostError: the host's clicks cannot be decoupled.
        """
        encoder = hosts.family_of(info).default_encoder if self.encoder is None else self.encoder
        wanted = {
            level: (getattr(self, f"b_{level}"), getattr(self, f"b_{level}_tilde"))
            for level in blocks.LEVELS if level != "mid" or self.use_mid
        }
        chosen: dict[str, Any] = {}
        for level, pair in blocks.choose(encoder, info, wanted, self.levels).items():
            chosen |= zip((f"b_{level}", f"b_{level}_tilde"), pair, strict=True)
        if self.decouple_clicks and info.missing_click_encoder:
            raise hosts.UnsupportedHostError(
                f"The clicks of this host cannot be decoupled: {info.missing_click_encoder}. Pass "
                "decouple_clicks=False to graft the image encoder alone."
            )
        family = catalogue.family_of(encoder)
        return dataclasses.replace(
            self, encoder=encoder, context_channels=self._context_for(family),
            freeze_encoder=self.freeze_encoder or family.frozen, **chosen,
        )

    def tapped(self, level: str) -> int | None:
        """The block of the image encoder that a level is read from, None where it is not used."""
        return getattr(self, f"b_{level}") if level in self.levels else None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as checkpoints hold them: a file goes by its name, not its place."""
        return {**dataclasses.asdict(self), "encoder": catalogue.public_name(self.encoder)}

    @classmethod
    def split(cls, options: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
        """Settings out of keywords, and the keywords that are none."""
        names = {field.name for field in dataclasses.fields(cls)}
        mine = {name: value for name, value in options.items() if name in names}
        return cls(**mine), {k: value for k, value in options.items() if k not in names}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def takes_settings(init: Callable) -> Callable:
    """Let `inspect` find the fields of Settings among a function's keywords.

    The stock `load_model` looks there for what the config of a checkpoint may hold.
    """
    given = inspect.signature(init)
    named = [p for p in given.parameters.values() if p.kind is not p.VAR_KEYWORD]
    rest = [p for p in given.parameters.values() if p.kind is p.VAR_KEYWORD]
    fields = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default,
                          annotation=f.type)
        for f in dataclasses.fields(Settings)
    ]
    init.__signature__ = given.replace(  # type: ignore[attr-defined]
        parameters=[*named, *fields, *rest]
    )
    return init
