"""The stock trainers, fed dynamic-scale samples, resumable step for step."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, RandomSampler, Sampler, SequentialSampler

from fdrn_adapter import schemas
from fdrn_adapter.hosts.catalogue import encoder_of, is_fdrn
from fdrn_adapter.model import checkpoint
from fdrn_adapter.training import state
from fdrn_adapter.training.dataset import PREFIX, seed_all
from fdrn_adapter.training.phases import hold_host

logger = logging.getLogger(__name__)
_STEP = 1_000_003  # keeps the seeds of training steps apart from those of samples


class TrainingDivergedError(RuntimeError):
    """The loss or the weights are NaN or infinite; the last good state is kept."""


class DynamicScaleTrainer:
    """What a stock `ISTrainer` lacks; mixed in by `dynamic_scale_trainer`.

    Losses, click simulation, logging, pictures and checkpoints are the stock trainer's. Added: the
    image is encoded once for the clicks without gradient and once with gradients; a training state
    (weights, optimizer, schedule, average) is written after every epoch, from which training goes
    on step for step; everything random depends on (seed, epoch, step) alone. Stock networks train
    alike, on the same samples: that is what a control needs.

    Args:
        model, cfg, model_cfg, loss_cfg, trainset, valset, *args, **kwargs: the stock trainer's;
            the data sets are DynamicScaleDatasets.
        adapter_epochs: train the parts that wrapping added alone for so many epochs, with the host
            held as it is; then everything (warm start from a trained host).
        next_clicks_at: the stock trainer's max_num_next_clicks by epoch.
        ema_decay: also keep a moving average of the weights, `ema_checkpoint.pth`; None for none.
        seed: of the order of samples and the simulated clicks.

    Raises:
        ValueError: several GPUs in one process (DataParallel).
        TrainingDivergedError: while training: the loss or the weights are not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: Any,
        model_cfg: Any,
        loss_cfg: Any,
        trainset: Any,
        valset: Any,
        *args: Any,
        adapter_epochs: int = 0,
        next_clicks_at: Callable[[int], int] | None = None,
        ema_decay: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        if cfg.multi_gpu and not cfg.distributed:
            raise ValueError(
                f"{cfg.ngpus} GPUs in one process would be DataParallel, which splits a batch but "
                "not its recycled features. Start one process a GPU: torchrun --nproc_per_node="
                f"{cfg.ngpus} train.py ... , or pass --ngpus=1."
            )
        if adapter_epochs and not is_fdrn(model):
            raise ValueError("adapter_epochs is for FDRN models; this is a stock network.")
        if getattr(cfg, "val_batch_size", None) is None:  # which the stock experiments set
            cfg.val_batch_size = cfg.batch_size
        check_fills(trainset, cfg.batch_size)
        check_fills(valset, cfg.val_batch_size)
        super().__init__(model, cfg, model_cfg, loss_cfg, trainset, valset, *args, **kwargs)
        if hasattr(self, "_before_needed_hook"):  # ritm-annotation builds its parts at first use
            self._before_needed_hook()
        self._model = getattr(self.net, "module", self.net)
        self._seed, self._adapter_epochs = seed, adapter_epochs
        self._next_clicks_at = next_clicks_at
        self._epoch = self._batch = 0
        if not cfg.distributed:
            order = RandomSampler(trainset, generator=torch.Generator())
            self.train_data = self._loader(trainset, cfg.batch_size, order)
            self.val_data = self._loader(valset, cfg.val_batch_size, SequentialSampler(valset))
        self.average = None
        if ema_decay is not None:
            self.average = state.MovingAverage(self._model, ema_decay)
            self.optim.register_step_post_hook(lambda *_: self.average.update())
        if cfg.distributed:
            # See batch_forward for why not the stock way.
            self.optim.register_step_pre_hook(lambda *_: average_gradients(self._model))
        self._resume()

    def _loader(self, dataset: Any, batch_size: int, sampler: Sampler) -> DataLoader:
        return DataLoader(
            dataset, batch_size, sampler=sampler, drop_last=True, num_workers=self.cfg.workers,
            pin_memory=torch.cuda.is_available(),
        )

    # -- epochs --------------------------------------------------------------------------------

    def training(self, epoch: int) -> None:
        """One epoch of the stock trainer, and the training state after it."""
        self._start(epoch, self.trainset, epoch)
        sampler = self.train_data.sampler
        if isinstance(sampler, RandomSampler):
            sampler.generator.manual_seed(self._seed * _STEP + epoch)
        if self._next_clicks_at is not None:
            self.max_num_next_clicks = self._next_clicks_at(epoch)
        if self._adapter_epochs:
            hold_host(self._model, epoch < self._adapter_epochs)
        super().training(epoch)
        if self.cfg.distributed:
            share_buffers(self._model)
        self._write_state(epoch)

    def validation(self, epoch: int) -> None:
        """The stock validation, on the same samples after every epoch."""
        self._start(epoch, self.valset, 0)
        super().validation(epoch)

    def _start(self, epoch: int, dataset: Any, data_epoch: int) -> None:
        self._epoch, self._batch = epoch, 0
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(data_epoch)

    # -- steps ---------------------------------------------------------------------------------

    def batch_forward(self, batch_data: dict[str, Any], validation: bool = False) -> tuple:
        """The stock step, with the batch's image features at hand.

        Several processes: gradients are averaged before the optimizer's step instead of by
        DistributedDataParallel during `backward`. That one expects every parameter to get a
        gradient (F1's last fuse layers make maps that nobody reads, and a held host gets none) and
        to be used inside `forward` (FocalClick's refiner is not).
        """
        seed_all((self._seed + _STEP, self._epoch, self._batch, int(validation)))
        self._batch += 1
        given = {k: batch_data.pop(k) for k in list(batch_data) if k.startswith(PREFIX)}
        alone = self.net.no_sync if self.cfg.distributed else contextlib.nullcontext
        with self._recycling(given), alone():
            result = super().batch_forward(batch_data, validation)
        if not validation and not torch.isfinite(result[0]).all():
            raise TrainingDivergedError(
                f"The loss of step {self._batch} of epoch {self._epoch} is {float(result[0])}. "
                + self._last_good()
            )
        return result

    def _last_good(self) -> str:
        return (
            f"{self._state_path} is as it was after the last whole epoch: start again with a lower "
            "learning rate to go on from it." if self._state_path.is_file()
            else "Start again with a lower learning rate."
        )

    @contextlib.contextmanager
    def _recycling(self, given: dict[str, Tensor]) -> Iterator[None]:
        model = self._model
        if encoder_of(model) is None or not given:
            yield
            return
        given = {name: value.to(self.device) for name, value in given.items()}
        rois = given.pop(f"{PREFIX}roi").cpu()
        encode = functools.partial(_encode, model.image_encoder, given, self.trainset.global_size)
        with model.recycling_deferred(encode, rois):
            yield

    # -- state ---------------------------------------------------------------------------------

    def _load_weights(self, net: nn.Module) -> nn.Module:
        """The stock way, unless the training state has the weights: it is whole in any case."""
        return net if self._state_path.is_file() else super()._load_weights(net)

    @property
    def _state_path(self) -> Path:
        return Path(self.cfg.CHECKPOINTS_PATH) / state.NAME

    def _write_state(self, epoch: int) -> None:
        if not self.is_master:
            return
        weights = self._model.state_dict()
        bad = [name for name, value in weights.items() if not schemas.finite(value)]
        if bad:
            raise TrainingDivergedError(
                f"After epoch {epoch} {len(bad)} weights are not finite ({bad[0]} is the first); "
                f"nothing was saved. {self._last_good()}"
            )
        parts: dict[str, Any] = {
            "epoch": epoch, "weights": weights,
            "optimizer": self.optim.state_dict(),
        }
        if hasattr(self, "lr_scheduler"):
            parts["schedule"] = self.lr_scheduler.state_dict()
        if self.average is not None:
            parts["average"] = {"steps": self.average.steps, "weights": self.average.weights}
            checkpoint.write_checkpoint(
                self._state_path.with_name("ema_checkpoint.pth"), self.average.weights,
                self._model._config,
            )
        self._state_path.parent.mkdir(parents=True, exist_ok=True)
        state.write(self._state_path, **parts)

    def _resume(self) -> None:
        """Go on from the training state beside the checkpoints, if there is one."""
        if not self._state_path.is_file():
            return
        stored = state.read(self._state_path)
        checkpoint.load_weights(self._model, stored["weights"], str(self._state_path))
        self.optim.load_state_dict(stored["optimizer"])
        if hasattr(self, "lr_scheduler") and "schedule" in stored:
            self.lr_scheduler.load_state_dict(stored["schedule"])
        if self.average is not None and "average" in stored:
            self.average.steps = stored["average"]["steps"]
            for name, value in stored["average"]["weights"].items():
                self.average.weights[name].copy_(value)
        self.cfg.start_epoch = stored["epoch"] + 1
        logger.info("Resuming after epoch %d from %s.", stored["epoch"], self._state_path)


