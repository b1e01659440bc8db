"""The control of fdrn_b0_segformerB0_star.py: stock FocalClick SegFormer-B0, same samples,
for a CPU.

    fdrn run --codebase ClickSEG --cpu --set PRETRAINED=none --set COCO_MVAL_PATH=DIR train.py \
        experiments/small/focalclick_segformerB0.py
"""

from fdrn_adapter.training import paper

MODEL_NAME = "small_focalclick_segformerB0"
RUN = paper.PaperRun(
    "Focal-segformerB0", "davis",
    schedule=paper.Schedule(
        epochs=55, epoch_len=400, milestones=(40, 50), batch_size=4, crop=160, global_side=240
    ),
)


def main(cfg):
    model, model_cfg = init_model(cfg)
    paper.train(model, cfg, model_cfg, RUN)


def init_model(cfg):
    return paper.init_model(cfg, RUN)
