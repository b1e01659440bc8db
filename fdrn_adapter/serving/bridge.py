"""From stateless requests to clicks: the same masks as clicks one by one, without replaying them.

Annotation tools send all prompts of an object with every request, positive and negative ones in
lists of their own. FDRN and RITM see one click at a time and the mask before it. `PromptSession`
stands between: it finds the object whose clicks a request goes on with, and makes what is missing.
A mask follows from the image, what the object started from, and its clicks in their order; who
asked, and when, plays no part. So whatever is dropped to save memory comes back by replaying.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from fdrn_adapter import engines
from fdrn_adapter.features.cache import FeatureCache, content_key
from fdrn_adapter.images import as_rgb
from fdrn_adapter.serving.image_objects import ImageObjects
from fdrn_adapter.serving.prompts import Prompts
from fdrn_adapter.session.interactive import InteractiveSession, SessionClick

DEFAULT_BYTES = 2**30


class UnknownImageError(KeyError):
    """An image was named by its key alone, and is not (or no longer) known: send it again."""

    def __str__(self) -> str:
        return self.args[0]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a request gets: `mask, score = answer`, and where it stands.

    Attributes:
        mask: (H, W) bool.
        score: mean probability inside of the mask, 0 where it is empty.
        clicks: in the order in which they count; given back as `previous`, they keep that order.
        computed: how many of them were computed for this request.
        image_key: what names the image in further requests.
    """

    mask: np.ndarray
    score: float
    clicks: tuple[SessionClick, ...]
    computed: int
    image_key: str

    def __iter__(self) -> Iterator[Any]:
        return iter((self.mask, self.score))


