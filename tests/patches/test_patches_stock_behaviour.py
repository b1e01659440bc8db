"""Patches for what stock code does itself: experiments, devices, data sets, undo, predictors."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from fdrn_adapter.patches import (
    cpu_dist_maps,
    cpu_training,
    dataset_errors,
    experiment,
    get_predictor,
    options,
    resize_state,
    vis_folder,
)
from fdrn_adapter.patches.framework import APPLIED, CANNOT_APPLY, CLICKSEG, RITM
from support.codebase_fixtures import TOY, toy


@pytest.fixture
def run(monkeypatch):
    """Options of this run, restored afterwards."""
    for name, value in vars(options.RunOptions()).items():
        monkeypatch.setattr(options.current, name, value)
    return options.current


EXP = {"utils/exp.py": """
    import torch, yaml
    from easydict import EasyDict as edict
    from pathlib import Path

    def load_config_file(config_path, model_name=None, return_edict=False):
        cfg = yaml.safe_load(Path(config_path).read_text())
        return edict(cfg) if return_edict else cfg

    def load_config(model_path):
        found = model_path.parent / 'config.yml'
        return edict(load_config_file(found)) if found.exists() else edict()

    def get_model_family_tree(model_path, terminate_name='models', model_name=None):
        tree = [model_name or model_path.stem]
        for parent in model_path.parents:
            if parent.stem == terminate_name:
                return tree[::-1]
            tree.append(parent.stem)
        return None

    def init_experiment(args, model_name):
        cfg = edict(local_rank=args.local_rank)
        if args.distributed:
            torch.distributed.init_process_group(backend='nccl', init_method='env://')
            torch.cuda.set_device(args.local_rank)
        cfg.device = torch.device('cuda:0')
        return cfg
"""}


def make_args(**values):
    return types.SimpleNamespace(**{"local_rank": 0, "distributed": False, "gpus": "",
                                    "ngpus": 1, **values})


@pytest.mark.parametrize(("path", "tree"), [
    ("/x/experiments/fdrn/h2.py", ["fdrn", "net"]),
    ("/x/mine/h2.py", ["net"]),
    ("/x/models/iter/h2.py", ["iter", "net"]),
])
def test_experiment_outside_models(tmp_path, path, tree):
    with toy(tmp_path, EXP, *experiment.PATCHES) as code_base:
        stock = code_base.load("utils.exp", patched=False)
        assert (stock.get_model_family_tree(Path(path)) is None) == ("/models/" not in path)
        module = code_base.load("utils.exp")
        assert module.get_model_family_tree(Path(path), model_name="net") == tree


def test_config_overrides_and_the_checkouts_config_as_last_resort(tmp_path, run):
    (tmp_path / "config.yml").write_text("EXPS_PATH: ./experiments\nSBD_PATH: stock\n")
    model = tmp_path / "elsewhere" / "model.py"
    with toy(tmp_path, EXP, *experiment.PATCHES) as code_base:
        assert code_base.load("utils.exp", patched=False).load_config(model) == {}
        module = code_base.load("utils.exp")
        run.root = tmp_path
        run.config = {"EXPS_PATH": "mine", "WEIGHTS.HRNET": "w.pth"}
        config = module.load_config(model)
        assert (config.EXPS_PATH, config.SBD_PATH, config.WEIGHTS.HRNET) == ("mine", "stock",
                                                                            "w.pth")
        loaded = module.load_config_file(tmp_path / "config.yml", return_edict=True)
        assert loaded.EXPS_PATH == "mine" and loaded.WEIGHTS.HRNET == "w.pth"


def test_config_without_overrides_is_the_stock_config(tmp_path, run):
    (tmp_path / "config.yml").write_text("EXPS_PATH: ./experiments\n")
    with toy(tmp_path, EXP, *experiment.PATCHES) as code_base:
        for patched in (False, True):
            module = code_base.load("utils.exp", patched=patched)
            config = module.load_config_file(tmp_path / "config.yml")
            assert config == {"EXPS_PATH": "./experiments"}


def test_local_rank_comes_from_torchrun(tmp_path, monkeypatch, run):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with toy(tmp_path, EXP, *cpu_training.PATCHES) as code_base:
        args = make_args()
        stock = code_base.load("utils.exp", patched=False).init_experiment
        assert stock(args, "m").local_rank == 0
        init = code_base.load("utils.exp").init_experiment
        assert init(make_args(), "m").local_rank == 1
        assert init(make_args(local_rank=3), "m").local_rank == 3  # the old launcher passes it
        monkeypatch.delenv("LOCAL_RANK")
        assert init(make_args(), "m").local_rank == 0


def test_experiment_on_the_cpu(tmp_path, monkeypatch, run):
    calls = []
    monkeypatch.setattr(torch.distributed, "init_process_group",
                        lambda **kwargs: calls.append(kwargs))
    with toy(tmp_path, EXP, *cpu_training.PATCHES) as code_base:
        assert code_base.load("utils.exp").init_experiment(make_args(), "m").device.type == "cuda"
        run.cpu = True
        stock = code_base.load("utils.exp", patched=False).init_experiment
        assert stock(make_args(), "m").device.type == "cuda"
        module = code_base.load("utils.exp")
        cfg = module.init_experiment(make_args(distributed=True), "m")
        assert cfg.device == torch.device("cpu")
        assert calls == [{"backend": "gloo", "init_method": "env://"}]
        with pytest.raises(ValueError, match="torchrun"):
            module.init_experiment(make_args(ngpus=2), "m")
        assert torch.device("cuda:0").type == "cuda"


PARALLEL = {"utils/distributed.py": """
    import torch
    def get_dp_wrapper(distributed):
        class Wrapper(torch.nn.Module):
            def __init__(self, net, device_ids=None, output_device=None):
                super().__init__()
                if device_ids is not None:
                    raise ValueError('device_ids for a module on the CPU')
                self.module = net
        return Wrapper
