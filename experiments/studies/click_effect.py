"""What a click does to the network's answer under it, before the click's disk is painted.

    python experiments/studies/click_effect.py --model distilled-hrnet18s --data GrabCut=DIR

Clicks answer the largest error, as in the benchmark, whether or not the mask is good already. The
session runs without `honour_clicks`, so that what is measured is the network alone. The first click
of an object is left out: there is nothing before it. Printed are, for positive and for negative
clicks: their number, the mean log-odds at the clicked pixel before and after the click and their
change, and the share of clicks after which the pixel is as clicked; and that share over all clicks,
first ones too, without and with `honour_clicks`.
"""

import argparse
import json
from dataclasses import dataclass, field

import numpy as np

from fdrn_adapter.evaluation.clicks import ClickSimulator
from fdrn_adapter.evaluation.datasets.catalogue import open_dataset
from fdrn_adapter.session import InteractiveSession
from fdrn_adapter.zoo.named import open_network

SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1


@dataclass
class Effect:
    """Log-odds under clicks of one sign: [before, after] each; and how many clicks took effect."""

    moved: list[tuple[float, float]] = field(default_factory=list)
    clicks: int = 0
    obeyed: int = 0

    def as_dict(self) -> dict[str, float]:
        before, after = np.mean(self.moved, axis=0) if self.moved else (np.nan, np.nan)
        return {
            "clicks after the first": len(self.moved), "log-odds before": round(float(before), 3),
            "after": round(float(after), 3), "change": round(float(after - before), 3),
            "obeyed": round(self.obeyed / max(1, self.clicks), 4),
        }


def log_odds(probability: float) -> float:
    """Of a probability, kept away from 0 and 1."""
    p = min(max(float(probability), SMALLEST), 1 - SMALLEST)
    return float(np.log(p / (1 - p)))


def effects(session: InteractiveSession, samples, clicks: int) -> dict[bool, Effect]:
    """Click on each sample's object; what positive (True) and negative (False) clicks did.

    Args:
        session: of the network.
        samples: with image and mask, see `evaluation.datasets.sample`.
        clicks: on each object.
    """
    found = {True: Effect(), False: Effect()}
    for sample in samples:
        session.set_image(sample.image)
        simulator = ClickSimulator(sample.mask)
        for number in range(clicks):
            click = simulator.next(session.mask)
            wrong = session.mask[click.y, click.x] != click.positive
            if number and not wrong:  # nothing is wrong any more
                break
            simulator.add(click)
            before = log_odds(session.prob[click.y, click.x])
            session.add_click(click.x, click.y, click.positive)
            effect = found[click.positive]
            effect.clicks += 1
            effect.obeyed += session.mask[click.y, click.x] == click.positive
            if number:
                effect.moved.append((before, log_odds(session.prob[click.y, click.x])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="zoo name or checkpoint")
    parser.add_argument("--data", required=True, help="a data set of `fdrn benchmark`")
    parser.add_argument("--clicks", type=int, default=10, help="on each object (%(default)s)")
    parser.add_argument("--limit", type=int, help="only so many samples")
    parser.add_argument("--engine", default="auto")
    args = parser.parse_args()
    model = open_network(args.model).model.eval()
    dataset = open_dataset(args.data, args.limit)
    for honour in (False, True):
        session = InteractiveSession(model, args.engine, honour_clicks=honour)
        samples = (dataset.load(i) for i in range(len(dataset)))
        found = effects(session, samples, args.clicks)
        share = sum(e.obeyed for e in found.values()) / sum(e.clicks for e in found.values())
        said = {"honour_clicks": honour, "obeyed": round(float(share), 4)}
        if not honour:
            said |= {"positive": found[True].as_dict(), "negative": found[False].as_dict()}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
