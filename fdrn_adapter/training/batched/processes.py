"""Several processes that train together, each on its part of a batch."""

import torch
from torch import Tensor, distributed, nn


def world() -> tuple[int, int]:
    """The number of this process among those that train together, and how many they are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


@torch.no_grad()
def agree(net: nn.Module, values: Tensor) -> Tensor:
    """Give all processes the mean of their gradients and of their batch-norm statistics.

    So their networks stay equal, to the bit, after every step. Works in place on the network.

    Args:
        values: (N,) further numbers.

    Returns:
        their means.
    """
    count = world()[1]
    if count == 1:
        return values
    shared = [p.grad for p in net.parameters() if p.grad is not None]
    shared += [b for b in net.buffers() if b.is_floating_point()]
    values = values.clone().float()
    flat = torch.cat([t.flatten().float() for t in [*shared, values]])
    distributed.all_reduce(flat)
    flat /= count
    for tensor, mean in zip(
        [*shared, values], flat.split([t.numel() for t in [*shared, values]]), strict=True
    ):
        tensor.copy_(mean.view_as(tensor))
    return values


@torch.no_grad()
def start_equal(net: nn.Module) -> None:
    """Give all processes the first one's weights and buffers."""
    if world()[1] > 1:
        for tensor in [*net.parameters(), *net.buffers()]:
            distributed.broadcast(tensor.data, 0)
