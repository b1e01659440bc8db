"""Ours-H1-hrnet18 on SBD, a row of Table 1.

    fdrn run --codebase RITM --set SBD_PATH=DIR train.py \
        experiments/sbd/h1_hrnet18.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "sbd_h1_hrnet18"
RUN = paper.PaperRun("H1-hrnet18", "sbd")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
