"""What is kept in the project folder, and what goes out of it and in."""

import csv
import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from support.annotate_page import network, photographs, served

from fdrn_adapter.annotate.project import Project
from fdrn_adapter.output_folders import FolderInUseError

pytest.importorskip("starlette")
pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture
def folder(tmp_path):
    return photographs(tmp_path / "photos", 3)


def work(page) -> dict[int, np.ndarray]:
    """Two objects on a photograph, with an undone step; their masks."""
    page.open("a.png")
    page.do("click", object=None, x=96, y=72)
    page.do("describe", name="left", category="cat")
    page.do("finish")
    page.do("click", object=None, x=150, y=110)
    page.do("brush", points=[[20, 20], [40, 30]], radius=5, erase=False)
    page.do("click", x=30, y=100, positive=False)
    page.do("undo")
    return dict(page.masks)


def test_all_steps_come_back(folder, model):
    with served(folder, model) as page:
        masks = work(page)
        described = page.state["objects"]
        page.do("redo")
        redone = page.mask
        page.do("undo")
    with served(folder, model) as page:
        state = page.open("a.png")
        assert state["objects"] == described and state["redo"] == "click"
        assert all(np.array_equal(page.masks[i], m) for i, m in masks.items()) and len(masks) == 2
        page.do("redo")
        assert np.array_equal(page.mask, redone)
        page.do("undo")
        page.do("click", object=2, x=30, y=100, positive=False)  # by the network, as before
        assert np.array_equal(page.mask, redone)
        for _ in range(6):
            page.do("undo")
        assert page.state["objects"] == []


def test_a_step_that_another_tab_did_not_see_is_refused(folder, model):
    with served(folder, model) as page:
        old = page.open("a.png")["revision"]
        page.do("click", object=None, x=96, y=72)
        for action in ("click", "undo", "delete"):
            late = page.post(f"do/{action}", revision=old, object=1, x=150, y=110)
            assert late.status_code == 409 and late.json()["error"]["code"] == "stale"
        state = page.open("a.png")
        assert state["objects"][0]["made"] == 1 and state["revision"] == old + 1


def test_one_process_at_a_time(folder):
    project = Project(folder)
    with pytest.raises(FolderInUseError, match="annotations"):
        Project(folder)
    project.close()
    Project(folder).close()


def test_a_full_disk_is_said_and_nothing_is_lost(folder, model, monkeypatch):
    from fdrn_adapter.annotate import autosave, project

    monkeypatch.setattr(autosave, "RETRY_SECONDS", 0.01)
    write = project.write_output

    def full(path, content):
        raise OSError(28, "No space left on device")

    with served(folder, model) as page:
        page.open("a.png")
        monkeypatch.setattr(project, "write_output", full)
        page.do("click", object=None, x=96, y=72)
        deadline = 200
        while "No space" not in page.post("open").json()["saved"] and deadline:
            deadline -= 1
        assert deadline
        monkeypatch.setattr(project, "write_output", write)
    with served(folder, model) as page:
        assert page.open("a.png")["objects"][0]["made"] == 1


def test_damaged_states_are_named_and_others_work(folder, model):
    with served(folder, model) as page:
        work(page)
    state = folder / "fdrn_annotations" / "states" / "a.png.json"
    whole = state.read_text()
    for text in (whole[:-9], "[]", "{}", whole.replace("/1", "/9"), whole.replace('"now"', '"x"')):
        state.write_text(text)
        with served(folder, model) as page:
            page.name = "a.png"
            answer = page.post("open")
            assert answer.status_code == 422 and str(state) in answer.json()["error"]["message"]
            assert page.client.get("/api/overview").json()["images"][0]["state"] == "damaged"
            page.open("b.png")
        assert state.read_text() == text
    state.write_text(whole)
    cv2.imwrite(str(folder / "a.png"), np.zeros((50, 60, 3), np.uint8))
    with served(folder, model) as page:
        page.name = "a.png"
        assert "60 x 50 pixels" in page.post("open").json()["error"]["message"]


