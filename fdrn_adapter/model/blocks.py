"""Which blocks the features are read from (b_low, b_high) and enter (b_low_tilde, b_high_tilde)."""

from __future__ import annotations

from dataclasses import dataclass

from fdrn_adapter import hosts
from fdrn_adapter.encoders import catalogue, hrnet, segformer


@dataclass(frozen=True)
class Blocks:
    """Checked block indices: F1's low and high, F2's low_tilde and high_tilde."""

    low: int
    high: int
    low_tilde: int
    high_tilde: int

    @property
    def settings(self) -> dict[str, int]:
        return {
            "b_low": self.low, "b_high": self.high,
            "b_low_tilde": self.low_tilde, "b_high_tilde": self.high_tilde,
        }

    @classmethod
    def check(
        cls, encoder: str, info: hosts.HostInfo, b_low: int | None, b_high: int | None,
        b_low_tilde: int | None, b_high_tilde: int | None, use_low: bool, use_high: bool,
    ) -> Blocks:
        """Fill in the defaults and refuse what is out of range.

        b is the last block by default, b~ = min(b, last of the host) where both networks are HRNets
        (Table 6). Blocks of other pairs have no common depth (the third stages of SegFormer B0 and
        B3 have 2 and 18): there b~ is the host's last block.

        Raises:
            ValueError: no such encoder or block; high-level features from the shallower of two
                blocks of one stage.
        """
        if not isinstance(encoder, str):
            raise ValueError(
                f"encoder should be a name, got {encoder!r}. Allowed: {catalogue.encoder_names()}."
            )
        last = [count - 1 for count in catalogue.num_blocks(encoder)]
        last_tilde = [info.low_blocks - 1, info.high_blocks - 1]
        comparable = encoder in hrnet.HRNET_VARIANTS and info.family == "hrnet"
        # What b_low and b_high index, for messages; an HRNet is tapped in its third stage only.
        where = f"the image encoder {encoder!r}"
        theirs = [where, where]
        if encoder in segformer.VARIANTS:
            theirs = [f"stage {i} of {where}" for i in (1, 3)]
        ours = [f"the host's stage {1 if info.family == 'segformer' else 3}", "the host's stage 3"]
        b = [
            _block(name, value, last[i], last[i], theirs[i])
            for i, (name, value) in enumerate((("b_low", b_low), ("b_high", b_high)))
        ]
        default = [min(b[i], last_tilde[i]) if comparable else last_tilde[i] for i in (0, 1)]
        tilde = [
            _block(name, value, default[i], last_tilde[i], ours[i])
            for i, (name, value) in enumerate(
                (("b_low_tilde", b_low_tilde), ("b_high_tilde", b_high_tilde))
            )
        ]
        if use_low and use_high:
            if theirs[0] == theirs[1]:
                _check_order("b", *b, last[1])
            if ours[0] == ours[1]:
                _check_order("b~", *tilde, last_tilde[1])
        return cls(*b, *tilde)


def _block(name: str, value: int | None, default: int, last: int, where: str) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= last:
        raise ValueError(
            f"{name}={value!r} is out of range: {where} has blocks 0..{last} (an int, or None for "
            f"{default})."
        )
    return value


def _check_order(which: str, low: int, high: int, last: int) -> None:
    if high >= low:
        return
    names = ("b_low", "b_high") if which == "b" else ("b_low_tilde", "b_high_tilde")
    raise ValueError(
        f"{names[1]}={high} < {names[0]}={low}: high-level features come from the deeper block "
        f"(Sec. 4.1). Choose {names[1]} in {low}..{last} or lower {names[0]} to at most {high}."
    )
