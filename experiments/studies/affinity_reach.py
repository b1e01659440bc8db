"""How far an affinity reaches: from one cell of an object, does it find the object's other cells?

    python experiments/studies/affinity_reach.py --train COCO_MVal=DIR --data GrabCut=DIR

No network is trained. f_high of each encoder lies on the cells (stride 16) of a crop around each
object, and from each cell of the object all other cells are ranked by eq. 2's W = K K^T. Printed is
the mean over objects of the area under the ROC curve (.5 is chance) for three kinds of view: as
SFI's views start (whitened components), learned (one linear view, so that the ranks are right on
the objects of --train), and learned beside what a host sees without any F1, the cells' mean colours
and their distance. docs/paper.md has what came of it.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from modules import Arm, network
from torch import Tensor, nn
from torch.nn import functional as F

import fdrn_adapter
from fdrn_adapter.evaluation.datasets.catalogue import open_dataset
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.features.roi import Grid

STRIDE, KEYS, MARGIN = 16, 64, 1.4
EPOCHS, BATCH, LR = 20, 16, 1e-3


def lite0(encoder: nn.Module) -> Callable[[Tensor], ImageFeatures]:
    """f_high of the frozen EfficientNet-Lite0 (ImageNet) of `modules.py`, before any view."""

    def read(image: Tensor) -> ImageFeatures:
        small = encoder.resized(image, 512)
        high = encoder.backbone((small - encoder.mean) / encoder.std)[-1]
        return ImageFeatures(
            {"f": high}, {"f": encoder.backbone.taps["high"].grid}, tuple(image.shape[2:]),
            tuple(small.shape[2:]), encoder.architecture,
        )

    return read


def embedding(source: str) -> Callable[[Tensor], ImageFeatures]:
    """The embedding of `distilled_lite0`, or of a SAM-layout ONNX file."""
    host = network(Arm(None), 0)
    model = fdrn_adapter.wrap(host, encoder=source, freeze_encoder=True, copy=True).eval()

    def read(image: Tensor) -> ImageFeatures:
        got = model.encode_image(image)
        return ImageFeatures({"f": got.maps["embedding"]}, {"f": got.grids["embedding"]},
                             got.image_size, got.input_size, got.architecture)

    return read


@dataclass(frozen=True)
class Crop:
    """An object's crop.

    Attributes:
        image: (1, 3, H, W) in [0, 1].
        roi: rmin, rmax, cmin, cmax, inclusive.
        inside: (n,) bool, the cells that are object.
        colours: (3, n) means of the cells.
    """

    image: Tensor
    roi: tuple[int, ...]
    inside: np.ndarray
    colours: Tensor


def crops(dataset, cells: int) -> list[Crop]:
    """A crop around each sample's object that has two cells at least, and leaves as many."""
    found = []
    for i in range(len(dataset)):
        sample = dataset.load(i)
        image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)[None] / 255
        mask = torch.from_numpy(np.asarray(sample.mask) > 0)[None, None].float()
        roi = around(mask[0, 0].numpy() > 0)
        rmin, rmax, cmin, cmax = roi
        part = (slice(None), slice(None), slice(rmin, rmax + 1), slice(cmin, cmax + 1))
        inside = F.adaptive_avg_pool2d(mask[part], cells).flatten().numpy() > 0.5
        colours = F.adaptive_avg_pool2d(image[part], cells)[0].flatten(1)
        if 2 <= inside.sum() <= len(inside) - 2:
            found.append(Crop(image, roi, inside, colours))
    return found


def around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The object's box, wider by MARGIN, inside the image: rmin, rmax, cmin, cmax, inclusive."""
    ends = []
    for axis in (1, 0):
        places = np.flatnonzero(mask.any(axis=axis))
        middle, half = (places[0] + places[-1]) / 2, (places[-1] - places[0] + 1) / 2 * MARGIN
        ends += [max(0, round(middle - half)), min(mask.shape[1 - axis] - 1, round(middle + half))]
    return tuple(ends)


def area(scores: np.ndarray, inside: np.ndarray) -> float:
    """Of the ROC curve, mean over the object's cells; (n, n) scores of cells by cells."""
    found = []
    for k in np.flatnonzero(inside):
        others = np.arange(len(inside)) != k
        yes, no = scores[k, others & inside], scores[k, others & ~inside]
        above = (yes[:, None] > no).mean() + 0.5 * (yes[:, None] == no).mean()
        found.append(above)
    return float(np.mean(found))