def check_fills(dataset: Any, batch_size: int) -> None:
    """Refuse samples that make no batch: incomplete ones are left out.

    Raises:
        ValueError: there are fewer samples than `batch_size`.
    """
    if len(dataset) < batch_size:
        raise ValueError(
            f"{len(dataset)} samples fill no batch of {batch_size}: take a smaller batch size "
            "(--batch-size), or repeat them (epoch_len)."
        )


def _encode(encoder: nn.Module, given: dict[str, Tensor], global_size: tuple[int, int]) -> Any:
    """Features of a batch out of its global images, or of their frozen maps."""
    if f"{PREFIX}global" in given:
        return encoder(given[f"{PREFIX}global"], hashed=False)
    dtype = encoder.mean.dtype
    low, high = (given.get(f"{PREFIX}{name}") for name in ("low", "high"))
    return encoder.features_of(
        None if low is None else low.to(dtype), None if high is None else high.to(dtype),
        global_size,
    )


@torch.no_grad()
def average_gradients(model: nn.Module) -> None:
    """Give all processes the mean of their gradients; works in place.

    Which parameters have one is a matter of the network and the phase, the same everywhere.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    for dtype in {g.dtype for g in gradients}:
        chosen = [g for g in gradients if g.dtype == dtype]
        flat = torch.cat([g.flatten() for g in chosen])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for gradient, mean in zip(chosen, flat.split([g.numel() for g in chosen]), strict=True):
            gradient.copy_(mean.view_as(gradient))


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's batch-norm statistics, those that are saved."""
    for buffer in model.buffers():
        distributed.broadcast(buffer, 0)


@functools.cache
def dynamic_scale_trainer(stock: type) -> type:
    """A stock trainer's dynamic-scale counterpart, see `DynamicScaleTrainer`.

    Args:
        stock: `ISTrainer` of RITM, or of ClickSEG (baseline or focalclick trainer).

    Raises:
        ValueError: the class lacks a method that this builds on.
    """
    for name in ("training", "validation", "batch_forward", "run"):
        if not callable(getattr(stock, name, None)):
            raise ValueError(
                f"{stock.__module__}.{stock.__name__} has no method {name}; expected the ISTrainer "
                "of RITM, ritm-annotation or ClickSEG."
            )
    return type(f"DynamicScale{stock.__name__}", (DynamicScaleTrainer, stock), {})
