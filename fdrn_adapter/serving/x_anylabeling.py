"""X-AnyLabeling's remote server: its list of models, and marks to polygons."""

from typing import Any

import cv2
import numpy as np

from fdrn_adapter.outlines import polygons
from fdrn_adapter.serving.bridge import PromptSession
from fdrn_adapter.serving.messages import (
    RequestError,
    checked_picture,
    content_name,
    encoded_picture,
    field,
)

LABEL = "AUTOLABEL_OBJECT"  # by which the tool asks its user for one
WIDGETS = ("button_add_point", "button_remove_point", "button_add_rect", "button_clear",
           "button_finish_object", "mask_fineness_slider")
FINENESS = 0.001  # of a border's length, where the tool sends none
MOST_TOLERANCE_PX = 8.0


def models(name: str) -> dict[str, Any]:
    """Answer GET /v1/models."""
    return {"data": {name: {
        "display_name": f"FDRN ({name})", "batch_processing_mode": None, "params": {},
        "widgets": [{"name": widget, "value": None} for widget in WIDGETS],
    }}}


def predict(bridge: PromptSession, name: str, body: dict[str, Any], max_pixels: int) -> dict:
    """Answer POST /v1/predict.

    Raises:
        RequestError: with the status and text of the answer.
        ValueError: a mark that does not fit the image.
    """
    if (asked := field(body, "model", str, name)) != name:
        raise RequestError(404, "unknown_model", f"There is no model {asked!r}, but {name!r}.")
    params = field(body, "params", dict, {})
    prompts = _prompts(field(params, "marks", list, []))
    text = field(body, "image", str)
    if text is None:
        raise RequestError(422, "no_image", "image is missing.")
    if not prompts:
        return {"data": {"shapes": [], "description": "", "replace": False}}
    encoded = encoded_picture(text)
    answer = bridge.predict(
        lambda: checked_picture(encoded, max_pixels), image_key=content_name(encoded), **prompts
    )
    fineness = field(params, "epsilon_factor", (int, float), FINENESS)
    shapes = [
        {"label": LABEL, "shape_type": "polygon", "points": [*ring.tolist(), ring[0].tolist()],
         "score": round(answer.score, 4)}
        for ring in polygons(answer.mask, _tolerance(answer.mask, fineness))
    ]
    return {"data": {"shapes": shapes, "description": "", "replace": False}}


def _prompts(marks: list) -> dict[str, Any]:
    """Points by their sign, and the last rectangle."""
    found: dict[str, Any] = {}
    for mark in marks:
        try:
            kind, data = mark["type"], [float(v) for v in mark["data"]]
            if kind == "point":
                sign = "positive" if int(mark.get("label", 1)) else "negative"
                found.setdefault(sign, []).append(data)
            elif kind == "rectangle":
                found["box"] = data
            else:
                raise ValueError(f"of type {kind!r}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RequestError(
                422, "bad_mark", f"A mark is a point or a rectangle, got {mark!r:.80}."
            ) from error
    return found


def _tolerance(mask: np.ndarray, fineness: float) -> float:
    """Pixels by which the longest border may be simplified."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    longest = max((cv2.arcLength(ring, True) for ring in found), default=0.0)
    return min(max(fineness, 0.0) * longest, MOST_TOLERANCE_PX)
