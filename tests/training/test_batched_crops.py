"""Rois, crops, and image features under them, mirrored or not; losses and the plan."""

import importlib

import numpy as np
import pytest
import torch
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.training.batched import corpus as corpora
from fdrn_adapter.training.batched import crops, losses
from fdrn_adapter.training.batched.pictures import SIDE, VOID, KeptPicture
from fdrn_adapter.training.batched.plan import Plan, parse_sizes
from fdrn_adapter.training.batched.stepper import Stepper, mirrored_grid


def test_rois_hold_their_object_and_stay_inside():
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 300, (500, 2), generator=generator)
    last = first + torch.randint(0, 100, (500, 2), generator=generator)
    boxes = torch.stack([first[:, 0], last[:, 0], first[:, 1], last[:, 1]], 1)
    sizes = torch.tensor([[400, 512]]).expand(500, 2)
    rois = crops.rois_around(boxes, sizes, generator)
    assert rois.dtype == torch.float64 and torch.equal(rois, rois.round())
    assert (rois[:, [0, 2]] >= 0).all() and (rois[:, [1, 3]] <= sizes - 1).all()
    assert (rois[:, [0, 2]] <= boxes[:, [0, 2]]).all()
    assert (rois[:, [1, 3]] >= boxes[:, [1, 3]]).all()
    whole = (rois == torch.tensor([0.0, 399, 0, 511])).all(1)
    assert 0.2 < whole.float().mean() < 0.3
    length = (rois[:, 1] - rois[:, 0] + 1)[~whole]
    box = (boxes[:, 1] - boxes[:, 0] + 1)[~whole]
    assert length.min() >= 60 and (length / box.clamp(min=90) < 2.6).all() and length.std() > 20


@pytest.mark.parametrize("mirrored", [False, True])
def test_crops_by_hand(mirrored):
    picture = torch.randint(0, 255, (4, 30, 50), dtype=torch.uint8,
                            generator=torch.Generator().manual_seed(0))
    picture[3] = 0
    picture[3, 8:20, 10:30] = 1
    picture[3, 8:20, 30:36] = 2
    picture[3, 20:24, 10:36] = VOID
    roi = torch.tensor([[4.0, 26, 6, 40]])
    image, mask, others, void = crops.cut([picture], torch.tensor([1]), roi, 12, mirrored)
    assert image.shape == (1, 3, 12, 12) and mask.dtype == torch.bool
    assert mask.any() and others.any() and void.any() and not (mask & others).any()
    for r, col in ((0, 0), (3, 7), (11, 11), (6, 2)):
        y = 4 + r * 22 / 11
        x = 40 - col * 34 / 11 if mirrored else 6 + col * 34 / 11
        y0, x0 = min(int(y), 25), min(int(x), 39)
        wanted = sum(
            picture[:3, y0 + a, x0 + b].double() * (1 - abs(y - y0 - a)) * (1 - abs(x - x0 - b))
            for a in (0, 1) for b in (0, 1)
        ) / 255
        torch.testing.assert_close(image[0, :, r, col].double(), wanted, atol=1e-5, rtol=0)


def test_shaken_colours_stay_in_range_and_some_images_stay():
    images = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    shaken = crops.shaken(images, torch.Generator().manual_seed(0))
    assert 0 <= shaken.min() and shaken.max() <= 1
    same = (shaken == images).flatten(1).all(1).float().mean()
    assert 0.15 < same < 0.35


# -- features under crops ----------------------------------------------------------------------


class Ramp:
    """Stands in for `Embeddings`: each cell holds the column of the canvas that it lies on."""

    def of(self, key: str) -> np.ndarray:
        cells = (16 * np.arange(64) + 0.5) / 2 - 0.5
        return np.broadcast_to(cells, (96, 48, 64)).astype(np.float16)


