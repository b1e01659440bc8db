"""What `fdrn train` does: prepares the data, and trains in one process or several."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from tqdm import tqdm

from fdrn_adapter import __version__
from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.hosts.catalogue import encoder_of
from fdrn_adapter.output_folders import only_writer
from fdrn_adapter.training.batched import duration, processes, resumable
from fdrn_adapter.training.batched.corpus import Corpus
from fdrn_adapter.training.batched.embeddings import (
    Embeddings,
    gives_embedding,
    require_manifest,
)
from fdrn_adapter.training.batched.encoding import encode
from fdrn_adapter.training.batched.interrupts import asked_by_ctrl_c
from fdrn_adapter.training.batched.pictures import MIN_SHARE, KeptPicture, Picture, keep
from fdrn_adapter.training.batched.plan import Plan
from fdrn_adapter.training.batched.run import CHECKPOINT, RECORD, Training
from fdrn_adapter.training.batched.start import new_network
from fdrn_adapter.training.batched.stepper import check_trainable, low_precision_helps
from fdrn_adapter.workers import Workers, end_with, few_threads
from fdrn_adapter.zoo.named import open_network

INTERRUPTED = 130  # what shells report for a process that SIGINT ended


@dataclass
class Job:
    """One training of a network on pictures.

    Attributes:
        pictures: to train on.
        plan: of the training.
        out: folder of the training state, the checkpoint and the record; made if needed.
        model: a zoo name or checkpoint to go on from; None for a new network.
        encoder, host, codebase: of a new network, see `new_network`; encoder "none" for a control.
        features: folder of embeddings; None for out/embeddings.
        count: processes that train together, this one's under torchrun among them.
        device: "cpu" or "cuda".
        precision: "auto", "fp32" or "bf16".
        resume: go on from the state in `out`.
        shares: of the samples, of each data set; None for by their pictures.
        min_share: of a picture that an object covers at least.
        save_s, log_s: see `Training`.
        command: for the record.
        say: takes a line for the user. Processes get a copy.

    Raises:
        ValueError: what cannot be trained; there is a state in `out` and `resume` is false.
    """

    pictures: list[Picture]
    plan: Plan
    out: Path
    model: str | None = None
    encoder: str = "distilled_lite0"
    host: str = "hrnet18s"
    codebase: str | None = None
    features: Path | None = None
    count: int = 1
    device: str = "cpu"
    precision: str = "auto"
    resume: bool = False
    shares: tuple[float, ...] | None = None
    min_share: float = MIN_SHARE
    save_s: float = 180.0
    log_s: float = 20.0
    command: str = ""
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError("--device cuda: torch sees no GPU here. Leave it out to train on CPU.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is auto, fp32 or bf16, got {self.precision!r}.")
        if (self.out / resumable.NAME).is_file() and not self.resume:
            raise ValueError(f"{self.out} holds a training state. Pass --resume, or another --out.")
        self.first = int(os.environ.get("RANK", "0")) == 0
        if self.features is None:
            self.features = self.out / "embeddings"
            self.writes_features = True
        else:
            require_manifest(self.features)
            self.writes_features = False

    @property
    def low_precision(self) -> bool:
        """Whether the network runs in bfloat16 autocast."""
        if self.precision == "auto":
            return low_precision_helps(torch.device(self.device))
        return self.precision == "bf16"

    def network(self) -> nn.Module:
        """The network before its first step; the same each time."""
        if self.model:
            net = open_network(self.model, self.codebase, self.plan.seed).model
        else:
            encoder = None if self.encoder == "none" else self.encoder
            net = new_network(self.host, encoder, self.plan.seed, self.codebase)
        check_trainable(net)
        return net

    def described(self) -> list[str]:
        """The plan, a line for each point of it; nothing where another process says it."""
        if not self.first:
            return []
        plan, net = self.plan, self.network()
        encoder, use = encoder_of(net), plan.inference()
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad) / 1e6
        kept = gives_embedding(encoder)
        lines = {
            "network": f"{self.model or self.host}, {trained:.2f} M parameters to train",
            "encoder": "none" if encoder is None else f"{encoder.name}"
                       f"{', frozen' * encoder.frozen}{', embeddings kept' * kept}",
            "data": f"{len(self.pictures)} pictures of "
                    f"{len({p.source for p in self.pictures})} data set(s)",
            "samples": f"{plan.samples} in {plan.steps(self.count)} steps",
            "time": duration.expected(plan, self.out / RECORD, self.out / resumable.NAME,
                                      self.count, self.device),
            "crops": ", ".join(
                f"{size} px ({share:.0%}, {plan.batch_at(size, self.count) * self.count} a step)"
                for size, share in plan.sizes
            ),
            "learning rate": f"{plan.lr:g}, down a cosine to {plan.lr * plan.last_lr:g}",
            "runs on": f"{self.count} process(es), {self.device}, "
                       f"{'bf16 autocast' if self.low_precision else 'fp32'}",
            "afterwards": f"crop {use.crop}, threshold {use.threshold:g}, first click twice",
            "out": f"{self.out}, state every {self.save_s:g} s",
        }
        return [f"{name + ':':15}{text}" for name, text in lines.items()]

    # -- data ----------------------------------------------------------------------------------

    def prepare(self, encoder: ImageEncoder | None) -> list[KeptPicture]:
        """Bring pictures to size and compute embeddings, as far as it was not done before.

        Raises:
            ValueError: no picture has an object; embeddings are missing or of another encoder.
        """
        kept = self.kept_pictures(show=True)
        if not kept:
            raise ValueError(
                f"None of the {len(self.pictures)} pictures can be used: each is named above, with "
                "the reason."
            )
        good = [k for k in kept if k.objects]
        if not good:
            raise ValueError(
                f"None of the {len(kept)} pictures has an object of at least "
                f"{self.min_share:.1%} of it; see --min-share."
            )
        self.say(f"{len(good)} pictures with {sum(len(k.objects) for k in good)} objects")
        if gives_embedding(encoder) and not self._all_there(encoder, good):
            images = [k.image for k in good]
            bad = encode(encoder, images, self.features, Workers(self.count), self.say)
            if bad:
                raise ValueError("Images without embedding: " + "; ".join(bad[:5]))
        return good

    def kept_pictures(self, show: bool) -> list[KeptPicture]:
        """The pictures at their size, without those that cannot be read; `show` says which."""
        folder = self.out / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        kept = []
        for picture in tqdm(
            self.pictures, unit="picture", desc="prepare", disable=None if show else True
        ):
            try:
                kept.append(keep(picture, folder, self.min_share))
            except (ValueError, OSError) as error:
                if show:
                    self.say(f"left out: {picture.name}: {error}")
        return kept

    def _all_there(self, encoder: ImageEncoder, kept: list[KeptPicture]) -> bool:
        try:
            there = Embeddings(self.features, encoder)
        except ValueError:
            if not self.writes_features:
                raise
            return False
        return all(k.image_sha256 in there for k in kept)

    # -- training ------------------------------------------------------------------------------

    def run(self) -> int:
        """Everything; returns the exit code, 130 when it was stopped by Ctrl-C."""
        self.out.mkdir(parents=True, exist_ok=True)
        net = self.network()
        if "WORLD_SIZE" in os.environ and self.count > 1:
            return self._under_torchrun(net)
        with only_writer(self.out, "a training"):
            kept = self.prepare(encoder_of(net))
            if self.count > 1:
                return self._in_processes()
            with asked_by_ctrl_c(self.say) as stop:
                return self.train(net, kept, stop)

    def train(self, net: nn.Module, kept: list[KeptPicture], stop: Callable[[], bool]) -> int:
        """Train in this process; returns the exit code."""
        net = net.to(self.device)
        encoder = encoder_of(net)
        embeddings = Embeddings(self.features, encoder) if gives_embedding(encoder) else None
        training = Training(
            net, Corpus(kept, embeddings, self.shares, self.device), self.plan, self.out,
            low_precision=self.low_precision, log=self.say, stop=stop, save_s=self.save_s,
            log_s=self.log_s, facts=self._facts(),
        )
        if self.resume and training.state_file.is_file():
            training.resume()
        finished = training.run()
        if processes.world()[0] == 0:
            self.say(f"{self.out / CHECKPOINT} and {RECORD} are written" if finished else
                     f"stopped after step {training.step}; go on with --resume")
        return 0 if finished else INTERRUPTED

    def _facts(self) -> dict[str, Any]:
        return {
            "command": self.command, "fdrn_adapter": __version__, "torch": torch.__version__,
            "device": self.device, "precision": "bf16 autocast" if self.low_precision else "fp32",
        }

    def _in_processes(self) -> int:
        """Train in processes of one thread; this one waits, and hands on Ctrl-C."""
        context = get_context("spawn")
        stop = context.Event()
        with tempfile.TemporaryDirectory() as folder, asked_by_ctrl_c(self.say) as asked:
            store = str(Path(folder) / "store")
            workers = [
                context.Process(target=_part, args=(self, rank, store, stop, os.getpid()))
                for rank in range(self.count)
            ]
            for worker in workers:
                worker.start()
            try:
                while any(w.is_alive() for w in workers) and not _bad(workers):
                    if asked():
                        stop.set()
                    time.sleep(0.1)
            finally:
                for worker in workers:
                    worker.join(1)
                    worker.terminate()
                    worker.join()
        if _bad(workers):
            raise RuntimeError("A training process ended by itself; its error is above.")
        return max(worker.exitcode for worker in workers)

    def _under_torchrun(self, net: nn.Module) -> int:
        few_threads()
        if self.device.startswith("cuda"):
            self.device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(self.device)
        distributed.init_process_group("nccl" if self.device.startswith("cuda") else "gloo")
        try:
            if self.first:
                self.prepare(encoder_of(net))
            distributed.barrier()
            with asked_by_ctrl_c(self.say) as stop:
                return self.train(net, self.kept_pictures(show=False), stop)
        finally:
            distributed.destroy_process_group()


def _bad(workers: list) -> bool:
    """Whether one of them ended, and neither as finished nor as asked."""
    return any(worker.exitcode not in (None, 0, INTERRUPTED) for worker in workers)


def _part(job: Job, rank: int, store: str, stop: Any, parent: int) -> None:
    """One of several processes that train together."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells
    end_with(parent)
    few_threads()
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=job.count
    )
    code = job.train(job.network(), job.kept_pictures(show=False), stop.is_set)
    distributed.destroy_process_group()
    sys.exit(code)
