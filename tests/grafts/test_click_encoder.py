"""Current click against history."""

import pytest
import torch
from support.networks import build_host, make_points

from fdrn_adapter.grafts.click_encoder import (
    BULK_ORDER,
    DecoupledClickEncoder,
    DecoupledClickMaps,
    split_current_click,
)

PAD = [-1.0, -1.0, -1.0]
BULK = BULK_ORDER


def split(positive, negative=()):
    current, history = split_current_click(make_points(positive, negative))
    return current[0].tolist(), history[0].tolist()


def test_ranked_points_the_latest_is_current():
    current, history = split([[1, 2, 0], [3, 4, 2]], [[5, 6, 1]])
    assert current == [[3, 4, 2], PAD]
    assert history == [[1, 2, 0], PAD, [5, 6, 1], PAD]
    current, history = split([[1, 2, 0], [3, 4, 1]], [[5, 6, 2]])
    assert current == [PAD, [5, 6, 2]]
    assert history == [[1, 2, 0], [3, 4, 1], PAD, PAD]


def test_bulk_points_the_last_valid_positive_is_current():
    current, history = split([[1, 2, BULK], [3, 4, BULK]], [[5, 6, BULK]])
    assert current == [[3, 4, BULK], PAD]
    assert history == [[1, 2, BULK], PAD, [5, 6, BULK], PAD]
    current, history = split([], [[5, 6, BULK], [7, 8, BULK]])
    assert current == [PAD, [7, 8, BULK]]
    assert history == [PAD, PAD, [5, 6, BULK], PAD]


def test_mixed_a_ranked_point_beats_bulk():
    current, history = split([[1, 2, BULK], [3, 4, BULK]], [[5, 6, 0], [7, 8, BULK]])
    assert current == [PAD, [5, 6, 0]]
    assert history == [[1, 2, BULK], [3, 4, BULK], PAD, [7, 8, BULK]]


def test_single_click_and_all_padding():
    assert split([[0, 0, 0]]) == ([[0, 0, 0], PAD], [PAD, PAD])
    assert split([]) == ([PAD, PAD], [PAD, PAD])
    assert split([[1, 2, 99]], [[5, 6, 98]])[0] == [[1, 2, 99], PAD]


def test_batch_of_different_counts_and_integer_points():
    rows = [
        make_points([[1, 2, 0], [3, 4, 1]], [[5, 6, 2]]),
        make_points([[1, 2, 0], PAD], [PAD, PAD]),
        make_points([PAD, PAD], [PAD, PAD]),
        make_points([[1, 2, BULK], [9, 9, BULK]], [[5, 6, BULK], PAD]),
    ]
    batch = torch.cat(rows).long()
    current, history = split_current_click(batch)
    assert current.dtype == torch.int64
    for i, row in enumerate(rows):
        alone = split_current_click(row.long())
        assert torch.equal(current[i], alone[0][0]) and torch.equal(history[i], alone[1][0])


def test_every_valid_point_is_in_exactly_one_part():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        points = torch.randint(0, 50, (4, 12, 3), generator=generator).float()
        points[torch.rand(4, 12, generator=generator) < 0.4] = -1
        points[..., 2][torch.rand(4, 12, generator=generator) < 0.5] = BULK
        points[points[..., 0] < 0] = -1
        current, history = split_current_click(points)
        for b in range(4):
            every = sorted(p for p in points[b].tolist() if p[0] >= 0)
            parts = [p for p in current[b].tolist() + history[b].tolist() if p[0] >= 0]
            assert sorted(parts) == every
            assert sum(p[0] >= 0 for p in current[b].tolist()) == min(1, len(every))


def test_maps_are_the_hosts_disks(ritm):
    host = build_host("tiny")
    maps = DecoupledClickMaps(host.dist_maps)
    x = torch.zeros(1, 3, 40, 50)
    points = make_points([[10, 10, 0], [12, 13, 2]], [[30, 30, 1]])
    everything, (current_pos, current_neg), (history_pos, history_neg) = maps(x, points)[0].split(2)
    assert current_pos.sum() == history_pos.sum() == history_neg.sum() == 81  # radius 5
    assert current_pos[12, 13] == 1 and current_pos[10, 7] == 0 and current_neg.sum() == 0
    together = host.dist_maps(x, points)[0]
    assert torch.equal(everything, together)
    assert torch.equal(torch.maximum(current_pos, history_pos), together[0])
    assert torch.equal(torch.maximum(current_neg, history_neg), together[1])
    assert maps(x, make_points([])).sum() == 0


def test_current_and_history_go_through_their_own_weights(ritm):
    host = build_host("tiny")
    encoder = DecoupledClickEncoder(host.maps_transform, 64, identity=False)
    coords = torch.zeros(1, 7, 32, 32)
    coords[:, [1, 3], 8:12, 8:12] = 1  # a current click
    swapped = coords[:, [0, 1, 2, 5, 6, 3, 4]]  # the same as history
    assert not torch.allclose(encoder(coords), encoder(swapped))
    with torch.no_grad():
        encoder.history[0].weight.mul_(2)
    before = encoder(coords).detach()
    with torch.no_grad():
        encoder.current[0].weight.mul_(2)
    assert not torch.allclose(encoder(coords), before)


@pytest.mark.parametrize("channels", [1, 0])
def test_shapes_with_and_without_previous_mask(channels, ritm):
    host = build_host("tiny", with_prev_mask=bool(channels))
    encoder = DecoupledClickEncoder(host.maps_transform, 64, identity=True)
    assert encoder(torch.rand(2, 6 + channels, 32, 48)).shape == (2, 64, 16, 24)
