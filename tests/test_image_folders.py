"""Which mask is which image's: the same in training and evaluation, and nothing left out unsaid."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from fdrn_adapter.evaluation import datasets
from fdrn_adapter.image_folders import Masks, names_of, printable

PACKAGE = "ritm_annotation"


def made(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


@pytest.mark.parametrize(("images", "masks", "expected"), [
    # an image's own mask is nobody else's
    (["frame.jpg", "frame_1.jpg", "frame_2.jpg"], ["frame_1.png", "frame_2.png"],
     [[], ["frame_1.png"], ["frame_2.png"]]),
    (["a.jpg"], ["a_1.png", "a_2.png", "b_1.png"], [["a_1.png", "a_2.png"]]),
    (["a.b.jpg", "a.jpg"], ["a.png"], [[], ["a.png"]]),
    (["a.b.jpg"], ["a.png", "a.b.png"], [["a.b.png"]]),
    (["a.b.jpg"], ["a.png"], [["a.png"]]),  # the stock rule
    (["a.jpg", "a_mask.jpg"], ["a_mask.png"], [[], ["a_mask.png"]]),
    (["a.webp", "b.JPG", "c.tif"], ["a_mask.png", "b.PNG", "c_gt.bmp"],
     [["a_mask.png"], ["b.PNG"], ["c_gt.bmp"]]),
    (["a.jpg"], ["a.jpg", "a.png"], [["a.png"]]),  # the lossless one
    (["a.jpg"], ["b.png"], [[]]),
])
def test_masks_are_found_by_name(images, masks, expected, tmp_path):
    files, _ = made(tmp_path / "i", *images), made(tmp_path / "m", *masks)
    found = Masks(tmp_path / "m", files)
    assert [[p.name for p in found.all_of(path)] for path in files] == expected


@pytest.mark.parametrize(("spec", "images", "masks", "more"), [
    ("folder:{}", "images", "masks", "a_1.png, a_2.png"),
    ("folder:{}", "images", "instances", ""),
    ("GrabCut={}", "data_GT", "boundary_GT", ""),
])
def test_masks_of_other_names_than_the_images_are_told_at_once(
    spec, images, masks, more, tmp_path
):
    made(tmp_path / images, "a.jpg", "b.jpg")
    made(tmp_path / masks, "mask_a.png", "mask_b.png", "c_1.png")
    with pytest.raises(ValueError, match="None of the 2 images") as caught:
        datasets.open_dataset(spec.format(tmp_path))
    said = str(caught.value)
    assert f"in {tmp_path / images} has a mask in {tmp_path / masks}: " in said
    assert "no mask is named like a.jpg, and no image like c_1.png. Expected are a.png, or " in said
    assert (more in said) if more else ("_1.png, " not in said)
    for path in (tmp_path / masks).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="there is no picture in that folder"):
        datasets.open_dataset(spec.format(tmp_path))


@pytest.mark.usefixtures("ritm")
def test_training_in_a_checkout_tells_it_as_well(tmp_path):
    from fdrn_adapter import training

    picture(tmp_path / "images" / "a.jpg")
    label_map(tmp_path / "instances" / "mask_a.png")
    with pytest.raises(ValueError, match=r"like a\.jpg, and .*mask_a\.png\. .*a_1\.png, a_2"):
        training.instance_folder(PACKAGE, tmp_path)


def test_names_stand_once():
    assert names_of([Path("a.jpg"), Path("b.jpg")]) == ["a", "b"]
    assert names_of([Path("a.jpg"), Path("a.png"), Path("b.png")]) == ["a.jpg", "a.png", "b"]


def picture(path: Path, value: int = 90, shape=(40, 50, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def label_map(path: Path, shape=(40, 50)) -> None:
    labels = np.zeros(shape, np.uint8)
    labels[5:25, 5:25] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), labels)


def test_frames_are_evaluated_with_their_own_masks(tmp_path):
    for name in ("frame", "frame_1", "frame_2"):
        picture(tmp_path / "images" / f"{name}.jpg")
    for name in ("frame_1", "frame_2"):
        label_map(tmp_path / "masks" / f"{name}.png")
    data = datasets.open_dataset(f"folder:{tmp_path}")
    assert data.ids == ["frame", "frame_1", "frame_2"]
    assert [item.mask and item.mask.stem for item in data.items] == [None, "frame_1", "frame_2"]


@pytest.mark.usefixtures("ritm")
def test_training_uses_what_evaluation_uses_and_says_what_it_leaves_out(tmp_path, caplog):
    """Two of eight masks used to be used, without a word."""
    from fdrn_adapter import training

    suffixes = [".png", ".PNG", ".tif", ".bmp", "_mask.png", "_gt.png"]
    for i, suffix in enumerate(suffixes):
        picture(tmp_path / "images" / f"n{i}{'.webp' if i % 2 else '.jpg'}")
        label_map(tmp_path / "instances" / f"n{i}{suffix}")
    picture(tmp_path / "images" / "alone.jpg")
    picture(tmp_path / "images" / "empty.jpg")
    cv2.imwrite(str(tmp_path / "instances" / "empty.png"), np.zeros((40, 50), np.uint8))
    picture(tmp_path / "images" / "broken.jpg")
    (tmp_path / "instances" / "broken.png").write_bytes(b"not a picture")
    used = training.instance_folder(PACKAGE, tmp_path).dataset_samples
    assert [image.stem for image, _ in used] == [f"n{i}" for i in range(6)]
    assert "6 of 9 images used" in caplog.text
    for part in ("1 without a mask (alone.jpg)", "without an object", "(empty.jpg)",
                 "broken.png is not an image", "(broken.jpg)"):
        assert part in caplog.text
    evaluated = [i for i in datasets.open_dataset(f"folder:{tmp_path}").items if not i.problem]
    assert [i.image for i in evaluated] == [image for image, _ in used]
    assert [[i.mask] for i in evaluated] == [masks for _, masks in used]


@pytest.mark.usefixtures("ritm")
def test_training_names_maps_that_are_none(tmp_path):
    from fdrn_adapter import training

    picture(tmp_path / "images" / "a.jpg")
    hard = np.zeros((60, 80), np.uint8)
    cv2.circle(hard, (40, 30), 20, 255, -1)
    (tmp_path / "instances").mkdir()
    cv2.imwrite(str(tmp_path / "instances" / "a.jpg"), hard)
    with pytest.raises(ValueError, match=r"None of the 1 images .*lossy format"):
        training.instance_folder(PACKAGE, tmp_path)


@pytest.mark.usefixtures("ritm")
def test_masks_of_one_object_each_are_one_map_in_training(tmp_path):
    from fdrn_adapter import training

    picture(tmp_path / "images" / "a.jpg")
    for i, rows in enumerate((slice(0, 10), slice(20, 30)), 1):
        mask = np.zeros((40, 50), np.uint8)
        mask[rows] = 255
        (tmp_path / "instances").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "instances" / f"a_{i}.png"), mask)
    sample = training.instance_folder(PACKAGE, tmp_path).get_sample(0)
    assert len(sample.objects_ids) == 2
    assert np.unique(sample._encoded_masks[..., 0][5]).tolist() == [1]


@pytest.mark.usefixtures("ritm")
def test_one_unreadable_image_does_not_end_training(tmp_path, caplog):
    from fdrn_adapter import training

    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png", 50 + i)
        label_map(tmp_path / "instances" / f"{i}.png")
    data = training.instance_folder(PACKAGE, tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"torn")
    values = [data.get_sample(i).image[0, 0, 0] for i in (0, 1, 2, 1)]
    assert values == [50, 52, 52, 52]
    assert caplog.text.count("left out") == 1 and "1.png is not an image" in caplog.text
    for i in (0, 2):
        (tmp_path / "images" / f"{i}.png").write_bytes(b"torn")
    with pytest.raises(ValueError, match="None of the images"):
        data.get_sample(0)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are text")
def test_names_that_are_no_text(tmp_path, capsys):
    """One such file used to end the benchmark, without its name."""
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(UnicodeEncodeError):
        name.encode()
    picture(tmp_path / "images" / "x.png")
    (tmp_path / "images" / "x.png").rename(tmp_path / "images" / f"{name}.png")
    picture(tmp_path / "images" / "y.png")
    (tmp_path / "images" / "y.png").rename(tmp_path / "images" / f"{name}2.png")
    label_map(tmp_path / "masks" / "x.png")
    (tmp_path / "masks" / "x.png").rename(tmp_path / "masks" / f"{name}.png")
    data = datasets.open_dataset(f"x=folder:{tmp_path}")
    assert data.ids == ["caf\\xe9", "caf\\xe92"]
    "\n".join(data.ids).encode()
    assert data.load(0).mask.any()
    with pytest.raises(datasets.BadSampleError, match="no mask for") as caught:
        data.load(1)
    caught.value.reason.encode()
    assert printable("käse") == "käse"


def test_commas_in_paths(tmp_path):
    assert datasets.split_specs(r"a=folder:/x\,y, GrabCut=/z,") == ["a=folder:/x,y", "GrabCut=/z"]
    picture(tmp_path / "a,b" / "images" / "x.png")
    label_map(tmp_path / "a,b" / "masks" / "x.png")
    spec = datasets.split_specs(f"x=folder:{tmp_path}/a\\,b")
    assert datasets.open_dataset(spec[0]).load(0).mask.any()
    with pytest.raises(ValueError, match=r"A comma in a path is written \\,"):
        datasets.open_dataset(f"{tmp_path}/a")
