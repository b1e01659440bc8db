"""The server's own route: prompts in JSON to a mask in JSON."""

import base64
from typing import Any

import numpy as np

from fdrn_adapter.outlines import outlines
from fdrn_adapter.serving.bridge import PromptSession
from fdrn_adapter.serving.messages import (
    RequestError,
    checked_picture,
    content_name,
    decoded_mask,
    encoded_picture,
    field,
)
from fdrn_adapter.serving.outputs import mask_png
from fdrn_adapter.session import SessionClick

OUTPUTS = ("png", "rle", "polygons")


def segment(bridge: PromptSession, body: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """Answer POST /segment; see `openapi`.

    Raises:
        RequestError: with the status and text of the answer.
        ValueError: a prompt that does not fit the image.
    """
    image, key = _image(body, max_pixels)
    output = field(body, "output", str, "png")
    if output not in OUTPUTS:
        raise RequestError(422, "bad_field", f"output is one of {', '.join(OUTPUTS)}.")
    prompts: dict[str, Any] = {
        name: field(body, name, list, []) for name in ("positive", "negative")
    }
    if (box := field(body, "box", list)) is not None:
        prompts["box"] = box
    if (mask := field(body, "mask", str)) is not None:
        prompts["mask"] = decoded_mask(mask, max_pixels)
    if (previous := field(body, "previous", list)) is not None:
        prompts["previous"] = [SessionClick(*_click(c)) for c in previous]
    prompts["scribbles"] = [
        (field(s, "points", list, []), bool(s.get("positive", True)))
        for s in field(body, "scribbles", list, []) if isinstance(s, dict)
    ]
    peeked = field(body, "peek", list)
    if peeked is not None:
        mask = bridge.peek(*_click(peeked), image, key, prompts)
        return {"image_key": key, **_size(mask), "mask": _mask(mask, output)}
    answer = bridge.predict(image, image_key=key, **prompts)
    return {
        "image_key": key, "score": round(answer.score, 4), **_size(answer.mask),
        "clicks": [[c.x, c.y, c.positive] for c in answer.clicks],
        "computed": answer.computed, "mask": _mask(answer.mask, output),
    }


def _image(body: dict[str, Any], max_pixels: int) -> tuple[Any, str]:
    """The image or None, and its key: of what its file holds, so that nobody names another's."""
    text = field(body, "image", str)
    if text is None:
        key = field(body, "image_key", str)
        if key is None:
            raise RequestError(422, "no_image", "Send image, or image_key of an earlier answer.")
        return None, key
    encoded = encoded_picture(text)
    return lambda: checked_picture(encoded, max_pixels), content_name(encoded)


def _click(found: Any) -> tuple[int, int, bool]:
    try:
        x, y, positive = found
        return int(x), int(y), bool(positive)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(
            422, "bad_field", f"A click here is [x, y, positive], got {found!r:.60}."
        ) from error


def _size(mask: np.ndarray) -> dict[str, int]:
    return {"width": mask.shape[1], "height": mask.shape[0]}


def _mask(mask: np.ndarray, output: str) -> Any:
    if output == "png":
        return base64.b64encode(mask_png(mask)).decode("ascii")
    if output == "rle":
        return uncompressed_rle(mask)
    return [
        {"border": border.tolist(), "holes": [hole.tolist() for hole in holes]}
        for border, holes in outlines(mask)
    ]


def uncompressed_rle(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's RLE with a list of counts: column by column, zeros first."""
    flat = np.asarray(mask, bool).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return {"size": list(mask.shape), "counts": counts}
