"""The stock back-propagating refinement, which a session does not have."""

import numpy as np
from torch import nn

from fdrn_adapter.evaluation.clicks import Click
from fdrn_adapter.evaluation.methods import networks
from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options
from fdrn_adapter.evaluation.methods.modes import CVPR_SIDE, DEFAULT_MODE, crop_of_mode
from fdrn_adapter.hosts.catalogue import host_of, is_fdrn
from fdrn_adapter.session.pipeline import BrsPipeline

BRS_MODES = {"brs": "RGB-BRS", "fbrs": "f-BRS-B"}


class BrsSegmenter:
    """A stock network with the stock back-propagating refinement.

    Args:
        name: see `Segmenter`.
        model: a stock network in eval mode.
        method: "brs" for RGB-BRS, "fbrs" for f-BRS-B.
        eval_mode: as for `NetworkSegmenter`; "default" is "cvpr".
        flip: as there.

    Raises:
        ValueError: the model is an FDRN.
    """

    def __init__(
        self, name: str, model: nn.Module, method: str, eval_mode: str = DEFAULT_MODE,
        flip: bool = False,
    ):
        if is_fdrn(model):
            raise ValueError(
                f"{name}: BRS modes back-propagate through the image for every click, and this is "
                "an FDRN, which encodes it once. Pass a stock network, or the FDRN without "
                f"`{method}:`."
            )
        self.name = name
        self.model = model
        self.method, self.eval_mode, self.flip = method, eval_mode, flip
        self._image: np.ndarray | None = None
        self.for_dataset("")

    def for_dataset(self, dataset: str) -> None:
        """See `NetworkSegmenter.for_dataset`."""
        self._pipeline = BrsPipeline(
            *host_of(self.model), BRS_MODES[self.method], crop_of_mode(self.eval_mode),
            CVPR_SIDE.get(dataset, 400), self.flip,
        )

    def set_image(self, image: np.ndarray) -> None:
        self._pipeline.set_image(image)
        self._image, self._clicks = image, []

    def start_object(self) -> None:
        if self._image is None:
            raise RuntimeError("No image yet: call set_image(image) first.")
        self.set_image(self._image)

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        if self._image is None:
            raise RuntimeError("No image yet: call set_image(image) first.")
        self._clicks.append(Click(x, y, positive))
        return self._pipeline.predict(self._clicks)


class BrsMethod(Method):
    """A stock network, by zoo name or from a checkpoint, with a mode of BRS."""

    takes_source = True

    def __init__(self, name: str, help: str):
        self.name, self.help = name, help

    def title(self, source: str) -> str:
        return f"{self.name}:{networks.short_name(source)}"

    def check(self, spec: ModelSpec) -> None:
        networks.check_source(spec)

    def build(self, spec: ModelSpec, options: Options) -> Built:
        named = networks.network(spec.source, options)
        segmenter = BrsSegmenter(
            spec.name, named.model, self.name, options.eval_mode, options.flip
        )
        return Built(spec, segmenter, named.model, named.trained, named.crop_size, "eager")


BRS = BrsMethod("brs", "brs:NETWORK")
FBRS = BrsMethod(
    "fbrs", "fbrs:NETWORK with a zoo name or a checkpoint of a stock network"
)
