"""How long the page of `fdrn annotate` takes from a click to the painted mask, beside the network.

    python experiments/studies/annotate_latency.py photograph.jpg --clicks 50

Starts `fdrn annotate` on copies of a photograph, 4000 x 3000 and 640 x 480 pixels, and clicks with
the mouse of a headless Chromium. What is between the mouse's event and the end of the frame with
the mask, and what of that the network took, is measured by the page itself. Needs playwright.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

SIZES = {"12mp.jpg": (4000, 3000), "vga.jpg": (640, 480)}
PER_OBJECT = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photograph")
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--model", default="distilled-hrnet18s")
    args = parser.parse_args()
    picture = cv2.imread(args.photograph)
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            cv2.imwrite(str(Path(folder) / name), cv2.resize(picture, size))
        command = [sys.executable, "-m", "fdrn_adapter", "annotate", folder, "--no-browser",
                   "--port", "0", "--model", args.model]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = next(
                found[0] for line in server.stdout if (found := re.findall(r"http://\S+", line)))
            measure(address, args.clicks)
        finally:
            server.terminate()
            server.wait()


def measure(address: str, clicks: int) -> None:
    """Click on both photographs and print what the page measured."""
    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        for name in SIZES:
            page.get_by_role("button", name=re.compile(f"^{name}")).click()
            expect(page.locator("#status")).to_contain_text(f"{name},", timeout=60_000)
            page.wait_for_timeout(3000)  # so that the next photograph is prepared
            report(name, clicked(page, clicks))
        browser.close()


def clicked(page: Page, clicks: int) -> np.ndarray:
    """Click here and there, an object after the other. Returns (clicks, 2): all, the network."""
    box = page.locator("#marks").bounding_box()
    places = np.random.default_rng(0).uniform(0.3, 0.7, (clicks, 2))
    page.evaluate("performance.clearMeasures()")
    for number, (x, y) in enumerate(places):
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        page.mouse.click(*at, button="right" if number % PER_OBJECT == 2 else "left")
        while page.evaluate("performance.getEntriesByName('fdrn click').length") <= number:
            page.wait_for_timeout(20)
        page.wait_for_timeout(150)  # people are slower
        if number % PER_OBJECT == PER_OBJECT - 1:
            page.keyboard.press("Space")
            expect(page.locator("#status")).to_contain_text("finished")
    return np.array(page.evaluate(
        "performance.getEntriesByName('fdrn click').map((e) => [e.duration, e.detail])"))


def report(name: str, found: np.ndarray) -> None:
    more = found[:, 0] - found[:, 1]
    for what, values in (("click to mask", found[:, 0]), ("network", found[:, 1]), ("more", more)):
        low, middle, high = np.percentile(values, (5, 50, 95))
        print(f"{name:9} {what:14} {middle:6.1f} ms  (5 % {low:.1f}, 95 % {high:.1f})", flush=True)


if __name__ == "__main__":
    main()
