"""Table 5, f_low, f_mid and f_high: f_mid enters branch 1 by a TFI of its own, at the same block.

The paper's figures of this table are of networks without decoupled clicks: the row of f_low and
f_high (3.80, 5.83, 4.23, 5.55) is that of Table 7 without them.

    fdrn run --codebase RITM --set LVIS_v1_PATH=DIR train.py \
        experiments/ablations/table5_low_mid_high.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "ablation_table5_low_mid_high"
RUN = paper.PaperRun("H2-hrnet18s", "coco_lvis", use_mid=True, decouple_clicks=False)


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
