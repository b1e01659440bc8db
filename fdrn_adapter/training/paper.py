"""The paper's training runs: one row of Table 1, 4, 5, 6 or 7 is one `PaperRun`.

What A.1 and Sec. 3.4 state is as they state it: sizes, proportion of the roi, clicks, batch, Adam,
epochs, losses. What they leave open is the stock experiments' choice: weighted sampling of SBD,
colour augmentation, the auxiliary loss of HRNet hosts (0.4), 0.1 of the learning rate for
backbones, 30,000 samples in an epoch of COCO+LVIS. The stock trainers draw 0 to 3 further
interactions where A.1 says 1 to 3. Learning rate and batch of the BraTS fine-tuning are not stated:
a tenth, and 48.

`fdrn run --set KEY=VALUE` reaches everything: EPOCHS, EPOCH_LEN (samples), LR, CROP and GLOBAL
(sides, pixels), PRETRAINED=none, FOLDER=DIR (see `sources`), and --batch-size of train.py.
"""

import importlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from fdrn_adapter import zoo
from fdrn_adapter.hosts.catalogue import encoder_of, host_of, is_fdrn
from fdrn_adapter.model import checkpoint
from fdrn_adapter.model.wrapping import wrap
from fdrn_adapter.training import imagenet, sources
from fdrn_adapter.training.dataset import DynamicScaleDataset
from fdrn_adapter.training.trainer import dynamic_scale_trainer

PROPORTION = (0.3, 1.0)
NEXT_CLICKS = 3


@dataclass(frozen=True)
class Schedule:
    """How long and how fast, A.1 by default.

    Attributes:
        epochs: number of epochs.
        epoch_len: samples in one, -1 for every image once.
        milestones: epochs at which the learning rate goes down to a tenth.
        lr, batch_size: of Adam; the batch is that of all processes together.
        adapter_epochs: train the parts that wrapping added alone for so long (warm start).
        crop: side of the crops in pixels; None for 320 (RITM) or 256 (FocalClick).
        global_side: of the image that F1 sees, pixels.
    """

    epochs: int
    epoch_len: int = -1
    milestones: tuple[int, ...] = (190, 210)
    lr: float = 5e-4
    batch_size: int = 48
    adapter_epochs: int = 0
    crop: int | None = None
    global_side: int = 480

    def overridden(self, cfg: Any) -> "Schedule":
        """With what the user set in cfg."""
        numbers = {
            "EPOCHS": ("epochs", int), "EPOCH_LEN": ("epoch_len", int), "LR": ("lr", float),
            "CROP": ("crop", int), "GLOBAL": ("global_side", int),
            "ADAPTER_EPOCHS": ("adapter_epochs", int),
        }
        given = {name: make(cfg[key]) for key, (name, make) in numbers.items() if key in cfg}
        return replace(self, **given)

    def crop_size(self, package: str) -> tuple[int, int]:
        """Rows and columns of the crops."""
        return (self.crop or (256 if sources.has_refiner(package) else 320),) * 2


SCHEDULES = {
    "sbd": Schedule(epochs=230),
    "coco_lvis": Schedule(epochs=300, epoch_len=30_000),
    "brats": Schedule(epochs=30, milestones=(), lr=5e-5),
}


