"""Ours-H2-hrnet18 fine-tuned on BraTS, a row of Table 4.

    fdrn run --codebase RITM --set BRATS_PATH=DIR --set CHECKPOINT=FILE train.py \
        experiments/brats/h2_hrnet18.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "brats_h2_hrnet18"
RUN = paper.PaperRun("H2-hrnet18", "brats")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
