"""Ours-B0-segformerB3* on COCO+LVIS, a row of Table 1.

    fdrn run --codebase ClickSEG --set LVIS_v1_PATH=DIR train.py \
        experiments/cocolvis/b0_segformerB3_star.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "cocolvis_b0_segformerB3_star"
RUN = paper.PaperRun("B0-segformerB3-star", "coco_lvis")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
