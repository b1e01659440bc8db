"""The loop of a training: learning rates, logs, the training state, Ctrl-C and what goes wrong."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fdrn_adapter.hosts.catalogue import encoder_of, is_fdrn
from fdrn_adapter.model import checkpoint
from fdrn_adapter.output_folders import checksum, together
from fdrn_adapter.training.batched import disks, processes, resumable
from fdrn_adapter.training.batched.corpus import Corpus
from fdrn_adapter.training.batched.crops import shaken
from fdrn_adapter.training.batched.plan import Plan
from fdrn_adapter.training.batched.stepper import Stepper

logger = logging.getLogger(__name__)

CHECKPOINT, RECORD = "model.pth", "training.json"
_CURVE_STEPS = 50  # steps that a point of the curve is the mean of
_STEPS, _RANKS = 1 << 32, 1 << 12  # keep the seeds of steps and processes apart
# What may change when a training goes on: more samples, and nothing that its steps so far used.
_MAY_CHANGE = {"samples"}


class NotFiniteError(RuntimeError):
    """A loss or gradient is NaN or infinite."""


class Training:
    """Trains a network on a corpus.

    Everything random depends on the plan's seed, the step and the process alone, so that a training
    that goes on from its state makes the very steps it would have made.

    Args:
        net: an FDRN model or a stock network; changed in place.
        corpus: on the network's device.
        plan: what to do.
        folder: where the state, the checkpoint and the record go; it exists.
        low_precision: see `Stepper`.
        log: called with a line from time to time.
        stop: asked after every step whether to stop.
        save_s, log_s: seconds between training states, and between lines.
        facts: for the record; plain values.
    """

    def __init__(
        self, net: nn.Module, corpus: Corpus, plan: Plan, folder: Path, *,
        low_precision: bool = False, log: Callable[[str], None] = logger.info,
        stop: Callable[[], bool] = lambda: False, save_s: float = 180.0, log_s: float = 20.0,
        facts: dict[str, Any] | None = None,
    ):
        self.net, self.corpus, self.plan, self.folder = net.train(), corpus, plan, folder
        self.log, self.stop, self.facts = log, stop, dict(facts or {})
        self.save_s, self.log_s = save_s, log_s
        self.rank, self.world = processes.world()
        self.stepper = Stepper(net, plan, low_precision)
        self.optimizer = torch.optim.AdamW(_groups(net, plan.weight_decay), lr=plan.lr)
        self.step = self.seen = 0
        self.curve: list[list[float]] = []  # samples, side of the crops, loss, IoU
        self._sums = [0, 0.0, 0.0]  # steps, losses, IoUs since the last point
        self.seconds = 0.0  # that the steps took, over all runs
        self._canvas = encoder_of(net) is not None and corpus.embeddings is None

    # -- going on ------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        return self.folder / resumable.NAME

    def resume(self) -> None:
        """Go on from the training state in the folder.

        Raises:
            CheckpointError: it is none, or of another network.
            ValueError: it was written with another plan.
        """
        stored = resumable.read(self.state_file)
        then, now = stored["plan"], self.plan.as_dict()
        now["processes"] = self.world
        other = {k for k in {*then, *now} if then.get(k) != now.get(k)} - _MAY_CHANGE
        if other:
            said = "; ".join(f"{k}: {then.get(k)} then, {now.get(k)} now" for k in sorted(other))
            raise ValueError(
                f"{self.state_file} was written with another plan ({said}). Repeat the options, or "
                "pass another --out."
            )
        checkpoint.load_weights(self.net, stored["weights"], str(self.state_file))
        self.optimizer.load_state_dict(stored["optimizer"])
        self.step, self.seen, self.curve = stored["step"], stored["seen"], stored["curve"]
        self._sums, self.seconds = stored["sums"], stored["seconds"]
        self.log(f"going on after step {self.step}, {self.seen} samples")

    def save(self) -> None:
        """Write the training state; a crash while writing keeps the one before."""
        if self.rank:
            return
        resumable.write(
            self.state_file, step=self.step, seen=self.seen, weights=self.net.state_dict(),
            optimizer=self.optimizer.state_dict(), curve=self.curve, sums=self._sums,
            seconds=self.seconds, plan={**self.plan.as_dict(), "processes": self.world},
        )

    # -- steps ---------------------------------------------------------------------------------

    def run(self) -> bool:
        """Train until the plan's samples were seen, or until asked to stop.

        Returns:
            whether it was finished; then there is a checkpoint.

        Raises:
            NotFiniteError: names the step; the state written last is from before it.
        """
        processes.start_equal(self.net)
        steps = self.plan.steps(self.world)
        logged, at = time.monotonic(), self.seen
        saved = logged
        with disks.fast_click_maps(self.net):
            while self.seen < self.plan.samples:
                stopping = self._step(steps)
                now = time.monotonic()
                if now - logged >= self.log_s or self.seen >= self.plan.samples:
                    self._say(steps, (self.seen - at) / max(1e-9, now - logged))
                    logged, at = now, self.seen
                if stopping:
                    break
                if now - saved >= self.save_s:
                    self.save()
                    saved = now
        self.save()
        if self.seen < self.plan.samples:
            return False
        self._finish()
        return True

    def _step(self, steps: int) -> bool:
        """One step; returns whether some process was asked to stop."""
        start = time.monotonic()
        plan, size = self.plan, self.plan.size_at(self.seen)
        count = plan.batch_at(size, self.world)
        chance, own = self._generators()
        batch = self.corpus.batch(count, size, plan.crops, plan.whole, chance, self._canvas)
        batch = replace(batch, image=shaken(batch.image, own))
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr_at(self.step, self.seen, steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss, iou = self.stepper(batch, own, self._rounds())
        asked = torch.tensor(float(self.stop()), device=loss.device)
        loss, iou, stopping = processes.agree(self.net, torch.stack([loss, iou, asked])).tolist()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), plan.clip).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            kept = f"{self.state_file} is from before it" if self.state_file.is_file() else \
                "no state had been written"
            raise NotFiniteError(
                f"Step {self.step} ({self.seen} samples, crops of {size} pixels): the loss is "
                f"{loss} and the gradient's norm {norm}. Nothing was learnt from it; {kept}. A "
                "lower --lr helps, or --precision fp32 where it was bf16."
            )
        self.optimizer.step()
        self.step, self.seen = self.step + 1, self.seen + count * self.world
        self._note(size, loss, iou)
        self.seconds += time.monotonic() - start
        return stopping > 0

    def _generators(self) -> tuple[torch.Generator, torch.Generator]:
        """Of the CPU, and of the network's device, for this step of this process."""
        seed = ((self.plan.seed * _STEPS + self.step) * _RANKS + self.rank) % (1 << 63)
        torch.manual_seed(seed)  # dropout draws from here
        first = torch.Generator().manual_seed(seed)
        device = self.stepper.device
        if device.type == "cpu":
            return first, first
        return first, torch.Generator(device).manual_seed(seed)

    def _rounds(self) -> int:
        """Of this step in all processes, so that none waits for one that has more of them."""
        shared = torch.Generator().manual_seed((self.plan.seed * _STEPS + self.step) % (1 << 63))
        return int(torch.randint(0, self.plan.rounds + 1, (1,), generator=shared))

    def _note(self, size: int, loss: float, iou: float) -> None:
        self._sums = [self._sums[0] + 1, self._sums[1] + loss, self._sums[2] + iou]
        if self._sums[0] == _CURVE_STEPS or self.seen >= self.plan.samples:
            count, losses, ious = self._sums
            self.curve.append([self.seen, size, round(losses / count, 4), round(ious / count, 4)])
            self._sums = [0, 0.0, 0.0]

    def _say(self, steps: int, rate: float) -> None:
        if self.rank:
            return
        count, losses, ious = self._sums if self._sums[0] else (1, *self.curve[-1][2:])
        left = max(0, self.plan.samples - self.seen) / max(1e-9, rate)  # a last step may go beyond
        time_left = f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min"
        self.log(
            f"step {self.step}/{steps}, {self.seen} samples, crops of "
            f"{self.plan.size_at(max(0, self.seen - 1))}: loss {losses / count:.4f}, IoU "
            f"{ious / count:.3f}, {rate:.1f} samples/s, {time_left} left"
        )

    def _finish(self) -> None:
        """Write the checkpoint and the record."""
        if self.rank:
            return
        if is_fdrn(self.net):
            self.net.inference = self.plan.inference()
        self.net.eval()
        with together(self.folder, RECORD) as aside:
            checkpoint.save(self.net, aside / CHECKPOINT)
            record = {**self._record(), "sha256": checksum(aside / CHECKPOINT)}
            (aside / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _record(self) -> dict[str, Any]:
        return {
            **self.facts, "plan": self.plan.as_dict(), "processes": self.world,
            "steps": self.step, "samples": self.seen, "seconds": round(self.seconds, 1),
            "samples_per_s": round(self.seen / max(1e-9, self.seconds), 2),
            "pictures": len(self.corpus.pictures),
            "curve": {"columns": ["samples", "crop", "loss", "IoU"], "rows": self.curve},
        }


def _groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters; those of one dimension, biases and norms, do not decay."""
    trained = [p for p in net.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
