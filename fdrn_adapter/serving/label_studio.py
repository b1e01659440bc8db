"""Label Studio's machine learning backend: interactive requests to brush or polygon regions."""

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Any

import numpy as np

from fdrn_adapter.outlines import polygons
from fdrn_adapter.serving.bridge import PromptSession
from fdrn_adapter.serving.brush_rle import brush_rle
from fdrn_adapter.serving.messages import (
    RequestError,
    checked_picture,
    content_name,
    encoded_picture,
    field,
)

SECONDS = 20.0  # for Label Studio to send an image
# Of polygons, since the editor gets slow with thousands of corners; less for small objects.
TOLERANCE_PX, TOLERANCE_OF_SIZE = 1.0, 0.04
OUTPUTS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels"}


@dataclass
class LabelStudio:
    """Where images come from: the one Label Studio that this server works for.

    Attributes:
        url: of Label Studio; images are fetched from there and from nowhere else.
        token: an access token of it, personal or legacy.
        max_bytes: of an image file.
        max_pixels: of an image.
    """

    url: str | None = None
    token: str | None = None
    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000

    def fetch(self, source: str) -> bytes:
        """The file of an image.

        Args:
            source: what the task says: a path on Label Studio, a URL there, or a data URL.

        Raises:
            RequestError: not from there, or it cannot be had; the text says what to do.
        """
        if source.startswith("data:"):
            return checked_picture(encoded_picture(source), self.max_pixels)
        if self.url is None:
            raise RequestError(
                424, "no_label_studio", "The server does not know where Label Studio is: start it "
                "with --label-studio URL and the environment variable LABEL_STUDIO_API_KEY."
            )
        address = urllib.parse.urljoin(self.url.rstrip("/") + "/", source)
        ours, asked = (urllib.parse.urlsplit(u) for u in (self.url, address))
        if (asked.scheme, asked.netloc) != (ours.scheme, ours.netloc):
            raise RequestError(
                403, "foreign_image", f"Images are fetched from {self.url} alone, not from "
                f"{asked.netloc or source!r:.80}."
            )
        return checked_picture(self._get(address), self.max_pixels)

    def _get(self, address: str) -> bytes:
        headers = {} if self.token is None else {"Authorization": self._authorization()}
        request = urllib.request.Request(address, headers=headers)
        try:
            with _opener().open(request, timeout=SECONDS) as answer:
                data = answer.read(self.max_bytes + 1)
        except (urllib.error.URLError, OSError) as error:
            raise RequestError(
                424, "no_image", f"Label Studio did not give {address}: {error}. Is "
                "LABEL_STUDIO_API_KEY a valid token?"
            ) from error
        if len(data) > self.max_bytes:
            raise RequestError(
                413, "too_large", f"{address} is larger than {self.max_bytes} bytes."
            )
        return data

    def _authorization(self) -> str:
        """Legacy tokens go as they are; personal ones are exchanged for one of some minutes."""
        if self.token.count(".") != 2:
            return f"Token {self.token}"
        request = urllib.request.Request(
            self.url.rstrip("/") + "/api/token/refresh",
            json.dumps({"refresh": self.token}).encode(), {"Content-Type": "application/json"},
        )
        try:
            with _opener().open(request, timeout=SECONDS) as answer:
                return "Bearer " + json.load(answer)["access"]
        except (urllib.error.URLError, OSError, ValueError, KeyError) as error:
            raise RequestError(
                424, "no_access", f"Label Studio did not take the personal token: {error}."
            ) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects would lead to hosts that nobody named."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirects)


def predict(
    bridge: PromptSession, name: str, body: dict[str, Any], source: LabelStudio
) -> dict[str, Any]:
    """Answer POST /predict: one result a task, empty ones without a context to go by.

    Raises:
        RequestError: with the status and text of the answer.
        ValueError: a prompt that does not fit the image.
    """
    tasks = field(body, "tasks", list, [])
    context = field(field(body, "params", dict, {}), "context", dict, {})
    drawn = [r for r in field(context, "result", list, []) if isinstance(r, dict)]
    results = [{"result": [], "model_version": name, "score": 0.0} for _ in tasks]
    if drawn and len(tasks) == 1 and isinstance(tasks[0], dict):
        results = [_region(bridge, name, tasks[0], field(body, "label_config", str, ""), drawn,
                           source)]
    return {"results": results}


