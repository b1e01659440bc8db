"""Ours-H2-hrnet18 on COCO+LVIS, a row of Table 1.

    fdrn run --codebase RITM --set LVIS_v1_PATH=DIR train.py \
        experiments/cocolvis/h2_hrnet18.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "cocolvis_h2_hrnet18"
RUN = paper.PaperRun("H2-hrnet18", "coco_lvis")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
