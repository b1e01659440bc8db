"""Which blocks the features are read from (b_low, b_high) and enter (b_low_tilde, b_high_tilde)."""

from __future__ import annotations

from dataclasses import dataclass

from fdrn_adapter import hosts
from fdrn_adapter.encoders import catalogue

LEVELS = ("low", "mid", "high")


@dataclass(frozen=True)
class Blocks:
    """The blocks that an index counts.

    Attributes:
        where: whose they are, for messages.
        last: index of the last one.
    """

    where: str
    last: int

    def choose(self, name: str, index: int | None, default: int) -> int:
        """A checked index, `default` for None.

        Raises:
            ValueError: no such block; the message has `name` and what is allowed.
        """
        if index is None:
            return default
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index <= self.last:
            raise ValueError(
                f"{name}={index!r} is out of range: {self.where} has blocks 0..{self.last} (an "
                f"int, or None for {default})."
            )
        return index


@dataclass(frozen=True)
class Level:
    """One level of the features: where it can be read in F1, and where it can enter the host.

    Attributes:
        name: one of LEVELS.
        read, entered: blocks of the image encoder and of the host.
        comparable: whether equal indices of both mean equal depths.
    """

    name: str
    read: Blocks
    entered: Blocks
    comparable: bool

    def choose(self, b: int | None, b_tilde: int | None) -> tuple[int, int]:
        """Checked indices; for None the last block of F1, and min(b, last) or last of the host."""
        b = self.read.choose(f"b_{self.name}", b, self.read.last)
        default = min(b, self.entered.last) if self.comparable else self.entered.last
        return b, self.entered.choose(f"b_{self.name}_tilde", b_tilde, default)


def levels(encoder: str, info: hosts.HostInfo) -> dict[str, Level]:
    """The levels of a pair of image encoder and host, f_mid where both have it.

    Equal blocks are of equal depth where both networks are HRNets (Table 6); the third stages of
    SegFormer B0 and B3 have 2 and 18 blocks.

    Raises:
        ValueError: no such encoder.
    """
    theirs, ours = catalogue.family_of(encoder), hosts.family_of(info)
    comparable = theirs.counts_like(info)
    (low_stage, high_stage), (low, high) = theirs.stages, theirs.blocks(encoder)
    rows = (
        ("low", low_stage, low, ours.low_stage, info.low_blocks),
        ("mid", theirs.mid_stage, theirs.mid_blocks(encoder), ours.mid_stage, info.mid_blocks),
        ("high", high_stage, high, ours.high_stage, info.high_blocks),
    )
    return {
        name: Level(
            name, Blocks(f"{stage}the image encoder {encoder!r}", read - 1),
            Blocks(entry, entered - 1), comparable,
        )
        for name, stage, read, entry, entered in rows if read and entered
    }


def choose(
    encoder: str, info: hosts.HostInfo, wanted: dict[str, tuple[int | None, int | None]],
    used: tuple[str, ...],
) -> dict[str, tuple[int, int]]:
    """Blocks (b, b~) by level, with defaults filled in.

    Args:
        encoder: name of the image encoder.
        info: description of the host.
        wanted: level -> (b, b~), None for the default.
        used: the levels that are recycled.

    Raises:
        ValueError: no such encoder or block; f_mid of an encoder or for a host that has none;
            high-level features from the shallower of two blocks of one stage.
    """
    there = levels(encoder, info)
    if "mid" in used and "mid" not in there:
        raise ValueError(
            f"use_mid=True: the image encoder {encoder!r} has no f_mid (a map at stride 8), or "
            f"the host ({info.name}) has no place for it. HRNets, SegFormers and timm backbones "
            "have one, HRNet and SegFormer hosts the place; leave use_mid out for others."
        )
    chosen = {name: there[name].choose(*pair) for name, pair in wanted.items()}
    low, high = there["low"], there["high"]
    if {"low", "high"} <= set(used):
        for i, (suffix, deep, shallow) in enumerate(
            (("", high.read, low.read), ("_tilde", high.entered, low.entered))
        ):
            if deep.where == shallow.where:
                _check_order(suffix, chosen["low"][i], chosen["high"][i], deep.last)
    return chosen


def _check_order(suffix: str, low: int, high: int, last: int) -> None:
    if high < low:
        raise ValueError(
            f"b_high{suffix}={high} < b_low{suffix}={low}: high-level features come from the "
            f"deeper block (Sec. 4.1). Choose b_high{suffix} in {low}..{last} or lower "
            f"b_low{suffix} to at most {high}."
        )
