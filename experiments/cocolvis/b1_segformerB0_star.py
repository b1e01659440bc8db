"""Ours-B1-segformerB0* on COCO+LVIS, a row of Table 1.

    fdrn run --codebase ClickSEG --set LVIS_v1_PATH=DIR train.py \
        experiments/cocolvis/b1_segformerB0_star.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "cocolvis_b1_segformerB0_star"
RUN = paper.PaperRun("B1-segformerB0-star", "coco_lvis")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