@pytest.fixture
def kept(tmp_path) -> KeptPicture:
    """A picture of 384 x 512 pixels whose red is its column, with one object."""
    pixels = np.zeros((4, 384, SIDE), np.uint8)
    pixels[0] = np.arange(SIDE) // 2
    pixels[3, 100:200, 150:300] = 1
    np.save(tmp_path / "a.npy", pixels)
    return KeptPicture("a", 0, tmp_path / "a.png", tmp_path / "a.npy", "0" * 64,
                       ((1, 100, 199, 150, 299),), (384, SIDE))


@pytest.mark.usefixtures("ritm")
@pytest.mark.parametrize("whole", [0.0, 1.0])
def test_embeddings_lie_under_their_crops_mirrored_or_not(kept, whole, monkeypatch):
    monkeypatch.setenv("FDRN_SAM_ENCODER", "")
    model = fdrn_adapter.wrap(
        build_host(), encoder="onnx:", init="paper", affinity="gather", context_channels=8
    )
    corpus = corpora.Corpus([kept], Ramp())
    stepper, seen = Stepper(model, Plan()), set()
    for seed in range(6):
        batch = corpus.batch(2, 64, 1, whole, torch.Generator().manual_seed(seed))
        seen.add(batch.mirrored)
        with stepper._recycling(batch), torch.no_grad():
            recycling = model.current_recycling(2)
            aligned = recycling._align("embedding", (64, 64), Grid(4), (16, 16))
        found = aligned[:, 0].mean(1)  # (B, 16) columns of the canvas
        # What the crop shows at pixel 4 i: red is half of the column.
        shown = batch.image[:, 0, 32, ::4] * 255 * 2 + 0.5
        inner = slice(1, 15)
        assert (found[:, inner] - shown[:, inner]).abs().max() < 4
        assert (found[:, -1] - found[:, 0]).abs().min() > 40
        step = (found[:, 1:] - found[:, :-1])[:, 1:-1]
        assert (step < 0).all() if batch.mirrored else (step > 0).all()
    assert seen == {False, True}


def test_a_mirrored_grid_is_where_the_flipped_cells_are():
    grid = mirrored_grid(Grid(8, (1, 3)), 512, 64)
    for k in range(64):
        assert grid.offset_rc[1] + 8 * (63 - k) == 511 - (3 + 8 * k)
    assert grid.offset_rc[0] == 1


def test_canvases_are_mirrored_with_their_crops(kept):
    corpus = corpora.Corpus([kept])
    for seed in range(4):
        batch = corpus.batch(1, 64, 1, 0.0, torch.Generator().manual_seed(seed), canvas=True)
        r0, r1, c0, c1 = batch.rois[0].long().tolist()
        part = batch.canvas[:, :, r0 : r1 + 1, c0 : c1 + 1]
        again = torch.nn.functional.interpolate(part, (64, 64), mode="bilinear",
                                                align_corners=True)
        torch.testing.assert_close(again, batch.image, atol=1e-5, rtol=0)
        beyond = batch.canvas[:, :, 384:]
        assert (beyond == 0.5).all() and (batch.canvas[:, 0, :384] != 0.5).any()


def test_sources_share_the_samples(kept):
    many = [KeptPicture(**{**vars(kept), "source": s}) for s in (0, 0, 0, 1)]
    generator = torch.Generator().manual_seed(0)
    for shares, wanted in ((None, 0.25), ((0.2, 0.8), 0.8)):
        drawn = corpora.Corpus(many, shares=shares).draw(4000, 2, generator)
        assert len(drawn) == 4000 and drawn[0][0] == drawn[1][0]
        assert abs(sum(n == 3 for n, _ in drawn) / 4000 - wanted) < 0.04
    with pytest.raises(ValueError, match="2 data sets, and the shares are"):
        corpora.Corpus(many, shares=(1.0,))


# -- losses and plan ---------------------------------------------------------------------------


