"""Table 7 on the light recipe: the FDRN trained on crops of one scale.

Run like `lite_fdrn.py`; `model_zoo/lite-fdrn-context/training.md` tells what came of it.
"""

from fdrn_adapter.training import lite

MODEL_NAME = "small_lite_fixed_scale"
RECIPE = lite.Lite(dynamic_scale=False)


def main(cfg):
    model, model_cfg = init_model(cfg)
    lite.train(model, cfg, model_cfg, RECIPE)


def init_model(cfg):
    return lite.init_model(cfg, RECIPE)
