"""The real page in headless Chromium, worked on with mouse, keys and fingers.

Needs playwright (PyPI) and a Chromium; FDRN_CHROMIUM names one, else `chromium` of the system or
playwright's own is taken. FDRN_SCREENSHOTS names a folder for pictures to look at.
"""

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.annotate_page import Page, network, photographs
from support.annotate_server import serving

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")
coco = pytest.importorskip("pycocotools.coco")

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        path = os.environ.get("FDRN_CHROMIUM") or shutil.which("chromium")
        try:
            browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield browser
        browser.close()


@pytest.fixture
def folder(tmp_path):
    return photographs(tmp_path / "photos", 3)


@contextmanager
def tab(browser, address, **options):
    """The page, open and ready. What it logs as an error, or asks elsewhere, fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 760}, **options})
    page = context.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" and
            "Failed to load resource" not in m.text else None)
    page.on("request", lambda r: asked.append(r.url))
    page.goto(address)
    try:
        said(page, "pixels,")
        yield Hand(page)
        assert errors == []
        assert all(url.startswith((address, "blob:")) for url in asked), asked
    finally:
        context.close()


def said(page, text: str) -> None:
    playwright.expect(page.locator("#status")).to_contain_text(text, timeout=40_000)


class Hand:
    """A user's hand: points at pixels of the photograph, which is shown whole."""

    def __init__(self, page):
        self.page = page

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the photograph is in the window, by what the page says."""
        box = self.page.locator("#marks").bounding_box()
        scale = min(box["width"] / 240, box["height"] / 160) * 0.98
        return (box["x"] + box["width"] / 2 + (x + 0.5 - 120) * scale,
                box["y"] + box["height"] / 2 + (y + 0.5 - 80) * scale)

    def click(self, x, y, button="left", says="Click:"):
        self.quiet()
        self.page.mouse.click(*self.at(x, y), button=button)
        said(self.page, says)

    def drag(self, points, says):
        self.quiet()
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up()
        said(self.page, says)

    def key(self, key, says=None):
        self.quiet()
        self.page.keyboard.press(key)
        if says:
            said(self.page, says)

    def quiet(self):
        """So that what is said next is new."""
        self.page.evaluate("document.getElementById('status').textContent = ''")

    def overlay_at(self, x, y):
        """The overlay's colour at a pixel of the photograph."""
        return self.page.evaluate("""([x, y]) => {
            const canvas = document.getElementById('overlay');
            const box = canvas.getBoundingClientRect();
            const ratio = canvas.width / box.width;
            return [...canvas.getContext('2d').getImageData(
                (x - box.x) * ratio, (y - box.y) * ratio, 1, 1).data];
        }""", list(self.at(x, y)))

    def look(self, name):
        if folder := os.environ.get("FDRN_SCREENSHOTS"):
            self.page.screenshot(path=f"{folder}/{name}.png")


@contextmanager
def server_of(address):
    """What the server knows, asked beside the browser."""
    with httpx.Client(base_url=address, headers={"x-fdrn-page": "1"}, timeout=60) as client:
        yield Page(client)


def test_a_day_at_work(browser, folder, model):
    with serving(folder, model) as address, server_of(address) as known:
        with tab(browser, address) as hand:
            page = hand.page
            assert hand.overlay_at(96, 72)[3] == 0
            hand.click(96, 72)
            first = known.open("a.png")["objects"][0]
            assert first["clicks"] == [[96, 72, True]]
            one = known.masks[1]
            painted(hand, one)
            hand.click(140, 75, "right")
            assert known.open("a.png")["objects"][0]["clicks"][1] == [140, 75, False]
            two = known.masks[1]
            assert (one != two).any()
            painted(hand, two)
            hand.look("1_two_clicks")
            hand.key("z", "Undone")
            painted(hand, one)
            page.get_by_role("button", name="Redo").click()
            said(page, "Done again")
            painted(hand, two)
            hand.key("Space", "finished")
            hand.click(200, 120)
            known.open("a.png")
            assert len(known.masks) == 2
            page.get_by_label("Class").fill("dog")
            page.get_by_label("Class").press("Enter")
            said(page, "Changed")
            # the brush, on the second object
            before = known.masks[2]
            hand.key("b")
            hand.drag([(20, 20), (60, 20)], "Stroke")
            known.open("a.png")
            assert (known.masks[2] & ~before)[18:23, 20:60].all()
            hand.key("e")
            hand.drag([(20, 20), (40, 20)], "Stroke")
            known.open("a.png")
            assert not known.masks[2][20, 15:40].any() and known.masks[2][20, 55]
            # a corner of its outline
            hand.key("g", "corners")
            before = known.masks[2]
            rings = known.post("corners", object=2, tolerance=0.8).json()["rings"]
            x, y = max((c for ring in rings for c in ring), key=lambda c: (c[0] < 225) * c[1])
            hand.drag([(x - 0.5, y - 0.5), (x + 12, y - 6)], "Outline changed")
            known.open("a.png")
            assert (known.masks[2] != before).any()
            hand.look("2_outline")
            # zoom in by the wheel: what is under the pointer stays there
            hand.key("c")
            page.mouse.move(*hand.at(96, 72))
            where = page.locator("#where")
            playwright.expect(where).to_contain_text("x 96, y 72")
            for _ in range(5):
                page.mouse.wheel(0, -120)
            page.mouse.move(*(v + 0.3 for v in hand.at(96, 72)))
            playwright.expect(where).to_contain_text("x 96, y 72")
            hand.key("0")
            page.get_by_label("Photograph is done").check()
            said(page, "is done")
            # next photograph, reload, and everything is there
            hand.key("PageDown", "b.png")
            hand.click(100, 72)
            page.reload()
            said(page, "b.png, 240 × 160 pixels, 1 object")
            page.get_by_role("button", name="a.png").click()
            said(page, "a.png, 240 × 160 pixels, 2 objects")
            hand.look("3_reloaded")
            page.keyboard.press("Control+e")
            page.get_by_role("button", name="Write to the folder: COCO JSON").click()
            playwright.expect(page.locator("#files-status")).to_contain_text("Written")
            with page.expect_download() as download:
                page.get_by_role("link", name="Download PNG label maps").click()
            assert download.value.suggested_filename == "label_maps.zip"
        compare_coco(folder, known, {"a.png": 2, "b.png": 1})