@dataclass(frozen=True)
class PaperRun:
    """One training run of the paper.

    Attributes:
        variant: name in the zoo, which knows the networks and the b's; a stock network trains on
            the same samples without FDRN.
        data: see `sources.open_source`.
        use_low, use_high, use_mid: Table 5.
        blocks: b_low, b_high, b_low_tilde, b_high_tilde (Table 6); None for the zoo's.
        decouple_clicks, dynamic_scale: Table 7.
        schedule: None for A.1's of the data.
    """

    variant: str
    data: str
    use_low: bool = True
    use_high: bool = True
    use_mid: bool = False
    blocks: tuple[int, int, int, int] | None = None
    decouple_clicks: bool = True
    dynamic_scale: bool = True
    schedule: Schedule | None = None

    @property
    def entry(self) -> zoo.ZooEntry:
        return zoo.info(self.variant)

    @property
    def plan(self) -> Schedule:
        """The schedule, before what the user sets."""
        return self.schedule or SCHEDULES[self.data]

    @property
    def fdrn_options(self) -> dict[str, Any] | None:
        """Arguments of `wrap`; None for a stock network."""
        if self.entry.fdrn is None:
            return None
        options = {**self.entry.fdrn, "use_low": self.use_low, "use_high": self.use_high,
                   "use_mid": self.use_mid, "decouple_clicks": self.decouple_clicks}
        if self.blocks is not None:
            names = ("b_low", "b_high", "b_low_tilde", "b_high_tilde")
            options |= dict(zip(names, self.blocks, strict=True))
        return options


def init_model(cfg: Any, run: PaperRun) -> tuple[nn.Module, Any]:
    """The network of a run, and the stock `model_cfg`.

    Starts from ImageNet weights (host and F1, by the stock cfg entries), or from cfg.CHECKPOINT
    where the run fine-tunes (BraTS).

    Raises:
        ValueError: weights are missing; the message names the cfg entry.
        NoCodeBaseError: the run is of the other code base.
    """
    package = zoo.find_package(run.entry)
    if run.data == "brats" and (imagenet.wanted(cfg) or cfg.get("CHECKPOINT")):
        model = _trained(cfg, run)
    else:
        model = zoo.stock_network(run.entry, package)
        imagenet.start_host(model, cfg, run.entry.host_params, run.variant)
        options = run.fdrn_options
        if options is not None:
            weights = None
            if run.use_low or run.use_mid or run.use_high:
                host = imagenet.host_entry(run.entry.host_params)
                weights = imagenet.encoder_weights(cfg, options["encoder"], host, run.variant)
            model = wrap(model, copy=False, encoder_weights=weights, **options)
    return model.to(cfg.device), model_config(run.plan.overridden(cfg), package)


def model_config(plan: Schedule, package: str) -> Any:
    """What the stock code calls model_cfg."""
    from easydict import EasyDict as edict

    return edict(crop_size=plan.crop_size(package), num_max_points=sources.NUM_MAX_POINTS)


def _trained(cfg: Any, run: PaperRun) -> nn.Module:
    """The run's variant with trained weights, to be fine-tuned."""
    path = cfg.get("CHECKPOINT")
    if not path:
        raise ValueError(
            f"{run.variant} is fine-tuned on {run.data} from trained weights: --set "
            "CHECKPOINT=FILE, a checkpoint of its training on COCO+LVIS."
        )
    model = checkpoint.load(path)
    host, _ = host_of(model)
    have = {name: value["value"] for name, value in host._config["params"].items()}
    wrong = [
        f"{name}={have.get(name)!r} instead of {value!r}"
        for name, value in run.entry.host_params.items() if have.get(name, value) != value
    ]
    if is_fdrn(model) != run.entry.is_fdrn:
        wrong.append("one is an FDRN and the other is not")
    elif run.entry.is_fdrn and model.settings.encoder != run.entry.fdrn["encoder"]:
        wrong.append(f"F1 is {model.settings.encoder!r}")
    if wrong:
        raise ValueError(f"{path} is no checkpoint of {run.variant}: {'; '.join(wrong)}.")
    keep_learning_rates(model)
    return model.train()


def keep_learning_rates(model: nn.Module) -> None:
    """Give F1 of a loaded model the host backbone's share of the learning rate, as `wrap` does."""
    if encoder_of(model) is not None:
        model.image_encoder.train_like(model.host.get_submodule(model.info.backbone))


def train(model: nn.Module, cfg: Any, model_cfg: Any, run: PaperRun) -> None:
    """Train by the stock trainer with the paper's schedule and losses."""
    package = zoo.find_package(run.entry)
    plan = run.plan.overridden(cfg)
    fit(model, cfg, model_cfg, package, run.data, plan, run.dynamic_scale)


