"""Cost over work: clicks, objects and pixels (`fdrn profile --costs`)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fdrn_adapter import engines
from fdrn_adapter.hosts.catalogue import is_fdrn
from fdrn_adapter.optional import require_matplotlib
from fdrn_adapter.session.interactive import InteractiveSession
from fdrn_adapter.timing import speed

MEGAPIXELS = (0.15, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
NUM_CLICKS = (1, 5, 20, 100)
NUM_OBJECTS = (1, 2, 5, 10)
CLICKS_PER_OBJECT = 5
REPEATS = 9
OBJECT_PX = 240  # side of what is clicked on, whatever the image's size


def steps() -> int:
    """How often `costs` calls `more`."""
    return (REPEATS + 1) * len(MEGAPIXELS) + len(NUM_CLICKS) + len(NUM_OBJECTS)


def costs(
    model: nn.Module, crop: int | None = None, engine: str = "auto",
    more: Callable[[int], object] = lambda steps: None,
) -> dict[str, Any]:
    """Times of sessions over the image's pixels, the number of clicks and of objects.

    The previous mask of each timed click is a square given by `set_mask`, so that the network's
    weights have no say in what is zoomed into.

    Encoding is timed with the model's cap of the longest side and at the image's own size.

    Args:
        model, crop, engine: as for `InteractiveSession`.
        more: called with 1 after each of so many `steps`.
    """
    session = InteractiveSession(model, engine=engine, crop=crop)
    image = _image(MEGAPIXELS[0])
    sizes = [_Size(InteractiveSession(model, engine=engine, crop=crop), n) for n in MEGAPIXELS]
    for turn in range(-1, REPEATS):  # sizes in turns: a slow minute slows all of them
        for size in sizes:
            size.measure(keep=turn >= 0)
            more(1)

    def totals(of: Callable[[int], float], numbers: tuple[int, ...]) -> list[dict]:
        rows = []
        for number in numbers:
            rows.append({"number": number, "total_ms": of(number)})
            more(1)
        return rows

    clicks = totals(lambda n: _total(session, image, 1, n), NUM_CLICKS)
    objects = totals(lambda n: _total(session, image, n, CLICKS_PER_OBJECT), NUM_OBJECTS)
    pixels = [size.row() for size in sizes]
    return {"engine": session.engine, "pixels": pixels, "clicks": clicks, "objects": objects}


class _Size:
    """What is timed on an image of one size."""

    def __init__(self, session: InteractiveSession, megapixels: float):
        self.session, self.image = session, _image(megapixels)
        self.rows, self.cols = self.image.shape[:2]
        self.recycles = is_fdrn(session.model)
        self.net = engines.accelerate(session.model, session.engine)
        self.tensor = torch.from_numpy(self.image).permute(2, 0, 1)[None].float() / 255
        half = OBJECT_PX // 2
        self.small = np.zeros((self.rows, self.cols), bool)
        self.small[
            self.rows // 2 - half : self.rows // 2 + half,
            self.cols // 2 - half : self.cols // 2 + half,
        ] = True
        self.times: dict[str, list[float]] = {}

    def measure(self, keep: bool) -> None:
        """One round; `keep` False to warm up."""
        session, whole = self.session, max(self.rows, self.cols)
        round_ = {"encode_ms": self._encode()}
        if self.recycles:
            with torch.no_grad():
                _, ms = speed.timed(lambda: self.net.encode_image(self.tensor, max_side=whole))
            round_["uncapped_encode_ms"] = ms
        for name, mask in (("click_ms", self.small),
                           ("large_click_ms", np.ones((self.rows, self.cols), bool))):
            session.set_mask(mask)
            session.add_click(self.cols // 2, self.rows // 2)
            session.undo()
            _, round_[name] = speed.timed(
                lambda: session.add_click(self.cols // 2, self.rows // 2)
            )
        for name, ms in round_.items() if keep else ():
            self.times.setdefault(name, []).append(ms)

    def _encode(self) -> float:
        def work() -> None:
            self.session.forget_features()
            self.session.set_image(self.image)

        ms = speed.timed(work)[1]
        return ms if self.recycles else 0.0

    def row(self) -> dict[str, float]:
        """Medians."""
        found = {name: float(np.median(times)) for name, times in self.times.items()}
        return {"megapixels": self.rows * self.cols / 1e6, "uncapped_encode_ms": 0.0, **found}


def _image(megapixels: float) -> np.ndarray:
    cols = round((megapixels * 1.5e6) ** 0.5)
    return np.random.default_rng(0).integers(0, 256, (round(cols / 1.5), cols, 3), np.uint8)


@torch.no_grad()
def _median(work: Callable[[], Any]) -> float:
    """Milliseconds, median of REPEATS, after one round to warm up."""
    return float(np.median([speed.timed(work)[1] for _ in range(REPEATS + 1)][1:]))


def _line(rows: list[dict]) -> str:
    """How far the uncapped encoding is from a straight line through the origin."""
    x = np.array([row["megapixels"] for row in rows])
    y = np.array([row["uncapped_encode_ms"] for row in rows])
    slope = float(x @ y / (x @ x))
    if not slope:
        return "nothing is encoded"
    off = np.abs(y / (slope * x) - 1)
    return (
        f"encode without cap: {slope:.0f} ms a megapixel; off that line by {100 * off.max():.0f}% "
        f"at most, {100 * np.median(off):.0f}% in the median"
    )


def _total(session: InteractiveSession, image: np.ndarray, objects: int, clicks: int) -> float:
    rows, cols = image.shape[:2]
    generator = np.random.default_rng(1)
    places = generator.integers(0, (cols, rows), (clicks, 2))

    def run() -> None:
        session.forget_features()
        session.set_image(image)
        for _ in range(objects):
            session.reset_object()
            for i, (x, y) in enumerate(places):
                session.add_click(int(x), int(y), positive=i % 3 != 2)

    return _median(run)


def lines(result: dict[str, Any]) -> list[str]:
    """What `costs` found, as text."""
    found = [
        "  {megapixels:5.2f} megapixels  encode {encode_ms:7.1f} ms, without cap "
        "{uncapped_encode_ms:8.1f} ms  click {click_ms:6.1f} ms  (object of the "
        "image's size: {large_click_ms:6.1f} ms)".format(**row) for row in result["pixels"]
    ]
    found.append("  " + _line(result["pixels"]))
    for key in ("clicks", "objects"):
        found += [
            f"  {row['number']:4d} {key:8s} {row['total_ms']:9.1f} ms in all"
            for row in result[key]
        ]
    return found


def write(results: dict[str, Any], out: Path) -> list[Path]:
    """Write costs.json and costs.png of models' `costs`."""
    written = [out / "costs.json", out / "costs.png"]
    written[0].write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _draw(written[1], results)
    return written


