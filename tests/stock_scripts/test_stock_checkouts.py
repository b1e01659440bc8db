"""The real checkouts: what fails there without the patches and works with them.

Needs FDRN_RITM_ROOT and FDRN_CLICKSEG_ROOT; skipped without.
"""

from __future__ import annotations

import pytest
from support.codebase_fixtures import checkout, hash_tree, outcomes

# Each of these fails on NumPy 2 / torch 2.10+ / albumentations 1.3.1 or 2 with the bare checkout.
COMMON = {
    "numpy_aliases": """
        from isegm.model.modeling.hrnet_ocr import HighResolutionNet
        HighResolutionNet(width=18, ocr_width=16, small=True, num_classes=1)
    """,
    "albumentations_transforms": """
        import numpy as np
        from albumentations import Compose
        from isegm.data.transforms import UniformRandomResize, ZoomIn
        mask = np.zeros((40, 60, 5), np.int32)
        mask[10:30, 10:30, 3] = 9
        image = np.zeros((40, 60, 3), np.uint8)
        out = Compose([UniformRandomResize(scale_range=(1.5, 1.5))])(image=image, mask=mask)
        assert out["image"].shape == (60, 90, 3) and out["mask"].shape == (60, 90, 5)
        assert set(np.unique(out["mask"])) == {0, 9}, np.unique(out["mask"])
        zoom = Compose([ZoomIn(32, 32, min_crop_size=10, p=1.0)])
        out = zoom(image=image, mask=mask)
        assert out["mask"].shape == (32, 32, 5) and set(np.unique(out["mask"])) == {0, 9}
    """,
    "meshgrid": """
        import torch
        from isegm.model.ops import DistMaps
        points = torch.tensor([[[3.0, 4.0, 0.0], [-1.0, -1.0, -1.0]]])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            DistMaps(norm_radius=5, use_disks=True)(torch.zeros(1, 3, 8, 9), points)
    """,
    "cpu_dist_maps": """
        import torch
        from isegm.model.ops import DistMaps
        torch.manual_seed(0)
        points = torch.full((2, 6, 3), -1.0)
        points[:, [0, 1, 3]] = torch.randint(0, 40, (2, 3, 3)).float()
        image = torch.zeros(2, 3, 48, 64)
        for disks in (True, False):
            maps = [DistMaps(5, cpu_mode=cpu, use_disks=disks)(image, points)
                    for cpu in (True, False)]
            assert torch.allclose(*maps, atol=1e-6), disks
    """,
    "experiment_paths": """
        from pathlib import Path
        from isegm.utils.exp import get_model_family_tree
        assert get_model_family_tree(Path("/x/experiments/a/b.py")) == ["a", "b"]
    """,
}
RITM_ONLY = {  # ClickSEG has dropped soft masks
    "replay": """
        import numpy as np, random
        from albumentations import HorizontalFlip, RandomBrightnessContrast, ReplayCompose
        from isegm.data.sample import DSample
        from isegm.data.transforms import UniformRandomResize
        mask = np.zeros((40, 60), np.int32)
        mask[10:30, 10:30] = 1
        sample = DSample(np.zeros((40, 60, 3), np.uint8), mask, objects_ids=[1])
        sample.augment(ReplayCompose([UniformRandomResize(scale_range=(2, 2)), HorizontalFlip(p=1),
                                      RandomBrightnessContrast(p=1)]))
        assert sample.image.shape == (80, 120, 3)
        soft = sample.get_soft_object_mask(0)
        assert soft.shape == (80, 120) and soft[:, 70:90].max() == 1, soft.shape
    """,
}
CLICKSEG_ONLY = {
    "segformer_imports": """
        import torch
        from isegm.model.is_segformer_model import SegFormerModel
        net = SegFormerModel(pipeline_version="s2", model_version="b0", use_rgb_conv=False,
                             use_disks=True, with_prev_mask=True, with_aux_output=True)
        names = set(net.feature_extractor.decode_head.linear_fuse.state_dict())
        assert {"conv.weight", "bn.weight", "bn.running_var"} <= names, names
        assert "conv.bias" not in names
    """,
    "small_objects": """
        import numpy as np
        from isegm.data.base import ISDataset
        mask = np.zeros((1, 80, 80), np.float32)
        mask[0, :30, :30] = 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ISDataset().remove_small_regions(mask).sum() == 900
    """,
    "dataset_errors": """
        import numpy as np
        from isegm.data.base import ISDataset
        class Broken(ISDataset):
            reads = 0
            def get_sample(self, index):
                type(self).reads += 1
                assert type(self).reads < 100, "spun 100 times"
                raise FileNotFoundError("a.jpg")
        dataset = Broken()
        dataset.dataset_samples = [1, 2, 3]
        import signal
        def stop(*_):
            dataset.dataset_samples = []  # makes the stock handler itself fail
        signal.signal(signal.SIGALRM, stop)
        signal.alarm(1)
        try:
            dataset[0]
        except RuntimeError as error:
            assert "20 x FileNotFoundError: a.jpg" in str(error)
        finally:
            signal.alarm(0)
    """,
    "resize_state": """
        import torch
        from isegm.inference.transforms.resize import ResizeTrans
        resize = ResizeTrans(16)
        resize.reset()
        resize.transform(torch.zeros(1, 3, 20, 30), [[]])
        state = resize.get_state()
        resize.transform(torch.zeros(1, 3, 40, 50), [[]])
        resize.set_state(state)
        assert resize.inv_transform(torch.zeros(1, 1, 16, 16)).shape[2:] == (20, 30)
    """,
}


@pytest.mark.parametrize(("variable", "snippets"), [
    ("FDRN_RITM_ROOT", {**COMMON, **RITM_ONLY}),
    ("FDRN_CLICKSEG_ROOT", {**COMMON, **CLICKSEG_ONLY}),
])
def test_fails_without_and_works_with_the_patches(variable, snippets, tmp_path):
    root = checkout(variable)
    before = hash_tree(root)
    plain = outcomes(tmp_path, snippets, activate=None, root=root)
    patched = outcomes(tmp_path, snippets, activate=str(root), root=None)
    assert {name: result for name, result in patched.items() if result != "ok"} == {}
    assert [name for name, result in plain.items() if result == "ok"] == []
    assert hash_tree(root) == before
