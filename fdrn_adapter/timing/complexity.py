"""Parameters and multiply-adds of F1 and F2, beside the paper's Table 2."""

import contextlib
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fdrn_adapter import zoo
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.hosts.catalogue import host_of
from fdrn_adapter.timing.op_count import Count, count, parameters

DEAD_WEIGHT = (
    "F1 of SegFormer: stages 1 to 3, the two views of f_high and the 3x3 for f_low, all that runs. "
    "The paper's 2.10 M (B0) and 7.57 M (B1) are these 1.73 M and 6.08 M with a stage-4 patch "
    "embedding and the clicks' patch embedding, which F1 never runs and which is left out here."
)


@dataclass
class Complexity:
    """One line of the table; `encoder_*` is F1 and None for a stock network."""

    name: str
    title: str
    crop_size: tuple[int, int]
    encoder_input: tuple[int, int] | None
    encoder_params: int | None
    network_params: int
    encoder: Count | None
    network: Count
    identity_params: int | None  # what init="identity" adds to F2
    identity_macs: int | None


def click_points(crop_size: tuple[int, int], clicks: int = 20) -> Tensor:
    """Points as the stock predictor gives them after some clicks, half of them positive.

    Returns:
        (1, 2N, 3): N rows (row, col, order) of positive, then N of negative clicks; spread evenly
        over the crop.
    """
    rows, cols = crop_size
    order = torch.arange(clicks, dtype=torch.float32)
    steps = torch.stack([(order + 0.5) / clicks, (order * 0.618 + 0.5) % 1], dim=1)
    coords = (steps * torch.tensor([rows - 1.0, cols - 1.0])).round()
    points = torch.cat([coords, order[:, None]], dim=1)
    half = clicks - clicks // 2
    padding = torch.full((half - clicks // 2, 3), -1.0)
    return torch.cat([points[0::2], points[1::2], padding])[None]


@contextlib.contextmanager
def click_on(
    model: nn.Module, crop_size: tuple[int, int], features: ImageFeatures | None
) -> Iterator[Callable[[], object]]:
    """A call of a network on one crop of the whole frame, batch 1; `features` only for an FDRN.

    FocalClick networks also refine, on a focus crop of the size of the crop: that is the second
    half of every click of theirs.
    """
    generator = torch.Generator().manual_seed(0)
    crop = torch.rand(1, 4, *crop_size, generator=generator)
    crop = crop[:, : 3 + bool(model.with_prev_mask)]
    points = click_points(crop_size)
    focus = torch.tensor([[0, crop_size[1] / 4, crop_size[0] / 4, crop_size[1] / 2,
                           crop_size[0] / 2]])  # index, x1, y1, x2, y2 on the crop
    refines = host_of(model)[1].refines

    def click() -> object:
        outputs = model(crop, points)
        if not refines:
            return outputs
        return model.refine(
            crop[:, :3], points, outputs["feature"], outputs["instances"], focus
        )

    if features is None:
        yield click
        return
    rows, cols = features.image_size
    with model.recycling(features, [[0, rows - 1, 0, cols - 1]]):
        yield click


def measure(name: str, codebase: str | None = None) -> Complexity:
    """Count a zoo entry.

    Raises:
        ValueError: unknown name, or no code base to build it from.
    """
    entry = zoo.info(name)
    model = zoo.build(name, codebase, seed=0)
    if not entry.is_fdrn:
        with click_on(model, entry.crop_size, None) as click:
            return Complexity(
                name, entry.title, entry.crop_size, None, None, parameters(model), None,
                count(click), None, None,
            )
    encoder, network = _count_both(model, entry)
    identity = zoo.build(name, codebase, "identity", seed=0)
    encoder_params = parameters(model.image_encoder)
    return Complexity(
        name, entry.title, entry.crop_size, entry.encoder_input, encoder_params,
        parameters(model) - encoder_params, encoder, network,
        identity_params=parameters(identity) - parameters(model),
        identity_macs=_count_both(identity, entry)[1].layers - network.layers,
    )


def _count_both(model: nn.Module, entry: zoo.ZooEntry) -> tuple[Count, Count]:
    """The operations of F1 and of F2."""
    image, encoded = torch.rand(1, 3, *entry.encoder_input), []
    encoder = count(lambda: encoded.append(model.image_encoder(image)))
    with click_on(model, entry.crop_size, encoded[0]) as click:
        return encoder, count(click)


def table(results: list[Complexity]) -> str:
    """The results beside the paper's figures, as text."""
    head = ["name"]
    for what in ("F1 params M", "F2 params M", "F1 G mult-adds", "F2 G mult-adds"):
        head += [what, "paper", "diff %"]
    rows = [[*head, "F2 products G"]]
    for r in results:
        entry = zoo.info(r.name)
        f1, f2 = entry.paper_encoder, entry.paper_network
        rows.append([
            r.name,
            *_against(r.encoder_params, 1e6, f1 and f1.params_m),
            *_against(r.network_params, 1e6, f2 and f2.params_m),
            *_against(r.encoder and r.encoder.layers, 1e9, f1 and f1.macs_g),
            *_against(r.network.layers, 1e9, f2 and f2.macs_g),
            f"{r.network.products / 1e9:.3f}",
        ])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _against(ours: int | None, unit: float, paper: float | None) -> tuple[str, str, str]:
    if ours is None:
        return "-", "-", "-"
    value = ours / unit
    if paper is None:
        return f"{value:.2f}", "-", "-"
    return f"{value:.2f}", f"{paper:.2f}", f"{100 * (value / paper - 1):+.1f}"


def notes(results: list[Complexity]) -> str:
    """What the table leaves out or counts differently from the paper."""
    lines = [
        "G mult-adds: half of what torch.utils.flop_counter counts in convolutions and linear "
        "layers, batch 1. F1 runs on an image of 481x321 (columns x rows), F2 on its crop (288x288 "
        "for FDRN on RITM, 400x400 for stock RITM, 256x256 with the refinement of a focus crop for "
        "FocalClick), image features given. F2 products: matrix products of "
        "activations (SFI's K Q^T and A X, OCR), which counters that hook on layers, the paper's "
        "among them, do not see."
    ]
    fdrn = [r for r in results if r.identity_params is not None]
    if fdrn:
        identity = "; ".join(
            f"{r.name} +{r.identity_params / 1e6:.3f} M, +{r.identity_macs / 1e9:.3f} G"
            for r in fdrn
        )
        lines.append(
            "FDRN rows have the paper's modules (init='paper'). init='identity' adds a branch for "
            f"all clicks to F2: {identity}."
        )
    if any(r.name.startswith(("B0-", "B1-")) for r in results):
        lines.append(DEAD_WEIGHT)
    unseen = ", ".join(
        f"{r.name} {(r.network.layers - r.network.unseen) / 1e9:.2f} G" for r in results
    )
    lines.append(
        "Without OCR's object_context_block and the first 1x1 of the click encoders F2 comes to "
        f"{unseen}." + _explained(results)
    )
    lines.append("Run and not counted in one call (values written, millions):")
    lines += [
        f"  {r.name} {part}: {_left_out(counted)}"
        for r in results
        for part, counted in (("F1", r.encoder), ("F2", r.network))
        if counted is not None
    ]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)


def _explained(results: list[Complexity]) -> str:
    """Whether those layers account for the whole difference to the paper's baselines."""
    stock = [r for r in results if r.encoder is None]
    paper = [zoo.info(r.name).paper_network for r in stock]
    if not stock or not all(
        f and round((r.network.layers - r.network.unseen) / 1e9, 2) == f.macs_g
        for r, f in zip(stock, paper, strict=True)
    ):
        return ""
    return (
        " For the stock networks that is the paper's figure to the last digit: its counter seems "
        "to have missed those layers."
    )


def _left_out(counted: Count) -> str:
    by_size = sorted(counted.left_out.items(), key=lambda item: -item[1]["values"])
    return "; ".join(
        f"{kind} {what['values'] / 1e6:.2g}"
        + (f" ({', '.join(sorted(what['ops']))})" if kind == "other" else "")
        for kind, what in by_size
    )
