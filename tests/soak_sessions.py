"""Sessions in a loop: memory and file handles over time, as a table and a plot.

    python tests/soak_sessions.py --minutes 60 --out soak      # writes soak/soak.csv, soak.png

A session an engine, in turns, on images of changing size that come again after a while; five
objects an image with clicks, undo, redo, masks, boxes and saved states. The slope at the end is
that of the second half, when caches are full.
"""

import argparse
import csv
import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import fdrn_adapter
from fdrn_adapter import engines

IMAGES, OBJECTS = 500, 5
CACHE_BYTES = 64 * 2**20


def picture(number: int) -> np.ndarray:
    """One of 500, each of its own size."""
    rng = np.random.default_rng(number)
    rows, cols = rng.integers(120, 700, 2)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (int(cols), int(rows)), interpolation=cv2.INTER_CUBIC)
    for _ in range(OBJECTS):
        centre = int(rng.integers(0, cols)), int(rng.integers(0, rows))
        axes = int(rng.integers(8, cols // 3)), int(rng.integers(8, rows // 3))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.ellipse(image, centre, axes, int(rng.integers(0, 180)), 0, 360, colour, -1)
    return image


def work(session, number: int, state: Path) -> int:
    """Five objects on an image; returns how many clicks were made."""
    rng, clicks = np.random.default_rng(number), 0
    session.set_image(picture(number), resume=number % 3 == 0)
    rows, cols = session.image.shape[:2]
    for turn in range(OBJECTS):
        if turn:
            session.add_object()
        if turn == 1:
            session.set_mask(rng.random((rows, cols)) < 0.3)
        if turn == 2:
            session.set_box(cols * 0.2, rows * 0.2, cols * 0.7, rows * 0.6)
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.uniform(0, (cols - 1, rows - 1))
            session.add_click(x, y, rng.random() < 0.7)
            clicks += 1
        session.undo()
        session.redo()
    session.save_state(state)
    session.load_state(state)
    session.label_map()
    return clicks


def now() -> tuple[float, int, int]:
    """MB of memory, open files, threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")),
            threading.active_count())


def run(model, names, seconds: float, out: Path) -> list[list]:
    """The rows: seconds, engine, images, clicks, MB, files, threads."""
    sessions = {
        name: fdrn_adapter.InteractiveSession(model, name, cache_bytes=CACHE_BYTES)
        for name in names
    }
    rows, clicks, image, start = [], 0, 0, time.monotonic()
    with (out / "soak.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "engine", "images", "clicks", "MB", "files", "threads"])
        while time.monotonic() - start < seconds:
            name = names[image % len(names)]
            clicks += work(sessions[name], image % IMAGES, out / "state.npz")
            image += 1
            row = [round(time.monotonic() - start, 1), name, image, clicks, *now()]
            rows.append(row)
            writer.writerow(row)
            file.flush()
    return rows


def draw(rows: list[list], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, sharex=True, figsize=(8, 5))
    minutes = [row[0] / 60 for row in rows]
    for axis, column, label in ((axes[0], 4, "memory (RSS), MB"), (axes[1], 5, "open files")):
        axis.plot(minutes, [row[column] for row in rows], linewidth=0.8)
        axis.set_ylabel(label)
        axis.set_ylim(0)
    axes[1].set_xlabel(f"minutes ({rows[-1][2]} images, {rows[-1][3]} clicks)")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--model", default="distilled-hrnet18s")
    parser.add_argument("--engines", default=",".join(
        n for n in ("eager", "torch", "onnxruntime", "openvino") if n in engines.available()))
    parser.add_argument("--out", type=Path, default=Path("soak"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = fdrn_adapter.zoo.load(args.model)
    names = args.engines.split(",")
    rows = run(model, names, args.minutes * 60, args.out)
    draw(rows, args.out / "soak.png")
    half = rows[len(rows) // 2 :]
    hours = [row[0] / 3600 for row in half]
    for column, unit in ((4, "MB"), (5, "files"), (6, "threads")):
        values = [row[column] for row in half]
        slope = np.polyfit(hours, values, 1)[0]
        print(f"{unit}: {min(values):.0f} to {max(values):.0f} in the second half, slope "
              f"{slope:+.1f} {unit} an hour")
    print(f"{rows[-1][2]} images, {rows[-1][3]} clicks, {rows[-1][0] / 60:.1f} minutes, engines "
          f"{', '.join(names)}")


if __name__ == "__main__":
    main()
