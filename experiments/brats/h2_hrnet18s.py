"""Ours-H2-hrnet18s fine-tuned on BraTS, a row of Table 4.

    fdrn run --codebase RITM --set BRATS_PATH=DIR --set CHECKPOINT=FILE train.py \
        experiments/brats/h2_hrnet18s.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "brats_h2_hrnet18s"
RUN = paper.PaperRun("H2-hrnet18s", "brats")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
