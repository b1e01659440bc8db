"""One training step of a network: clicks, predictions that are answered, loss and gradients."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from fdrn_adapter.encoders.backbone import EMBEDDING
from fdrn_adapter.engines.in_torch import lower_precision
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.hosts.catalogue import encoder_of, host_of
from fdrn_adapter.training.batched import disks
from fdrn_adapter.training.batched.clicks import THRESHOLD, Clicks, answer, first_clicks
from fdrn_adapter.training.batched.corpus import Batch
from fdrn_adapter.training.batched.losses import loss_of, mean_iou
from fdrn_adapter.training.batched.pictures import SIDE
from fdrn_adapter.training.batched.plan import Plan
from fdrn_adapter.training.batched.spoiled import spoiled

LOW_THRESHOLD, LOW_SHARE = 0.25, 0.2  # some predictions are answered as if they were larger
FORGET = 0.05  # share of the samples whose previous mask is emptied at last


def check_trainable(net: nn.Module) -> None:
    """Refuse networks that this training is not for.

    Raises:
        ValueError: FocalClick's, whose refinement is not trained here, or one without previous
            mask.
    """
    host, info = host_of(net)
    if info.pipeline or info.refines:
        raise ValueError(
            "This trains RITM's networks. FocalClick's have a refinement that is learnt with them: "
            "use its own trainer, see fdrn_adapter.training.dynamic_scale_trainer."
        )
    if not host.with_prev_mask:
        raise ValueError("This trains networks that take the previous mask (with_prev_mask=True).")


class Stepper:
    """Computes gradients of one batch.

    Args:
        net: an FDRN model or a stock network, in training mode.
        plan: of the training.
        low_precision: run the network in bfloat16 where torch's autocast says so.
    """

    def __init__(self, net: nn.Module, plan: Plan, low_precision: bool = False):
        check_trainable(net)
        self.net, self.plan, self.low_precision = net, plan, low_precision
        self.device = next(net.parameters()).device
        if self.device.type == "cpu":  # faster there, see docs/training.md
            net.to(memory_format=torch.channels_last)

    def __call__(
        self, batch: Batch, generator: torch.Generator, rounds: int
    ) -> tuple[Tensor, Tensor]:
        """Backward of the batch's loss; the gradients are in the parameters afterwards.

        Args:
            generator: of the network's device.
            rounds: predictions that are answered by a click first, without gradient.

        Returns:
            loss and mean IoU, scalars.
        """
        with self._recycling(batch):
            clicks, previous = self._clicked(batch, generator, rounds)
            crop = torch.cat([batch.image, previous], 1)
            with self._autocast():
                outputs = self.net(crop, clicks.points)
            maps = disks.click_maps(self.net)(batch.image, clicks.points)
            loss = loss_of(outputs, batch.mask, batch.void, maps, self.plan.clicked)
            loss.backward()
        return loss.detach(), mean_iou(outputs["instances"].float(), batch.mask, batch.void)

    @torch.no_grad()
    def _clicked(
        self, batch: Batch, generator: torch.Generator, rounds: int
    ) -> tuple[Clicks, Tensor]:
        """Clicks, and the previous mask (B, 1, S, S), of somebody who is at work already."""
        mask, void, plan = batch.mask, batch.void, self.plan
        count = len(mask)

        def uniform() -> Tensor:
            return torch.rand(count, device=self.device, generator=generator)

        clicks = Clicks(count, plan.clicks, self.device)
        first_clicks(clicks, mask, void, generator)
        wrong, chosen = spoiled(mask, batch.others, generator), uniform() < plan.spoiled
        answered = clicks.copy()
        answer(answered, wrong, mask, void, generator)
        answered.where(chosen, clicks)
        clicks = answered
        previous = wrong * chosen.view(-1, 1, 1, 1)
        self.net.eval()
        for _ in range(rounds):
            with self._autocast():
                outputs = self.net(torch.cat([batch.image, previous], 1), clicks.points)
            previous = torch.sigmoid(outputs["instances"].float())
            threshold = torch.where(uniform() < LOW_SHARE, LOW_THRESHOLD, THRESHOLD)
            answer(clicks, previous, mask, void, generator, threshold.view(-1, 1, 1, 1))
        self.net.train()
        return clicks, previous * (uniform() >= FORGET).view(-1, 1, 1, 1)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.low_precision)

    def _recycling(self, batch: Batch) -> AbstractContextManager:
        if encoder_of(self.net) is None:
            return nullcontext()
        return self.net.recycling_deferred(lambda: self._features(batch), batch.rois)

    def _features(self, batch: Batch) -> ImageFeatures:
        """Image features of the batch's canvases, mirrored where its crops are."""
        encoder = encoder_of(self.net)
        canvas = (SIDE, SIDE)
        if batch.embedding is None:
            with self._autocast():
                x = encoder.resized(batch.canvas)
                maps = {k: m.float() for k, m in encoder.maps(x).items()}
            return encoder.features_from(maps, canvas, tuple(x.shape[-2:]), hashed=False)
        side = encoder.backbone.side
        embedding = batch.embedding.float()
        features = encoder.features_from(
            {EMBEDDING: embedding.flip(-1) if batch.mirrored else embedding}, canvas, (side, side),
            hashed=False,
        )
        if batch.mirrored:
            grid = features.grids[EMBEDDING]
            features.grids = {EMBEDDING: mirrored_grid(grid, side, embedding.shape[-1])}
        return features


def mirrored_grid(grid: Grid, side: int, cells: int) -> Grid:
    """Where the cells of a map lie on the mirrored input, once the map is flipped.

    Args:
        grid: of the map on the input.
        side: columns of the input.
        cells: columns of the map.
    """
    row, col = grid.offset_rc
    return Grid(grid.stride, (row, side - 1 - col - grid.stride * (cells - 1)))


def low_precision_helps(device: torch.device) -> bool:
    """Whether bfloat16 is fast there: on GPUs, and on processors with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(lower_precision())