"""}


def test_parallel_wrapper_drops_gpu_ids_on_the_cpu_only(tmp_path, run):
    with toy(tmp_path, PARALLEL, *cpu_training.PATCHES) as code_base:
        module = code_base.load("utils.distributed")
        with pytest.raises(ValueError, match="device_ids"):
            module.get_dp_wrapper(True)(torch.nn.Identity(), device_ids=[0], output_device=0)
        run.cpu = True
        wrapped = module.get_dp_wrapper(True)(torch.nn.Identity(), device_ids=[0], output_device=0)
        assert isinstance(wrapped.module, torch.nn.Identity)


def test_loader_does_not_pin_memory_without_a_gpu(tmp_path, monkeypatch):
    patch = next(p for p in cpu_training.PATCHES if p.name == "pin_memory")
    files = {"engine/trainer.py": """
        from torch.utils.data import DataLoader
        def make():
            return DataLoader([1, 2], pin_memory=True)
    """}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with toy(tmp_path, files, patch) as code_base:
        assert code_base.load("engine.trainer", patched=False).make().pin_memory
        assert not code_base.load("engine.trainer").make().pin_memory
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not patch.needed()[0]


SPINNING = {"data/base.py": """
    import random
    class ISDataset:
        def __init__(self, fails=0, accept=True, error=KeyError):
            self.fails, self.accept, self.error = fails, accept, error
        def __getitem__(self, index):
            while(1):
                try:
                    if self.fails:
                        self.fails -= 1
                        raise self.error('no such file')
                    if self.accept:
                        return index
                    index = 7
                except:
                    index = random.randint(0, 3)
