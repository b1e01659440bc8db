"""What the server's routes take and give, as an OpenAPI document."""

from typing import Any

from fdrn_adapter import __version__
from fdrn_adapter.serving.json_route import OUTPUTS

_POINT = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2,
          "description": "x (column), y (row) in image pixels"}
_CLICK = {"type": "array", "minItems": 3, "maxItems": 3, "items": {},
          "description": "[x, y, positive]"}
_REQUEST = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "description": "file of the picture in base64, or a data URL"},
        "image_key": {"type": "string", "description": "of an earlier answer, instead of image"},
        "positive": {"type": "array", "items": _POINT, "description": "clicks on the object"},
        "negative": {"type": "array", "items": _POINT, "description": "clicks off the object"},
        "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4,
                "description": "x1, y1, x2, y2 around the object"},
        "mask": {"type": "string", "description": "PNG in base64 to start from; not with box"},
        "scribbles": {"type": "array", "items": {"type": "object", "properties": {
            "points": {"type": "array", "items": _POINT}, "positive": {"type": "boolean"}}}},
        "previous": {"type": "array", "items": _CLICK,
                     "description": "clicks of the last answer: keeps their order"},
        "peek": {**_CLICK, "description": "[x, y, positive]: what this click would give"},
        "output": {"enum": list(OUTPUTS), "default": "png"},
    },
}
_ANSWER = {
    "type": "object",
    "properties": {
        "image_key": {"type": "string"}, "width": {"type": "integer"},
        "height": {"type": "integer"}, "score": {"type": "number"},
        "clicks": {"type": "array", "items": _CLICK, "description": "in the order they count in"},
        "computed": {"type": "integer", "description": "clicks that were new"},
        "mask": {"description": "png: base64; rle: COCO's, uncompressed; polygons: "
                                "[{border, holes}] along pixel edges"},
    },
}
_ERROR = {"type": "object", "properties": {"error": {"type": "object", "properties": {
    "code": {"type": "string"}, "message": {"type": "string"}}}}}
_ERRORS = {
    "401": "token missing or wrong", "404": "image_key not known (any more): send the image",
    "408": "body too slow", "413": "body or picture too large",
    "422": "a field, a picture or a prompt is wrong", "503": "too many requests wait",
}


def openapi(model: str) -> dict[str, Any]:
    """The document of a server of `model`."""
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
        for status, text in _ERRORS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"FDRN: {model}", "version": __version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
        "paths": {
            "/segment": {"post": {
                "summary": "The mask of an object from all of its prompts",
                "requestBody": _content(_REQUEST), "responses": {
                    "200": {"description": "the mask", **_content(_ANSWER)}, **errors},
            }},
            "/health": _get("Whether the server is up"),
            "/metrics": _get("Counters in Prometheus' text format"),
            "/v1/models": _get("Models, for X-AnyLabeling"),
            "/v1/predict": _post("Marks to polygons, for X-AnyLabeling"),
            "/predict": _post("Regions, for Label Studio"),
            "/setup": _post("For Label Studio"), "/webhook": _post("For Label Studio"),
        },
    }


def _content(schema: dict) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _get(summary: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": {"description": "OK"}}}}


def _post(summary: str) -> dict[str, Any]:
    return {"post": {"summary": summary, "requestBody": _content({"type": "object"}),
                     "responses": {"200": {"description": "OK"}}}}
