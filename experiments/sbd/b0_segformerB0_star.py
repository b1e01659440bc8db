"""Ours-B0-segformerB0* on SBD, a row of Table 1.

    fdrn run --codebase ClickSEG --set SBD_PATH=DIR train.py \
        experiments/sbd/b0_segformerB0_star.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "sbd_b0_segformerB0_star"
RUN = paper.PaperRun("B0-segformerB0-star", "sbd")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
