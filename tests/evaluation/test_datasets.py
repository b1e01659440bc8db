"""Every layout on a tiny copy of it; what is broken is named, and the rest stays usable."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.evaluation_data import grabcut, pictures, save, trimap_of, two_objects

from fdrn_adapter.evaluation import datasets
from fdrn_adapter.evaluation.datasets.sample import BadSampleError

NAMES = ["GrabCut", "Berkeley", "DAVIS", "SBD", "PascalVOC", "COCO_MVal", "GlaS", "BraTS"]


@pytest.fixture
def image() -> np.ndarray:
    return next(pictures(1))[0]


def test_grabcut_has_an_ignored_border(tmp_path):
    data = datasets.open_dataset(f"GrabCut={grabcut(tmp_path)}")
    assert (data.name, len(data), data.ids) == ("GrabCut", 2, ["p0", "p1"])
    sample = data.load(1)
    (_, _), (image, mask) = pictures(2)
    assert np.array_equal(sample.image, image) and sample.image.dtype == np.uint8
    expected = np.select([mask, trimap_of(mask) == 128], [1, -1])
    assert np.array_equal(sample.mask, expected) and -1 in sample.mask
    assert data.by_id("p1").id == "p1" and len(sample.objects) == 1
    assert len(datasets.open_dataset(f"grabcut={tmp_path}", limit=1)) == 1


@pytest.mark.parametrize("name", ["GrabCut", "Berkeley", "DAVIS"])
def test_samples_are_the_stock_data_sets(tmp_path, ritm, name):
    """Images and masks equal what the stock classes give, mask values of all kinds included."""
    from ritm_annotation.data import datasets as stock

    folders = {"GrabCut": ("data_GT", "boundary_GT"), "Berkeley": ("images", "masks"),
               "DAVIS": ("img", "gt")}[name]
    rng = np.random.default_rng(0)
    for i, (image, _) in enumerate(pictures(2)):
        mask = rng.choice(np.array([0, 1, 60, 128, 200, 255], np.uint8), image.shape[:2])
        save(tmp_path / folders[0] / f"a.{i}.jpg", image)
        save(tmp_path / folders[1] / "a.png", mask)
    theirs = {"GrabCut": "GrabCutDataset", "Berkeley": "BerkeleyDataset", "DAVIS": "DavisDataset"}
    reference = getattr(stock, theirs[name])(tmp_path)
    data = datasets.open_dataset(f"{name}={tmp_path}")
    assert len(data) == len(reference) == 2
    for i in range(2):
        ours, expected = data.load(i), reference.get_sample(i)
        assert np.array_equal(ours.image, expected.image)
        gt_mask = expected.gt_mask
        assert np.array_equal(ours.mask == 1, gt_mask == 1)
        assert np.array_equal(ours.mask == -1, gt_mask == -1)


def write_sbd(root: Path, image: np.ndarray, labels: dict[str, np.ndarray]) -> None:
    io = pytest.importorskip("scipy.io")
    (root / "inst").mkdir(parents=True)
    for name, array in labels.items():
        save(root / "img" / f"{name}.jpg", image)
        inst = np.zeros((1, 1), dtype=[("Segmentation", "O")])
        inst[0, 0]["Segmentation"] = array
        io.savemat(root / "inst" / f"{name}.mat", {"GTinst": inst})
    (root / "val.txt").write_text("".join(f"{name}\n" for name in labels))


def test_sbd_has_a_sample_for_each_instance(tmp_path, image, ritm):
    labels = two_objects()
    write_sbd(tmp_path, image, {"b": labels, "a": np.where(labels == 4, 4, 0).astype(np.uint8)})
    data = datasets.open_dataset(f"SBD={tmp_path}")
    assert data.ids == ["b#1", "b#4", "a#4"]  # in the order of val.txt
    assert np.array_equal(data.load(1).mask, labels == 4)
    assert [len(indices) for _, indices in data.groups()] == [2, 1]
    both, bad = data.load_group([0, 1])
    assert not bad and both.id == "b" and both.object_ids == ("b#1", "b#4")
    assert [int(m.sum()) for m in both.objects] == [(labels == 1).sum(), (labels == 4).sum()]

    from ritm_annotation.data.datasets import SBDEvaluationDataset

    before = sorted(tmp_path.rglob("*"))
    reference = SBDEvaluationDataset(tmp_path)
    assert len(reference) == 3
    for i in range(3):
        assert np.array_equal(data.load(i).mask == 1, reference.get_sample(i).gt_mask == 1)
    assert set(tmp_path.rglob("*")) - set(before)  # the stock class leaves a list behind, ours not
    (tmp_path / "inst" / "b.mat").write_bytes(b"no mat")
    data = datasets.open_dataset(f"SBD={tmp_path}")
    assert data.ids == ["b", "a#4"]
    with pytest.raises(BadSampleError, match="b.mat cannot be read"):
        data.load(0)


COLOURS = {1: (128, 0, 0), 4: (0, 128, 0)}  # RGB; gray 38 and 75


def write_voc(root: Path, image: np.ndarray) -> np.ndarray:
    labels = two_objects()
    colours = np.zeros((*labels.shape, 3), np.uint8)
    for label, colour in COLOURS.items():
        colours[labels == label] = colour
    colours[:4] = (224, 224, 192)  # the void border, gray 220
    save(root / "JPEGImages" / "v.jpg", image)
    save(root / "SegmentationObject" / "v.png", colours)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    return labels


def test_pascal_voc(tmp_path, image):
    labels = write_voc(tmp_path, image)
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("v\n")
    data = datasets.open_dataset(f"PascalVOC={tmp_path}")
    assert data.ids == ["v#38", "v#75"]
    sample = data.load(1)
    assert np.array_equal(sample.mask == 1, labels == 4)
    assert (sample.mask[:4] == -1).all() and (sample.mask[4:] >= 0).all()
    # The stock list names the samples; ids may be NumPy's numbers.
    (lists / "test.pickle").write_bytes(pickle.dumps((["v"], [np.int64(75)])))
    assert datasets.open_dataset(f"PascalVOC={tmp_path}").ids == ["v#75"]
    (lists / "test.pickle").write_bytes(pickle.dumps((["v"], [Path("x")])))
    with pytest.raises(ValueError, match="test.pickle should hold two lists"):
        datasets.open_dataset(f"PascalVOC={tmp_path}")


def test_glas_has_a_sample_for_each_gland(tmp_path, image):
    for name in ("train_1", "testA_10", "testA_2"):
        save(tmp_path / "Warwick" / f"{name}.bmp", image)
        save(tmp_path / "Warwick" / f"{name}_anno.bmp", two_objects())
    data = datasets.open_dataset(f"GlaS={tmp_path}")
    assert data.ids == ["testA_2#1", "testA_2#4", "testA_10#1", "testA_10#4"]
    assert np.array_equal(data.load(1).mask, two_objects() == 4)


def write_brats(root: Path, name: str, tumour_at: list[int], suffix: str = "_flair") -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 900, (30, 40, 6)).astype(np.int16)
    seg = np.zeros(volume.shape, np.uint8)
    for z in tumour_at:
        seg[5:15, 20:30, z], seg[8:10, 22:24, z] = 2, 4
    (root / name).mkdir(parents=True)
    for end, array in ((suffix, volume), ("_seg", seg)):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / name / f"{name}{end}.nii.gz")


def test_brats_leaves_out_slices_without_tumour(tmp_path):
    write_brats(tmp_path, "B1", [2, 4])
    write_brats(tmp_path, "B2", [])
    data = datasets.open_dataset(f"BraTS={tmp_path}")
    assert data.ids == ["B1/z002", "B1/z004", "B2"]
    sample = data.load(1)
    assert sample.image.shape == (40, 30, 3) and sample.mask.shape == (40, 30)  # rows along y
    assert sample.mask[20:30, 5:15].all() and sample.mask.sum() == 100
    assert (np.ptp(sample.image, axis=2) == 0).all() and sample.image.max() == 255
    assert 100 < sample.image.mean() < 150
    with pytest.raises(BadSampleError, match="B2: no slice of the volume has a tumour"):
        data.load(2)
    data = datasets.open_dataset(f"BraTS-t1ce={tmp_path}")
    with pytest.raises(BadSampleError, match=r"no B1_t1ce.nii.gz \(modality t1ce\)"):
        data.load(0)
    assert data.name == "BraTS-t1ce"
    (tmp_path / "B1" / "B1_seg.nii.gz").write_bytes(b"broken")
    from fdrn_adapter.evaluation.datasets import brats

    brats._volume.cache_clear()
    with pytest.raises(BadSampleError, match="cannot be read as NIfTI"):
        datasets.open_dataset(f"BraTS={tmp_path}").load(0)


# -- folders -----------------------------------------------------------------------------------


def test_folder_of_masks(tmp_path, image):
    (_, mask), (_, other) = pictures(2)
    save(tmp_path / "img" / "one.png", image)
    save(tmp_path / "img" / "two.png", image)
    save(tmp_path / "masks" / "one.png", mask.astype(np.uint8))  # 0 and 1
    save(tmp_path / "masks" / "two_0.png", trimap_of(mask))
    save(tmp_path / "masks" / "two_1.png", trimap_of(other))
    data = datasets.open_dataset(f"folder:{tmp_path}")
    assert (data.name, data.ids) == (tmp_path.name, ["one", "two_0", "two_1"])
    assert np.array_equal(data.load(0).mask, mask)
    assert -1 in data.load(2).mask and np.array_equal(data.load(2).mask == 1, other)
    assert [image_id for image_id, _ in data.groups()] == ["one", "two"]


@pytest.mark.parametrize("kind", ["gray", "16 bit", "colour"])
def test_folder_of_instance_maps(tmp_path, image, kind):
    labels = two_objects()
    stored = {"gray": labels, "16 bit": labels.astype(np.uint16) * 300}.get(kind)
    if kind == "gray":
        stored = np.where(np.arange(120)[:, None] < 4, 255, labels).astype(np.uint8)  # void
    if kind == "colour":
        stored = np.zeros((*labels.shape, 3), np.uint8)
        for label, colour in COLOURS.items():
            stored[labels == label] = colour
    save(tmp_path / "images" / "m.jpg", image)
    save(tmp_path / "instances" / "m.png", stored)
    data = datasets.open_dataset(f"mine=folder:{tmp_path}")
    numbers = {"gray": [1, 4], "16 bit": [300, 1200], "colour": [128, 128 * 256]}[kind]
    assert data.name == "mine" and data.ids == [f"m#{n}" for n in numbers]
    assert np.array_equal(data.load(1).mask == 1, labels == 4)
    assert ((data.load(0).mask[:4] == -1).all()) == (kind == "gray")


# -- what can be wrong -------------------------------------------------------------------------


def test_bad_samples_are_named(tmp_path, image):
    root = grabcut(tmp_path, 7)
    (root / "data_GT" / "p0.png").write_bytes(b"not a picture")
    (root / "data_GT" / "p1.png").write_bytes(b"")
    (root / "boundary_GT" / "p2.png").unlink()
    (root / "boundary_GT" / "p3.png").write_bytes(b"not a picture")
    save(root / "boundary_GT" / "p4.png", np.full((60, 160), 255, np.uint8))
    save(root / "boundary_GT" / "p5.png", np.full((120, 160), 128, np.uint8))
    data = datasets.open_dataset(f"GrabCut={root}")
    reasons = ["p0.png is not an image", "p1.png is not an image", "no mask for p2.png",
               "p3.png cannot be read", "has 160x120 pixels .* its mask 160x60",
               "no pixel of an object"]
    for i, reason in enumerate(reasons):
        with pytest.raises(BadSampleError, match=reason) as caught:
            data.load(i)
        assert caught.value.sample_id == f"p{i}"
    assert data.load(6).mask.any()
    assert data.load_group([0])[0] is None
    save(tmp_path / "f" / "images" / "e.png", image)
    save(tmp_path / "f" / "images" / "n.png", image)
    save(tmp_path / "f" / "instances" / "e.png", np.zeros((120, 160), np.uint8))
    data = datasets.open_dataset(f"folder:{tmp_path / 'f'}")
    with pytest.raises(BadSampleError, match="e: the instance map has no object"):
        data.load(0)
    with pytest.raises(BadSampleError, match="n: there is no instance map for n.png"):
        data.load(1)


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_sets_say_what_is_expected(tmp_path, name):
    with pytest.raises(ValueError, match=f"^{name}: there is no folder .*nowhere. Expected: "):
        datasets.open_dataset(f"{name}={tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=f"^{name}: .*(there is no|no sample).* Expected: ") as e:
        datasets.open_dataset(f"{name}={tmp_path}")
    assert str(tmp_path) in str(e.value)


def test_bad_specs(tmp_path):
    with pytest.raises(ValueError, match="no data set 'GrabCat'. Did you mean GrabCut"):
        datasets.open_dataset(f"GrabCat={tmp_path}")
    for spec in ("GrabCut", "GrabCut=", "=x"):
        with pytest.raises(ValueError, match="written Name=DIR or folder:DIR"):
            datasets.open_dataset(spec)
    with pytest.raises(ValueError, match="has no folder of images"):
        datasets.open_dataset(f"folder:{tmp_path}")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="has no folder of masks .* or instance maps"):
        datasets.open_dataset(f"folder:{tmp_path}")


def write_coco(file: Path, masks: list[np.ndarray], crowd: np.ndarray) -> None:
    from fdrn_adapter.coco import rle_of
    from fdrn_adapter.serving.outputs import NamedMask, coco_document

    document = coco_document([("a.jpg", masks[0].shape, [NamedMask("x", m) for m in masks])])
    document["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "iscrowd": 1,
                                    "segmentation": rle_of(crowd)})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def test_coco_has_a_sample_for_each_annotation_and_ignores_crowds(tmp_path, image):
    pytest.importorskip("pycocotools")
    labels = two_objects()
    masks, crowd = [labels == 1, labels == 4], np.zeros_like(labels, dtype=bool)
    crowd[:9, :] = True
    file = tmp_path / "annotations" / "instances_val2017.json"
    write_coco(file, masks, crowd)
    with pytest.raises(BadSampleError, match=r"a.jpg#1: there is no .*a.jpg, nor in folders near"):
        datasets.open_dataset(f"COCO={tmp_path}").load(0)
    save(tmp_path / "val2017" / "a.jpg", image)
    data = datasets.open_dataset(f"coco={tmp_path}")
    assert (data.name, data.ids) == ("COCO", ["a.jpg#1", "a.jpg#2"])
    for number, mask in enumerate(masks):
        found = data.load(number).mask
        assert np.array_equal(found == 1, mask)
        assert np.array_equal(found == -1, crowd & ~mask) and (found == -1).any()
    both, bad = data.load_group([0, 1])
    assert not bad and both.object_ids == ("a.jpg#1", "a.jpg#2")
    stored = json.loads(file.read_text())
    stored["annotations"][0]["segmentation"]["size"] = [1, 1]
    file.write_text(json.dumps(stored))
    with pytest.raises(BadSampleError, match="annotation 1: .*its size is"):
        datasets.open_dataset(f"COCO={tmp_path}").load(0)
    write_coco(tmp_path / "annotations" / "instances_train2017.json", masks, crowd)
    with pytest.raises(ValueError, match="several COCO files in .*instances_train2017.json, "):
        datasets.open_dataset(f"COCO={tmp_path}")
    with pytest.raises(ValueError, match="^COCO: there is no COCO file in .*Expected: one COCO"):
        datasets.open_dataset(f"COCO={tmp_path / 'val2017'}")
