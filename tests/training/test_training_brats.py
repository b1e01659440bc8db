"""BraTS volumes as a stock data set of slices."""

import numpy as np
import pytest
from support import experiment_fixtures as made
from support.training_fixtures import PACKAGE

from fdrn_adapter.evaluation import datasets
from fdrn_adapter.training import brats

pytestmark = pytest.mark.usefixtures("ritm")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return made.brats(tmp_path_factory.mktemp("brats"))


def test_one_sample_for_each_slice_and_region(volumes, tmp_path):
    data = brats.brats_dataset(PACKAGE, volumes, tmp_path, volumes=3)
    assert data.get_samples_number() == 3 * 4 * 3  # volumes, slices with tumour, regions
    areas = {}
    for index, (_, _, region) in enumerate(data.dataset_samples[:3]):
        sample = data.get_sample(index)
        assert sample.image.shape == (100, 120, 3) and sample.image.dtype == np.uint8
        assert (sample.image == sample.image[..., :1]).all()  # gray, repeated
        mask = sample.gt_mask > 0
        areas[region] = mask.sum()
        rows, cols = np.nonzero(mask)
        assert abs(rows.mean() - 40) < 1 and abs(cols.mean() - 70) < 1  # rows are y
        gray = sample.image[..., 0]
        assert gray[mask].mean() > gray[~mask & (gray > 0)].mean() + 50
    assert areas["whole"] > areas["core"] > areas["enhancing"] > 0


def test_slices_without_tumour_are_left_out(volumes, tmp_path):
    folder = brats.choose_volumes(volumes, "flair", 1, "train", 0)[0]
    array = np.load(brats.extract_slices(folder, "flair", tmp_path))
    assert array.shape == (4, 2, 100, 120)
    assert array[:, 1].any(axis=(1, 2)).all()


def test_evaluation_sees_the_same_slices(volumes, tmp_path):
    folder = brats.choose_volumes(volumes, "flair", 1, "train", 0)[0]
    array = np.load(brats.extract_slices(folder, "flair", tmp_path))
    data = datasets.open_dataset(f"BraTS={volumes}")
    samples = [data.load(i) for i, name in enumerate(data.ids) if name.startswith(folder.name)]
    assert len(samples) == len(array)
    for (gray, labels), sample in zip(array, samples, strict=True):
        assert np.array_equal(sample.image[..., 0], gray) and gray.std() > 10
        assert np.array_equal(sample.mask > 0, labels > 0)


def test_volumes_are_read_once(volumes, tmp_path, monkeypatch):
    import nibabel

    brats.brats_dataset(PACKAGE, volumes, tmp_path, volumes=3)
    monkeypatch.setattr(nibabel, "load", None)
    data = brats.brats_dataset(PACKAGE, volumes, tmp_path, volumes=3)
    assert data.get_sample(0).image.any()


def test_training_and_validation_share_no_volume(volumes):
    train, val = (brats.choose_volumes(volumes, "flair", 2, split, 0) for split in ("train", "val"))
    assert len(train) == 2 and len(val) == 1 and not set(train) & set(val)
    orders = {tuple(brats.choose_volumes(volumes, "flair", 2, "train", s)) for s in range(6)}
    assert len(orders) > 1


def test_errors_say_what_to_do(volumes, tmp_path):
    with pytest.raises(ValueError, match="NAME_t2.nii.gz"):
        brats.brats_dataset(PACKAGE, volumes, tmp_path, modality="t2")
    with pytest.raises(ValueError, match="regions should be some of"):
        brats.brats_dataset(PACKAGE, volumes, tmp_path, regions=("edge",))