"""}


@pytest.fixture
def spinning(tmp_path):
    with toy(tmp_path, SPINNING, *dataset_errors.PATCHES, kind=CLICKSEG) as code_base:
        yield code_base


def test_data_set_reports_instead_of_spinning(spinning, caplog):
    stock = spinning.load("data.base", patched=False).ISDataset(fails=10_000)
    assert stock[0] in range(4) and stock.fails == 0, "the stock loop swallowed 10000 errors"
    dataset = spinning.load("data.base").ISDataset(fails=10_000)
    with caplog.at_level(logging.WARNING), pytest.raises(
        dataset_errors.DatasetError, match=r"20 x KeyError: 'no such file'"
    ):
        dataset[0]
    assert len(caplog.records) == 1 and "base.py" in caplog.text  # once, with its traceback
    assert spinning.status("dataset_errors").state == APPLIED


def test_data_set_survives_a_few_bad_samples(spinning):
    dataset = spinning.load("data.base").ISDataset(fails=5)
    assert dataset[0] in range(4)
    dataset.fails = 15
    assert dataset[0] in range(4), "failures count for one sample, not for the whole training"


def test_data_set_does_not_swallow_ctrl_c(spinning):
    stock = spinning.load("data.base", patched=False).ISDataset(fails=1, error=KeyboardInterrupt)
    assert stock[0] in range(4)
    with pytest.raises(KeyboardInterrupt):
        spinning.load("data.base").ISDataset(fails=1, error=KeyboardInterrupt)[0]


def test_data_set_that_accepts_nothing_says_so(spinning):
    with pytest.raises(dataset_errors.DatasetError, match="min_object_area"):
        spinning.load("data.base").ISDataset(accept=False)[0]


@pytest.mark.parametrize(("body", "state"), [
    ("return index", APPLIED),  # nothing is swallowed, nothing to do
    ("""
            for i in range(3):
                try:
                    return index
                except:
                    pass
     """, CANNOT_APPLY),
])
def test_data_set_of_another_shape(tmp_path, body, state):
    source = f"class ISDataset:\n    def __getitem__(self, index):\n        {body.strip()}\n"
    with toy(tmp_path, {"data/base.py": source}, *dataset_errors.PATCHES,
             kind=CLICKSEG) as code_base:
        dataset = code_base.load("data.base").ISDataset()
        assert dataset[5] == 5
        assert code_base.status("dataset_errors").state == state


def brute_force(points, height, width, norm):
    """Squared distance pixel by pixel, from the definition."""
    maps = np.full((2, height, width), 1e6)
    for i, (row, col, _) in enumerate(points):
        if row >= 0:
            for r in range(height):
                for c in range(width):
                    d = ((r - round(row)) / norm) ** 2 + ((c - round(col)) / norm) ** 2
                    sign = int(i >= len(points) // 2)
                    maps[sign, r, c] = min(maps[sign, r, c], d)
    return maps


@pytest.mark.parametrize("norm", [1.0, 5.0, 260.0])
def test_cpu_dist_maps_are_the_exact_distances(norm):
    rng = np.random.default_rng(0)
    points = np.full((6, 3), -1, np.float32)
    points[[0, 1, 3]] = rng.uniform(0, 14, (3, 3))
    expected = brute_force(points, 15, 17, norm)
    maps = cpu_dist_maps.get_dist_maps(points, 15, 17, norm)
    assert maps.dtype == np.float32 and np.allclose(maps, expected, rtol=1e-6)
    points[:] = -1
    assert (cpu_dist_maps.get_dist_maps(points, 3, 4, norm) == 1e6).all()


CYTHON = {
    "utils/cython/__init__.py": "from .dist_maps import get_dist_maps\n",
    "utils/cython/dist_maps.py": """
        import pyximport_that_is_not_there
        from ._get_dist_maps import get_dist_maps
    """,
}


def test_cpu_dist_maps_need_no_compiler(tmp_path):
    with toy(tmp_path, CYTHON, *cpu_dist_maps.PATCHES, kind=RITM) as code_base:
        with pytest.raises(ImportError):
            code_base.load("utils.cython", patched=False)
        assert code_base.load("utils.cython").get_dist_maps is cpu_dist_maps.get_dist_maps


def test_cpu_dist_maps_stand_aside_for_a_compiled_module(tmp_path):
    files = {**CYTHON, "utils/cython/_get_dist_maps.py": "def get_dist_maps(): return 'own'\n"}
    with toy(tmp_path, files, *cpu_dist_maps.PATCHES, kind=RITM) as code_base:
        assert code_base.load("utils.cython").get_dist_maps() == "own"


RESIZE = {"inference/transforms/resize.py": """
    class ResizeTrans:
        def transform(self, shape):
            self.image_height, self.image_width = shape
        def inv_transform(self):
            return self.image_height, self.image_width
        def get_state(self):
            return self.x_offsets
        def set_state(self, state):
            self.x_offsets = state
        def reset(self):
            self.x_offsets = None
"""}


def test_undo_restores_the_size(tmp_path):
    def undone_size(module):
        transform = module.ResizeTrans()
        transform.reset()
        transform.transform((30, 40))
        state = transform.get_state()
        transform.transform((50, 60))
        transform.set_state(state)
        return transform.inv_transform()

    name = "inference.transforms.resize"
    with toy(tmp_path, RESIZE, *resize_state.PATCHES, kind=CLICKSEG) as code_base:
        assert undone_size(code_base.load(name, patched=False)) == (50, 60)
        assert undone_size(code_base.load(name)) == (30, 40)


def test_undo_patch_stands_aside(tmp_path):
    fixed = {k: v.replace("self.x_offsets", "self.image_height, self.image_width", 1)
             for k, v in RESIZE.items()}
    with toy(tmp_path, fixed, *resize_state.PATCHES, kind=CLICKSEG) as code_base:
        code_base.load("inference.transforms.resize")
        assert "saves the size itself" in code_base.status("resize_state").detail


EVALUATION = {"inference/evaluation.py": """
    import os, shutil
    def evaluate_dataset(name, vis=True, vis_path='./experiments/vis_val/'):
        folder = vis_path + name + '/'
        if os.path.exists(folder):
            shutil.rmtree(folder)
        os.makedirs(folder)
        open(folder + 'new.png', 'w').close()
        return folder
