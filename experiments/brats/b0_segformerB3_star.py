"""Ours-B0-segformerB3* fine-tuned on BraTS, a row of Table 4.

    fdrn run --codebase ClickSEG --set BRATS_PATH=DIR --set CHECKPOINT=FILE train.py \
        experiments/brats/b0_segformerB3_star.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "brats_b0_segformerB3_star"
RUN = paper.PaperRun("B0-segformerB3-star", "brats")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
