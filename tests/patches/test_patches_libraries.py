"""Patches against NumPy, albumentations, timm, mmcv and other libraries, on toy modules."""

from __future__ import annotations

import builtins
import sys
import warnings

import albumentations
import numpy as np
import pytest
import torch
from fdrn_adapter.patches import (
    albumentations_seeds,
    albumentations_transforms,
    meshgrid,
    missing_imports,
    numpy_aliases,
    pillow_filters,
    small_objects,
    torch_load,
    training_warnings,
)
from fdrn_adapter.patches.framework import APPLIED, CANNOT_APPLY, CLICKSEG, NOT_NEEDED, RITM
from support.codebase_fixtures import toy
from torch import nn

NUMPY_USER = {"model/net.py": """
    import numpy as np
    def width(channels):
        return np.int(np.sum(channels))
"""}


def test_numpy_alias_is_added_for_the_module_alone(tmp_path):
    (patch,) = numpy_aliases.PATCHES
    if not patch.needed()[0]:
        pytest.skip("this NumPy has the aliases")
    with toy(tmp_path, NUMPY_USER, patch) as code_base:
        with pytest.raises(AttributeError, match="int"):
            code_base.load("model.net", patched=False).width([1, 2])
        assert code_base.load("model.net").width([1, 2]) == 3
        assert "int" not in vars(np)


def test_numpy_patch_stands_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_aliases, "missing_aliases", dict)
    with toy(tmp_path, NUMPY_USER, *numpy_aliases.PATCHES) as code_base:
        assert code_base.load("model.net").np is np
        assert code_base.status("numpy_aliases").state == NOT_NEEDED


def test_module_that_mentions_no_alias_keeps_the_real_numpy(tmp_path):
    with toy(tmp_path, {"a.py": "import numpy as np\n"}, *numpy_aliases.PATCHES) as code_base:
        assert code_base.load("a").np is np


TRANSFORMS = {"data/transforms.py": """
    import cv2
    from albumentations import DualTransform, ImageOnlyTransform
    from albumentations.augmentations import functional as F
    from albumentations.core.transforms_interface import to_tuple

    class UniformRandomResize(DualTransform):
        def __init__(self, always_apply=False, p=1):
            super().__init__(always_apply, p)
            self.interpolation = cv2.INTER_LINEAR
            self.jitter = to_tuple(0.1)

        @property
        def targets_as_params(self):
            return ["image"]

        def get_params_dependent_on_targets(self, params):
            return {"rows_new": params["image"].shape[0] * 2}

        def apply(self, img, rows_new=0, interpolation=cv2.INTER_LINEAR, **params):
            return F.resize(img, height=rows_new, width=30, interpolation=interpolation)
"""}


def test_old_style_transform_works_and_keeps_masks_nearest(tmp_path):
    (patch,) = albumentations_transforms.PATCHES
    assert patch.needed()[0], "no supported albumentations has all the old names"
    with toy(tmp_path, TRANSFORMS, patch, kind=RITM) as code_base:
        with pytest.raises((ImportError, AttributeError, TypeError)):
            stock = code_base.load("data.transforms", patched=False)
            albumentations.Compose([stock.UniformRandomResize()])(image=np.zeros((8, 8, 3), "u1"))
        module = code_base.load("data.transforms")
        mask = np.zeros((10, 20, 6), np.int32)
        mask[:5, :, 5] = 7
        image = np.zeros((10, 20, 3), np.uint8)
        out = albumentations.Compose([module.UniformRandomResize()])(image=image, mask=mask)
        assert out["image"].shape == (20, 30, 3) and out["mask"].shape == (20, 30, 6)
        assert set(np.unique(out["mask"])) == {0, 7} and out["mask"].dtype == np.int32
        assert module.UniformRandomResize().jitter == (-0.1, 0.1)
        assert code_base.status(patch.name).state == APPLIED
    assert albumentations.DualTransform.__module__.startswith("albumentations")


def test_transforms_patch_stands_aside(tmp_path, monkeypatch):
    (patch,) = albumentations_transforms.PATCHES
    monkeypatch.setattr(patch, "_gone", list)
    with toy(tmp_path, TRANSFORMS, patch, kind=RITM) as code_base:
        assert code_base.status(patch.name).state == NOT_NEEDED