"""}


def test_evaluation_keeps_what_it_did_not_write(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "experiments" / "vis_val" / "GrabCut" / "mine.txt"
    with toy(tmp_path, EVALUATION, *vis_folder.PATCHES, kind=CLICKSEG) as code_base:
        mine.parent.mkdir(parents=True)
        mine.write_text("work of weeks")
        code_base.load("inference.evaluation", patched=False).evaluate_dataset("GrabCut")
        assert not mine.exists(), "the stock code deletes it"

        mine.write_text("work of weeks")
        evaluate = code_base.load("inference.evaluation").evaluate_dataset
        evaluate("GrabCut")
        kept = mine.parent.with_name("GrabCut.kept1") / "mine.txt"
        assert kept.read_text() == "work of weeks" and not mine.exists()
        evaluate("GrabCut")  # its own folder is replaced as before
        assert sorted(p.name for p in mine.parent.parent.iterdir()) == ["GrabCut", "GrabCut.kept1"]

        run.config = {"EXPS_PATH": str(tmp_path / "out")}
        assert evaluate("GrabCut") == str(tmp_path / "out" / "vis_val") + "/GrabCut/"


PREDICTORS = {"inference/predictors/__init__.py": """
    class BasePredictor:
        def __init__(self, net, device, zoom_in=None, **kwargs):
            self.net, self.zoom_in, self.kwargs = net, zoom_in, kwargs
        def set_input_image(self, image):
            pass
    class BRSBasePredictor(BasePredictor):
        pass
    class FeatureBRSPredictor(BRSBasePredictor):
        pass
    def get_predictor(net, brs_mode, device, with_flip=True, zoom_in_params=dict()):
        zoom_in = ('zoom', zoom_in_params)
        if brs_mode == 'NoBRS':
            return BasePredictor(net, device, zoom_in=zoom_in, with_flip=with_flip)
        return FeatureBRSPredictor(net, device, zoom_in=zoom_in, with_flip=with_flip)
"""}


class FdrnNet(torch.nn.Module):
    is_fdrn = True


@pytest.fixture
def recycling(monkeypatch):
    """A stub in place of fdrn_adapter.session.predictor that records how it was called."""
    calls = []

    def recycling_predictor_for(base_class, net, device, **kwargs):
        calls.append((base_class, net, device, kwargs))
        return "recycling"

    importlib.import_module("fdrn_adapter.session")  # the package, which needs the real one
    stub = types.ModuleType("fdrn_adapter.session.predictor")
    stub.recycling_predictor_for = recycling_predictor_for
    monkeypatch.setitem(sys.modules, "fdrn_adapter.session.predictor", stub)
    return calls


def test_fdrn_network_gets_the_recycling_predictor(tmp_path, recycling):
    with toy(tmp_path, PREDICTORS, *get_predictor.PATCHES) as code_base:
        net = FdrnNet()
        stock = code_base.load("inference.predictors", patched=False)
        assert type(stock.get_predictor(net, "NoBRS", "cpu")) is stock.BasePredictor
        module = code_base.load("inference.predictors")
        predictor = module.get_predictor(net, "NoBRS", device="cpu", zoom_in_params={"a": 1})
        assert predictor == "recycling"
        arguments = {"zoom_in": ("zoom", {"a": 1}), "with_flip": True}
        assert recycling == [(module.BasePredictor, net, "cpu", arguments)]
        assert module.get_predictor((net, [net]), "NoBRS", "cpu") == "recycling"


def test_stock_network_gets_the_stock_predictor(tmp_path, recycling):
    with toy(tmp_path, PREDICTORS, *get_predictor.PATCHES) as code_base:
        module = code_base.load("inference.predictors")
        net = torch.nn.Identity()
        assert type(module.get_predictor(net, "NoBRS", "cpu")) is module.BasePredictor
        assert type(module.get_predictor(net, "f-BRS-B", "cpu")) is module.FeatureBRSPredictor
        assert recycling == []


@pytest.mark.parametrize("mode", ["RGB-BRS", "DistMap-BRS", "f-BRS-B", "CDNet"])
def test_brs_modes_are_refused_for_an_fdrn_network(tmp_path, recycling, mode):
    with toy(tmp_path, PREDICTORS, *get_predictor.PATCHES) as code_base:
        module = code_base.load("inference.predictors")
        with pytest.raises(ValueError, match="NoBRS"):
            module.get_predictor(FdrnNet(), mode, "cpu")


def test_predictor_factory_of_another_shape_is_reported(tmp_path):
    files = {"inference/predictors/__init__.py": "def get_predictor(net): return net\n"}
    with toy(tmp_path, files, *get_predictor.PATCHES) as code_base:
        code_base.load("inference.predictors")
        status = code_base.status("get_predictor")
        assert status.state == CANNOT_APPLY and TOY in status.detail