def test_progress(folder, model):
    with served(folder, model) as page:
        work(page)
        page.post("mark", finished=True)
        page.open("b.png")
        page.do("click", object=None, x=96, y=72)
        overview = page.client.get("/api/overview").json()
        assert [i["state"] for i in overview["images"]] == ["finished", "begun", "open"]
        progress = overview["progress"]
        assert (progress["images"], progress["finished"], progress["objects"]) == (3, 1, 3)
        assert progress["clicks_per_object"] == 1.0
        shown = page.client.get("/api/progress.csv").text
    on_disk = (folder / "fdrn_annotations" / "progress.csv").read_text()
    assert on_disk == shown
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [(r["image"], r["object"], r["class"], r["finished"]) for r in rows] == [
        ("a.png", "left", "cat", "1"), ("a.png", "object 2", "", "1"),
        ("b.png", "object 1", "", "0"), ("c.png", "", "", "0")]
    assert rows[0]["done"] == "1" and rows[1]["strokes"] == "1"
    (folder / "fdrn_annotations" / "summaries.json").unlink()
    with served(folder, model) as page:
        assert page.client.get("/api/overview").json()["progress"] == progress


def test_coco_goes_out_and_in(folder, model):
    coco = pytest.importorskip("pycocotools.coco")
    with served(folder, model) as page:
        masks = list(work(page).values())
        written = page.client.post("/api/export/coco").json()["written"]
        download = page.client.get("/api/export/coco")
        assert download.json() == json.loads(open(written).read())
        found = coco.COCO(written)
        annotations = found.loadAnns(found.getAnnIds())
        assert [found.cats[a["category_id"]]["name"] for a in annotations] == ["cat", "object"]
        for annotation, mask in zip(annotations, masks, strict=True):
            assert np.array_equal(found.annToMask(annotation), mask)
        for _ in range(7):
            page.do("undo") if page.state["undo"] else None
        answer = page.client.post("/api/import?name=coco.json", content=download.content).json()
        assert answer == {"objects": 2, "images": ["a.png"], "skipped": []}
        page.open("a.png")
        assert all(np.array_equal(a, b) for a, b in zip(page.masks.values(), masks, strict=True))
        assert page.state["objects"][0]["category"] == "cat" and page.state["undo"] == "import"
        page.do("click", object=page.state["objects"][0]["id"], x=30, y=100, positive=False)
        assert (page.mask != masks[0]).any()  # clicks go on


@pytest.mark.parametrize("kind", ["labelme", "label_maps"])
def test_other_formats_go_out_and_in(folder, model, kind):
    with served(folder, model) as page:
        masks = list(work(page).values())
        page.client.post(f"/api/export/{kind}")
        archive = zipfile.ZipFile(io.BytesIO(page.client.get(f"/api/export/{kind}").content))
        name = f"{kind}/a.png." + ("json" if kind == "labelme" else "png")
        content = archive.read(name)
        assert (folder / "fdrn_annotations" / name).read_bytes() == content
        base = name.rpartition("/")[2]
        answer = page.client.post(f"/api/import?name={base}", content=content).json()
        assert answer == {"objects": 2, "images": ["a.png"], "skipped": []}
        page.open("a.png")
        if kind == "label_maps":  # later objects cover earlier ones
            masks[0] = masks[0] & ~masks[1]
        got = list(page.masks.values())[2:]
        assert all(np.array_equal(a, b) for a, b in zip(got, masks, strict=True)) and len(got) == 2


NOT_TAKEN = [
    ("a.png.json", b"{", "not JSON"), ("a.png.json", b"{}", "neither"),
    ("z.png", "PNG", "no photograph"), ("a.png", b"no picture", "a.png"),
    ("x.json", b'{"annotations": [{}], "images": 3}', "COCO"),
    ("a.json", b'{"shapes": [], "imageHeight": 1, "imageWidth": 1, "imagePath": "z.jpg"}', ""),
    ("c.png", "SMALL", "60 x 50 pixels"),
]


def test_files_that_cannot_be_taken(folder, model):
    with served(folder, model) as page:
        for name, content, text in NOT_TAKEN:
            if size := {"PNG": (160, 240), "SMALL": (50, 60)}.get(content):
                labels = np.zeros(size, np.uint8)
                labels[5:40, 5:40] = 255
                content = cv2.imencode(".png", labels)[1].tobytes()
            answer = page.client.post(f"/api/import?name={name}", content=content)
            if text:
                assert answer.status_code == 422, name
                assert text in answer.json()["error"]["message"]
            else:  # its own name says whose it is
                assert answer.json() == {"objects": 0, "images": ["a.png"], "skipped": []}
