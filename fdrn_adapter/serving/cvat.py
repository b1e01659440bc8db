"""CVAT: an agent's interaction function, for cvat-cli, and a handler for self-hosted nuclio.

    cvat-cli function create-native "FDRN" --function-module fdrn_adapter.serving.cvat
    cvat-cli function run-agent ID --function-module fdrn_adapter.serving.cvat

The agent's worker is one process that loads the network once (`create`), encodes every image once
(`preprocess_image`), and then answers clicks (`detect`). The folder examples/cvat_nuclio has the
other one.
"""

import base64
import json
from typing import Any

import numpy as np

from fdrn_adapter.images import as_rgb
from fdrn_adapter.outlines import outlines
from fdrn_adapter.serving.bridge import PromptSession, UnknownImageError
from fdrn_adapter.serving.models import DEFAULT_MODEL, open_model


class PreparedImage:
    """An image that is encoded already: its key, and itself, should the bridge forget it."""

    def __init__(self, key: str, image: np.ndarray):
        self.key, self.image = key, image


class InteractionFunction:
    """What `cvat_sdk.auto_annotation` calls an interaction function."""

    def __init__(self, bridge: PromptSession):
        import cvat_sdk.auto_annotation as annotation  # only where agents run
        import cvat_sdk.masks as masks  # likewise

        self._bridge, self._annotation, self._masks = bridge, annotation, masks

    @property
    def spec(self) -> Any:
        """One positive click at least or a box; negative clicks are welcome."""
        return self._annotation.InteractionFunctionSpec(
            min_pos_points=0, min_neg_points=0, min_bounding_boxes=0
        )

    def preprocess_image(self, context: Any, image: Any) -> PreparedImage:
        """Encode a frame, or a part of one."""
        rgb = as_rgb(image)
        return PreparedImage(self._bridge.open(rgb), rgb)

    def detect(self, context: Any, pp_image: PreparedImage, prompts: Any) -> list:
        """The mask of what the prompts say; nothing where there are none or it is empty."""
        size = pp_image.image.shape[:2]
        given = _prompts(prompts.pos_points, prompts.neg_points, prompts.bounding_box, size)
        if not given:
            return []
        mask, _ = _predicted(self._bridge, pp_image, given)
        if not mask.any():
            return []
        shape = self._annotation.InteractionResultShape
        return [shape(type="mask", points=self._masks.encode_mask(mask))]


def create(model: str = DEFAULT_MODEL, engine: str = "auto", crop: int | None = None) -> Any:
    """What `--function-module` asks for; parameters are given as `-p model=str:NAME`."""
    return InteractionFunction(open_model(model, engine=engine, crop=crop).bridge)


# -- nuclio ------------------------------------------------------------------------------------


def nuclio_context(context: Any, model: str = DEFAULT_MODEL) -> None:
    """For `init_context`: load and compile the network, before requests are timed by nuclio."""
    context.user_data.model = open_model(model).bridge
    context.user_data.model.warm_up()


def nuclio_answer(bridge: PromptSession, body: dict[str, Any] | bytes) -> dict[str, Any]:
    """For `handler`: the answer to an interactor request of CVAT's server.

    Args:
        bridge: of the network.
        body: {image: base64, pos_points, neg_points, obj_bbox}.

    Returns:
        mask: rows of 0 and 255 inside of `bounds`; bounds: left, top, right, bottom, inclusive;
        points: the longest border as a polygon. An empty mask, also where there is no prompt
        (CVAT asks so when the last click is taken back), is one pixel of 0.

    Raises:
        ValueError: no picture, or prompts outside of it.
    """
    request = json.loads(body) if isinstance(body, bytes | str) else body
    image = as_rgb(base64.b64decode(request["image"]))
    box = request.get("obj_bbox")
    given = _prompts(
        request.get("pos_points") or [], request.get("neg_points") or [], box or None,
        image.shape[:2],
    )
    mask = bridge.predict(image, **given).mask if given else None
    if mask is None or not mask.any():
        return {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []}
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top, right, bottom = (int(v) for v in (cols[0], rows[0], cols[-1], rows[-1]))
    part = mask[top : bottom + 1, left : right + 1].astype(np.uint8) * 255
    parts = outlines(mask, 1.0) or outlines(mask)  # thin parts may not be worth a corner
    border = max((ring for ring, _ in parts), key=len)
    return {"mask": part.tolist(), "bounds": [left, top, right, bottom], "points": border.tolist()}


def _prompts(positive: Any, negative: Any, box: Any, size: tuple[int, int]) -> dict[str, Any]:
    """CVAT's points, of which some lie on an image's far edge, as prompts."""
    rows, cols = size
    given: dict[str, Any] = {
        sign: [(min(max(float(x), 0), cols - 1), min(max(float(y), 0), rows - 1))
               for x, y in points]
        for sign, points in (("positive", positive), ("negative", negative)) if len(points)
    }
    if box is not None:
        (x1, y1), (x2, y2) = box
        given["box"] = (x1, y1, x2, y2)
    return given


def _predicted(bridge: PromptSession, image: PreparedImage, given: dict[str, Any]) -> Any:
    try:
        return bridge.predict(image_key=image.key, **given)
    except UnknownImageError:
        return bridge.predict(image.image, **given)
