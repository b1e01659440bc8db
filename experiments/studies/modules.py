"""The paper's modules compared on a small budget: eq. 4's two directions, norms, Tables 5 to 7.

    python experiments/studies/modules.py --study direction --data DIR[,DIR] --out OUT

Every arm trains the same light RITM host (HRNet of width 12) from random weights with the same
samples in the same order, beside a frozen EfficientNet-Lite0 (ImageNet weights) whose maps are
computed once. DIR is as for `fdrn train`; a tenth of the pictures is held out. Everything is kept
in OUT: what is finished is not run again, and what was interrupted goes on at its last state.
Prints a table of what is there so far; `--samples 0` does no more. `--plot FILE` draws it. Several
studies with commas between, and `--processes N` runs so many arms at a time, of one thread each.
docs/paper.md has what came of it.
"""

import argparse
import importlib
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept_maps import CLICKS, CROP, HELD_OUT, MapsStepper, World
from torch import nn

import fdrn_adapter
from fdrn_adapter import zoo
from fdrn_adapter.hosts.catalogue import encoder_of
from fdrn_adapter.training import lite
from fdrn_adapter.training.batched.plan import Plan
from fdrn_adapter.training.batched.run import Training
from fdrn_adapter.training.views import start_views

BATCH = 16
POINTS = 4  # evaluations during a run

HIGH, LOW = {"use_low": False}, {"use_high": False}
# The paper's figures of Tables 5 and 6 are of networks without decoupled clicks.
JOINT = {"decouple_clicks": False}


@dataclass(frozen=True)
class Arm:
    """One network of a comparison.

    Attributes:
        options: of `wrap`, beside those that all have; None for the stock host.
        dynamic: False for crops of one proportion (Table 7).
    """

    options: dict[str, Any] | None = field(default_factory=dict)
    dynamic: bool = True


STUDIES: dict[str, dict[str, Arm]] = {
    "direction": {
        f"{levels}-{direction}": Arm({**options, "affinity": direction})
        for levels, options in (("high", HIGH), ("both", {})) for direction in
        ("gather", "literal")
    },
    "norms": {
        f"{levels}-norms": Arm({**options, "norms": True})
        for levels, options in (("high", HIGH), ("both", {}))
    },
    "table5": {
        "none": Arm(None), "high": Arm(HIGH | JOINT), "low": Arm(LOW | JOINT),
        "low-high": Arm(JOINT), "low-mid-high": Arm(JOINT | {"use_mid": True}),
    },
    "table6": {
        f"into-{low}-{high}": Arm(JOINT | {"b_low_tilde": low, "b_high_tilde": high})
        for low, high in ((0, 0), (0, 2), (2, 2))
    },
    "table7": {
        "one-click-map": Arm(JOINT), "full": Arm(), "fixed-scale": Arm(dynamic=False),
    },
}


# -- networks --------------------------------------------------------------------------------------


def network(arm: Arm, seed: int) -> nn.Module:
    """An arm's network before its first step; hosts of one seed are equal."""
    zoo.find_package(zoo.info("RITM-hrnet18"))
    hrnet = importlib.import_module("ritm_annotation.model.is_hrnet_model").HRNetModel
    initializer = importlib.import_module("ritm_annotation.model.initializer")
    torch.manual_seed(seed)
    host = hrnet(
        width=12, ocr_width=24, small=True, with_aux_output=True, use_leaky_relu=True,
        use_rgb_conv=False, use_disks=True, norm_radius=5, with_prev_mask=True,
    )
    host.apply(initializer.XavierGluon(rnd_type="gaussian", magnitude=2.0))
    nn.init.constant_(host.maps_transform[-1].scale, lite.CLICK_SCALE)
    if arm.options is None:
        return host
    options = {"b_low_tilde": 0, "b_high_tilde": 0, "init": "paper", **arm.options}
    model = fdrn_adapter.wrap(
        host, encoder=lite.ENCODER, encoder_weights=lite.ENCODER_WEIGHTS, copy=False,
        freeze_encoder=True, **options,
    )
    if model.decouple_clicks:
        with torch.no_grad():
            host.maps_transform.fuse.weight *= lite.FUSE_GAIN
    return model


@lru_cache(maxsize=1)
def open_world(
    specs: str, out: Path, objects: int | None = None, device: str = "cpu"
) -> World:
    """The pictures of data sets, with maps of all levels."""
    encoder = network(Arm({"use_mid": True}), 0).image_encoder
    return World(specs, out, encoder, objects, device)


def run_alone(study: str, name: str, seed: int, samples: int, batch: int, *world: Any) -> str:
    """A run in a process of its own; what it was."""
    torch.set_num_threads(1)
    Run(study, name, seed, samples, open_world(*world), batch)()
    return f"{study}/{name}-{seed}"


# -- runs ------------------------------------------------------------------------------------------


