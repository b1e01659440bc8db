"""The control of lite_fdrn.py: the same stock RITM HRNet without FDRN, trained on a CPU.

    fdrn run --codebase RITM --cpu --set COCO_MVAL_PATH=DIR --set COCO256_PATH=DIR \
        --set CCP_PATH=DIR train.py experiments/small/lite_ritm.py --workers 1

`model_zoo/lite-fdrn-context/training.md` tells what came of it. Add `--resume-exp=000
--resume-prefix=last` to go on with an interrupted run.
"""

from fdrn_adapter.training import lite

MODEL_NAME = "small_lite_ritm"
RECIPE = lite.Lite(fdrn=False)


def main(cfg):
    model, model_cfg = init_model(cfg)
    lite.train(model, cfg, model_cfg, RECIPE)


def init_model(cfg):
    return lite.init_model(cfg, RECIPE)
