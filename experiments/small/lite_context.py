"""FDRN with a third view of f_high beside f_low: an option that is not in the paper.

Run like `lite_fdrn.py`; `model_zoo/lite-fdrn-context/training.md` tells what came of it.
"""

from fdrn_adapter.training import lite

MODEL_NAME = "small_lite_context"
RECIPE = lite.Lite(context_channels=32)


def main(cfg):
    model, model_cfg = init_model(cfg)
    lite.train(model, cfg, model_cfg, RECIPE)


def init_model(cfg):
    return lite.init_model(cfg, RECIPE)
