"""Engines: the same network, computed faster.

    net = fdrn_adapter.engines.accelerate(model, "auto")
    net.engine                                         # "openvino"
    with net.recycling(net.encode_image(image), rois):
        logits = net(crops, points)["instances"]

Exact in float32: batch norms are folded, layers are composed and reordered where that is algebra,
and what does not depend on the click is kept while the crop stays. Nothing is quantised. The
caller's model is never changed: an engine works on a private copy, made once per model and state of
its weights, shared by all sessions, and dropped when the weights change or the model goes away.
"""

import functools
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from fdrn_adapter.encoders.fingerprint import Fingerprint
from fdrn_adapter.engines import torch_threads
from fdrn_adapter.engines.choice import EAGER, ENGINES, resolve
from fdrn_adapter.engines.engine import EXACT, precision_of
from fdrn_adapter.engines.fast import runner_in
from fdrn_adapter.engines.forks import about_to_use_threads
from fdrn_adapter.engines.torch_threads import one_torch_thread
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import whole_images
from fdrn_adapter.hosts.catalogue import encoder_of, is_fdrn
from fdrn_adapter.weights import Weights

logger = logging.getLogger(__name__)

LARGE_PX = 2 * 2**20


def beside(net: Any, pixels: int = 0) -> AbstractContextManager:
    """For all that is done with torch around calls of a network, whatever it runs in.

    Engines with threads of their own want torch to use one (`torch_threads`).

    Args:
        net: a network, in an engine or not.
        pixels: that torch works on. From LARGE_PX on its threads save more than they cost.

    Raises:
        RuntimeError: this process was forked from one that had computed on torch's threads.
    """
    engine = ENGINES.get(getattr(net, "engine", EAGER.name), EAGER)
    if engine.own_threads and pixels < LARGE_PX:
        return one_torch_thread()
    about_to_use_threads()
    return nullcontext()


def _beside(method: Callable) -> Callable:
    """A method of `AcceleratedModel`, run in `beside`."""

    @functools.wraps(method)
    def wrapped(self, *args: Any, **kwargs: Any) -> Any:
        with beside(self):
            return method(self, *args, **kwargs)

    return wrapped


class AcceleratedModel:
    """Stands in for a network where it is called: predictors, sessions, benchmarks.

    Calls run in the engine; every other attribute is the model's own. Outputs are what predictors
    take: "instances" and, for FocalClick, "feature", which only `refine` can read: the engine has
    projected it to the channels that the second stage goes on with.

    Args:
        model: FDRN model or stock network, float32 on the CPU, in eval mode.
        engine: an installed one other than "eager".
        precision: "exact" or "fast".
    """

    def __init__(self, model: nn.Module, engine: str, precision: str = EXACT):
        self.model, self.engine, self.precision = model, engine, precision

    @_beside
    def __call__(self, image: Tensor, points: Tensor) -> dict[str, Tensor]:
        """As the model, without gradients. See `FDRNModel.forward`."""
        model, recycling = self.model, None
        if is_fdrn(model):
            model.check_click(image, points)
            recycling = model.current_recycling(len(image))
            if recycling is None and model.image_encoder is not None:
                recycling = whole_images(self._encode(image[:, :3]))
        return self._click(image, points, recycling)

    def _click(self, image: Tensor, points: Tensor, recycling: Any) -> dict[str, Tensor]:
        return self._runner().click(image, points, recycling)

    @_beside
    def encode_image(
        self, image: Tensor, max_side: int | None = None, looked: bool = False
    ) -> ImageFeatures:
        """As `FDRNModel.encode_image`."""
        if self.model.image_encoder is None:
            return self.model.encode_image(image)
        self.model.check_image(image)
        if not looked:
            self.look_at_weights()
        return self._encode(image, max_side)

    def _encode(self, image: Tensor, max_side: int | None = None) -> ImageFeatures:
        encoder = self.model.image_encoder
        x = encoder.resized(image, max_side)
        if encoder.backbone.runs_itself:
            maps = encoder.backbone.maps_in(self.engine, x, torch_threads.number())
        else:
            maps = self._runner(encoding=True).encode(x)
        return encoder.features_from(maps, tuple(image.shape[-2:]), tuple(x.shape[-2:]))

    def recycling(
        self, features: ImageFeatures | Sequence[ImageFeatures],
        rois: Tensor | Sequence[Sequence[float]], image_index: Sequence[int] | None = None,
    ) -> AbstractContextManager:
        """As `FDRNModel.recycling`."""
        anywhere = ENGINES[self.engine].moves_features
        return self.model.recycling(features, rois, image_index, anywhere=anywhere)

    def check_features(self, features: ImageFeatures, anywhere: bool = False) -> None:
        """As `FDRNModel.check_features`, for this engine."""
        anywhere = anywhere or ENGINES[self.engine].moves_features
        self.model.check_features(features, anywhere=anywhere)

    def look_at_weights(self) -> None:
        """Compile anew, when next called, what was compiled for weights that are no more.

        Also for those that were changed past torch's counters, as through `.data` or numpy, which
        calls alone do not see. For every image; `encode_image` does so.
        """
        look_again(self.model)

    @_beside
    def refine(self, image, points, features, logits, boxes) -> dict[str, Tensor]:
        """FocalClick's second stage, as the host's `refine`; without its trimap."""
        return self._runner().refine(image, points, features, logits, boxes)

    def _runner(self, encoding: bool = False) -> Any:
        return runner_of(self.model, self.engine, encoding, self.precision)

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "engine", "precision"):  # not set yet: a copy or an unpickled one
            raise AttributeError(name)
        return getattr(self.model, name)


