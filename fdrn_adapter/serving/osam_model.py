"""A network as one of osam's models: for labelme, whose AI tools ask osam, and for `osam serve`."""

from typing import Any

import numpy as np
import osam

from fdrn_adapter.serving.bridge import PromptSession
from fdrn_adapter.serving.models import DEFAULT_MODEL, open_model
from fdrn_adapter.session import SessionClick

NAME = "fdrn:latest"
NEGATIVE, POSITIVE, BOX_START, BOX_END = 0, 1, 2, 3  # osam's labels of points
# labelme asks at every move of the mouse, so much of what is remembered is never asked for again.
MAX_BYTES = 256 * 2**20


class FDRNOsamModel(osam.types.Model):
    """What osam knows of the network; made by osam when it is first asked for."""

    name = NAME
    metadata = osam.types.ModelMetadata(
        license_name="MIT", license_url="", source_url="", license_spdx="MIT"
    )
    _blobs: dict[str, Any] = {}  # nothing to be downloaded
    network: dict[str, Any] = {"model": DEFAULT_MODEL}  # arguments of `open_model`
    _bridge: PromptSession | None = None

    def __init__(self) -> None:
        super().__init__()
        self._bridge = open_model(**{"max_bytes": MAX_BYTES, **self.network}).bridge

    def encode_image(self, image: np.ndarray) -> osam.types.ImageEmbedding:
        """Encode, and hand out the image's name in place of its features, which stay here."""
        key = self._bridge.open(image)
        digits = np.array([int(digit, 16) for digit in key], np.float32)
        return osam.types.ImageEmbedding(
            original_height=image.shape[0], original_width=image.shape[1],
            embedding=digits[None, None],
        )

    def generate(self, request: osam.types.GenerateRequest) -> osam.types.GenerateResponse:
        """Segment what the points say, which osam sends in their order."""
        if request.prompt is None or request.prompt.points is None:
            raise ValueError("FDRN segments what points or a box say; it takes no texts.")
        key = None
        if request.image_embedding is not None:
            digits = request.image_embedding.embedding.ravel().astype(int)
            key = "".join(f"{digit:x}" for digit in digits)
        size = _size(request)
        answer = self._bridge.predict(
            request.image, image_key=key,
            **_prompts(request.prompt.points, request.prompt.point_labels, size),
        )
        annotations = [_annotation(answer.mask, answer.score)] if answer.mask.any() else []
        return osam.types.GenerateResponse(
            model=self.name, image_embedding=request.image_embedding, annotations=annotations
        )


def register(**network: Any) -> None:
    """Add the network to osam's models, in front of the others.

    Args:
        **network: arguments of `open_model`.
    """
    FDRNOsamModel.network = network
    if FDRNOsamModel not in osam.apis.registered_model_types:
        osam.apis.registered_model_types.insert(0, FDRNOsamModel)


def _size(request: osam.types.GenerateRequest) -> tuple[int, int]:
    if request.image is not None:
        return request.image.shape[:2]
    if request.image_embedding is None:
        raise ValueError("Give an image, or the embedding that encode_image made of one.")
    return request.image_embedding.original_height, request.image_embedding.original_width


def _prompts(points: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    rows, cols = size
    found: dict[str, Any] = {"positive": [], "negative": [], "previous": []}
    corners: dict[int, tuple] = {}
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        if label in (BOX_START, BOX_END):
            corners[label] = (x, y)
            continue
        # A mouse may be between the last pixel and the image's edge.
        x, y = (int(min(max(v, 0), n - 1) + 0.5) for v, n in ((x, cols), (y, rows)))
        found["positive" if label == POSITIVE else "negative"].append((x, y))
        found["previous"].append(SessionClick(x, y, label == POSITIVE))
    if len(corners) == 2:
        found["box"] = (*corners[BOX_START], *corners[BOX_END])
    return found


def _annotation(mask: np.ndarray, score: float) -> osam.types.Annotation:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = osam.types.BoundingBox(
        xmin=int(cols[0]), ymin=int(rows[0]), xmax=int(cols[-1]), ymax=int(rows[-1])
    )
    part = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return osam.types.Annotation(bounding_box=box, mask=part, score=score)