def test_resize_agrees_with_cv2_and_takes_many_layers():
    image = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    import cv2

    expected = cv2.resize(image, (5, 4), interpolation=cv2.INTER_LINEAR)
    assert (albumentations_transforms.resize(image, 4, 5) == expected).all()
    layers = np.concatenate([image, image, image], axis=2)
    resized = albumentations_transforms.resize(layers, 4, 5)
    assert (resized == np.concatenate([expected] * 3, axis=2)).all()
    assert albumentations_transforms.resize(image[:, :, 0], 4, 5).shape == (4, 5)


DATASET = {"data/base.py": """
    class ISDataset:
        def __init__(self, augmentator):
            self.augmentator = augmentator
        def augment_sample(self, sample):
            return self.augmentator(image=sample)["image"]
        def __len__(self):
            return 2
        def __getitem__(self, index):
            import numpy as np
            image = np.arange(64 * 64 * 3, dtype="uint8").reshape(64, 64, 3)
            return self.augment_sample(image)
"""}


def draws_of_two_workers(module) -> tuple[np.ndarray, np.ndarray]:
    """What each of two forked workers makes of the same image."""
    dataset = module.ISDataset(albumentations.Compose([albumentations.RandomCrop(4, 4)]))
    context = "fork" if sys.platform == "linux" else None
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(dataset, num_workers=2, multiprocessing_context=context)
    first, second = (batch.numpy() for batch in loader)
    return first, second


def test_workers_draw_different_augmentations(tmp_path):
    (patch,) = albumentations_seeds.PATCHES
    if not patch.needed()[0]:
        pytest.skip("Compose of this albumentations has no generator of its own")
    with toy(tmp_path, DATASET, patch) as code_base:
        same, alike = draws_of_two_workers(code_base.load("data.base", patched=False))
        assert (same == alike).all(), "the workers differ without the patch"
        one, other = draws_of_two_workers(code_base.load("data.base"))
        assert (one != other).any()


def test_seed_patch_stands_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(albumentations, "Compose", object)
    with toy(tmp_path, DATASET, *albumentations_seeds.PATCHES) as code_base:
        assert code_base.status("albumentations_seeds").state == NOT_NEEDED


HEAD = {"model/modeling/segformer/segformer_head.py": """
    from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
    import attr
    from IPython import embed
    fuse = ConvModule(in_channels=8, out_channels=4, kernel_size=1,
                      norm_cfg=dict(type='BN', requires_grad=True))
"""}


@pytest.fixture
def nothing_installed(monkeypatch):
    """Hide the optional libraries from the import system and from the patches."""
    hidden = ("mmcv", "IPython", "attr", "timm", "termcolor")
    for name in [n for n in sys.modules if n.partition(".")[0] in hidden]:
        monkeypatch.delitem(sys.modules, name)
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(missing_imports, "installed", lambda name: False)


def test_segformer_head_loads_without_mmcv_ipython_and_attr(tmp_path, nothing_installed):
    with toy(tmp_path, HEAD, *missing_imports.PATCHES) as code_base:
        with pytest.raises(ImportError):
            code_base.load("model.modeling.segformer.segformer_head", patched=False)
        module = code_base.load("model.modeling.segformer.segformer_head")
        # The parameter names of mmcv's module: released checkpoints hold them.
        names = {"conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
                 "bn.num_batches_tracked"}
        assert set(module.fuse.state_dict()) == names
        assert module.fuse(torch.randn(2, 8, 3, 3)).min() >= 0
        with pytest.raises(RuntimeError, match="IPython is not installed"):
            module.embed()
        assert sys.modules["mmcv"] is None and "mmcv.cnn" not in sys.modules


def test_conv_module_matches_its_definition_and_refuses_what_it_has_not():
    block = missing_imports.ConvModule(3, 5, 3, stride=2, padding=1)
    assert block.conv.bias is not None and not hasattr(block, "bn")
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(block(x), torch.relu(nn.functional.conv2d(x, *block.conv.parameters(),
                                                                 stride=2, padding=1)))
    separable = missing_imports.DepthwiseSeparableConvModule(3, 5, 3, padding=1)
    assert separable(x).shape == (1, 5, 8, 8)
    with pytest.raises(ValueError, match="norm GN"):
        missing_imports.ConvModule(3, 5, 1, norm_cfg={"type": "GN"})