def painted(hand, mask) -> None:
    """Every twelfth pixel away from borders is painted just where the mask is."""
    import cv2

    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0
    outer = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
    assert inner.any() and not outer.all()
    hand.page.mouse.move(2, 2)  # no preview
    hand.page.wait_for_timeout(60)
    for region, is_painted in ((inner, True), (~outer, False)):
        rows, cols = np.nonzero(region)
        for i in np.linspace(0, len(rows) - 1, 12).astype(int):
            assert (hand.overlay_at(cols[i], rows[i])[3] > 0) == is_painted, (cols[i], rows[i])


def compare_coco(folder, known, objects) -> None:
    """The exported COCO as pycocotools reads it, against the server's masks."""
    found = coco.COCO(str(folder / "fdrn_annotations" / "coco.json"))
    by_name = {image["file_name"]: image["id"] for image in found.loadImgs(found.getImgIds())}
    assert set(by_name) == set(objects)
    for name, number in objects.items():
        known.open(name)
        annotations = found.loadAnns(found.getAnnIds(imgIds=[by_name[name]]))
        assert len(annotations) == number == len(known.masks)
        for annotation, mask in zip(annotations, known.masks.values(), strict=True):
            assert np.array_equal(found.annToMask(annotation), mask) and mask.any()


def test_boxes_previews_selection_and_last_change(browser, folder, model):
    with serving(folder, model) as address, server_of(address) as known:
        with tab(browser, address) as hand:
            page = hand.page
            page.keyboard.down("Shift")
            hand.drag([(70, 50), (130, 100)], "Box")
            page.keyboard.up("Shift")
            assert known.open("a.png")["objects"][0]["box"] == [70, 50, 130, 100]
            with page.expect_response(lambda r: r.url.endswith("/peek")) as peeked:
                page.mouse.move(*hand.at(150, 110), steps=5)
            assert peeked.value.ok
            # moves on: previews that were asked for earlier are not shown on another place
            page.mouse.move(*hand.at(5, 5))
            hand.click(110, 80)
            page.get_by_label("Show what the last step").check()
            hand.look("4_last_change")
            page.get_by_label("Show what the last step").uncheck()
            hand.key("Space", "finished")
            page.keyboard.down("Alt")
            hand.click(100, 75, says="object 1 selected")
            page.keyboard.up("Alt")
            playwright.expect(page.locator("#name")).to_have_value("object 1")
            hand.key("Delete", "deleted")
            assert known.open("a.png")["objects"] == []
            hand.key("Control+z", "Undone")
            assert len(known.open("a.png")["objects"]) == 1


