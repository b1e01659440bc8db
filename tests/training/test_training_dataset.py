"""Dynamic-scale samples: points, masks and features agree, whatever was drawn."""

import cv2
import numpy as np
import pytest
import torch
from support.training_fixtures import PACKAGE, fdrn_model, stock_dataset, write_folder

from fdrn_adapter import training
from fdrn_adapter.features import roi as alignment
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import DeferredRecycling
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.training import rois

pytestmark = pytest.mark.usefixtures("ritm")
CROP, GLOBAL = (64, 48), (96, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "drawn")


class Coordinates:
    """A stock data set whose image shows its own row and column; the object is a box."""

    rows, cols = 120, 160

    def __init__(self, folder):
        self.stock = stock_dataset(folder)
        sample_class = type(self.stock.get_sample(0))

        def get_sample(index):
            image = np.zeros((self.rows, self.cols, 3), np.uint8)
            image[..., 0] = np.arange(self.rows)[:, None]
            image[..., 1] = np.arange(self.cols)[None]
            labels = np.zeros((self.rows, self.cols), np.int32)
            labels[40:70, 20:60] = 1
            labels[80:110, 100:150] = 2
            return sample_class(image, labels, objects_ids=[1, 2], sample_id=index)

        self.stock.get_sample = get_sample


@pytest.mark.parametrize("epoch", range(8))
def test_points_masks_and_features_agree(folder, epoch):
    """The coordinate-map check: every frame is asked which image pixel it shows."""
    data = training.DynamicScaleDataset(Coordinates(folder).stock, CROP, GLOBAL)
    data.set_epoch(epoch)
    item = data[epoch % 4]
    crop = item["images"].numpy() * 255  # shows (row, col) of the image
    row, col = crop[0], crop[1]
    # The mask stands where the image shows the object, to half a pixel of the crop.
    inside = item["instances"][0] > 0.5
    boxes = [(40, 69, 20, 59), (80, 109, 100, 149)]
    first, last = row[inside].mean(), col[inside].mean()
    box = next(b for b in boxes if b[0] <= first <= b[1] and b[2] <= last <= b[3])
    tolerance = 1.01 * max(abs(np.diff(row, axis=0)).max(), abs(np.diff(col, axis=1)).max())
    shows_object = (
        (row >= box[0]) & (row <= box[1]) & (col >= box[2]) & (col <= box[3])
    )
    distance = lambda v, a, b: np.minimum(abs(v - a), abs(v - b))  # noqa: E731
    doubtful = np.minimum(distance(row, *box[:2]), distance(col, *box[2:])) <= tolerance
    assert np.array_equal(inside[~doubtful], shows_object[~doubtful])
    assert inside.sum() > 20
    # Positive points lie on the object, negative ones off it.
    half = len(item["points"]) // 2
    for i, (r, c, order) in enumerate(item["points"]):
        if order >= 0:
            assert bool(inside[int(r), int(c)]) == (i < half)
    # Features aligned to the crop come from the pixels that the crop shows.
    maps = item["fdrn_global"][None, :2] * 255  # stride 1: a map of the global image itself
    size = torch.tensor([GLOBAL], dtype=torch.float64)
    aligned = alignment.align(
        maps, torch.tensor([0]),
        alignment.Placement(item["fdrn_roi"][None], size, size, CROP), Grid(1), Grid(1), CROP,
    )[0].numpy()
    step = np.array([120 / 96, 160 / 128])
    interior = np.s_[3:-3, 3:-3]
    assert abs(aligned[0] - row)[interior].max() < 1.1 * step[0] + 0.51
    assert abs(aligned[1] - col)[interior].max() < 1.1 * step[1] + 0.51


def test_mirrors_come_as_often_as_asked(folder):
    def mirrored(item):
        return item["images"][1, 0, 0] > item["images"][1, 0, -1]

    for prob, expected in ((0.0, 0), (1.0, 12)):
        data = training.DynamicScaleDataset(
            Coordinates(folder).stock, CROP, GLOBAL, mirror_prob=prob
        )
        assert sum(bool(mirrored(data[i % 4])) for i in range(12)) == expected


def test_samples_depend_on_seed_epoch_and_index_alone(folder):
    def item(seed=0, epoch=0, index=1):
        data = training.DynamicScaleDataset(stock_dataset(folder), CROP, GLOBAL, seed=seed)
        data.set_epoch(epoch)
        np.random.random(5)
        return data[index]

    first, again = item(), item()
    assert all(np.array_equal(first[k], again[k]) for k in first)
    for other in (item(seed=1), item(epoch=1), item(index=2)):
        assert not np.array_equal(first["images"], other["images"])


