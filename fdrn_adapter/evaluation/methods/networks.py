"""Networks under test, FDRNs and stock ones, in an `InteractiveSession`."""

import os
from pathlib import Path

import numpy as np
from torch import nn

from fdrn_adapter import zoo
from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options
from fdrn_adapter.evaluation.methods.modes import CVPR, CVPR_SIDE, DEFAULT_MODE, crop_of_mode
from fdrn_adapter.hosts.catalogue import is_fdrn
from fdrn_adapter.session.interactive import InteractiveSession
from fdrn_adapter.zoo.named import NamedNetwork, open_network


class NetworkSegmenter:
    """An FDRN model or a stock network.

    Args:
        name: see `Segmenter`.
        model: in eval mode.
        engine: passed to `InteractiveSession`.
        eval_mode: "default": what the project runs, for an FDRN its fixed crop (288, FocalClick
            256) zoomed in from the first click, for a stock network the stock zoom-in; "cvpr": the
            stock zoom-in for both; "fixedN": crops of N x N from the first click for both.
        flip: average with the mirrored image.
        own_crop: side of the crops of an FDRN in mode "default", where the zoo has another.
        precision: of the engine, see `InteractiveSession`.
    """

    def __init__(
        self, name: str, model: nn.Module, engine: str = "auto", eval_mode: str = DEFAULT_MODE,
        flip: bool = False, own_crop: int | None = None, precision: str | None = None,
    ):
        self.name = name
        self.model = model
        self.eval_mode = eval_mode
        crop = crop_of_mode(eval_mode)
        if eval_mode == DEFAULT_MODE and is_fdrn(model):
            crop = own_crop
        self._session = InteractiveSession(model, engine=engine, crop=crop, flip=flip,
                                           precision=precision)
        self.engine = self._session.engine
        if self.engine == "eager":  # others are compiled for points in single precision
            self._session.click_like_stock_evaluation()
        self.for_dataset("")

    def for_dataset(self, dataset: str) -> None:
        """Mode "cvpr" has larger crops for DAVIS, as the stock script has."""
        if self.eval_mode == CVPR:
            self._session.zoom_in_like_stock(CVPR_SIDE.get(dataset, 400))

    def set_image(self, image: np.ndarray) -> None:
        self._session.forget_features()  # an image seen before is encoded, and timed, anew
        self._session.set_image(image)

    def start_object(self) -> None:
        self._session.reset_object()

    def set_mask(self, mask: np.ndarray) -> None:
        """Start on an object from a mask, (H, W); see `InteractiveSession.set_mask`."""
        self._session.set_mask(mask)

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        self._session.add_click(x, y, positive)
        return self._session.prob


def network(source: str, options: Options) -> NamedNetwork:
    """A network by zoo name or from a checkpoint; a checkout of another kind is passed by.

    Raises:
        ValueError: it cannot be found or built.
        RuntimeError: its image encoder is in a file that is not at hand.
    """
    root = options.codebase
    if source in zoo.names():
        root = zoo.codebase_for(source, root)
    named = open_network(source, root, options.seed)
    named.require_encoder()
    named.model.to(options.device)
    return named


class NetworkMethod(Method):
    """A zoo name, or the path of a checkpoint; what no other kind accepts is taken for one."""

    name = "network"

    @property
    def help(self) -> str:
        return f"a zoo name ({', '.join(zoo.names())}), the path of a checkpoint"

    def accepts(self, text: str) -> bool:
        return True

    def source_of(self, text: str) -> str:
        return text

    def title(self, source: str) -> str:
        return short_name(source)

    def check(self, spec: ModelSpec) -> None:
        check_source(spec)

    def build(self, spec: ModelSpec, options: Options) -> Built:
        named = network(spec.source, options)
        engine = options.engine_of(is_fdrn(named.model))
        segmenter = NetworkSegmenter(
            spec.name, named.model, engine, options.eval_mode, options.flip, named.crop,
            options.precision,
        )
        return Built(
            spec, segmenter, named.model, named.trained, named.crop_size, segmenter.engine,
            takes_crops=True,
        )


NETWORK = NetworkMethod()


def short_name(source: str) -> str:
    """What a network is called in tables: its zoo entry or file."""
    return source if source in zoo.names() else Path(source).stem or source


def check_source(spec: ModelSpec) -> None:
    """See that a network is there.

    Raises:
        ValueError: it is written like a file, and there is none.
        LookupError: there is nothing of that name.
    """
    if spec.source in zoo.names() or Path(spec.source).is_file():
        return
    if os.sep in spec.source or Path(spec.source).suffix in (".pth", ".pt", ".onnx"):
        raise ValueError(f"{spec.name}: there is no checkpoint {spec.source}.")
    raise LookupError(spec.source)