def test_keys_alone_from_the_folder_to_the_export(browser, folder, model):
    with serving(folder, model) as address, server_of(address) as known:
        with tab(browser, address) as hand:
            page = hand.page
            for _ in range(3):
                page.keyboard.press("ArrowLeft")
            page.keyboard.press("Shift+ArrowUp")
            hand.key("Enter", "Click")
            x, y, positive = known.open("a.png")["objects"][0]["clicks"][0]
            assert positive and x < 120 and y == 79
            for _ in range(30):
                page.keyboard.press("ArrowRight")
            hand.key("n", "Click")
            assert known.open("a.png")["objects"][0]["clicks"][1][2] is False
            hand.key("d")
            page.keyboard.type("cat")
            hand.key("Enter", "Changed")
            hand.key("b")
            hand.key("Enter", "Stroke")
            hand.key("g", "corners")
            hand.key("k", "Corner 1")
            before = known.open("a.png") and known.masks[1]
            for _ in range(6):
                page.keyboard.press("ArrowUp")
            said(page, "Outline changed")
            known.open("a.png")
            assert (known.masks[1] != before).any()
            hand.key("x")
            hand.key("a")
            hand.key("Escape")
            hand.key("Enter", "First corner")
            for key in ["ArrowLeft"] * 8 + ["ArrowUp"] * 8:
                page.keyboard.press(key)
            hand.key("Enter", "Box")
            hand.key("Space", "finished")
            hand.key("f", "is done")
            hand.key("PageDown", "b.png")
            page.keyboard.press("Control+e")
            playwright.expect(page.get_by_role("dialog")).to_be_visible()
            for _ in range(10):
                focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
                if focused == "Write to the folder: COCO JSON":
                    break
                page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            playwright.expect(page.locator("#files-status")).to_contain_text("Written")
            page.keyboard.press("Escape")
            page.keyboard.press("?")
            playwright.expect(page.get_by_role("heading", name="Mouse, touch")).to_be_visible()
            hand.look("5_help")
        compare_coco(folder, known, {"a.png": 2})
        assert known.client.get("/api/overview").json()["progress"]["finished"] == 1


def test_two_tabs_do_not_undo_each_other(browser, folder, model):
    with serving(folder, model) as address, server_of(address) as known:
        with tab(browser, address) as one, tab(browser, address) as two:
            one.click(96, 72)
            two.click(200, 120, says="Another tab")  # did not know of the first
            state = known.open("a.png")
            assert [o["clicks"] for o in state["objects"]] == [[[96, 72, True]]]
            painted(two, known.masks[1])  # and shows it now
            two.click(200, 120)
            assert len(known.open("a.png")["objects"]) == 2
            one.page.evaluate("dispatchEvent(new Event('focus'))")
            playwright.expect(one.page.locator("#objects li")).to_have_count(2)


def test_kill_minus_nine(browser, folder):
    command = [sys.executable, "-m", "support.annotate_server", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "FDRN_ENGINE": "eager"}

    def started(port):
        process = subprocess.Popen(
            [*command, str(port)], stdout=subprocess.PIPE, text=True, env=environment)
        return process, process.stdout.readline().strip()

    process, address = started(0)
    try:
        with tab(browser, address) as hand:
            for x, y in ((96, 72), (110, 80), (80, 60)):
                hand.click(x, y)
            hand.key("b")
            hand.drag([(20, 20), (60, 20)], "Stroke")
            with server_of(address) as known:
                before = known.open("a.png")
                masks = known.masks
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)
            process.wait()
            hand.page.mouse.click(*hand.at(30, 30))
            playwright.expect(hand.page.locator("#banner")).to_contain_text("does not answer")
            process, again = started(int(address.rsplit(":", 1)[1].strip("/")))
            assert again == address
            said(hand.page, "The server is back")  # the page goes on by itself
            with server_of(address) as known:
                after = known.open("a.png")
                assert after["objects"] == before["objects"] and after["undo"] == "stroke"
                assert np.array_equal(known.masks[1], masks[1])
            hand.key("c")
            hand.click(100, 70)
            for _ in range(5):
                hand.key("z", "Undone")
            with server_of(address) as known:
                assert known.open("a.png")["objects"] == []
    finally:
        process.kill()
        process.wait()


def test_a_narrow_screen_and_fingers(browser, folder, model):
    with serving(folder, model) as address, server_of(address) as known:
        options = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
        with tab(browser, address, **options) as hand:
            page = hand.page
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            hand.quiet()
            page.touchscreen.tap(*hand.at(96, 72))
            said(page, "Click")
            page.get_by_role("button", name="on object").tap()
            page.touchscreen.tap(*hand.at(200, 120))
            page.wait_for_timeout(300)
            clicks = known.open("a.png")["objects"][0]["clicks"]
            assert clicks == [[96, 72, True], [200, 120, False]]
            hand.look("6_narrow")
            pinch(page, hand.at(96, 72), 30, 90)
            page.wait_for_timeout(100)
            assert len(known.open("a.png")["objects"][0]["clicks"]) == 2
            # three times as large around the fingers: a tap beside them is nearer to the middle
            x, y = hand.at(96, 72)
            page.touchscreen.tap(x + 30, y)
            page.wait_for_timeout(300)
            tapped = known.open("a.png")["objects"][0]["clicks"][2]
            scale = hand.at(97, 72)[0] - hand.at(96, 72)[0]
            assert tapped[0] == pytest.approx(96 + 30 / scale / 3, abs=1.5)
            assert tapped[1] == pytest.approx(72, abs=1.5)


