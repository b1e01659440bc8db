"""Sessions and predictors use a network as it was trained to be used."""

import numpy as np
import pytest
import torch
from support.networks import as_array, build_host, make_object, teach

import fdrn_adapter
from fdrn_adapter import InteractiveSession
from fdrn_adapter.session.clicked_disks import disk_at
from fdrn_adapter.session.pipeline import stock_predictor

CROP = 64


@pytest.fixture(scope="module")
def model():
    host = build_host()
    teach(host, *make_object(300, 400))
    return fdrn_adapter.wrap(host, b_low=1, b_high=1, encoder="hrnet18s").eval()


@pytest.fixture
def image():
    return as_array(make_object(300, 400)[0])


@pytest.fixture
def trained(model):
    model.inference = {"crop": CROP, "threshold": 0.4}
    yield model
    model.inference = None


def crops_of(session, monkeypatch):
    """Rows and columns of what the network sees, by click."""
    seen = []
    stock = session.pipeline.net

    class Watched:
        def __call__(self, crop, points):
            seen.append((tuple(crop.shape[2:]), crop[:, 3:].abs().sum().item()))
            return stock(crop, points)

        def __getattr__(self, name):
            return getattr(stock, name)

    monkeypatch.setattr(session.pipeline, "net", Watched())
    return seen


def test_crop_and_threshold_are_the_trained_ones(trained, image, monkeypatch):
    session = InteractiveSession(trained, engine="eager")
    assert session.threshold == 0.4
    seen = crops_of(session, monkeypatch)
    session.set_image(image)
    session.add_click(160, 135, True)
    assert seen[0][0] == (CROP, CROP)


def test_another_crop_is_a_warning(trained):
    with pytest.warns(UserWarning, match="trained for crops of 64 pixels and is used at 96"):
        InteractiveSession(trained, engine="eager", crop=96)


def test_without_a_word_nothing_changes(model):
    session = InteractiveSession(model, engine="eager")
    assert (session.threshold, session.pipeline.crop) == (0.5, 288)
    assert not session.pipeline.first_twice and not session.pipeline.honour_clicks


def test_first_click_is_looked_at_twice(trained, image, monkeypatch):
    session = InteractiveSession(trained, engine="eager", first_twice=True)
    seen, stock = [], session.pipeline.net

    class FindsABox:
        """The network, but the first click finds a box: random weights find pixels everywhere."""

        def __call__(self, crop, points):
            seen.append((session.pipeline.recycled, crop))
            outputs = stock(crop, points)
            if len(seen) == 1:
                outputs["instances"] = torch.full_like(outputs["instances"], -5.0)
                outputs["instances"][..., 20:30, 24:34] = 5.0
            return outputs

        def __getattr__(self, name):
            return getattr(stock, name)

    monkeypatch.setattr(session.pipeline, "net", FindsABox())
    session.set_image(image)
    session.add_click(160, 135, True)
    assert len(seen) == 2
    second = seen[1][1]
    assert second[:, 3:].abs().sum() == 0  # as if nothing was known of the object
    # The box is rows 95 to 142 and columns 152 to 216; the stock zoom-in shows 200 pixels at least.
    rmin, rmax, cmin, cmax = session.pipeline.state.shown
    assert rmin > 0 and cmin > 40 and rmax < 250 and cmax < 320
    part = torch.from_numpy(image[rmin : rmax + 1, cmin : cmax + 1]).permute(2, 0, 1)[None] / 255
    wanted = torch.nn.functional.interpolate(
        part, (CROP, CROP), mode="bilinear", align_corners=True
    )
    assert torch.allclose(second[:, :3], wanted, atol=1e-5)
    session.add_click(20, 20, False)
    assert len(seen) == 3  # later clicks are looked at once
    session.undo()
    session.add_click(20, 20, False)
    assert len(seen) == 4


@pytest.mark.parametrize("positive", [True, False])
def test_pixels_under_clicks_are_as_clicked(trained, image, positive):
    plain = InteractiveSession(trained, engine="eager")
    honest = InteractiveSession(trained, engine="eager", honour_clicks=True)
    for session in (plain, honest):
        session.set_image(image)
        session.add_click(160, 135, positive)
    box, disk = disk_at(160, 135, 12, image.shape[:2])  # 2 px of the crop, 400 / 64 px each
    assert (honest.prob[box][disk] == positive).all()
    assert not (plain.prob[box][disk] == positive).all()
    outside = np.ones(image.shape[:2], bool)
    outside[box] = ~disk
    assert np.array_equal(honest.prob[outside], plain.prob[outside])
    before = honest.prob.copy()
    honest.add_click(160, 135, not positive)  # the latest says what holds
    assert honest.prob[135, 160] == (not positive)
    honest.undo()
    assert np.array_equal(honest.prob, before)


def test_disks_at_borders():
    box, disk = disk_at(0, 2, 3, (4, 5))
    whole = np.zeros((4, 5), bool)
    whole[box][disk] = True
    wanted = [[(r - 2) ** 2 + c**2 <= 9 for c in range(5)] for r in range(4)]
    assert whole.tolist() == wanted


def test_stock_predictor_and_session_agree(trained, image):
    from ritm_annotation.inference.clicker import Click, Clicker

    trained.inference = {
        "crop": CROP, "first_twice": True, "honour_clicks": True, "threshold": 0.4
    }
    session = InteractiveSession(trained, engine="eager")
    predictor = stock_predictor(
        trained, trained.info, torch.device("cpu"), CROP, False, engine="eager"
    )
    predictor.set_input_image(image)
    session.set_image(image)
    session.click_like_stock_evaluation()
    clicker = Clicker()
    for x, y, positive in ((160, 135, True), (20, 270, False), (190, 120, True)):
        clicker.add_click(Click(positive, coords=(np.int64(y), np.int64(x))))
        session.add_click(x, y, positive)
        with torch.no_grad():
            got = predictor.get_prediction(clicker)
        assert np.allclose(got, session.prob, atol=1e-5)
        assert got[y, x] == positive
