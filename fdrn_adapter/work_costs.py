"""Cost over work: clicks, objects and pixels (`fdrn profile --costs`)."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fdrn_adapter import speed
from fdrn_adapter.named_networks import announced
from fdrn_adapter.session import InteractiveSession

MEGAPIXELS = (0.15, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
NUM_CLICKS = (1, 5, 20, 100)
NUM_OBJECTS = (1, 2, 5, 10)
CLICKS_PER_OBJECT = 5
REPEATS = 9
OBJECT_PX = 240  # side of what is clicked on, whatever the image's size


def main_costs(models: list[str], args: argparse.Namespace) -> int:
    """Measure, print and draw; `args` as for `fdrn profile --costs`."""
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    with speed.threads(args.threads):
        for name in models:
            named = announced(name, args.codebase)
            results[name] = costs(named.model, named.crop, args.engine)
            print(f"\n{name} in {results[name]['engine']}; {speed.Machine.here()}")
            for row in results[name]["pixels"]:
                print("  {megapixels:5.2f} megapixels  encode {encode_ms:7.1f} ms  click "
                      "{click_ms:6.1f} ms  (object of the image's size: {large_click_ms:6.1f} ms)"
                      .format(**row))
            for key in ("clicks", "objects"):
                for row in results[name][key]:
                    print(f"  {row['number']:4d} {key:8s} {row['total_ms']:9.1f} ms in all")
    (out / "costs.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _draw(out / "costs.png", results)
    print(f"\nWritten: {out / 'costs.json'}, {out / 'costs.png'}")
    return 0


def costs(model: nn.Module, crop: int | None = None, engine: str = "auto") -> dict[str, Any]:
    """Times of sessions over the image's pixels, the number of clicks and of objects.

    The previous mask of each timed click is a square given by `set_mask`, so that the network's
    weights have no say in what is zoomed into.

    Args:
        model, crop, engine: as for `InteractiveSession`.
    """
    session = InteractiveSession(model, engine=engine, crop=crop)
    recycles = bool(getattr(model, "is_fdrn", False))
    pixels = [_over_pixels(session, megapixels, recycles) for megapixels in MEGAPIXELS]
    image = _image(MEGAPIXELS[0])
    clicks = [{"number": n, "total_ms": _total(session, image, 1, n)} for n in NUM_CLICKS]
    objects = [
        {"number": n, "total_ms": _total(session, image, n, CLICKS_PER_OBJECT)}
        for n in NUM_OBJECTS
    ]
    return {"engine": session.engine, "pixels": pixels, "clicks": clicks, "objects": objects}


def _image(megapixels: float) -> np.ndarray:
    cols = round((megapixels * 1.5e6) ** 0.5)
    return np.random.default_rng(0).integers(0, 256, (round(cols / 1.5), cols, 3), np.uint8)


def _over_pixels(session: InteractiveSession, megapixels: float, recycles: bool) -> dict:
    image = _image(megapixels)
    encode = []
    for _ in range(3):
        session.forget_features()
        encode.append(speed.timed(lambda: session.set_image(image))[1])
    rows, cols = image.shape[:2]
    half = OBJECT_PX // 2
    small = np.zeros((rows, cols), bool)
    small[rows // 2 - half : rows // 2 + half, cols // 2 - half : cols // 2 + half] = True
    large = np.ones((rows, cols), bool)
    return {
        "megapixels": rows * cols / 1e6,
        "encode_ms": float(np.median(encode)) if recycles else 0.0,
        "click_ms": _click_ms(session, small),
        "large_click_ms": _click_ms(session, large),
    }


def _click_ms(session: InteractiveSession, mask: np.ndarray) -> float:
    """Median time of a click after a given mask."""
    rows, cols = mask.shape
    times = []
    session.set_mask(mask)
    for turn in range(-2, REPEATS):
        elapsed = speed.timed(lambda: session.add_click(cols // 2, rows // 2))[1]
        session.undo()
        if turn >= 0:
            times.append(elapsed)
    return float(np.median(times))


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

    return speed.timed(run)[1]


def _draw(path: Path, results: dict[str, Any]) -> None:
    from fdrn_adapter.demo_report import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for i, (name, result) in enumerate(results.items()):
        x = [row["megapixels"] for row in result["pixels"]]
        for key, style in (("encode_ms", "o-"), ("click_ms", "s--"), ("large_click_ms", "^:")):
            axes[0].plot(x, [row[key] for row in result["pixels"]], f"C{i}{style}",
                         label=f"{name}, {key.removesuffix('_ms').replace('_', ' ')}")
        for ax, key in zip(axes[1:], ("clicks", "objects"), strict=True):
            ax.plot([row["number"] for row in result[key]],
                    [row["total_ms"] / 1000 for row in result[key]], f"C{i}o-", label=name)
    axes[0].set(xlabel="megapixels", ylabel="ms")
    axes[1].set(xlabel="clicks on one object", ylabel="s in all")
    axes[2].set(xlabel=f"objects of {CLICKS_PER_OBJECT} clicks", ylabel="s in all")
    for ax in axes:
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    figure.suptitle(", ".join(f"{n} in {r['engine']}" for n, r in results.items()) + "; "
                    + str(speed.Machine.here()), fontsize=8)
    figure.savefig(path, dpi=110)

