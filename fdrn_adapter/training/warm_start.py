"""Warm start: an FDRN out of a trained stock network, which it equals until it is trained.

`wrap(init="identity")` changes no output. First the parts that it added are trained alone, with the
host as it is, then everything at a lower learning rate than from ImageNet weights.
"""

import logging
from typing import Any

from torch import nn

from fdrn_adapter.hosts.catalogue import describe_host, family_of, is_fdrn
from fdrn_adapter.model import checkpoint
from fdrn_adapter.model.wrapping import wrap
from fdrn_adapter.training import imagenet, paper
from fdrn_adapter.training.paper import Schedule

logger = logging.getLogger(__name__)

# Not from the paper, which trains from ImageNet weights only.
SCHEDULE = Schedule(
    epochs=40, epoch_len=30_000, milestones=(30, 36), lr=1e-4, adapter_epochs=10
)


def init_model(cfg: Any, code_base: str, plan: Schedule = SCHEDULE) -> tuple[nn.Module, Any]:
    """The FDRN around the stock network of cfg.HOST_CHECKPOINT, and the stock `model_cfg`.

    F1 is cfg.ENCODER ("hrnet18" and so on; default: see `wrap`). It starts from the host's weights
    where it is the same network, else from ImageNet's.

    Args:
        cfg: of the stock train.py.
        code_base: "ritm" or "focalclick", whose checkpoints are meant.
        plan: before the user's changes.

    Raises:
        ValueError: no checkpoint, one of an FDRN or of the other code base, or missing weights.
    """
    host, path = _host(cfg)
    info = describe_host(host)
    if info.refines != (code_base == "focalclick"):
        raise ValueError(
            f"{path} holds {'a FocalClick' if info.refines else 'a RITM'} network, and this is the "
            f"experiment for {code_base}: use the other one in experiments/warm_start/."
        )
    params = {name: value["value"] for name, value in host._config["params"].items()}
    encoder = cfg.get("ENCODER") or family_of(info).default_encoder
    weights = None
    if not encoder.startswith("timm:"):
        weights = imagenet.encoder_weights(cfg, encoder, imagenet.host_entry(params), path)
    elif imagenet.wanted(cfg):
        weights = "pretrained"
    model = wrap(host, copy=False, encoder=encoder, encoder_weights=weights, init="identity")
    logger.info("FDRN of %s; F1 %s starts from %s.", path, encoder, model.encoder_source)
    model = model.train().to(cfg.device)
    return model, paper.model_config(plan.overridden(cfg), info.package)


def train(model: nn.Module, cfg: Any, model_cfg: Any, plan: Schedule = SCHEDULE) -> None:
    """Train the adapter parts, then everything, on cfg.DATA ("coco_lvis", "sbd"; see `sources`)."""
    package = model.info.package
    data = cfg.get("DATA", "coco_lvis")
    paper.fit(model, cfg, model_cfg, package, data, plan.overridden(cfg))


def _host(cfg: Any) -> tuple[nn.Module, str]:
    path = cfg.get("HOST_CHECKPOINT")
    if not path:
        raise ValueError(
            "A warm start needs a trained stock network: --set HOST_CHECKPOINT=FILE, a checkpoint "
            "of the stock trainer or a released one."
        )
    host = checkpoint.load(path)
    if is_fdrn(host):
        raise ValueError(
            f"{path} holds an FDRN already. A warm start wraps the stock network itself: name the "
            "checkpoint that `fdrn wrap` took. To go on training an FDRN that was trained, pass it "
            "to train.py as --weights of the experiment that it comes from."
        )
    return host, str(path)
