"""Table 7, without decoupled clicks: all clicks encoded together.

    fdrn run --codebase RITM --set LVIS_v1_PATH=DIR train.py \
        experiments/ablations/table7_one_click_map.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "ablation_table7_one_click_map"
RUN = paper.PaperRun("H2-hrnet18s", "coco_lvis", decouple_clicks=False)


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
