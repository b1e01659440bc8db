"""Table 7, without dynamic scale: crops of a fixed proportion around the object.

    fdrn run --codebase RITM --set LVIS_v1_PATH=DIR train.py \
        experiments/ablations/table7_fixed_scale.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "ablation_table7_fixed_scale"
RUN = paper.PaperRun("H2-hrnet18s", "coco_lvis", dynamic_scale=False)


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
