"""Pictures as training takes them, and embeddings that are kept."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import sam_graphs
from support.training_fixtures import write_folder

from fdrn_adapter.evaluation.datasets.for_training import open_images, open_pictures
from fdrn_adapter.output_folders import LOCK, checksum
from fdrn_adapter.training.batched import embeddings
from fdrn_adapter.training.batched.pictures import MOST_OBJECTS, SIDE, VOID, Picture, keep
from fdrn_adapter.workers import Workers


def labels_of(folder, number=0):
    return open_pictures(str(folder))[number].labels()


# -- one rule with the evaluation --------------------------------------------------------------


def test_instances_and_masks_give_the_same_objects(tmp_path):
    instances = write_folder(tmp_path / "a", count=2)
    masks = tmp_path / "b"
    shutil.copytree(instances / "images", masks / "images")
    (masks / "masks").mkdir()
    for path in (instances / "instances").iterdir():
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for label in (1, 2):
            cv2.imwrite(str(masks / "masks" / f"{path.stem}_{label}.png"),
                        255 * (stored == label).astype(np.uint8))
    for number in (0, 1):
        labels = labels_of(instances, number)
        assert set(np.unique(labels)) == {0, 1, 2} and labels.dtype == np.int32
        np.testing.assert_array_equal(labels, labels_of(masks, number))


def test_void_stays_and_small_objects_lie_above(tmp_path):
    folder = write_folder(tmp_path / "a", count=1)
    stored = np.zeros((120, 160), np.uint8)
    stored[10:60, 10:60], stored[60:64, 10:60], stored[80:90, 80:90] = 7, 255, 9
    cv2.imwrite(str(folder / "instances" / "0.png"), stored)
    labels = labels_of(folder)
    assert np.unique(labels).tolist() == [-1, 0, 1, 2]
    assert labels[30, 30] == 1 and labels[61, 30] == -1 and labels[85, 85] == 2
    shutil.rmtree(folder / "instances")
    (folder / "masks").mkdir()
    large = np.full((120, 160), 255, np.uint8)
    small = np.zeros((120, 160), np.uint8)
    small[20:40, 20:40], small[40:50, 20:40] = 255, 128
    for number, mask in enumerate((small, large)):
        cv2.imwrite(str(folder / "masks" / f"0_{number}.png"), mask)
    labels = labels_of(folder)
    assert labels[30, 30] == 1 and labels[100, 100] == 2


def test_coco_json(tmp_path):
    pytest.importorskip("pycocotools")
    folder = write_folder(tmp_path / "a", count=1)
    stored = {
        "images": [{"id": 5, "file_name": "0.png", "height": 120, "width": 160}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 1, "iscrowd": 0,
             "segmentation": [[10, 10, 60, 10, 60, 50, 10, 50]]},
            {"id": 2, "image_id": 5, "category_id": 1, "iscrowd": 1,
             "segmentation": [[100, 10, 150, 10, 150, 50, 100, 50]]},
        ],
    }
    (folder / "c.json").write_text(json.dumps(stored))
    (picture,) = open_pictures(f"{folder / 'c.json'}")  # images/ beside it is found
    labels = picture.labels()
    assert np.unique(labels).tolist() == [-1, 0, 1] and labels[30, 30] == 1
    assert picture.image == folder / "images" / "0.png"
    stored["images"][0]["file_name"] = "9.png"
    (folder / "c.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"1 of its images are not in .*9.png.*=DIR"):
        open_pictures(f"{folder / 'c.json'}={folder}")


def test_several_data_sets_and_none(tmp_path):
    first, second = (write_folder(tmp_path / name, count=2) for name in "ab")
    found = open_pictures(f"{first}, folder:{second}")
    assert [p.source for p in found] == [0, 0, 1, 1]
    assert open_images(str(first / "images")) == [p.image for p in found[:2]]
    with pytest.raises(ValueError, match="names no data set"):
        open_pictures(" ,")
    with pytest.raises(ValueError, match="there is no folder"):
        open_pictures(str(tmp_path / "nowhere"))


def test_images_that_cannot_be_trained_on_are_named_when_data_is_opened(tmp_path, caplog):
    folder = write_folder(tmp_path / "a", count=3)
    (folder / "instances" / "1.png").rename(folder / "instances" / "of_1.png")
    assert [p.image.name for p in open_pictures(str(folder))] == ["0.png", "2.png"]
    assert "1 of 3 images are left out: there is no instance map for 1.png" in caplog.text
    caplog.clear()
    (folder / "instances").rename(folder / "masks")
    assert [p.image.name for p in open_pictures(str(folder))] == ["0.png", "2.png"]
    assert "1 of 3 images are left out: 1.png has no mask" in caplog.text
    (folder / "masks").rename(folder / "instances")
    for path in (folder / "instances").iterdir():
        cv2.imwrite(str(path), np.zeros((120, 160), np.uint8))
    with pytest.raises(ValueError, match="no image can be trained on: the instance map has no obj"):
        open_pictures(str(folder))


def test_coco_without_objects(tmp_path):
    pytest.importorskip("pycocotools")
    (tmp_path / "c.json").write_text(json.dumps({
        "images": [{"id": 5, "file_name": "0.png", "height": 120, "width": 160}],
        "categories": [], "annotations": [],
    }))
    with pytest.raises(ValueError, match=r"c\.json: none of its images has an object"):
        open_pictures(f"{tmp_path / 'c.json'}={tmp_path}")


# -- kept pictures -----------------------------------------------------------------------------


def test_a_kept_picture(tmp_path):
    folder = write_folder(tmp_path / "a", count=1)
    (picture,) = open_pictures(str(folder))
    (tmp_path / "kept").mkdir()
    kept = keep(picture, tmp_path / "kept")
    pixels = kept.pixels()
    assert pixels.shape == (4, 384, SIDE) and pixels.dtype == np.uint8
    image = cv2.imread(str(picture.image))[..., ::-1]
    assert abs(pixels[:3].mean() - image.mean()) < 1
    labels = picture.labels()
    for label, r0, r1, c0, c1 in kept.objects:
        rows, cols = np.nonzero(labels == label)
        scale = SIDE / 160
        wanted = (rows.min(), rows.max() + 1, cols.min(), cols.max() + 1)
        assert abs(np.array([r0, r1 + 1, c0, c1 + 1]) - np.array(wanted) * scale).max() <= 2
        assert (pixels[3] == label)[r0 : r1 + 1, c0 : c1 + 1].sum() == (pixels[3] == label).sum()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "kept").iterdir()}
    assert len(before) == 2 and keep(picture, tmp_path / "kept") == kept
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "kept").iterdir()} == before
    mask = folder / "instances" / "0.png"
    cv2.imwrite(str(mask), np.where(labels == 1, 1, 0).astype(np.uint8))
    (changed,) = open_pictures(str(folder))
    assert len(keep(changed, tmp_path / "kept").objects) == 1  # edited masks are read again


def test_objects_beyond_the_labels_are_void_and_small_ones_none(tmp_path):
    labels = np.zeros((400, 400), np.int32)
    for number in range(300):
        row, col = 20 * (number // 20), 20 * (number % 20)
        labels[row : row + 12 + (number < 2), col : col + 12] = number + 1
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((400, 400, 3), np.uint8))
    picture = Picture("a", tmp_path / "a.png", lambda: labels, "")
    kept = keep(picture, tmp_path, min_share=0.0005)
    assert len(kept.objects) == MOST_OBJECTS and (kept.pixels()[3] == VOID).any()
    assert keep(picture, tmp_path, min_share=0.01).objects == ()


def test_labels_of_another_size(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 30, 3), np.uint8))
    picture = Picture("a", tmp_path / "a.png", lambda: np.ones((40, 31), np.int32), "")
    with pytest.raises(ValueError, match="a: the image has 40 rows and 30 columns, its labels 40"):
        keep(picture, tmp_path)


# -- embeddings --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return sam_graphs.embedder(tmp_path_factory.mktemp("encoder") / "encoder.onnx")


@pytest.fixture
def encoder(encoder_file):
    return embeddings.embedding_encoder(f"onnx:{encoder_file}")


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != LOCK}


def test_interrupted_and_resumed_is_the_same(tmp_path, encoder, monkeypatch):
    images = open_images(str(write_folder(tmp_path / "a", count=4)))
    whole = tmp_path / "whole"
    done = []
    assert embeddings.write_embeddings(encoder, images, whole, progress=done.append) == []
    assert done == [1, 2, 3, 4]
    assert len(contents(whole)) == 5

    class Killed(BaseException):
        pass

    calls, embed = [], embeddings.embed

    def stops(*args):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return embed(*args)

    monkeypatch.setattr(embeddings, "embed", stops)
    parts = tmp_path / "parts"
    with pytest.raises(Killed):
        embeddings.write_embeddings(encoder, images, parts)
    (parts / "half.npy.123.part").write_bytes(b"what kill -9 leaves")
    assert embeddings.write_embeddings(encoder, images, parts) == []
    assert len(calls) == 3 + 2  # two were there
    assert {k: v for k, v in contents(parts).items() if "part" not in k} == contents(whole)


def test_processes_write_the_same_files(tmp_path, encoder):
    images = open_images(str(write_folder(tmp_path / "a", count=3)))
    for name, count in (("one", 1), ("two", 2)):
        assert embeddings.write_embeddings(encoder, images, tmp_path / name, Workers(count)) == []
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_tasks_of_ray_write_the_same_files(tmp_path, encoder, monkeypatch):
    """The folder is named from here, and Ray is begun and ended by the workers."""
    ray = pytest.importorskip("ray")
    images = open_images(str(write_folder(tmp_path / "a", count=3)))
    assert embeddings.write_embeddings(encoder, images, tmp_path / "one") == []
    monkeypatch.chdir(tmp_path)
    assert embeddings.write_embeddings(encoder, images, Path("ray"), Workers(ray="")) == []
    assert contents(tmp_path / "one") == contents(tmp_path / "ray")
    assert not ray.is_initialized()


def test_what_is_read_is_what_a_session_encodes(tmp_path, encoder):
    (image,) = open_images(str(write_folder(tmp_path / "a", count=1)))
    embeddings.write_embeddings(encoder, [image], tmp_path / "e")
    reader = embeddings.Embeddings(tmp_path / "e", encoder)
    key = checksum(image)
    assert key in reader and "0" * 64 not in reader and reader.check() == []
    pixels = cv2.imread(str(image))[..., ::-1].copy()
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted = encoder(x).maps["embedding"][0].half().numpy()
    assert wanted.shape == (96, 48, 64) and np.array_equal(reader.of(key), wanted)
    with pytest.raises(ValueError, match="has no embedding of the image with sha256 0000"):
        reader.of("0" * 64)
    file = tmp_path / "e" / f"{key}.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert reader.check() == [file.name]
    np.save(file, np.zeros((3, 3), np.float16))
    with pytest.raises(ValueError, match="the manifest says float16"):
        reader.of(key)


def test_embeddings_of_another_encoder(tmp_path, encoder):
    (image,) = open_images(str(write_folder(tmp_path / "a", count=1)))
    embeddings.write_embeddings(encoder, [image], tmp_path / "e")
    file = sam_graphs.embedder(tmp_path / "other.onnx", seed=1)
    other = embeddings.embedding_encoder(f"onnx:{file}")
    for use in (lambda: embeddings.Embeddings(tmp_path / "e", other),
                lambda: embeddings.write_embeddings(other, [image], tmp_path / "e")):
        with pytest.raises(ValueError, match="another encoder .onnx:encoder.onnx there, onnx:oth"):
            use()
    moved = embeddings.embedding_encoder(
        f"onnx:{shutil.copy(encoder.backbone.path, tmp_path / 'moved.onnx')}"
    )
    assert checksum(image) in embeddings.Embeddings(tmp_path / "e", moved)
    with pytest.raises(ValueError, match="write embeddings with"):
        embeddings.Embeddings(tmp_path / "nowhere", encoder)


def test_images_that_cannot_be_read_are_named(tmp_path, encoder):
    (tmp_path / "a.png").write_text("hello")
    (line,) = embeddings.write_embeddings(encoder, [tmp_path / "a.png"], tmp_path / "e")
    assert "a.png" in line and "not an image" in line


def test_encoders_without_embedding():
    with pytest.raises(ValueError, match="only embeddings are kept"):
        embeddings.embedding_encoder("hrnet18s")
