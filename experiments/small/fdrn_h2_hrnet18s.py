"""FDRN H2-hrnet18s by the stock trainer on a small folder in the DAVIS layout, for a CPU.

The same data, losses and schedule as `ritm_hrnet18s.py` beside it; without dynamic-scale learning
(Sec. 3.4), so F1 sees the crop itself.

    fdrn run --codebase RITM --cpu --set COCO_MVAL_PATH=DIR train.py \
        experiments/small/fdrn_h2_hrnet18s.py --workers 2
"""

import importlib.util
from pathlib import Path

import fdrn_adapter

MODEL_NAME = "small_fdrn_h2_hrnet18s"


def _baseline():
    path = Path(__file__).with_name("ritm_hrnet18s.py")
    spec = importlib.util.spec_from_file_location("ritm_hrnet18s", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(cfg):
    model, model_cfg = init_model(cfg)
    _baseline().train(model, cfg, model_cfg)


def init_model(cfg):
    host, model_cfg = _baseline().init_model(cfg)
    return fdrn_adapter.wrap(host, b_low=3, b_high=3, init="paper"), model_cfg