class Run:
    """One arm with one seed.

    Args:
        study, name, seed: which.
        samples: to train on.
        world: the pictures and their maps.
        batch: crops in a step; BATCH where None.
    """

    def __init__(
        self, study: str, name: str, seed: int, samples: int, world: World,
        batch: int | None = None,
    ):
        self.arm, self.seed, self.world = STUDIES[study][name], seed, world
        self.plan = Plan(samples=samples, sizes=((CROP, 1.0),), batch=batch or BATCH, crops=1,
                         rounds=1, clicked=0.0, seed=seed)
        self.folder = world.out / study / f"{name}-{seed}"
        self.file = self.folder / "held_out.json"

    @property
    def points(self) -> list[dict]:
        """What was measured so far."""
        return json.loads(self.file.read_text()) if self.file.is_file() else []

    def __call__(self) -> None:
        """Train, or go on."""
        if any(p["samples"] >= self.plan.samples for p in self.points):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        net, maps = network(self.arm, self.seed), self.world.maps
        if encoder_of(net) is not None:
            start_views(encoder_of(net), **{
                name: maps.maps[name][:64].float() if name in encoder_of(net).backbone.taps
                else None for name in ("high", "low")
            })
        net = net.to(self.world.device)
        corpus = self.world.corpus(self.world.train, self.arm.dynamic)
        training = Training(net, corpus, self.plan, self.folder, stop=lambda: self._look(training),
                            save_s=60.0, log=lambda line: print(f"{self.folder.name}: {line}"))
        training.stepper = MapsStepper(net, self.plan)
        training.stepper.maps = maps
        if training.state_file.is_file():
            training.resume()
        training.run()
        self._look(training)

    def _look(self, training: Training) -> bool:
        """Evaluate at equal distances; goes on. Asked before each step, and once at the end."""
        every = self.plan.samples / POINTS
        before = training.seen - self.plan.batch_at(CROP)
        if training.seen and training.seen // every > before // every:
            ious = self.world.held_out_ious(training.net)
            training.net.train()
            kept = [p for p in self.points if p["samples"] < training.seen]
            kept.append({"samples": training.seen, "iou": ious})
            self.file.write_text(json.dumps(kept))
        return False


# -- results ---------------------------------------------------------------------------------------


def results(study: str, out: Path) -> dict[str, list[list[dict]]]:
    """What was measured of each arm: a list of points for each seed that has any."""
    found = {}
    for name in STUDIES[study]:
        files = sorted((out / study).glob(f"{name}-[0-9]/held_out.json"))
        if files:
            found[name] = [json.loads(file.read_text()) for file in files]
    return found


def table(study: str, out: Path) -> str:
    """IoU of the held-out objects after each click at the last common point: mean +- deviation."""
    found = results(study, out)
    if not found:
        return "nothing was measured yet"
    last = min(points[-1]["samples"] for runs in found.values() for points in runs)
    lines = [f"{last} samples; IoU after 1 to {CLICKS} clicks, mean of seeds +- deviation"]
    for name, runs in found.items():
        at = np.array([next(p["iou"] for p in r if p["samples"] >= last) for r in runs])
        spread = at.std(axis=0, ddof=1) if len(at) > 1 else np.zeros(CLICKS)
        cells = (f"{m:.3f} +- {s:.3f}" for m, s in zip(at.mean(axis=0), spread, strict=True))
        lines.append(f"{name:16} {len(at)} seeds  " + "  ".join(cells))
    return "\n".join(lines)


def plot(study: str, out: Path, file: Path) -> None:
    """Curves of the IoU after the last click, a line for each arm and its range over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), dpi=110)
    for name, runs in results(study, out).items():
        common = min(map(len, runs))
        ious = np.array([[p["iou"][-1] for p in r[:common]] for r in runs])
        samples = [p["samples"] for p in runs[0][:common]]
        axes.plot(samples, ious.mean(axis=0), marker="o", label=f"{name} ({len(runs)} seeds)")
        axes.fill_between(samples, ious.min(axis=0), ious.max(axis=0), alpha=0.15)
    axes.set(xlabel="samples", ylabel=f"IoU of held-out objects after {CLICKS} clicks")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", required=True, type=known_studies,
                        help=f"of {', '.join(STUDIES)}; several with commas between")
    parser.add_argument("--data", default="")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=2400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=HELD_OUT, metavar="N",
                        help="objects of the evaluation, a multiple of 32 (%(default)s)")
    parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help="%(default)s")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="of the first study")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.samples:
        where = (args.data, args.out, args.held_out, args.device)
        world = open_world(*where)
        print(f"{len(world.train)} pictures, {len(world.held_out)} held out", flush=True)
        runs = [
            (study, name, seed, args.samples, args.batch, *where)
            for study in args.study for seed in range(args.seeds) for name in STUDIES[study]
        ]
        if args.processes == 1:
            for run in runs:
                run_alone(*run)
        else:
            run_beside(runs, args.processes)
    for study in args.study:
        print(f"{study}: {table(study, args.out)}")
    if args.plot:
        plot(args.study[0], args.out, args.plot)
    return 0


def run_beside(runs: list[tuple], processes: int) -> None:
    """Runs in processes of their own, several at a time."""
    spawn = multiprocessing.get_context("spawn")  # torch has computed here already
    with ProcessPoolExecutor(processes, spawn) as pool:
        for done in as_completed([pool.submit(run_alone, *run) for run in runs]):
            print(f"{done.result()} is done", flush=True)


def known_studies(text: str) -> list[str]:
    """Names of studies out of an option; argparse says what is wrong with it."""
    names = text.split(",")
    if unknown := [name for name in names if name not in STUDIES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(STUDIES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