def _draw(path: Path, results: dict[str, Any]) -> None:
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for i, (name, result) in enumerate(results.items()):
        x = [row["megapixels"] for row in result["pixels"]]
        for key, style in (("uncapped_encode_ms", "o-"), ("encode_ms", "x-"), ("click_ms", "s--"),
                           ("large_click_ms", "^:")):
            axes[0].plot(x, [row[key] for row in result["pixels"]], f"C{i}{style}",
                         label=f"{name}, {key.removesuffix('_ms').replace('_', ' ')}")
        for ax, key in zip(axes[1:], ("clicks", "objects"), strict=True):
            ax.plot([row["number"] for row in result[key]],
                    [row["total_ms"] / 1000 for row in result[key]], f"C{i}o-", label=name)
    axes[0].set(xlabel="megapixels", ylabel="ms", xscale="log", yscale="log")
    axes[1].set(xlabel="clicks on one object", ylabel="s in all")
    axes[2].set(xlabel=f"objects of {CLICKS_PER_OBJECT} clicks", ylabel="s in all")
    for ax in axes[1:]:
        ax.set_ylim(bottom=0)
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    figure.suptitle(", ".join(f"{n} in {r['engine']}" for n, r in results.items()) + "; "
                    + str(speed.Machine.here()), fontsize=8)
    figure.savefig(path, dpi=110)

