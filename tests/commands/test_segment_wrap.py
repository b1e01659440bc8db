"""`fdrn segment` and `fdrn wrap`: files in, files out, and mistakes told."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.networks import build_host, make_input, make_points
from support.stock import NARROW, picture, taught_host

import fdrn_adapter
from fdrn_adapter import cli
from fdrn_adapter.coco import read_coco
from fdrn_adapter.commands import segment
from fdrn_adapter.model.inference import LEAST_CROP
from fdrn_adapter.serving import models
from fdrn_adapter.zoo import named


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    pytest.importorskip("ritm_annotation")
    path = tmp_path_factory.mktemp("models") / "fdrn.pth"
    fdrn_adapter.save(fdrn_adapter.wrap(taught_host("tiny"), init="paper", **NARROW), path)
    return path


@pytest.fixture
def photo(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), picture()[..., ::-1])
    return tmp_path / "photo.png"


def by_session(checkpoint, begin):
    session = fdrn_adapter.InteractiveSession(fdrn_adapter.load(checkpoint), crop=64)
    session.set_image(picture())
    begin(session)
    return session.mask


def run(checkpoint, photo, *arguments):
    return cli.main(["segment", str(photo), "--model", str(checkpoint), "--crop", "64", *arguments])


def test_clicks_of_both_signs_in_their_order(checkpoint, photo, capsys):
    out = photo.with_name("mask.png")
    clicks = ["--click", "96,72", "--click", "-200,100", "--click", "100.4,80"]
    assert run(checkpoint, photo, *clicks, "--out", str(out)) == 0
    want = by_session(checkpoint, lambda s: s.add_clicks(
        [(96, 72, True), (200, 100, False), (100, 80, True)]))
    stored = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, want * 255) and want.any()
    assert f"{want.sum()} of {want.size} pixels" in capsys.readouterr().out


@pytest.mark.filterwarnings("error:The network was trained for crops")
def test_the_network_says_at_what_crop_it_is_used(checkpoint, photo, monkeypatch):
    """Whatever the zoo has for its kind."""
    def opened(source, root=None, seed=0):
        model = fdrn_adapter.load(checkpoint)
        model.inference = {"crop": 64, "threshold": 0.5}
        return named.NamedNetwork(model, True, (96, 96))

    monkeypatch.setattr(named, "open_network", opened)
    out = photo.with_name("mask.png")
    assert cli.main(["segment", str(photo), "--click", "96,72", "--out", str(out)]) == 0
    want = by_session(checkpoint, lambda s: s.add_click(96, 72))
    assert np.array_equal(cv2.imread(str(out), cv2.IMREAD_UNCHANGED) > 0, want) and want.any()
    mask, _ = models.open_model("any").bridge.predict(picture(), [(96, 72)])
    assert np.array_equal(mask, want)


def test_boxes_masks_and_annotation_files(checkpoint, photo):
    pytest.importorskip("pycocotools")
    coco = photo.with_name("coco.json")
    boxed = photo.with_name("boxed.png")
    assert run(checkpoint, photo, "--box", "150,90,239,159", "--out", str(boxed)) == 0
    want = by_session(checkpoint, lambda s: s.set_box(150, 90, 239, 159))
    assert np.array_equal(cv2.imread(str(boxed), cv2.IMREAD_UNCHANGED), want * 255)
    assert run(checkpoint, photo, "--click", "96,72", "--out", str(coco)) == 0
    (image,) = read_coco(coco)
    want = by_session(checkpoint, lambda s: s.add_click(96, 72))
    assert image.file_name == "photo.png" and np.array_equal(image.objects[0].mask(), want)
    mask = np.zeros((160, 240), np.uint8)
    mask[50:90, 80:120] = 255
    cv2.imwrite(str(photo.with_name("start.png")), mask)
    out = photo.with_name("labelme.json")
    assert run(checkpoint, photo, "--mask", str(photo.with_name("start.png")), "--out", str(out),
               "--format", "labelme", "--label", "cat") == 0
    (shape,) = json.loads(out.read_text())["shapes"]
    assert shape["label"] == "cat" and shape["points"] == [[80, 50], [80, 90], [120, 90], [120, 50]]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--out", "m.png"], "Say where the object is"),
    (["--out", "m.gif", "--click", "1,1"], ".png or a .json"),
    (["--out", "no/folder/m.png", "--click", "1,1"], "no folder"),
    (["--out", "m.png", "--click", "999,1"], "outside the image"),
    (["--out", "m.png", "--box", "1,1,9,9", "--mask", "x.png"], "not from both"),
])
def test_mistakes_of_segment(checkpoint, photo, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(photo.parent)
    assert run(checkpoint, photo, *arguments) == 2
    assert message in capsys.readouterr().err and not photo.with_name("m.png").exists()


@pytest.mark.parametrize("crop", ["0", "31", "99999", "-64", "many"])
@pytest.mark.parametrize("command", [
    ["segment", "x.png", "--out", "m.png", "--click", "1,1"], ["annotate", "DIR"], ["serve"],
    ["labelme"], ["export", "--model", "M", "--out", "DIR"],
], ids=lambda words: words[0])
def test_crops_that_are_none(command, crop, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command, f"--crop={crop}"])
    said = f"a crop has a side of {LEAST_CROP} to 4096 pixels; got '{crop}'"
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_place_that_takes_no_file_is_told_first(photo, stock, tmp_path, monkeypatch, capsys):
    full = tmp_path / "full"
    full.mkdir()
    touch = Path.touch

    def refuse(path, *args, **kwargs):  # root may write anywhere
        if path.parent == full:
            raise PermissionError(13, "Permission denied")
        touch(path, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", refuse)
    model = str(tmp_path / "net.pth")
    Path(model).write_bytes(b"could not be loaded")
    png = str(full / "m.png")
    assert cli.main(["segment", str(photo), "--model", model, "--click", "1,1", "--out", png]) == 2
    assert f"--out {png} cannot be written (Permission denied)" in capsys.readouterr().err
    assert cli.main(["wrap", model, str(full / "out.pth")]) == 2
    assert f"{full / 'out.pth'} cannot be written" in capsys.readouterr().err
    assert not list(full.iterdir())


@pytest.mark.parametrize("text", ["5", "a,b", "1,2,3", "-", ""])
def test_clicks_that_are_none(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["segment", "x.png", "--out", "m.png", f"--click={text}"])
    assert "a click is X,Y or -X,Y" in capsys.readouterr().err
    assert segment.click_of("-0,5") == (0, 5, False)


@pytest.fixture
def stock(tmp_path, ritm):
    host = build_host("tiny")
    fdrn_adapter.save(host, tmp_path / "stock.pth")
    return tmp_path / "stock.pth"


@torch.no_grad()
def test_a_wrapped_checkpoint_computes_what_the_stock_one_does(stock, capsys):
    out = stock.with_name("fdrn.pth")
    assert cli.main(["wrap", str(stock), str(out), "--encoder", "hrnet18s", "--b-high", "1",
                     "--b-low", "0"]) == 0
    printed = capsys.readouterr().out
    assert "fdrn.pth: host=" in printed and "b_low=0" in printed and len(printed) < 800
    model, host = fdrn_adapter.load(out), fdrn_adapter.load(stock)
    assert model.is_fdrn and not hasattr(host, "is_fdrn")
    inputs = make_input(), make_points([[30, 40, 0]])
    assert (model(*inputs)["instances"] - host(*inputs)["instances"]).abs().max() < 1e-5


def test_widths_and_direction_of_the_modules(stock):
    out = stock.with_name("fdrn.pth")
    assert cli.main(["wrap", str(stock), str(out), "--encoder", "hrnet18s", "--affinity", "literal",
                     "--value-channels", "host", "--shortcut-kernel", "1", "--norms"]) == 0
    settings = fdrn_adapter.load(out).settings
    assert (settings.affinity, settings.value_channels, settings.shortcut_kernel,
            settings.norms) == ("literal", None, 1, True)


def test_mistakes_of_wrap(stock, capsys):
    out = stock.with_name("fdrn.pth")
    for arguments, message in [
        (["none.pth", str(out)], "There is no checkpoint"),
        ([str(stock), str(stock)], "is the stock checkpoint itself"),
        ([str(stock), str(stock.parent / "no" / "f.pth")], "no folder"),
        ([str(stock), str(out), "--b-high", "9"], "b_high"),
    ]:
        assert cli.main(["wrap", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()
    assert cli.main(["wrap", str(stock), str(out)]) == 0


def test_what_is_an_fdrn_already_is_used_as_it_is(checkpoint, tmp_path, capsys):
    """By other commands of the command line, not by Python's unwrap."""
    out = tmp_path / "twice.pth"
    assert cli.main(["wrap", str(checkpoint), str(out)]) == 2
    said = capsys.readouterr().err
    assert f"{checkpoint} holds an FDRN already" in said and "unwrap" not in said
    for command in ("segment IMAGE", "annotate DIR", "train"):
        assert f"`fdrn {command} --model {checkpoint}" in said
    assert f"fdrn benchmark --models {checkpoint}" in said and not out.exists()


def test_wrap_takes_files(stock, capsys):
    assert cli.main(["wrap", "distilled-hrnet18s", "out.pth"]) == 2
    said = capsys.readouterr().err
    assert "distilled-hrnet18s is a name of the zoo" in said
    assert "`fdrn train --model distilled-hrnet18s" in said
    assert cli.main(["wrap", "RITM-hrnet18", "out.pth"]) == 2
    said = capsys.readouterr().err
    assert "the file of a stock checkpoint" in said and "nothing to wrap" not in said
    assert cli.main(["wrap", str(stock.parent), "out.pth"]) == 2
    assert f"is a folder; pass the file of a stock checkpoint. Did you mean '{stock}'?" in \
        capsys.readouterr().err
