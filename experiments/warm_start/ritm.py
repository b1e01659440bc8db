"""An FDRN out of a trained RITM network: what was added alone for 10 epochs, then everything.

    fdrn run --codebase RITM --set HOST_CHECKPOINT=FILE --set LVIS_v1_PATH=DIR train.py \
        experiments/warm_start/ritm.py

Also --set DATA=sbd --set SBD_PATH=DIR, --set ENCODER=NAME, --set ADAPTER_EPOCHS=N.
"""

from fdrn_adapter.training import warm_start

MODEL_NAME = "warm_start_ritm"


def main(cfg):
    model, model_cfg = init_model(cfg)
    warm_start.train(model, cfg, model_cfg)


def init_model(cfg):
    return warm_start.init_model(cfg, "ritm")
