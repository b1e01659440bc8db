"""Simulated clicks for whole batches, against plain loops."""

import numpy as np
import pytest
import torch
from support.networks import build_host, make_points

import fdrn_adapter
from fdrn_adapter.training.batched import clicks as c
from fdrn_adapter.training.batched import disks
from fdrn_adapter.training.batched.spoiled import spoiled


def blobs(seed: int = 0, batch: int = 3, planes: int = 2, side: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, planes, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") > 0.2


def distance(mask: np.ndarray) -> np.ndarray:
    """Of each pixel of a mask to the nearest one outside of it, the frame around included."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    found = np.zeros(padded.shape)
    for at in np.argwhere(padded):
        found[tuple(at)] = np.sqrt(((outside - at) ** 2).sum(1).min())
    return found[1:-1, 1:-1]


def test_depth_is_the_distance_to_the_border():
    masks = blobs()
    masks[0, 0] = True
    masks[1, 0] = False
    wanted = np.stack([distance(m) for m in masks.flatten(0, 1).numpy()]).reshape(masks.shape)
    found = c.depth(masks).numpy()
    assert wanted.max() == 20
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    octagon = c.depth_by_erosions(masks).numpy()
    assert ((octagon > 0) == masks.numpy()).all()
    deep = wanted >= 3
    assert (abs(octagon - wanted)[deep] / wanted[deep]).max() < 0.35


def test_pick_finds_only_pixels_of_the_mask():
    mask = torch.zeros(400, 9, 7, dtype=torch.bool)
    mask[:, 4, 2] = mask[:, 8, 6] = True
    at = c.pick(mask, torch.Generator().manual_seed(0)).long()
    assert {tuple(p) for p in at.tolist()} == {(4, 2), (8, 6)}
    assert 150 < (at[:, 0] == 4).sum() < 250


def test_clicks_are_in_the_stock_layout_and_stop_at_the_limit():
    clicks = c.Clicks(2, 2)
    assert clicks.points.shape == (2, 4, 3) and (clicks.points == -1).all()
    no, yes = torch.tensor([False, False]), torch.tensor([True, True])
    clicks.add(torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([False, True]), yes)
    clicks.add(torch.tensor([[5.0, 6], [7, 8]]), no, torch.tensor([True, False]))
    before = clicks.points
    clicks.add(torch.tensor([[9.0, 9], [9, 9]]), no, yes)  # no room in the first sample
    assert torch.equal(clicks.points[0], make_points([[1, 2, 0], [5, 6, 1]])[0])
    second = torch.tensor([[9.0, 9, 1], [-1, -1, -1], [3, 4, 0], [-1, -1, -1]])
    assert torch.equal(clicks.points[1], second)
    assert before is not clicks.points and clicks.counts.tolist() == [[2, 0], [1, 1]]


def test_the_first_click_is_in_the_middle_and_others_where_they_belong():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(200, 1, 48, 48, dtype=torch.bool)
    mask[:, :, 10:31, 12:33] = True
    void = torch.zeros_like(mask)
    void[:, :, :, 36:] = True
    clicks = c.Clicks(200, 8)
    c.first_clicks(clicks, mask, void, generator)
    first = clicks.points[:, 0]
    assert (first[:, 2] == 0).all()
    assert (first[:, :2] - torch.tensor([20.0, 22])).abs().max() <= 5
    positive, negative = clicks.points[:, 1:8].flatten(0, 1), clicks.points[:, 8:].flatten(0, 1)
    positive, negative = (p[p[:, 2] >= 0][:, :2].long() for p in (positive, negative))
    assert len(positive) > 50 and len(negative) > 50
    assert mask[0, 0][positive[:, 0], positive[:, 1]].all()
    assert not (mask | void)[0, 0][negative[:, 0], negative[:, 1]].any()
    assert 0.35 < (clicks.counts.sum(1) > 1).float().mean() < 0.5  # 4 in 5 of one half


def test_an_object_that_is_not_there_gets_no_click():
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    mask[1, 0, 4:9, 4:9] = True
    clicks = c.Clicks(2, 3)
    c.first_clicks(clicks, mask, torch.zeros_like(mask), torch.Generator().manual_seed(0), extra=0)
    assert clicks.counts.tolist() == [[0, 0], [1, 0]]


def test_answers_are_in_the_deeper_false_region():
    mask = torch.zeros(3, 1, 40, 40, dtype=torch.bool)
    mask[:, :, 5:20, 5:20] = True
    void = torch.zeros_like(mask)
    found = mask.float()
    found[0, 0, 8:18, 8:18] = 0  # a hole, missed
    found[0, 0, 30:33, 30:33] = 1  # and a small false blob
    found[1, 0, 25:38, 25:38] = 1
    clicks = c.Clicks(3, 4)
    c.answer(clicks, found, mask, void, torch.Generator().manual_seed(0))
    assert clicks.counts.tolist() == [[1, 0], [0, 1], [0, 0]]  # the third is right
    row, col, _ = clicks.points[0, 0].tolist()
    assert 9 <= row <= 16 and 9 <= col <= 16
    row, col, _ = clicks.points[1, 4].tolist()
    assert 27 <= row <= 35 and 27 <= col <= 35
    void[1, 0, 24:, 24:] = True
    clicks = c.Clicks(3, 4)
    c.answer(clicks, found, mask, void, torch.Generator().manual_seed(0))
    assert clicks.counts.tolist() == [[1, 0], [0, 0], [0, 0]]


def test_spoiled_masks_are_wrong_in_several_ways():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(300, 1, 64, 64, dtype=torch.bool)
    mask[:, :, 20:44, 20:44] = True
    others = torch.zeros_like(mask)
    others[:150, :, 20:44, 48:60] = True
    wrong = spoiled(mask, others, generator)
    assert wrong.shape == mask.shape and 0 <= wrong.min() and wrong.max() <= 1
    found = wrong > 0.49
    assert (found != mask).flatten(1).any(1).float().mean() > 0.95
    extra, missed = (found & ~mask).flatten(1).any(1), (~found & mask).flatten(1).sum(1) > 30
    assert 0.6 < extra.float().mean() < 0.99 and 0.1 < missed.float().mean() < 0.5
    with_neighbour = (found & others).flatten(1).sum(1) > 200
    assert 0.25 < with_neighbour[:150].float().mean() < 0.65 and not with_neighbour[150:].any()


@pytest.mark.usefixtures("ritm")
@pytest.mark.parametrize("wrapped", [False, True])
def test_fast_disks_are_the_stock_disks(wrapped):
    net = build_host()
    if wrapped:
        net = fdrn_adapter.wrap(net, encoder="hrnet18s")
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(0, 33, (4, 6, 3), generator=generator).float()
    points[0, 4:] = points[1, :3] = -1
    image = torch.rand(4, 4, 40, 33, generator=generator)
    stock = disks.click_maps(net)
    wanted, outputs = stock(image, points), net(image, points)["instances"]
    assert 0 < wanted.mean() < 1
    with disks.fast_click_maps(net) as fast:
        assert fast is disks.click_maps(net) and fast is not stock
        assert torch.equal(fast(image, points), wanted)
        assert torch.equal(net(image, points)["instances"], outputs)
    assert disks.click_maps(net) is stock


@pytest.mark.usefixtures("ritm")
def test_other_click_maps_stay():
    net = build_host(use_disks=False)
    with disks.fast_click_maps(net) as maps:
        assert maps is net.dist_maps and not isinstance(maps, disks.FastDisks)