def test_the_point_sampler_may_change_from_epoch_to_epoch(folder):
    stock = stock_dataset(folder, max_points=6)
    few = stock_dataset(folder, max_points=2).points_sampler
    data = training.DynamicScaleDataset(
        stock, CROP, GLOBAL, sampler_at=lambda epoch: few if epoch >= 3 else stock.points_sampler
    )
    shapes = []
    for epoch in (2, 3, 0):
        data.set_epoch(epoch)
        shapes.append(data[1]["points"].shape)
    assert shapes == [(12, 3), (4, 3), (12, 3)]


def test_workers_make_the_same_samples(folder):
    data = training.DynamicScaleDataset(stock_dataset(folder), CROP, GLOBAL)
    serial = [data[i] for i in range(4)]
    loaded = list(torch.utils.data.DataLoader(data, 1, num_workers=2))
    for a, b in zip(serial, loaded, strict=True):
        assert torch.equal(a["images"], b["images"][0])


@pytest.mark.parametrize("form", ["gray", "gray as colour", "colours", "void"])
def test_instances_are_read_by_value_or_colour(tmp_path, form):
    """The evaluation's reading of instance maps; void counts neither for nor against."""
    root = write_folder(tmp_path / "drawn", 1)
    file = root / "instances" / "0.png"
    labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    stored = labels.copy()
    if form == "gray as colour":
        stored = np.repeat(labels[..., None], 3, axis=2)
    elif form == "colours":  # as bright as each other
        stored = np.array([[0, 0, 0], [0, 0, 200], [200, 0, 0]], np.uint8)[labels]
    elif form == "void":
        stored[:50] = np.where(labels[:50] > 0, 255, 0)
    cv2.imwrite(str(file), stored)
    sample = stock_dataset(root).get_sample(0)
    assert len(sample.objects_ids) == 2
    for i, wanted in enumerate((labels == 1, labels == 2)):
        mask = sample.get_object_mask(i)
        void = stored == 255 if form == "void" else np.zeros_like(wanted)
        assert np.array_equal(mask == 1, wanted & ~void) and np.array_equal(mask == -1, void)
    item = training.DynamicScaleDataset(stock_dataset(root), CROP, GLOBAL)[0]
    assert set(np.unique(item["instances"])) == ({-1, 0, 1} if form == "void" else {0, 1})


@pytest.mark.parametrize("channels", [1, 3])
def test_binary_masks_may_have_soft_borders(tmp_path, channels):
    root = write_folder(tmp_path / "drawn", 1)
    mask = np.zeros((120, 160), np.uint8)
    mask[30:80, 40:100] = 255
    mask[30], mask[0] = mask[30] // 2, 1
    stored = mask if channels == 1 else np.stack([mask * 0, mask * 0, mask], axis=2)
    cv2.imwrite(str(root / "instances" / "0.png"), stored)
    sample = stock_dataset(root, binary=True).get_sample(0)
    assert len(sample.objects_ids) == 1
    assert np.array_equal(sample.get_object_mask(0), mask > 0)


def test_a_mask_of_another_size_is_named(tmp_path):
    root = write_folder(tmp_path / "drawn", 1)
    cv2.imwrite(str(root / "instances" / "0.png"), np.ones((50, 60), np.uint8))
    with pytest.raises(ValueError, match=r"0\.png has 50 x 60 pixels .* its image .* 120 x 160"):
        stock_dataset(root).get_sample(0)


def test_the_stock_data_set_is_left_as_it_was(folder):
    stock = stock_dataset(folder)
    attributes = dict(vars(stock))
    sampler = dict(vars(stock.points_sampler))
    training.DynamicScaleDataset(stock, CROP, GLOBAL)[0]
    assert vars(stock) == attributes
    assert vars(stock.points_sampler) == sampler


def test_frozen_features_equal_those_of_the_global_image(folder, tmp_path):
    model = fdrn_model(freeze_encoder=True).eval()
    kept = training.FrozenFeatures(model.image_encoder, tmp_path, GLOBAL)
    plain = training.DynamicScaleDataset(stock_dataset(folder), CROP, GLOBAL)
    cached = training.DynamicScaleDataset(stock_dataset(folder), CROP, GLOBAL, features=kept)
    calls = []
    model.image_encoder.backbone.register_forward_hook(lambda *_: calls.append(1))
    for i in range(4):
        item = cached[i]
        with torch.no_grad():
            expected = model.image_encoder(plain[i]["fdrn_global"][None])
            views = model.image_encoder.features_of(
                item["fdrn_low"][None].float(), item["fdrn_high"][None].float(), GLOBAL
            )
        for name, value in expected.maps.items():
            assert (views.maps[name] - value).abs().max() < 2e-3 * value.abs().max()
    before = len(calls)
    assert before == 8  # four for the cache, four for the comparison
    [cached[i] for i in range(4)]
    assert len(calls) == before
    assert len(list(kept.folder.iterdir())) == 4