def accelerate(model: nn.Module, engine: str = "auto", precision: str | None = None) -> Any:
    """A network in an engine, to be called like the network; the network itself for "eager".

    Args:
        model: FDRN model or stock network.
        engine: see `resolve`.
        precision: "exact", or "fast": fewer bits where masks stay the same and the processor or
            GPU is faster with them, see `fast` and `cuda`; by default what the variable
            FDRN_PRECISION says, else "exact".

    Raises:
        ValueError: unknown or missing engine, or a model in training mode.
    """
    engine = resolve(engine, model)
    if engine == EAGER.name:
        return model
    if model.training:
        raise ValueError("The model is in training mode; call model.eval() first.")
    return AcceleratedModel(model, engine, precision_of(precision))


_runners: "weakref.WeakKeyDictionary[nn.Module, dict]" = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def runner_of(
    model: nn.Module, engine: str, encoding: bool = False, precision: str = EXACT
) -> Any:
    """The compiled form of a model with its present weights, shared by all who ask.

    Args:
        model: FDRN model or stock network.
        engine: an installed one other than "eager".
        encoding: whether F1 is to run. Its weights are not looked at for a click, whose features
            tell what they were made with.
        precision: see `accelerate`.
    """
    with _lock:
        kept = _runners.setdefault(model, {})
        parts = ("click", "encode") if encoding else ("click",)
        if kept and any(kept["watched"][p].state() != kept["states"][p] for p in parts):
            logger.info("The weights changed: compiled engines are dropped")
            kept.clear()
        if not kept:
            watched = _watch(model)
            states = {part: weights.state() for part, weights in watched.items()}
            kept.update(watched=watched, states=states)
        if (engine, precision) not in kept:
            row = ENGINES[engine]
            kept[engine, precision] = row.own_runner(model, precision) \
                or runner_in(precision, model, row)
        return kept[engine, precision]


def look_again(model: nn.Module) -> None:
    """See weights that were changed past torch's counters, in what is compiled for a model."""
    with _lock:
        if is_fdrn(model):
            model.look_at_weights()
        kept = _runners.get(model)
        if kept and not kept["watched"]["click"].modules_stayed():
            logger.info("Modules were replaced: compiled engines are dropped")
            kept.clear()
        if kept:
            kept["watched"]["click"].look()  # F1's are the model's own, which has looked


def _watch(model: nn.Module) -> dict[str, Weights | Fingerprint]:
    """The weights of F2 or a stock network ("click") and of F1 ("encode")."""
    encoder = encoder_of(model)
    watched = {"click": Weights(_clicked(model))}
    watched["encode"] = Weights([]) if encoder is None else encoder.watched
    watched["click"].look()
    return watched


def _clicked(model: nn.Module) -> list[nn.Module]:
    """The modules that run for a click: all but F1's."""
    encoder = encoder_of(model)
    own = set() if encoder is None else set(encoder.modules())
    return [module for module in model.modules() if module not in own]