def _region(bridge, name: str, task: dict, config: str, drawn: list[dict], source: LabelStudio):
    tag = _output_tag(config)
    data = field(task, "data", dict, {})
    path = data.get(tag["value"].removeprefix("$"))
    if not isinstance(path, str):
        raise RequestError(422, "no_image", f"The task has no image {tag['value']!r}.")
    prompts, label, size = _prompts(drawn)
    if not prompts:
        return {"result": [], "model_version": name, "score": 0.0}
    key = content_name(path.encode()) if path.startswith("data:") else f"{source.url} {path}"
    answer = bridge.predict(lambda: source.fetch(path), image_key=key, **_scaled(prompts, size))
    common = {
        "from_name": tag["from_name"], "to_name": tag["to_name"], "type": tag["type"],
        "original_width": size[0], "original_height": size[1], "image_rotation": 0,
        "score": round(answer.score, 4),
    }
    values = _values(answer.mask, tag["type"], label)
    result = [{"id": uuid.uuid4().hex[:10], **common, "value": value} for value in values]
    return {"result": result, "model_version": name, "score": round(answer.score, 4)}


def _output_tag(config: str) -> dict[str, str]:
    """Names of the brush or polygon control of a labelling configuration, and of its image."""
    try:
        if "<!" in config:  # no entities
            raise ElementTree.ParseError("a declaration")
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise RequestError(422, "bad_config", f"label_config is not XML: {error}.") from error
    images = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
    for kind, output in OUTPUTS.items():
        for tag in root.iter(kind):
            if tag.get("toName") in images:
                return {"from_name": tag.get("name", ""), "to_name": tag.get("toName"),
                        "type": output, "value": images[tag.get("toName")]}
    raise RequestError(
        422, "bad_config", "The labelling interface needs <BrushLabels> or <PolygonLabels> on an "
        "<Image>, beside <KeyPointLabels smart=\"true\"> or <RectangleLabels smart=\"true\">."
    )


def _prompts(drawn: list[dict]) -> tuple[dict[str, Any], str, tuple[int, int]]:
    """Prompts in percent of the image, the label of the last one, and the image's size."""
    found: dict[str, Any] = {}
    label, size = "", (0, 0)
    for region in drawn:
        kind, value = region.get("type", ""), field(region, "value", dict, {})
        if kind not in ("keypoint", "keypointlabels", "rectangle", "rectanglelabels"):
            continue
        try:
            x, y = float(value["x"]), float(value["y"])
            size = int(region["original_width"]), int(region["original_height"])
            if kind.startswith("rectangle"):
                found["box"] = (x, y, x + float(value["width"]), y + float(value["height"]))
            else:
                sign = "positive" if int(region.get("is_positive", 1)) else "negative"
                found.setdefault(sign, []).append((x, y))
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(422, "bad_region", f"A region lacks {error}.") from error
        label = next(iter(value.get(kind) or []), label)
    return found, str(label), size


def _scaled(prompts: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Percents as pixels: 0 is the left edge of the first one, 100 the right edge of the last."""
    def pixel(point):
        return tuple(
            min(max(p / 100 * n - 0.5, 0), n - 1) for p, n in zip(point, size, strict=True)
        )

    return {
        name: (*pixel(value[:2]), *pixel(value[2:])) if name == "box" else [*map(pixel, value)]
        for name, value in prompts.items()
    }


def _values(mask: np.ndarray, kind: str, label: str) -> list[dict[str, Any]]:
    labels = [label] if label else []
    if kind == "brushlabels":
        return [{"format": "rle", "rle": brush_rle(mask), kind: labels}] if mask.any() else []
    percent = 100 / np.array(mask.shape[::-1])
    tolerance = min(TOLERANCE_PX, TOLERANCE_OF_SIZE * float(np.sqrt(mask.sum())))
    return [
        {"points": (ring * percent).tolist(), "closed": True, kind: labels}
        for ring in polygons(mask, tolerance)
    ]
