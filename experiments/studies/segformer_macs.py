"""Which simple reading of the paper's counter explains its multiply-adds of the SegFormer rows?

    python experiments/studies/segformer_macs.py

Arithmetic alone, from the sizes of the layers; the sums are those that `fdrn complexity` counts.
Tries every set of up to four kinds of layers that the paper's counter may have missed, and shares
of what FDRN adds to the hosts, such as a quarter at twice the stride. docs/paper.md has what came
of it.
"""

import itertools
import sys
from collections import defaultdict

KINDS = ("patch embeddings", "q", "projection", "k and v", "reduction", "fc1", "fc2", "depthwise")
ADDED = ("SFI", "TFI", "click fuse", "click embedding")
SHARES = (0, 1 / 16, 1 / 4, 1)
PAPER = {"F1 B0": 1.17, "F1 B1": 3.82, "host B0": 1.94, "host B3": 12.92, "F2 B0": 2.16,
         "F2 B3": 13.29}
# What `fdrn complexity` counts of the stock hosts: layers, attention products.
HOSTS = {"B0": (1.86, 0.065), "B3": (12.53, 0.369)}
WIDTHS = {"B0": (32, 64, 160, 256), "B1": (64, 128, 320, 512), "B3": (64, 128, 320, 512)}
CELLS_OF_IMAGE = (121 * 81, 61 * 41, 31 * 21)  # of 481x321, at strides 4, 8, 16
REDUCED = 15 * 10  # cells that keys and values are of, in each stage
REDUCTIONS = (8, 4, 2)


def conv(inside: int, outside: int, side: int = 3) -> int:
    return inside * outside * side**2


def encoder(name: str) -> dict[str, float]:
    """G multiply-adds of F1 on 481x321 by kind: two blocks in each of the stages 1 to 3."""
    found: dict[str, float] = defaultdict(float)
    before = 3
    for stage, width in enumerate(WIDTHS[name][:3]):
        cells, square = CELLS_OF_IMAGE[stage], width**2
        found["patch embeddings"] += conv(before, width, 3 if stage else 7) * cells
        found["q"] += 2 * square * cells
        found["projection"] += 2 * square * cells
        found["k and v"] += 2 * 2 * square * REDUCED
        found["reduction"] += 2 * conv(width, width, REDUCTIONS[stage]) * REDUCED
        found["fc1"] += 2 * 4 * square * cells
        found["fc2"] += 2 * 4 * square * cells
        found["depthwise"] += 2 * 9 * 4 * width * cells
        found["attention products"] += 2 * 2 * width * cells * REDUCED
        before = width
    found["views"] = 2 * conv(WIDTHS[name][2], 128) * CELLS_OF_IMAGE[2]
    found["low projection"] = conv(WIDTHS[name][0], 32) * CELLS_OF_IMAGE[0]
    return {kind: value / 1e9 for kind, value in found.items()}


def last_block(name: str) -> float:
    """G multiply-adds of one block of F1's stage 3."""
    square, cells = WIDTHS[name][2] ** 2, CELLS_OF_IMAGE[2]
    own = 10 * square * cells + 9 * 4 * WIDTHS[name][2] * cells
    return (own + 2 * square * REDUCED + conv(1, square, 2) * REDUCED) / 1e9


def added(name: str) -> dict[str, float]:
    """G multiply-adds that FDRN adds to a host at 256x256, by module."""
    low, high = WIDTHS[name][0], WIDTHS[name][2]
    fine, coarse = 64**2, 16**2  # cells at strides 4 and 16
    return {
        "SFI": (conv(high, 256) + 2 * conv(high + 256, high) + conv(high, high)) * coarse / 1e9,
        "TFI": (2 * conv(low + 32, low) + conv(low, low)) * fine / 1e9,
        "click fuse": conv(2 * low, low) * fine / 1e9,
        "click embedding": conv(3, low, 7) * fine / 1e9,
    }


def of_encoder() -> list[tuple[float, str]]:
    """(largest relative difference of both F1 rows, what was missed), the best first."""
    rows = {name: encoder(name) for name in ("B0", "B1")}
    kinds = [k for k in rows["B0"] if k != "attention products"]
    found = []
    for count, products in itertools.product(range(5), (False, True)):
        for missed in itertools.combinations(kinds, count):
            left = {
                f"F1 {name}": sum(v for k, v in row.items() if k in kinds and k not in missed)
                + products * row["attention products"] for name, row in rows.items()
            }
            text = f"missed: {', '.join(missed) or 'nothing'}{'; attention products' * products}"
            found.append((_worst(left), text))
    return sorted(found)


def of_network() -> list[tuple[float, str]]:
    """(largest relative difference of both F2 rows, shares of the modules), the best first."""
    rows, found = {name: added(name) for name in HOSTS}, []
    for shares in itertools.product(SHARES, repeat=len(ADDED)):
        for products in (0, 1):
            left = {
                f"F2 {name}": layers + products * attention
                + sum(s * rows[name][k] for k, s in zip(ADDED, shares, strict=True))
                for name, (layers, attention) in HOSTS.items()
            }
            text = ", ".join(f"{k} x {s:g}" for k, s in zip(ADDED, shares, strict=True))
            found.append((_worst(left), text + "; attention products" * products))
    return sorted(found)


def _worst(left: dict[str, float]) -> float:
    return max(abs(value / PAPER[row] - 1) for row, value in left.items())


def _against(row: str, value: float) -> str:
    return f"{row} {value:.3f} ({100 * (value / PAPER[row] - 1):+.1f}%)"


def main() -> int:
    for name in ("B0", "B1"):
        parts = encoder(name)
        print(f"F1 {name}: " + ", ".join(f"{kind} {value:.3f}" for kind, value in parts.items()))
        layers = sum(v for k, v in parts.items() if k != "attention products")
        print(f"  {_against(f'F1 {name}', layers)}; f_high behind the first of stage 3's two "
              f"blocks: {_against(f'F1 {name}', layers - last_block(name))}")
    for name, (layers, attention) in HOSTS.items():
        parts = added(name)
        print(f"added to {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in parts.items()))
        every = layers + sum(parts.values())
        print(f"  {_against(f'F2 {name}', every)}; without SFI: "
              f"{_against(f'F2 {name}', every - parts['SFI'])}")
        print(f"  host: {_against(f'host {name}', layers)}; with attention products: "
              f"{_against(f'host {name}', layers + attention)}")
    for title, found in (("F1", of_encoder()), ("F2", of_network())):
        print(f"\n{title}: the best of {len(found)} hypotheses, by their worst row")
        for worst, text in found[:5]:
            print(f"  {worst:.1%}  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