class PromptSession:
    """Segments what the prompts say; stateless outside, stateful inside.

    One network serves any number of users and images, from any number of threads. Requests on one
    object wait for each other, others do not.

    Args:
        model: an FDRN model or a stock network, in eval mode.
        max_bytes: limit of what is remembered, half of it for features and half for images and
            objects; those that were not asked for the longest are dropped. What is in use stays.
        batch: how many objects' clicks are run in one call of the network where several threads
            ask at the same time; None for what pays in the engine (8 in "cuda", 1 elsewhere).
        **options: of InteractiveSession: engine, crop, flip, threshold.

    Raises:
        ValueError: as InteractiveSession does.

    Attributes:
        batches: that gather clicks, None for none.
    """

    def __init__(
        self, model: nn.Module, max_bytes: int = DEFAULT_BYTES, batch: int | None = 1,
        **options: Any,
    ):
        if max_bytes < 0:
            raise ValueError(f"max_bytes should be 0 or more, got {max_bytes}.")
        self._features = FeatureCache(max_bytes // 2)
        self._max_bytes = max_bytes // 2
        self.batches: engines.Batches | None = None
        self._new_session = lambda: InteractiveSession(
            model, feature_cache=self._features, batches=self.batches, **options
        )
        self.engine = self._new_session().engine  # options are checked now, not at the first image
        batch = engines.most_by_default(self.engine) if batch is None else batch
        if batch != 1:
            self.batches = engines.Batches(batch)
        self._images: OrderedDict[str, ImageObjects] = OrderedDict()
        self._lock = threading.Lock()

    def predict(
        self, image: Any = None, positive: Sequence = (), negative: Sequence = (),
        box: Sequence[float] | None = None, mask: np.ndarray | None = None,
        image_key: str | None = None, previous: Sequence[SessionClick] | None = None,
        scribbles: Sequence[tuple[Sequence, bool]] = (),
    ) -> Answer:
        """The mask of an object from all of its prompts.

        Args:
            image: anything that `InteractiveSession.set_image` takes, or a function without
                arguments that gives one, called only if the image is not known by its key.
            positive, negative: clicks (x, y) in image pixels, each list in its own order.
            box: (x1, y1, x2, y2) in image pixels around the object.
            mask: (H, W) to start from, boolean, 0 and 255, or probabilities.
            image_key: what names the image; its content by default. A key stands for one image
                for ever: a known one's image is not looked at again.
            previous: clicks of an earlier answer. Says in what order positive and negative clicks
                came, also to a session that has forgotten or never knew them.
            scribbles: (line, positive) each, a line being points (x, y); spaced clicks stand for
                it, after those of the lists.

        Raises:
            UnknownImageError: only a key was given, and it is not known.
            ValueError: no prompt, one outside of the image, or both box and mask.
        """
        prompts = Prompts(positive, negative, box, mask, previous, scribbles)
        return self._ask(image, image_key, prompts)

    def peek(
        self, x: float, y: float, positive: bool = True, image: Any = None,
        image_key: str | None = None, prompts: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """The mask that one more click would give, (H, W) bool, for previews under the mouse.

        The click is not remembered, and `predict` with it will compute it.

        Args:
            x, y, positive: the click.
            image, image_key: as for `predict`.
            prompts: further arguments of `predict`: the object so far.
        """
        return self._ask(image, image_key, Prompts(**(prompts or {})), (x, y, positive)).mask

    def open(self, image: Any, image_key: str | None = None) -> str:
        """Encode an image before it is asked about. Returns its key.

        Args:
            image, image_key: as for `predict`.
        """
        entry, image = self._entry(image, image_key)
        with entry.lock:
            if entry.size is None:
                self._open(entry, image)
        self._trim(entry)
        return entry.key

    def warm_up(self) -> None:
        """Compile what the engine needs, so that the first request is as fast as others."""
        with nullcontext() if self.batches is None else self.batches.rehearsal():
            self._new_session().warm_up()

    def forget(self, image_key: str | None = None) -> None:
        """Drop an image and its objects, or all images and features."""
        with self._lock:
            if image_key is not None:
                self._images.pop(image_key, None)
                return
            self._images.clear()
        self._features.clear()

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Keys of the images that are remembered, the one asked for last at the end."""
        with self._lock:
            return tuple(self._images)

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered: images, objects and features."""
        with self._lock:
            return sum(i.nbytes for i in self._images.values()) + self._features.nbytes

    # -- one request ---------------------------------------------------------------------------

    def _ask(
        self, image: Any, image_key: str | None, prompts: Prompts, peeked: tuple | None = None
    ) -> Answer:
        entry, image = self._entry(image, image_key)
        with entry.lock:
            if entry.size is None:
                self._open(entry, image)
        start, positive, negative = prompts.in_pixels(entry.size)
        if not (start.key or positive or negative or peeked):
            raise ValueError("There is no prompt: give a click, a box, a mask or a scribble.")
        try:
            mask, score, clicks, computed = entry.answer(
                start, positive, negative, prompts.previous, peeked
            )
        finally:
            self._trim(entry)
        return Answer(mask, score, clicks, computed, entry.key)

    def _entry(self, image: Any, key: str | None) -> tuple[ImageObjects, Any]:
        if key is None:
            if image is None:
                raise ValueError("Give an image, or the image_key of one that is known.")
            image = as_rgb(image() if callable(image) else image)
            key = content_key(image)
        with self._lock:
            if key not in self._images and image is not None:
                self._images[key] = ImageObjects(key)
            if key not in self._images:
                raise _unknown(key)
            self._images.move_to_end(key)
            return self._images[key], image

    def _open(self, entry: ImageObjects, image: Any) -> None:
        """Encode an image that was not known; one that cannot be read is not remembered."""
        try:
            if image is None:  # another request brought it, and failed
                raise _unknown(entry.key)
            session = self._new_session()
            session.set_image(image() if callable(image) else image)
        except BaseException:
            with self._lock:
                if self._images.get(entry.key) is entry:
                    del self._images[entry.key]
            raise
        entry.opened(session)

    def _trim(self, entry: ImageObjects) -> None:
        """Drop the images, then the objects, that were not asked for the longest."""
        entry.shrink(self._max_bytes)
        with self._lock:
            total = sum(i.nbytes for i in self._images.values())
            for key in list(self._images):
                if total <= self._max_bytes:
                    return
                if self._images[key] is not entry:
                    total -= self._images.pop(key).nbytes


def _unknown(key: str) -> UnknownImageError:
    return UnknownImageError(
        f"The image {key!r} is not known (any more): send the image itself again."
    )
