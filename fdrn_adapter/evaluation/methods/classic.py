"""Graph cut and random walker, the methods without a network in the paper's Table 1.

Both take clicks as disks of hard seeds, and one pixel of frame around the image as background
seeds: with a single positive click there would be nothing to tell the object from otherwise. A
click outranks the frame, a later click an earlier one, and a clicked pixel every other disk.
Before there is a positive click the answer is an empty mask.

The frame stays when there are negative clicks. Without it from then on, the random walker needs
two clicks more to an IoU of 85% (12 images of GrabCut: 13.1 instead of 11.0); published figures are
probably without.
"""

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options

logger = logging.getLogger(__name__)

NAMES = ("graphcut", "randomwalker")
FREE, OBJECT, BACKGROUND = 0, 1, 2  # labels of seed maps


def build(name: str) -> "GraphCut | RandomWalker":
    """A method by its name on the command line.

    Raises:
        ValueError: no such method, or the package it needs is not installed.
    """
    if name == "graphcut":
        return GraphCut()
    if name == "randomwalker":
        _random_walker()  # a missing package is better reported before the first image
        return RandomWalker()
    raise ValueError(f"There is no method {name!r}. Allowed: {', '.join(NAMES)}.")


@dataclass(frozen=True)
class Click:
    """A click in the method's own image.

    Attributes:
        x, y: column and row, pixels of the image that the method works on.
    """

    x: int
    y: int
    positive: bool


def seed_map(
    shape: tuple[int, int], clicks: list[Click], radius_px: int, frame: bool = True
) -> np.ndarray:
    """(H, W) uint8 of FREE, OBJECT and BACKGROUND.

    Args:
        shape: H, W.
        clicks: in order of time.
        radius_px: of the disks.
        frame: whether the outermost pixels are background where no click says otherwise.
    """
    import cv2

    seeds = np.full(shape, BACKGROUND if frame else FREE, np.uint8)
    if frame:
        seeds[1:-1, 1:-1] = FREE
    for click in clicks:
        label = OBJECT if click.positive else BACKGROUND
        cv2.circle(seeds, (click.x, click.y), radius_px, label, thickness=-1)
    for click in clicks:
        seeds[click.y, click.x] = OBJECT if click.positive else BACKGROUND
    return seeds