def pinch(page, middle, before, after) -> None:
    session = page.context.new_cdp_session(page)
    x, y = middle

    def touch(kind, half):
        points = [] if kind == "touchEnd" else [
            {"x": x - half, "y": y, "id": 0}, {"x": x + half, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", before)
    for i in range(1, 7):
        touch("touchMove", before + (after - before) * i / 6)
    touch("touchEnd", after)


def test_a_preview_is_shown_and_goes_with_the_pointer(browser, folder, model):
    with serving(folder, model) as address, tab(browser, address) as hand:
        page = hand.page
        with page.expect_response(lambda r: r.url.endswith("/peek")) as peeked:
            page.mouse.move(*hand.at(96, 72), steps=3)
        assert peeked.value.json()["mask"]
        page.wait_for_timeout(300)
        assert hand.overlay_at(96, 72)[3] > 0  # nothing was clicked
        hand.look("7_preview")
        page.mouse.move(2, 2)
        page.wait_for_timeout(100)
        assert hand.overlay_at(96, 72)[3] == 0
        held = []
        page.route("**/peek", lambda route: held.append(route))
        page.mouse.move(*hand.at(96, 72), steps=3)
        page.wait_for_timeout(400)
        assert len(held) == 1  # asked once, when the pointer rested
        page.mouse.move(*hand.at(20, 150))
        page.wait_for_timeout(300)
        late = held[0].fetch()
        held[0].fulfill(response=late)  # the answer for where the pointer was
        page.wait_for_timeout(300)
        assert hand.overlay_at(96, 72)[3] == 0


DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const dropped = new DataTransfer();
    dropped.items.add(new File([bytes], name));
    document.getElementById('stage').dispatchEvent(new DragEvent(
        'drop', { dataTransfer: dropped, bubbles: true, cancelable: true }));
}"""


def drop(page, path: Path) -> None:
    page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])


def test_files_that_are_dropped(browser, tmp_path, model):
    photos = photographs(tmp_path / "elsewhere", 3)
    empty = tmp_path / "empty"
    with serving(empty, model) as address, server_of(address) as known:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        playwright.expect(page.locator("#hint")).to_contain_text("Drop photographs")
        page.get_by_role("button", name="Files").click()
        page.locator("#add-photographs").set_input_files([photos / "a.png", photos / "b.png"])
        playwright.expect(page.locator("#files-status")).to_contain_text("2 photographs added")
        page.keyboard.press("Escape")
        said(page, "a.png, 240")
        hand = Hand(page)
        hand.click(96, 72)
        drop(page, photos / "c.png")
        said(page, "1 photograph added")
        playwright.expect(page.locator("#images li")).to_have_count(3)
        assert (empty / "c.png").read_bytes() == (photos / "c.png").read_bytes()
        # what was exported, on top of what is there, as a step that can be undone
        page.keyboard.press("Control+e")
        page.get_by_role("button", name="Write to the folder: COCO JSON").click()
        playwright.expect(page.locator("#files-status")).to_contain_text("Written")
        page.keyboard.press("Escape")
        drop(page, empty / "fdrn_annotations" / "coco.json")
        said(page, "1 object imported")
        playwright.expect(page.locator("#objects li")).to_have_count(2)
        known.open("a.png")
        assert np.array_equal(known.masks[1], known.masks[2]) and known.masks[1].any()
        hand.key("z", "Undone")
        playwright.expect(page.locator("#objects li")).to_have_count(1)
        context.close()


AXE = os.environ.get("FDRN_AXE")  # axe.min.js of the axe-core package, which is not ours


@pytest.mark.skipif(not AXE, reason="set FDRN_AXE to axe-core's axe.min.js")
def test_axe_finds_nothing_serious(browser, folder, model):
    with serving(folder, model) as address:
        for width in (1100, 320):
            options = {"viewport": {"width": width, "height": 700}, "bypass_csp": True}
            with tab(browser, address, **options) as hand:
                hand.click(96, 72)
                for dialog in (None, "?", "Control+e"):
                    if dialog:
                        hand.page.keyboard.press(dialog)
                    hand.page.evaluate(Path(AXE).read_text(encoding="utf-8"))
                    found = hand.page.evaluate("axe.run().then((r) => r.violations.map((v) => "
                                               "[v.impact, v.id, v.nodes.map((n) => n.html)]))")
                    assert [v for v in found if v[0] in ("serious", "critical")] == [], found
                    if dialog:
                        hand.page.keyboard.press("Escape")
