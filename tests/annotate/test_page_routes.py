"""What the page asks for, with the real app and a real network, beside a session of its own."""

import numpy as np
import pytest
from support.annotate_page import network, photographs, served
from support.stock import picture

from fdrn_adapter.annotate import edits
from fdrn_adapter.session import InteractiveSession

pytest.importorskip("starlette")
pytest.importorskip("httpx")

A, B, C = (96, 72, True), (100, 80, True), (200, 100, False)


def click(found) -> dict:
    x, y, positive = found
    return {"x": x + 0.5, "y": y + 0.5, "positive": positive}


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture
def session(model):
    session = InteractiveSession(model, crop=96)
    session.set_image(picture())
    return session


@pytest.fixture
def page(model, tmp_path):
    with served(photographs(tmp_path / "photos"), model) as page:
        page.open()
        yield page


def test_clicks_undo_and_redo_give_the_sessions_masks(page, session):
    wanted = []
    for c in (A, C, B):
        page.do("click", **click(c))
        wanted.append(session.add_click(*c))
        assert np.array_equal(page.mask, wanted[-1])
    assert wanted[0].any() and (wanted[0] != wanted[1]).any()
    page.do("undo")
    assert np.array_equal(page.mask, wanted[1]) and page.state["redo"] == "click"
    page.do("undo")
    assert np.array_equal(page.mask, wanted[0])
    page.do("redo")
    assert np.array_equal(page.mask, wanted[1])
    page.do("click", **click((100, 70, True)))
    session.keep_clicks(2)
    assert np.array_equal(page.mask, session.add_click(100, 70, True))
    assert page.state["redo"] == ""
    for _ in range(3):
        page.do("undo")
    assert page.state["objects"] == [] and page.state["undo"] == ""
    assert page.post("do/undo", revision=page.state["revision"]).status_code == 422


def test_two_objects_do_not_mix(page, session):
    page.do("click", **click(A))
    first = page.state["object"]
    page.do("finish")
    page.do("click", object=None, **click((150, 110, True)))
    second = page.state["object"]
    page.do("click", **click(C))
    session.add_click(*A)
    session.add_object()
    session.add_clicks([(150, 110, True), C])
    assert np.array_equal(page.masks[first], session.object_mask("object 1"))
    assert np.array_equal(page.masks[second], session.mask)
    page.do("click", object=first, **click(B))
    session.select_object("object 1")
    assert np.array_equal(page.masks[first], session.add_click(*B))
    names = [(o["name"], o["done"], o["made"]) for o in page.state["objects"]]
    assert names == [("object 1", False, 2), ("object 2", False, 2)]
    page.do("delete", object=first)
    assert [o["id"] for o in page.state["objects"]] == [second]
    page.do("undo")
    assert np.array_equal(page.masks[first], session.mask)


