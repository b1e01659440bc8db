"""A project folder with the real page's server on it."""

from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

import fdrn_adapter
from fdrn_adapter.annotate.masks import mask_of_runs
from fdrn_adapter.serving.bridge import PromptSession
from support.stock import picture, taught_host

HEADERS = {"x-fdrn-page": "1"}


def network():
    """A small FDRN whose masks follow the picture."""
    return fdrn_adapter.wrap(taught_host("tiny"))


def photographs(folder: Path, number: int = 2) -> Path:
    """A folder with so many pictures, a.png, b.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        image = np.roll(picture(), 3 * i, axis=1)[..., ::-1]
        cv2.imwrite(str(folder / f"{'abcdefgh'[i]}.png"), image)
    return folder


@contextmanager
def served(folder: Path, model):
    """A client of the page on a folder; saved and closed at the end."""
    from starlette.testclient import TestClient  # an extra

    from fdrn_adapter.annotate.project import Project
    from fdrn_adapter.annotate.routes import PageRoutes
    from fdrn_adapter.serving.app import make_app
    from fdrn_adapter.serving.models import ServedModel

    project = Project(folder)
    network = ServedModel("tiny", PromptSession(model, crop=96))
    try:
        app = make_app(network, addition=PageRoutes(project))
        with TestClient(app, base_url="http://localhost", headers=HEADERS) as client:
            yield Page(client)
    finally:
        project.close()


class Page:
    """What the page does, without a browser: it knows revisions and puts changes on masks."""

    def __init__(self, client):
        self.client, self.name = client, ""
        self.state: dict = {}
        self.masks: dict[int, np.ndarray] = {}

    def open(self, name: str = "a.png") -> dict:
        """Go to a photograph."""
        self.name, self.masks = name, {}
        return self._take(self.post("open"))

    def do(self, action: str, **body) -> dict:
        """Make a step; `object` is the last one by default."""
        body.setdefault("object", self.state.get("object"))
        answer = self.post(f"do/{action}", revision=self.state["revision"], **body)
        assert answer.status_code == 200, answer.text
        return self._take(answer)

    def post(self, what: str, **body):
        """Any request on the photograph."""
        return self.client.post(f"/api/images/{self.name}/{what}", json=body)

    def _take(self, answer) -> dict:
        assert answer.status_code == 200, answer.text
        self.state = {"object": None, **answer.json()}
        size = self.state["size"]
        ids = {o["id"] for o in self.state["objects"]}
        self.masks = {i: m for i, m in self.masks.items() if i in ids}
        for number, found in self.state["masks"].items():
            mask = self.masks.setdefault(int(number), np.zeros(size, bool))
            self.masks[int(number)] = mask ^ mask_of_runs(found["runs"], found["box"], size)
        for o in self.state["objects"]:
            self.masks.setdefault(o["id"], np.zeros(size, bool))
        return self.state

    @property
    def mask(self) -> np.ndarray:
        """Of the object that the last step was made on."""
        return self.masks[self.state["object"]]
