"""Table 6: H2-hrnet18s with b_low, b_high, b_low_tilde, b_high_tilde = 0, 2, 0, 2.

The paper's figures of this table are of networks without decoupled clicks: the row 3, 3, 2, 2 is
that of Table 7 without them.

    fdrn run --codebase RITM --set LVIS_v1_PATH=DIR train.py \
        experiments/ablations/table6_0_2_0_2.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "ablation_table6_0_2_0_2"
RUN = paper.PaperRun("H2-hrnet18s", "coco_lvis", blocks=(0, 2, 0, 2), decouple_clicks=False)


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