def fit(
    model: nn.Module, cfg: Any, model_cfg: Any, package: str, data: str, plan: Schedule,
    dynamic_scale: bool = True,
) -> None:
    """Train by the stock trainer of a code base.

    Args:
        model: an FDRN, or a stock network.
        cfg, model_cfg: of the stock code.
        package: of the stock code.
        data: see `sources.open_source`.
        plan: with the user's changes.
        dynamic_scale: False for crops of a fixed proportion (Table 7).
    """
    cfg.batch_size = plan.batch_size if cfg.batch_size < 1 else cfg.batch_size
    cfg.val_batch_size = cfg.batch_size
    metrics = importlib.import_module(f"{package}.model.metrics")
    engine = "focalclick_trainer" if sources.has_refiner(package) else "trainer"
    stock = importlib.import_module(f"{package}.engine.{engine}").ISTrainer
    trainer = dynamic_scale_trainer(stock)(
        model, cfg, model_cfg, losses(model, package),
        *_datasets(model, cfg, package, data, plan, dynamic_scale),
        optimizer="adam",
        optimizer_params={"lr": plan.lr, "betas": (0.9, 0.999), "eps": 1e-8},
        lr_scheduler=partial(
            torch.optim.lr_scheduler.MultiStepLR, milestones=list(plan.milestones), gamma=0.1
        ),
        checkpoint_interval=[(0, 10), (200, 1)],
        image_dump_interval=int(cfg.get("IMAGE_DUMP_INTERVAL", 3000)),
        metrics=[metrics.AdaptiveIoU()], max_interactive_points=model_cfg.num_max_points,
        max_num_next_clicks=NEXT_CLICKS, adapter_epochs=plan.adapter_epochs,
    )
    trainer.run(num_epochs=plan.epochs)


def _datasets(
    model: nn.Module, cfg: Any, package: str, data: str, plan: Schedule, dynamic_scale: bool
) -> list[DynamicScaleDataset]:
    """For training and validation."""
    few = sources.VALIDATION.get("folder" if cfg.get("FOLDER") else data, 500)
    if "EPOCH_LEN" in cfg:
        few = min(few, max(1, plan.epoch_len // 10))
    lengths = {"train": plan.epoch_len, "val": max(cfg.batch_size, few)}
    return [
        DynamicScaleDataset(
            sources.open_source(cfg, package, data, split, length),
            crop_size=plan.crop_size(package), global_size=(plan.global_side,) * 2,
            proportion=PROPORTION if dynamic_scale else None,
            global_image=encoder_of(model) is not None,
            seed=int(split == "val"),
        )
        for split, length in lengths.items()
    ]


def losses(model: nn.Module, package: str) -> Any:
    """The stock `loss_cfg`.

    RITM: the normalised focal loss. FocalClick, eq. 5: BCE on the boundary map that the refiner
    predicts, normalised focal loss on the coarse mask, and its boundary form on the refined one.
    HRNet hosts keep the stock auxiliary loss.
    """
    from easydict import EasyDict as edict

    stock = importlib.import_module(f"{package}.model.losses")
    terms = {"instance_loss": (stock.NormalizedFocalLossSigmoid(alpha=0.5, gamma=2), 1.0)}
    host, _ = host_of(model)
    if hasattr(host.feature_extractor, "aux_head"):
        terms["instance_aux_loss"] = (stock.SigmoidBinaryCrossEntropyLoss(), 0.4)
    if sources.has_refiner(package):
        terms["trimap_loss"] = (nn.BCEWithLogitsLoss(), 1.0)
        terms["instance_refine_loss"] = (stock.WFNL(alpha=0.5, gamma=2, w=0.5), 1.0)
    loss_cfg = edict()
    for name, (loss, weight) in terms.items():
        loss_cfg[name], loss_cfg[f"{name}_weight"] = loss, weight
    return loss_cfg