@pytest.mark.usefixtures("ritm")
def test_the_focal_loss_is_the_stock_one():
    stock = importlib.import_module("ritm_annotation.model.losses").NormalizedFocalLossSigmoid
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 1, 12, 12, generator=generator)
    target = torch.rand(2, 1, 12, 12, generator=generator) > 0.6
    wanted = stock(alpha=0.5, gamma=2)(logits, target.float()).mean()
    found = losses.normalized_focal(logits, target, torch.ones_like(logits))
    assert wanted > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)


def test_void_does_not_count_and_clicks_count_more():
    generator = torch.Generator().manual_seed(0)
    outputs = {
        name: torch.randn(2, 1, 16, 16, generator=generator)
        for name in ("instances", "instances_aux")
    }
    target = torch.rand(2, 1, 16, 16, generator=generator) > 0.5
    void, maps = torch.zeros_like(target), torch.zeros(2, 2, 16, 16)
    void[..., 8:] = True
    before = losses.loss_of(outputs, target, void, maps)
    other = {name: x.clone() for name, x in outputs.items()}
    for x in other.values():
        x[..., 8:] = 9
    assert torch.equal(losses.loss_of(other, target, void, maps), before)
    assert losses.mean_iou(other["instances"], target, void) == losses.mean_iou(
        outputs["instances"], target, void
    )
    maps[:, 1, 3:5, 3:5] = 1
    assert losses.loss_of(outputs, target, void, maps) > before


def test_the_plan_counts_its_samples():
    plan = Plan(samples=1000, sizes=((128, 0.6), (192, 0.4)), batch=16)
    assert [plan.size_at(n) for n in (0, 599, 600, 5000)] == [128, 128, 192, 192]
    assert plan.batch_at(128) == 16 and plan.batch_at(192) == 8 and plan.batch_at(128, 2) == 8
    assert plan.steps() == 38 + 49  # 608 samples in steps of 16, the rest in steps of 8
    rates = [plan.lr_at(i, 10 * i, 100) for i in range(100)]
    assert rates[0] == pytest.approx(plan.lr / 5, rel=0.01) and max(rates) > 0.9 * plan.lr
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] < 0.02 * plan.lr
    assert plan.inference().crop == 192 and Plan().inference().crop == 192
    assert Plan(sizes=((64, 1.0),)).inference().crop == 64


def test_sizes_as_written():
    assert parse_sizes("128:.6,192:.4") == ((128, 0.6), (192, 0.4))
    assert parse_sizes("96") == ((96, 1.0),)
    for text in ("big", "128:.5:2", "128,192"):
        with pytest.raises(ValueError, match="Sizes are written"):
            parse_sizes(text)
    with pytest.raises(ValueError, match="multiples of 32"):
        Plan(sizes=((100, 1.0),))


def test_under_clicks_is_the_cross_entropy_of_true_clicks_pixels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 6, 7, generator=generator)
    target = torch.rand(2, 1, 6, 7, generator=generator) < 0.5
    void = torch.rand(2, 1, 6, 7, generator=generator) < 0.2
    maps = (torch.rand(2, 2, 6, 7, generator=generator) < 0.4).float()
    sums, counts = [0.0, 0.0], [0, 0]
    for b, r, c in np.ndindex(2, 6, 7):
        p = 1 / (1 + np.exp(-logits[b, 0, r, c].item()))
        for sign, truth in enumerate((target[b, 0, r, c], ~target[b, 0, r, c])):
            if maps[b, sign, r, c] and truth and not void[b, 0, r, c]:
                sums[sign] -= np.log(1 - p if sign else p)
                counts[sign] += 1
    wanted = sums[0] / counts[0] + losses.NEGATIVE * sums[1] / counts[1]
    assert losses.under_clicks(logits, target, void, maps).item() == pytest.approx(wanted, rel=1e-5)
    assert losses.under_clicks(logits, target, void, maps * 0) == 0
    outputs = {"instances": logits}
    plain = losses.loss_of(outputs, target, void, maps)
    weighed = losses.loss_of(outputs, target, void, maps, clicked=0.5)
    assert weighed.item() == pytest.approx(plain.item() + 0.5 * wanted, rel=1e-5)