def test_a_stroke_goes_on_by_clicks_and_can_be_undone(page, session):
    page.do("click", **click(A))
    before = session.add_click(*A)
    stroke = [[60, 60], [90, 60]]
    page.do("brush", points=stroke, radius=4, erase=False)
    drawn = edits.brushed(before, stroke, 4, False)
    assert np.array_equal(page.mask, drawn) and (drawn != before).any()
    page.do("click", **click(B))
    session.set_mask(drawn)
    assert np.array_equal(page.mask, session.add_click(*B))
    page.do("undo")
    page.do("undo")
    assert np.array_equal(page.mask, before)
    assert page.state["objects"][0]["clicks"] == [[96, 72, True]]
    row, col = np.argwhere(before)[before.sum() // 2].tolist()
    page.do("brush", points=[[col, row]], radius=4, erase=True)
    assert page.state["objects"][0]["strokes"] == 1
    revision = page.state["revision"]
    page.do("brush", points=[[5, 5]], radius=2, erase=True)  # nothing is there
    assert page.state["revision"] == revision


def test_boxes_outlines_and_descriptions(page, session):
    page.do("box", object=None, box=[70, 50, 130, 100])
    assert np.array_equal(page.mask, session.set_box(70, 50, 130, 100))
    page.do("click", **click(B))
    assert np.array_equal(page.mask, session.add_click(*B))
    asked = page.post("corners", object=page.state["object"], tolerance=1.5).json()
    rings = asked["rings"]
    moved = [[*rings[0][1:], [rings[0][0][0] + 9, rings[0][0][1] - 7]], *rings[1:]]
    before = page.mask
    page.do("polygon", before=rings, after=moved)
    assert np.array_equal(page.mask, edits.reshaped(before, rings, moved))
    assert (page.mask != before).any()
    page.do("describe", name="cat", category="animal", colour="#102030")
    shown = page.state["objects"][0]
    assert (shown["name"], shown["category"], shown["colour"]) == ("cat", "animal", "#102030")
    assert page.client.get("/api/overview").json()["classes"] == ["animal"]


def test_a_preview_is_the_click_and_is_not_remembered(page, session):
    page.do("click", **click(A))
    session.add_click(*A)
    found = page.post("peek", object=page.state["object"], **click(C)).json()
    from fdrn_adapter.annotate.masks import PackedMask, change

    wanted = change(PackedMask.of(session.mask), PackedMask.of(session.peek(*C)))
    assert found["mask"] == wanted is not None and found["revision"] == page.state["revision"]
    page.do("click", **click(B))
    assert np.array_equal(page.mask, session.add_click(*B))


WRONG = [
    ("do/click", {"x": 999, "y": 5}, 422), ("do/click", {"x": "a", "y": 5}, 422),
    ("do/click", {"x": -1, "y": 5}, 422), ("do/click", {"x": 5, "y": 5, "object": 77}, 422),
    ("do/box", {"box": [1, 2]}, 422), ("do/box", {}, 422),
    ("do/brush", {"points": [], "radius": 4}, 422), ("do/brush", {"points": [[1, 1]]}, 422),
    ("do/polygon", {"before": 1, "after": []}, 422), ("do/dance", {}, 404),
    ("do/describe", {"colour": "red"}, 422), ("do/finish", {}, 422), ("do/delete", {}, 422),
    ("corners", {"object": 5, "tolerance": 1}, 422), ("corners", {}, 422),
]


def test_wrong_steps_change_nothing(page):
    for what, body, status in WRONG:
        answer = page.post(what, **{"revision": 0, "object": None, **body})
        assert answer.status_code == status, (what, body, answer.text)
        assert answer.json()["error"]["message"]
        assert page.client.get("/api/images/a.png/revision").json() == {"revision": 0}


def test_the_page_itself_and_what_it_may_do(page):
    client = page.client
    html = client.get("/")
    assert html.status_code == 200 and "<canvas" in html.text
    policy = html.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert client.get("/page/nothing.js").status_code == 404
    assert client.get("/page/..%2Fstatic.py").status_code == 404
    answer = client.post("/api/images/a.png/open", headers={"x-fdrn-page": ""})
    assert answer.status_code == 200
    del client.headers["x-fdrn-page"]
    for path in ("/api/images/a.png/open", "/api/export/coco", "/api/import?name=a.json"):
        assert client.post(path, json={}).status_code == 403, path


def test_photographs_and_only_they_are_given(page, tmp_path):
    get = page.client.get
    raw = (tmp_path / "photos" / "a.png").read_bytes()
    assert get("/api/images/a.png/picture").content == raw
    assert get("/api/images/a.png/thumbnail").content[:2] == b"\xff\xd8"
    (tmp_path / "secret.png").write_bytes(raw)
    (tmp_path / "photos" / "notes.txt").write_text("x")
    for name in ("..%2Fsecret.png", "%2e%2e%2Fsecret.png", "notes.txt", "c.png", ".fdrn.lock"):
        assert get(f"/api/images/{name}/picture").status_code in (404, 422), name


def test_dropped_files_are_stored_under_a_free_name(page, tmp_path):
    post, raw = page.client.post, (tmp_path / "photos" / "b.png").read_bytes()
    assert post("/api/photographs?name=a.png", content=raw).json() == {"name": "a-2.png"}
    assert post("/api/photographs?name=../../b.png", content=raw).json() == {"name": "b.png"}
    assert post("/api/photographs?name=x.png", content=b"no picture").status_code == 422
    assert post("/api/photographs?name=x.exe", content=raw).status_code == 422
    names = [i["name"] for i in page.client.get("/api/overview").json()["images"]]
    assert names == ["a-2.png", "a.png", "b.png"]
    page.open("a-2.png")
    page.do("click", object=None, **click(A))
    assert page.mask.any()
