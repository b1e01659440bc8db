"""Where the cells of a backbone's maps lie on the image, measured."""

import copy

import torch
from torch import nn


def _geometry_only(module: nn.Module) -> nn.Module:
    """A copy in which only the geometry of the layers (kernel, stride, padding) is left.

    Kernels become averages and norms vanish, maximum pooling becomes average pooling: the response
    to a pixel no longer depends on weights, and on a small positive input no activation saturates.
    """
    probe = copy.deepcopy(module).float().eval()
    for parent in list(probe.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d):
                part.weight.data.fill_(1.0 / part.weight[0].numel())
                if part.bias is not None:
                    part.bias.data.zero_()
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
                part.reset_parameters()
            elif isinstance(part, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding))
            elif _is_norm(part):
                setattr(parent, name, nn.Identity())
    return probe


def _is_norm(part: nn.Module) -> bool:
    """A norm of any library, but not a block that merely has Norm in its name."""
    return "Norm" in type(part).__name__ and not any(
        isinstance(inner, nn.Conv2d | nn.Linear) for inner in part.modules()
    )


def measure_offsets(
    backbone: nn.Module, positions: dict[int, int], size: int = 256
) -> dict[int, tuple[float, float]]:
    """Where cell 0 of each map lies on the image, in pixels, by the response to impulses.

    The sensitivity of a cell to every input pixel has its centroid on the pixel the cell stands
    on. Global parts (attention, squeeze-and-excitation) pull the centroid towards the centre of the
    image in proportion to the distance, so that a line fitted over several cells tells both apart.

    Args:
        backbone: a backbone with `maps`.
        positions: stride -> index in `backbone.maps(x)`.
        size: side of the square probe image in pixels.

    Returns:
        stride -> (row, col) offset in pixels, to a quarter of a pixel.

    Raises:
        ValueError: the maps have another number of cells than the stride says.
    """
    # Also where somebody builds or loads a model under no_grad or inference_mode.
    with torch.inference_mode(False), torch.enable_grad():
        return _measured(_geometry_only(backbone), positions, size)


def _measured(
    probe: nn.Module, positions: dict[int, int], size: int
) -> dict[int, tuple[float, float]]:
    """`measure_offsets` on a copy of the backbone."""
    x = torch.full((1, 3, size, size), 1e-3, requires_grad=True)
    try:
        maps = probe.maps(x)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"this backbone does not take images of any size ({error}); choose another encoder."
        ) from error
    pixels = torch.arange(size, dtype=torch.float64)
    middle = (size - 1) / 2
    offsets = {}
    for stride, position in positions.items():
        count = maps[position].shape[-1]
        wanted = -(-size // stride)
        if count != wanted:
            raise ValueError(
                f"the map at stride {stride} has {count} cells for {size} pixels, expected "
                f"{wanted}; this backbone cannot be tapped."
            )
        cells = [int(count * share) for share in (0.375, 0.5, 0.625)]
        centroids = []
        for cell in cells:
            target = maps[position][..., cell, cell].sum()
            (grad,) = torch.autograd.grad(target, x, retain_graph=True)
            weight = grad[0].double().abs().sum(0)  # (size, size)
            rows, cols = weight.sum(1) @ pixels, weight.sum(0) @ pixels
            centroids.append(torch.stack([rows, cols]) / weight.sum())
        cell_px = stride * torch.tensor(cells, dtype=torch.float64)
        line = torch.linalg.lstsq(
            torch.stack([cell_px, torch.ones_like(cell_px)], dim=1), torch.stack(centroids)
        ).solution  # (2, 2): slope and intercept for rows and columns
        slope, intercept = line
        offset = (intercept - (1 - slope) * middle) / slope
        offsets[stride] = tuple(round(4 * v) / 4 for v in offset.tolist())
    return offsets