def test_frozen_features_of_another_encoder_are_not_taken(folder, tmp_path):
    models = [fdrn_model(freeze_encoder=True) for _ in range(2)]
    with torch.no_grad():
        next(models[1].image_encoder.backbone.parameters()).add_(1)
    folders = {training.FrozenFeatures(m.image_encoder, tmp_path, GLOBAL).folder for m in models}
    assert len(folders) == 2


def test_errors_say_what_to_do(folder, tmp_path):
    stock = stock_dataset(folder)
    with pytest.raises(ValueError, match=r"range within \(0, 1\]"):
        training.DynamicScaleDataset(stock, CROP, GLOBAL, proportion=(0, 1))
    with pytest.raises(ValueError, match="mirror_prob"):
        training.DynamicScaleDataset(stock, CROP, GLOBAL, mirror_prob=2)
    with pytest.raises(ValueError, match="freeze_encoder=True"):
        training.FrozenFeatures(fdrn_model().image_encoder, tmp_path, GLOBAL)
    kept = training.FrozenFeatures(fdrn_model(freeze_encoder=True).image_encoder, tmp_path, GLOBAL)
    with pytest.raises(ValueError, match="give both the same"):
        training.DynamicScaleDataset(stock, CROP, (64, 64), features=kept)
    albumentations = pytest.importorskip("albumentations")
    moving = stock_dataset(folder, augmentator=albumentations.Compose(
        [albumentations.VerticalFlip(p=1.0)], p=1.0
    ))
    with pytest.raises(ValueError, match="moves pixels"):
        training.DynamicScaleDataset(moving, CROP, GLOBAL, features=kept)[0]
    with pytest.raises(ValueError, match="there is no .*images"):
        training.instance_folder(PACKAGE, tmp_path)


def test_start_views_make_the_affinity_a_similarity(folder):
    model = fdrn_model(freeze_encoder=True).eval()
    encoder = model.image_encoder
    with torch.no_grad():
        image = rois.shrink(stock_dataset(folder).get_sample(0).image, (128, 160))[None]
        _, high = encoder.backbone((image - encoder.mean) / encoder.std)
        high = high + 0.1 * torch.randn(high.shape, generator=torch.Generator().manual_seed(0))
        training.start_views(encoder, high.repeat(4, 1, 1, 1), sharpness=2.0)
        key, query = encoder.key_view(high), encoder.query_view(high)
    assert torch.equal(key, query)
    products = key.flatten(2)[0].T @ query.flatten(2)[0]
    off_diagonal = products[~torch.eye(len(products), dtype=bool)]
    assert 0.5 < off_diagonal.std() < 4
    assert products.diagonal().mean() > 3 * off_diagonal.abs().mean()
    with pytest.raises(ValueError, match="should have the shape"):
        training.start_views(encoder, high[:, :5])


def test_start_views_give_what_enters_the_host_unit_size():
    pytest.importorskip("timm")
    encoder = fdrn_model(encoder="timm:resnet18", context_channels=8).image_encoder
    generator = torch.Generator().manual_seed(0)
    high = 20 * torch.randn(5, 256, 8, 8, generator=generator) - 5
    low = 10 * torch.randn(4, 64, 32, 32, generator=generator) + 3
    training.start_views(encoder, high, low)
    for out in (encoder.context_view(high), encoder.low_projection(low)):
        deviation, mean = torch.std_mean(out, dim=(0, 2, 3))
        assert (deviation - 1).abs().max() < 1e-3 and mean.abs().max() < 1e-3


def test_deferred_recycling_encodes_once_per_phase():
    features = ImageFeatures(
        {"low": torch.rand(2, 3, 8, 8)}, {"low": Grid(4)}, (32, 32), (32, 32), "x"
    )
    deferred = DeferredRecycling(lambda: features, torch.tensor([[0.0, 31, 0, 31]] * 2))
    with torch.no_grad():
        first = deferred.now()
        assert deferred.now() is first
    assert deferred.now() is not first
    assert deferred.encodings == 2 and deferred.batch == 2
