"""Masks in files of other programs, read back by those programs' own readers."""

import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fdrn_adapter import coco
from fdrn_adapter.outlines import filled, outlines, polygons
from fdrn_adapter.serving.outputs import (
    NamedMask,
    coco_document,
    label_map_png,
    labelme_document,
    mask_png,
    palette,
    write_output,
)


def blobs(seed: int, rows: int = 60, cols: int = 80) -> np.ndarray:
    """A mask with several parts and holes, some of which touch at corners."""
    noise = np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.5) > 0.1


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def corner_cases():
    empty = np.zeros((5, 7), bool)
    one = empty.copy()
    one[2, 3] = True
    diagonal = np.eye(5, 7, dtype=bool)
    island = np.ones((7, 9), bool)
    island[1:6, 1:8] = False
    island[3, 4] = True
    return {"empty": empty, "full": ~empty, "one pixel": one, "diagonal": diagonal,
            "island in a hole": island, "checkers": np.indices((6, 6)).sum(0) % 2 == 0}


@pytest.mark.parametrize("name", corner_cases())
def test_outlines_are_the_mask_to_the_pixel(name):
    mask = corner_cases()[name]
    rings = [ring for border, holes in outlines(mask) for ring in (border, *holes)]
    assert np.array_equal(filled(rings, mask.shape), mask)
    assert np.array_equal(filled(polygons(mask), mask.shape), mask)


def test_outlines_of_ragged_masks_are_exact_with_few_corners():
    number_of_holes = 0
    for seed in range(20):
        mask = blobs(seed)
        parts = outlines(mask)
        number_of_holes += sum(len(holes) for _, holes in parts)
        assert len(parts) > 1
        assert np.array_equal(filled(polygons(mask), mask.shape), mask)
    assert number_of_holes > 10
    square = np.zeros((40, 40), bool)
    square[5:30, 10:35] = True
    assert len(outlines(square)[0][0]) == 4


def test_coco_rle_and_polygons_through_pycocotools(tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    masks = [blobs(seed) for seed in range(6)]
    objects = [NamedMask("cat" if i % 2 else "dog", m, 0.5) for i, m in enumerate(masks)]
    for as_polygons in (False, True):
        images = [("a.jpg", (60, 80), objects[:4]), ("b.jpg", (60, 80), objects[4:])]
        write_output(tmp_path / "c.json", coco_document(images, as_polygons))
        read = COCO(tmp_path / "c.json")
        assert sorted(c["name"] for c in read.cats.values()) == ["cat", "dog"]
        assert len(read.getAnnIds(imgIds=[1])) == 4 and len(read.getAnnIds(imgIds=[2])) == 2
        for annotation, mask in zip(read.anns.values(), masks, strict=True):
            back = read.annToMask(annotation).astype(bool)
            assert np.array_equal(back, mask)
            assert annotation["area"] == mask.sum()
            ys, xs = np.nonzero(mask)
            assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]


def test_simplified_polygons_stay_close():
    pytest.importorskip("pycocotools")
    big = cv2.resize(blobs(3).astype(np.uint8), (640, 480), interpolation=cv2.INTER_LINEAR) > 0
    exact, simple = coco.flat_polygons(big), coco.flat_polygons(big, 1.0)
    assert sum(map(len, simple)) < sum(map(len, exact)) / 3
    assert iou(coco.mask_of(simple, big.shape), big) > 0.98


def test_coco_is_read_back(tmp_path):
    pytest.importorskip("pycocotools")
    masks = [np.zeros((20, 30), bool) for _ in range(2)]
    masks[0][2:15, 3:25] = True
    masks[1][5:8, 6:9] = True
    document = coco_document([("a.jpg", (20, 30), [NamedMask("x", m) for m in masks])])
    document["annotations"].append(
        {"id": 9, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 1, 1],
         "segmentation": {"size": [20, 30], "counts": [0, 2, 598]}})
    document["annotations"].append({"id": 10, "image_id": 1, "bbox": [1, 1, 2, 2]})
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    (image,) = coco.read_coco(path)
    assert (image.file_name, image.size) == ("a.jpg", (20, 30))
    assert [o.crowd for o in image.objects] == [False, False, True]
    assert np.array_equal(image.objects[0].mask(), masks[0])
    want = masks[0].astype(int)
    want[masks[1]] = 2
    want[:2, 0] = -1
    assert np.array_equal(image.label_map(), want)


@pytest.mark.parametrize(("segmentation", "message"), [
    ({"size": [5, 5], "counts": [25]}, "its size is"),
    ({"size": [20, 30], "counts": [5]}, "do not fill"),
    ({"size": [20, 30]}, "counts"), ("abc", "COCO segmentation"), (7, "COCO segmentation"),
])
def test_damaged_segmentations_are_named(segmentation, message):
    pytest.importorskip("pycocotools")
    with pytest.raises(coco.CocoError, match=message):
        coco.mask_of(segmentation, (20, 30))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [], "annotations": [{"id": 1}]}',
                                  '{"images": [{"id": 1}], "annotations": []}'])