def test_imports_stand_aside_for_installed_libraries(tmp_path, monkeypatch):
    monkeypatch.setattr(missing_imports, "installed", lambda name: True)
    with toy(tmp_path, HEAD, *missing_imports.PATCHES) as code_base:
        for name in ("mmcv_convmodule", "ipython_embed", "attr_import", "termcolor_import"):
            assert code_base.status(name).state == NOT_NEEDED, name


TIMM_USER = {"model/modeling/segformer/mix_transformer.py": """
    from timm.models.layers import DropPath, to_2tuple, trunc_normal_
    from timm.models.registry import register_model
    from timm.models.vision_transformer import _cfg
    @register_model
    def build():
        return to_2tuple(3), _cfg()
"""}


def test_old_timm_modules_without_timm(tmp_path, nothing_installed):
    name = "model.modeling.segformer.mix_transformer"
    with toy(tmp_path, TIMM_USER, *missing_imports.PATCHES) as code_base:
        with pytest.raises(ImportError):
            code_base.load(name, patched=False)
        module = code_base.load(name)
        assert module.build()[0] == (3, 3)
        drop = module.DropPath(0.5)
        torch.manual_seed(0)
        x = torch.ones(2000, 2, 3)
        y = drop(x)
        assert set(y.unique().tolist()) == {0.0, 2.0}  # whole samples, scaled by 1 / keep
        assert (y.flatten(1).std(dim=1) == 0).all() and 0.9 < y.mean() < 1.1
        assert torch.equal(drop.eval()(x), x)


def test_timm_patch_stands_aside_for_old_timm(monkeypatch):
    monkeypatch.setattr(missing_imports, "installed", lambda name: True)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.6.12")
    patch = next(p for p in missing_imports.PATCHES if p.name == "timm_layers")
    assert patch.needed() == (False, "timm 0.6.12 still has these modules in their place")


OPS = {"model/ops.py": """
    import torch
    class DistMaps: pass
    def grid():
        return torch.meshgrid(torch.arange(2), torch.arange(3))
"""}


@pytest.fixture
def every_warning():
    """Let torch warn every time; it counts its warnings once for the whole process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def test_meshgrid_is_silent_and_keeps_its_meaning(tmp_path, every_warning):
    (patch,) = meshgrid.PATCHES
    if not patch.needed()[0]:
        pytest.skip("this torch does not warn")
    with toy(tmp_path, OPS, patch) as code_base, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="indexing"):
            code_base.load("model.ops", patched=False).grid()
        rows, cols = code_base.load("model.ops").grid()
        assert rows.tolist() == [[0, 0, 0], [1, 1, 1]] and cols.tolist() == [[0, 1, 2]] * 2


def test_meshgrid_stands_aside(monkeypatch):
    quiet = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
    monkeypatch.setattr(torch, "meshgrid", lambda *tensors: quiet)
    assert not meshgrid.PATCHES[0].needed()[0]


CANVAS = {"canvas.py": "from PIL import Image\ndef smooth():\n    return Image.ANTIALIAS\n"}


def test_pillow_filter(tmp_path, monkeypatch):
    from PIL import Image

    (patch,) = pillow_filters.PATCHES
    monkeypatch.setattr(patch, "targets", ("isegm.canvas",))
    monkeypatch.delattr(Image, "ANTIALIAS", raising=False)
    with toy(tmp_path, CANVAS, patch) as code_base:
        with pytest.raises(AttributeError):
            code_base.load("canvas", patched=False).smooth()
        assert code_base.load("canvas").smooth() == Image.LANCZOS
    monkeypatch.setattr(Image, "ANTIALIAS", 1, raising=False)
    assert not patch.needed()[0]


SMALL = {"data/base.py": """
    import skimage
    def clean(mask):
        return skimage.morphology.remove_small_objects(mask, min_size=4)
