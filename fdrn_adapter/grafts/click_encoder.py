"""The current click apart from the historical ones (Sec. 3.3, "Decoupling of current and ...")."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fdrn_adapter.grafts.injection import tokens_to_map
from fdrn_adapter.weights import copy_network

# The stock point sampler marks points drawn in bulk, not clicked one after the other, by this.
BULK_ORDER = 100


def split_current_click(points: Tensor) -> tuple[Tensor, Tensor]:
    """Tell the current click from the history.

    The current click is the valid point with the highest order below 100. Points of order 100 were
    drawn in bulk and are history, unless a sample has nothing else: then the last valid positive
    point is current, or the last valid negative one where there is no positive.

    Args:
        points: (B, 2N, 3) rows of (row, col, order), N positive then N negative; a row whose
            coordinates are both negative is padding.

    Returns:
        current (B, 2, 3): one positive and one negative row, at most one of them valid.
        history (B, 2N, 3): `points` with the current click turned into padding.
    """
    num = points.shape[1] // 2
    valid = points[..., :2].amax(dim=2) >= 0  # (B, 2N)
    order = points[..., 2]
    ranked = valid & (order >= 0) & (order < BULK_ORDER)
    slot = torch.arange(2 * num, device=points.device)
    # One score per point: ranked points by order, then positive bulk points by place, then
    # negative ones; the place breaks ties in favour of the later row.
    positive = slot < num
    score = torch.where(positive, slot + 2 * num, slot).expand_as(order)
    score = torch.where(ranked, (order + 2).long() * 4 * num + slot, score)
    score = torch.where(valid, score, torch.full_like(score, -1))
    best = score.argmax(dim=1, keepdim=True)  # (B, 1)
    is_current = (slot[None] == best) & valid  # (B, 2N)

    padding = torch.full_like(points, -1)
    history = torch.where(is_current[..., None], padding, points)
    click = points.gather(1, best[..., None].expand(-1, -1, 3))  # (B, 1, 3)
    in_positive = positive[best] & is_current.any(dim=1, keepdim=True)
    in_negative = ~positive[best] & is_current.any(dim=1, keepdim=True)
    rows = torch.stack([in_positive[:, 0], in_negative[:, 0]], dim=1)  # (B, 2)
    current = torch.where(rows[..., None], click.expand(-1, 2, -1), padding[:, :2])
    return current, history


class DecoupledClickMaps(nn.Module):
    """Stands in for the host's `dist_maps`: six maps instead of two.

    The host may resize the maps on their way to the click encoder, and FocalClick hands them on in
    `outputs["click_map"]`. So the maps of all clicks are drawn here: their union would be another
    one after a resize.

    Args:
        host_maps: the stock module; its radius, disks or distances, and CPU mode stay in force.
    """

    def __init__(self, host_maps: nn.Module):
        super().__init__()
        self.host_maps = host_maps

    def forward(
        self, x: Tensor, points: Tensor, draw: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Returns (B, 6, H, W): positive and negative of all, the current, the historical clicks.

        The first two are what the host's module draws, to the bit. `draw` draws points in its
        place.
        """
        draw = functools.partial(self.host_maps, x) if draw is None else draw
        current, history = map(draw, split_current_click(points))
        maps = torch.cat([self.union(current, history), current, history], dim=1)
        return maps.to(x.dtype) if x.is_floating_point() else maps

    def union(self, current: Tensor, history: Tensor) -> Tensor:
        """The maps of all clicks."""
        # A union of disks is their maximum, a distance to several points the minimum.
        use_disks = getattr(self.host_maps, "use_disks", True)
        return (torch.maximum if use_disks else torch.minimum)(current, history)


def without_decoupled_maps(maps: Tensor) -> Tensor:
    """The maps of all clicks alone, as the stock code knows them, out of (B, P + 6, H, W)."""
    return maps[:, :-4]


class DecoupledClickEncoder(nn.Module):
    """Stands in for the host's `maps_transform` (Conv1S): one copy for each kind of click.

    The current and the historical maps are each joined with the previous mask, go through their own
    copy of the host's encoder, and a 3x3 convolution over both brings them back to its channels.
    With `identity` (not in the paper) the host's own encoder on all clicks stays in the sum and the
    fuse starts from zero, so that nothing changes until training.

    Args:
        host_encoder: the stock module, kept for the identity branch, copied for the others.
        channels: its output channels.
        identity: see above.
    """

    def __init__(self, host_encoder: nn.Module, channels: int, identity: bool):
        super().__init__()
        self.all_clicks = host_encoder if identity else None
        self.current = copy_network(host_encoder)
        self.history = copy_network(host_encoder)
        self.fuse = nn.Conv2d(2 * channels, channels, 3, padding=1)
        if identity:
            nn.init.zeros_(self.fuse.weight)
            nn.init.zeros_(self.fuse.bias)

    def forward(self, coord_features: Tensor) -> Tensor:
        """coord_features: (B, P + 6, H, W), P = 1 channel of previous mask, or 0."""
        return self.encode(coord_features[:, :-6], *coord_features[:, -6:].split(2, dim=1))

    def encode(
        self, prev_mask: Tensor, everything: Tensor, current: Tensor, history: Tensor
    ) -> Tensor:
        """A map (B, C, h, w) from the previous mask (B, P, H, W) and three pairs of click maps."""
        encoded = self.fuse(
            torch.cat(
                [
                    self._encode(self.current, torch.cat([prev_mask, current], dim=1)),
                    self._encode(self.history, torch.cat([prev_mask, history], dim=1)),
                ],
                dim=1,
            )
        )
        if self.all_clicks is None:
            return encoded
        return self._encode(self.all_clicks, torch.cat([prev_mask, everything], dim=1)) + encoded

    def _encode(self, encoder: nn.Module, maps: Tensor) -> Tensor:
        """A map (B, C, h, w) from one copy of the host's encoder."""
        return encoder(maps)


class DecoupledPatchEmbedding(DecoupledClickEncoder):
    """Stands in for SegFormer's `patch_embed_side1`, which returns (tokens, H, W).

    The embedding's LayerNorm belongs to each copy; the fuse sees normalised tokens as a map.
    """

    def forward(self, coord_features: Tensor) -> tuple[Tensor, int, int]:
        """coord_features: (B, P + 6, H, W). Returns tokens (B, hw, C), h and w."""
        encoded = super().forward(coord_features)
        return encoded.flatten(2).transpose(1, 2), *encoded.shape[-2:]

    def _encode(self, encoder: nn.Module, maps: Tensor) -> Tensor:
        return tokens_to_map(*encoder(maps))