def test_other_files_are_no_coco_files(tmp_path, text):
    path = tmp_path / "c.json"
    path.write_text(text)
    if text.startswith('{"images": []'):
        document = json.loads(text)
        document["annotations"][0]["segmentation"] = [[0, 0, 1, 0, 1, 1]]
        path.write_text(json.dumps(document))
    with pytest.raises(coco.CocoError, match="is not a COCO file"):
        coco.read_coco(path)


def test_label_maps_have_indices_and_a_palette():
    labels = np.arange(12).reshape(3, 4)
    picture = Image.open(io.BytesIO(label_map_png(labels)))
    assert picture.mode == "P" and np.array_equal(np.asarray(picture), labels)
    assert picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # VOC's
    assert len({tuple(palette()[3 * i : 3 * i + 3]) for i in range(256)}) == 256
    many = np.array([[0, 255, 300]])
    decoded = cv2.imdecode(np.frombuffer(label_map_png(many), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == np.uint16 and np.array_equal(decoded, many)
    with pytest.raises(ValueError, match="-1 to 0"):
        label_map_png(np.array([[-1, 0]]))


def test_single_masks_are_0_and_255():
    mask = blobs(1)
    decoded = cv2.imdecode(np.frombuffer(mask_png(mask), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded, mask * 255)


def test_labelme_documents_hold_polygons_and_masks_with_holes():
    solid = np.zeros((40, 50), bool)
    solid[5:20, 5:30] = solid[25:30, 40:45] = True
    ring = np.zeros((40, 50), bool)
    ring[10:30, 10:30] = True
    ring[15:20, 15:20] = False
    document = labelme_document("a.jpg", (40, 50), [
        NamedMask("solid", solid), NamedMask("none", np.zeros_like(solid)), NamedMask("ring", ring)
    ])
    kinds = [(s["label"], s["shape_type"], s["group_id"]) for s in document["shapes"]]
    assert kinds == [("solid", "polygon", 0), ("solid", "polygon", 0), ("ring", "mask", None)]
    rings = [np.array(s["points"]) for s in document["shapes"][:2]]
    assert np.array_equal(filled(rings, (40, 50)), solid)


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with pytest.raises(TypeError):
        write_output(path, {"a": object()})
    assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_labelmes_own_loader_opens_its_documents(tmp_path):
    label_file = pytest.importorskip("labelme._label_file")
    masks = [blobs(5), np.zeros((60, 80), bool)]
    masks[1][5:20, 5:30] = True
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    named = [NamedMask(name, mask) for name, mask in zip(("holes", "solid"), masks, strict=True)]
    write_output(tmp_path / "a.json", labelme_document("a.png", (60, 80), named))
    read = label_file.read_label_file(str(tmp_path / "a.json"))
    assert len(read.image_data) > 0
    holes, solid = read.shapes
    assert (holes["label"], holes["shape_type"]) == ("holes", "mask")
    (left, top), (right, bottom) = holes["points"]
    assert np.array_equal(holes["mask"], masks[0][top : bottom + 1, left : right + 1])
    assert np.array_equal(filled([np.array(solid["points"])], (60, 80)), masks[1])


@pytest.mark.slow
def test_two_hundred_masks_of_photographs_with_holes(tmp_path):
    """Written to files and read back by other programs' readers (FDRN_INSTANCES_ROOT: folders with
    instances/ of label maps, separated as in PATH)."""
    root = os.environ.get("FDRN_INSTANCES_ROOT")
    if not root:
        pytest.skip("set FDRN_INSTANCES_ROOT to a folder with instances/")
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    folders = [Path(part) / "instances" for part in root.split(os.pathsep)]
    masks = masks_with_holes([p for f in folders for p in sorted(f.iterdir())], 200)
    images = [(f"{i}.png", m.shape, [NamedMask("x", m)]) for i, m in enumerate(masks)]
    worst = {}
    for name, options in (("RLE", {}), ("polygons", {"as_polygons": True}),
                          ("polygons within a pixel", {"as_polygons": True, "tolerance_px": 1.0})):
        write_output(tmp_path / "c.json", coco_document(images, **options))
        read = COCO(tmp_path / "c.json")
        worst[name] = min(iou(read.annToMask(a).astype(bool), m)
                          for a, m in zip(read.anns.values(), masks, strict=True))
    print(f"\nworst IoU of {len(masks)} masks:", worst)
    assert len(masks) == 200 and worst["RLE"] == 1 and worst["polygons"] >= 0.99
    label_file = pytest.importorskip("labelme._label_file")
    for name, size, objects in images[:20]:
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / name)
        write_output(tmp_path / "l.json", labelme_document(name, size, objects))
        (shape,) = label_file.read_label_file(str(tmp_path / "l.json")).shapes
        (left, top), (right, bottom) = shape["points"]
        found = np.zeros(size, bool)
        found[top : bottom + 1, left : right + 1] = shape["mask"]
        assert np.array_equal(found, objects[0].mask)


def masks_with_holes(files, number):
    """Objects of label maps that have a hole of a few pixels at least."""
    found = []
    for path in files:
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for label in np.unique(labels)[1:]:
            mask = labels == label
            holes = [h for _, holes in outlines(mask) for h in holes]
            if any(cv2.contourArea(h.astype(np.float32)) >= 4 for h in holes):
                found.append(mask)
                if len(found) == number:
                    return found
    return found