class View(nn.Module):
    """One linear view of cells, which is key and query, and the nearness of cells.

    Args:
        like: maps (C, n), whose whitened components it starts from.
    """

    def __init__(self, like: list[Tensor]):
        super().__init__()
        flat = torch.cat(like, dim=1)
        values, axes = torch.linalg.eigh(torch.cov(flat.double()))
        keys = min(KEYS, len(flat))
        start = axes[:, -keys:].T / values[-keys:].clamp(min=1e-9).sqrt()[:, None] * KEYS**-0.25
        self.register_buffer("mean", flat.mean(1, keepdim=True))
        self.weight = nn.Parameter(start.float())
        self.near, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, of: Tensor, far: Tensor) -> Tensor:
        """(n, n) logits of a map (C, n)."""
        z = self.weight @ (of - self.mean)
        return z.T @ z - self.near * far + self.bias


def learned(maps: list[Tensor], kept: list, far: Tensor) -> View:
    """A view, trained to tell each object's cells from the others."""
    torch.manual_seed(0)
    view = View(maps)
    optimizer = torch.optim.Adam(view.parameters(), lr=LR)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(kept)).split(BATCH):
            loss = torch.stack([
                pair_loss(view(maps[i], far), kept[i].inside) for i in chosen.tolist()
            ]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return view


def pair_loss(logits: Tensor, inside: np.ndarray) -> Tensor:
    """Binary cross entropy of the pairs that have a cell of the object, both kinds alike."""
    yes = torch.from_numpy(inside)
    same = yes[:, None] & yes
    same.fill_diagonal_(False)
    return F.softplus(-logits[same]).mean() + F.softplus(logits[yes][:, ~yes]).mean()


@torch.no_grad()
def reach(view: View, maps: list[Tensor], kept: list, far: Tensor) -> float:
    """Mean area over objects."""
    return float(np.mean([
        area(view(of, far).numpy(), crop.inside) for of, crop in zip(maps, kept, strict=True)
    ]))


def table(read: dict[str, Callable], train: list, held_out: list) -> Iterator[str]:
    """Lines of the table."""
    cells = round(len(train[0].inside) ** 0.5)
    at = torch.stack(torch.meshgrid(*[torch.arange(cells).float()] * 2, indexing="ij"), -1)
    far = torch.cdist(at.view(-1, 2), at.view(-1, 2))
    none = torch.zeros_like(far)
    yield f"{len(train)} objects to learn from, {len(held_out)} held out; {cells}x{cells} cells"
    colours = [[crop.colours for crop in part] for part in (train, held_out)]

    def row(name: str, maps: list[list[Tensor]], beside: list[list[Tensor]]) -> str:
        start = reach(View(maps[0]), maps[1], held_out, none)
        alone = reach(learned(maps[0], train, none), maps[1], held_out, none)
        both = reach(learned(beside[0], train, far), beside[1], held_out, far)
        return (f"{name:30} start {start:.3f}  learned {alone:.3f}  "
                f"with colours and distance {both:.3f}")

    yield row("colours", colours, colours)
    for name, of in read.items():
        maps = [[of(crop, cells) for crop in part] for part in (train, held_out)]
        size, unit = (torch.cat(part[0], 1).std() for part in (maps, colours))
        beside = [
            [torch.cat([m / size, c / unit]) for m, c in zip(part, seen, strict=True)]
            for part, seen in zip(maps, colours, strict=True)
        ]
        yield row(name, maps, beside)


def on_cells(read: Callable[[Tensor], ImageFeatures]) -> Callable[[Crop, int], Tensor]:
    """(crop, cells) -> its features there, (C, n)."""
    take = Intake("f", ("f",), Grid(STRIDE))

    @torch.no_grad()
    def of(crop: Crop, cells: int) -> Tensor:
        size = (cells * STRIDE,) * 2
        return recycle(read(crop.image), [crop.roi]).take(take, size)[0].flatten(1)

    return of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="a data set of `fdrn benchmark`")
    parser.add_argument("--data", required=True, help="another")
    parser.add_argument("--objects", type=int, default=200, help="of --train (%(default)s)")
    parser.add_argument("--limit", type=int, help="only so many of --data")
    parser.add_argument("--cells", default="6,12", help="of a crop, on a side (%(default)s)")
    args = parser.parse_args()
    datasets = open_dataset(args.train, args.objects), open_dataset(args.data, args.limit)
    sources = {
        "EfficientNet-Lite0 (ImageNet)": lite0(network(Arm(), 0).eval().image_encoder),
        "distilled_lite0": embedding("distilled_lite0"),
    }
    if os.environ.get("FDRN_SAM_ENCODER"):
        sources["MobileSAM"] = embedding("onnx:")
    read = {name: on_cells(source) for name, source in sources.items()}
    for cells in map(int, args.cells.split(",")):
        for line in table(read, *(crops(dataset, cells) for dataset in datasets)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
