"""The schedule of the light recipe: crops, learning rate, and when clicks become corrections."""

import pytest
from support.training_fixtures import PACKAGE

from fdrn_adapter.training import lite


@pytest.mark.parametrize("epochs", [1, 2, 5, 30])
def test_the_learning_rate_starts_low_and_never_ends(epochs):
    recipe = lite.Lite()
    factors = [recipe.lr_factor(epoch, epochs) for epoch in range(epochs)]
    assert factors[0] == 0.5
    assert all(0 < factor <= 1 for factor in factors)


def test_corrections_are_learnt_at_a_rate_of_their_own():
    recipe = lite.Lite()
    factors = [recipe.lr_factor(epoch, 30) for epoch in range(30)]
    start = recipe.first_correction(30)
    assert start == 18
    assert factors[1] > 0.98
    assert factors[1:start] == sorted(factors[1:start], reverse=True)
    assert factors[start - 1] == pytest.approx(0.02)  # the first cosine has come to its end
    assert factors[start] == pytest.approx(0.4)
    assert factors[start:] == sorted(factors[start:], reverse=True) and factors[-1] < 0.04


def test_without_corrections_one_cosine_takes_all_epochs():
    recipe = lite.Lite(corrections_from=1)
    assert recipe.first_correction(4) == 4
    assert recipe.lr_factor(3, 4) == pytest.approx(0.02)


def test_crops_grow_once():
    recipe = lite.Lite(small_crop=64, large_crop=96, large_from=0.5)
    assert [recipe.crop_at(epoch, 4) for epoch in range(4)] == [(64, 64)] * 2 + [(96, 96)] * 2


@pytest.mark.usefixtures("ritm")
def test_few_first_clicks_are_mostly_one_in_the_middle():
    few, many = (lite.point_sampler(PACKAGE, few) for few in (True, False))
    assert few.max_num_points == many.max_num_points == lite.NUM_MAX_POINTS
    assert few.first_click_center and not many.first_click_center
    assert few._pos_probs[0] > 0.85 > many._pos_probs[0]
