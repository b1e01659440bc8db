"""The gallery: five photographs, clicks inside them, a picture."""

from types import SimpleNamespace

import cv2
import pytest
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter import cli, zoo
from fdrn_adapter.timing import gallery

pytest.importorskip("skimage")


def test_clicks_lie_on_the_photographs():
    photos = gallery.photographs()
    assert len(photos) == 5
    for image, clicks in photos.values():
        assert image.ndim == 3 and image.dtype == "uint8"
        assert {c.positive for c in clicks} == {True, False}
        assert all(0 <= c.x < image.shape[1] and 0 <= c.y < image.shape[0] for c in clicks)


def test_gallery_draws_every_network(ritm, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    models = {
        "distilled-hrnet18s": fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s").eval(),
        "lite-ritm": build_host("tiny"),
    }
    monkeypatch.setattr(zoo, "load", models.__getitem__)
    out = tmp_path / "gallery.png"
    assert cli.main(["gallery", "--models", ",".join(models), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 2 * picture.shape[0] and picture.std() > 20


def test_masks_after_some_clicks_side_by_side(ritm, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s").eval()
    named = SimpleNamespace(model=model, crop=64)
    monkeypatch.setattr("fdrn_adapter.zoo.named.open_network", lambda name: named)
    out = tmp_path / "clicks.png"
    assert cli.main(["gallery", "--clicks", "1,3", "--out", str(out)]) == 0
    picture = cv2.imread(str(out))
    assert picture.shape[0] > 1.1 * picture.shape[1] and picture.std() > 20  # 3 rows of 2
    masks = gallery.stages(model, 64, [1, 3])
    assert [len(found) for found in masks.values()] == [2, 2, 2]
    assert any((first != third).any() for first, third in masks.values())


@pytest.mark.parametrize("numbers", ["3,1", "0,1", "1,99", "1,x", ""])
def test_numbers_of_clicks_rise(ritm, monkeypatch, capsys, numbers):
    named = SimpleNamespace(model=None, crop=64)
    monkeypatch.setattr("fdrn_adapter.zoo.named.open_network", lambda name: named)
    assert cli.main(["gallery", f"--clicks={numbers},"]) == 2
    assert "clicks" in capsys.readouterr().err


def test_untrained_networks_are_refused(capsys):
    assert cli.main(["gallery", "--models", "H2-hrnet18s"]) == 2
    assert "no trained weights" in capsys.readouterr().err


def test_a_bad_place_is_told_before_anything_is_computed(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(gallery, "masks_of", lambda names: pytest.fail("it computes"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "a.png", tmp_path, tmp_path / "a.txt", tmp_path / "none"):
        assert cli.main(["gallery", "--out", str(out)]) == 2
        assert "--out" in capsys.readouterr().err
