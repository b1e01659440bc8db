"""Ours-H2-hrnet18s* on SBD, a row of Table 1.

    fdrn run --codebase ClickSEG --set SBD_PATH=DIR train.py \
        experiments/sbd/h2_hrnet18s_star.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "sbd_h2_hrnet18s_star"
RUN = paper.PaperRun("H2-hrnet18s-star", "sbd")


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