"""}


def test_small_objects_threshold_is_unchanged(tmp_path):
    pytest.importorskip("skimage")
    (patch,) = small_objects.PATCHES
    if not patch.needed()[0]:
        pytest.skip("this scikit-image takes min_size")
    mask = np.zeros((8, 8), bool)
    mask[0, :3] = mask[2, :4] = True
    with toy(tmp_path, SMALL, patch) as code_base, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((FutureWarning, TypeError)):
            code_base.load("data.base", patched=False).clean(mask)
        kept = code_base.load("data.base").clean(mask)
    assert kept.sum() == 4 and kept[2, :4].all()


def test_small_objects_stands_aside(monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr(small_objects, "takes_max_size", lambda: False)
    assert not small_objects.PATCHES[0].needed()[0]


LOADER = {"inference/utils.py": """
    import torch
    def read(path):
        return torch.load(path, map_location='cpu')
"""}


class Payload:
    """A pickled object that is none of the harmless types."""


def test_older_checkpoints_load_and_unknown_objects_do_not(tmp_path, monkeypatch):
    from easydict import EasyDict

    (patch,) = torch_load.PATCHES
    value = {"config": EasyDict(width=np.float64(18.0), small=np.bool_(True)), "w": torch.ones(2)}
    torch.save(value, tmp_path / "old.pth")
    torch.save({"x": Payload()}, tmp_path / "bad.pth")
    with toy(tmp_path, LOADER, patch) as code_base:
        with pytest.raises(Exception, match="[Ww]eights"):
            code_base.load("inference.utils", patched=False).read(tmp_path / "old.pth")
        read = code_base.load("inference.utils").read
        loaded = read(tmp_path / "old.pth")
        assert loaded["config"].width == 18 and torch.equal(loaded["w"], torch.ones(2))
        with pytest.raises(RuntimeError, match="--trust-checkpoints"):
            read(tmp_path / "bad.pth")
        monkeypatch.setattr(torch_load.options.current, "trust_checkpoints", True)
        assert isinstance(read(tmp_path / "bad.pth")["x"], Payload)
    assert torch.load is not torch_load.load


def test_plain_checkpoint_loads_with_and_without(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "plain.pth")
    with toy(tmp_path, LOADER, *torch_load.PATCHES) as code_base:
        for patched in (False, True):
            read = code_base.load("inference.utils", patched=patched).read
            assert torch.equal(read(tmp_path / "plain.pth")["w"], torch.ones(2))


TRAINER = {"engine/focalclick_trainer.py": """
    import torch
    from torch.cuda.amp import GradScaler
    from torch.utils.data import DataLoader
    scaler = GradScaler()
    class ISTrainer:
        def __init__(self, milestones):
            optim = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
            optim.step()
            self.lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optim, milestones, 0.1)
"""}


def test_logged_rate_is_the_rate_in_force(tmp_path):
    with toy(tmp_path, TRAINER, *training_warnings.PATCHES, kind=CLICKSEG) as code_base:
        def rate(patched):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = code_base.load("engine.focalclick_trainer", patched=patched)
                scheduler = module.ISTrainer([1]).lr_scheduler
                scheduler.step()
                return scheduler.get_lr()[-1]

        assert rate(patched=False) == pytest.approx(0.01)  # what the stock script logs
        assert rate(patched=True) == pytest.approx(0.1)


def test_unused_grad_scaler_is_quiet(tmp_path):
    with toy(tmp_path, TRAINER, *training_warnings.PATCHES, kind=CLICKSEG) as code_base:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code_base.load("engine.focalclick_trainer", patched=False)
        assert any("GradScaler" in str(w.message) for w in caught)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code_base.load("engine.focalclick_trainer")


def test_trainer_without_its_class_is_reported(tmp_path):
    files = {"engine/focalclick_trainer.py": "from torch.cuda.amp import GradScaler\n"}
    with toy(tmp_path, files, *training_warnings.PATCHES, kind=CLICKSEG) as code_base:
        code_base.load("engine.focalclick_trainer")
        status = code_base.status("scheduler_rate")
        assert status.state == CANNOT_APPLY and "no ISTrainer" in status.detail


def test_aliases_are_the_builtins():
    for name, value in numpy_aliases.missing_aliases().items():
        assert value is getattr(builtins, name)