class _Seeded:
    """Clicks collected on a copy of the image whose long side is bounded.

    Attributes:
        max_side_px: a longer image is reduced to it.
        seed_radius_px: of the disks of seeds, in pixels of the copy.
    """

    name: str
    max_side_px: int
    seed_radius_px: int

    def __init__(self) -> None:
        self._image: np.ndarray | None = None  # what the method works on
        self._shape = (0, 0)  # of the image that was passed
        self._clicks: list[Click] = []

    def set_image(self, image: np.ndarray) -> None:
        """Take an image, (H, W, 3) uint8 RGB, and start an object."""
        import cv2

        self._shape = rows, cols = image.shape[:2]
        scale = min(1.0, self.max_side_px / max(rows, cols))
        if scale < 1:
            size = max(1, round(cols * scale)), max(1, round(rows * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._image = np.ascontiguousarray(image)
        self.start_object()

    def start_object(self) -> None:
        """Forget the clicks."""
        self._clicks = []

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        """Probability of the object, (H, W) float32 at the size of the image passed.

        Raises:
            RuntimeError: there is no image yet.
        """
        import cv2

        if self._image is None:
            raise RuntimeError(f"{self.name} has no image yet: call set_image(image) first.")
        rows, cols = self._image.shape[:2]
        x_own = min(cols - 1, int((x + 0.5) * cols / self._shape[1]))
        y_own = min(rows - 1, int((y + 0.5) * rows / self._shape[0]))
        self._clicks.append(Click(x_own, y_own, bool(positive)))
        seeds = seed_map((rows, cols), self._clicks, self.seed_radius_px)
        if not (seeds == OBJECT).any():
            return np.zeros(self._shape, np.float32)
        if not (seeds == BACKGROUND).any():
            return np.ones(self._shape, np.float32)
        prob = self._segment(seeds)
        if prob.shape != self._shape:
            prob = cv2.resize(prob, self._shape[::-1], interpolation=cv2.INTER_LINEAR)
        return prob

    def _segment(self, seeds: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class GraphCut(_Seeded):
    """Interactive graph cut (Boykov and Jolly) with the colour models of OpenCV's `grabCut`.

    Every click: Gaussian mixtures of object and background colours are fitted to the seeds alone,
    and one minimum cut labels the other pixels. Nothing is iterated and the mask of the click
    before is not used, as in the paper's reference [6] (which has histograms for mixtures):
    `grabCut`'s own iteration lets the models drift over the image, and needed 12.0 clicks to an
    IoU of 85% where this needed 8.3 (12 images of GrabCut). The answer is 0 or 1.

    Images with a longer side than `max_side_px` are reduced to it.
    """

    name = "graphcut"
    max_side_px = 1280
    seed_radius_px = 5  # the disks that stock networks are given
    _MODEL_SIZE = 65  # of cv2: 5 components x (weight, 3 means, 9 covariances)
    _COMPONENTS = 5

    def _segment(self, seeds: np.ndarray) -> np.ndarray:
        import cv2

        background, foreground = self._colour_models(seeds)
        mask = np.full(seeds.shape, cv2.GC_PR_BGD, np.uint8)
        mask[seeds == OBJECT] = cv2.GC_FGD
        mask[seeds == BACKGROUND] = cv2.GC_BGD
        cv2.grabCut(self._image, mask, None, background, foreground, 1, cv2.GC_EVAL_FREEZE_MODEL)
        return ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)

    def _colour_models(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mixtures of background and object, fitted by `grabCut` to a strip of seeds only."""
        import cv2

        colours = [self._image[seeds == label] for label in (OBJECT, BACKGROUND)]
        labels = [
            np.full(len(c), label, np.uint8)
            for c, label in zip(colours, (cv2.GC_FGD, cv2.GC_BGD), strict=True)
        ]
        # Each seed as often as there are components: clustering wants that many at least.
        strip = np.tile(np.concatenate(colours)[None], (self._COMPONENTS, 1, 1))
        mask = np.tile(np.concatenate(labels)[None], (self._COMPONENTS, 1))
        background, foreground = np.zeros((1, self._MODEL_SIZE)), np.zeros((1, self._MODEL_SIZE))
        cv2.setRNGSeed(0)  # the clustering draws its start: the same clicks give the same mask
        cv2.grabCut(strip, mask, None, background, foreground, 0, cv2.GC_INIT_WITH_MASK)
        return background, foreground


class RandomWalker(_Seeded):
    """Random walker (Grady, the paper's reference [11]) of scikit-image.

    The probability that a walker from a pixel meets an object seed first, on an image reduced to
    a long side of `max_side_px`: a direct solution there takes about half a second. (Conjugate
    gradients with the usual tolerance stop far from the solution where edges are strong.)

    Attributes:
        beta: a step's weight is exp(-beta d^2) for a distance d of colours in [0, 1]; the value is
            Grady's own. (scikit-image's parameter of that name is relative to the contrast.)
    """

    name = "randomwalker"
    max_side_px = 256
    seed_radius_px = 2  # about 5 on images of 640 pixels
    beta = 90.0

    def _segment(self, seeds: np.ndarray) -> np.ndarray:
        if (seeds != FREE).all():
            return (seeds == OBJECT).astype(np.float32)
        image = self._image / 255.0
        if np.ptp(image) > 0:
            # scikit-image divides its beta by this, see its _compute_weights_3d.
            beta = self.beta * 10 * image.std() * image.shape[2] ** 0.5
        else:  # without edges all weights are equal, but the division would fail
            image, beta = np.indices(seeds.shape).sum(0)[..., None] % 2.0, 0.0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*spsolve|.*sparse")
            probabilities = _random_walker()(
                image, seeds.astype(np.int32), beta=beta, mode="bf", return_full_prob=True,
                channel_axis=-1,
            )
        return probabilities[OBJECT - 1].astype(np.float32)


def _random_walker():
    try:
        from skimage.segmentation import random_walker
    except ImportError as error:
        raise ValueError(
            "randomwalker needs scikit-image, which is not installed: pip install "
            "'fdrn_adapter[plots]'."
        ) from error
    return random_walker


class ClassicMethod(Method):
    """A method without a network, by its name alone."""

    def __init__(self, name: str):
        self.name = self.help = name

    def build(self, spec: ModelSpec, options: Options) -> Built:
        segmenter = build(self.name)
        segmenter.name = spec.name
        return Built(spec, segmenter)


GRAPHCUT, RANDOMWALKER = (ClassicMethod(name) for name in NAMES)
