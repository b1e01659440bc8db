// All keys: one table for what they do and for the help sheet.

import * as actions from "./actions.js";
import * as panels from "./panels.js";
import * as polygon from "./polygon.js";
import * as stage from "./stage.js";
import { labelAt, store } from "./store.js";
import * as tools from "./tools.js";

const { view, pointer } = stage;
const { cursor } = tools;
const ARROW_PX = 12; // of the stage
let corner = null; // first one of a box by keys

/** Where the keys act: at the cursor, else at the pointer, else in the middle of what is seen. */
function here() {
  if (cursor.x !== null) return [cursor.x, cursor.y];
  return pointer.inside ? view.toImage(pointer.x, pointer.y)
    : view.toImage(view.width / 2, view.height / 2);
}

function move(dx, dy, fine) {
  if (!store.name) return;
  const far = fine ? 1 : ARROW_PX / view.scale;
  if (polygon.nudge(dx * far, dy * far)) return;
  const [x, y] = here();
  const [rows, columns] = store.size;
  cursor.x = Math.min(columns - 0.5, Math.max(0.5, x + dx * far));
  cursor.y = Math.min(rows - 0.5, Math.max(0.5, y + dy * far));
  if (fine) [cursor.x, cursor.y] = [Math.floor(cursor.x) + 0.5, Math.floor(cursor.y) + 0.5];
  view.show(cursor.x, cursor.y);
  stage.all();
  const o = store.objects[labelAt(cursor.x, cursor.y) - 1];
  actions.say(`x ${Math.floor(cursor.x)}, y ${Math.floor(cursor.y)}` +
    (o ? `, on ${o.name}` : ""));
}

function use(positive) {
  const [x, y] = here(), since = performance.now();
  if (store.tool === "brush" || store.tool === "eraser") {
    return tools.stroke([[x, y]], (store.tool === "eraser") === positive, since);
  }
  if (store.tool === "select") return tools.selectAt(x, y);
  if (store.tool === "box") {
    if (!corner) {
      corner = [x, y];
      return actions.say("First corner of the box: move on and press Enter again.");
    }
    tools.boxFrom(...corner, x, y, since);
    corner = null;
    return;
  }
  tools.clickAt(x, y, positive, since);
}

function otherObject(by) {
  const ids = store.objects.map((o) => o.id);
  if (!ids.length) return actions.say("There are no objects.");
  const now = ids.indexOf(store.active);
  const next = ids[(Math.max(now, by > 0 ? now : 0) + by + ids.length) % ids.length];
  actions.select(next);
  actions.say(`${store.objects.find((o) => o.id === next).name} selected.`);
}

function remove() {
  if (store.tool === "polygon" && polygon.removeCorner()) return;
  actions.deleteObject();
}

function zoom(factor) {
  const [x, y] = here();
  view.zoom(factor, ...view.toStage(x, y));
  stage.all();
}

function edit(id) {
  const field = document.getElementById(id);
  field.focus();
  field.select();
}

const toggle = (id) => document.getElementById(id).click();

// [keys, what they do, action]. Letters are keys without Ctrl, which can be switched off.
export const KEYS = [
  [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"],
    "Move the cursor, or the chosen corner; with Shift by one pixel", (event) => {
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1],
        ArrowDown: [0, 1] }[event.key];
      move(dx, dy, event.shiftKey);
    }],
  [["Enter", "p"], "Click on the object at the cursor or pointer; paint; a corner of the box",
    () => use(true)],
  [["n"], "Click off the object", () => use(false)],
  [["t"], "Switch what left clicks and taps do: on or off the object", () => toggle("sign")],
  [["z", "Ctrl+z"], "Undo", () => actions.step("undo", { object: null })],
  [["y", "Ctrl+y", "Ctrl+Shift+z"], "Redo", () => actions.step("redo", { object: null })],
  [[" "], "Finish the object; the next click begins a new one", () => actions.finishObject()],
  [["a"], "New object", () => actions.select(null)],
  [[".", ","], "Next, previous object", (event) => otherObject(event.key === "." ? 1 : -1)],
  [["s"], "Select the object at the cursor or pointer", () => tools.selectAt(...here())],
  [["Delete"], "Delete the object, or the chosen corner", remove],
  [["PageDown", "PageUp"], "Next, previous photograph",
    (event) => actions.goBy(event.key === "PageDown" ? 1 : -1)],
  [["f"], "The photograph is done, or is not", () => toggle("finished")],
  [["c"], "Tool: click", () => tools.choose("click")],
  [["x"], "Tool: box", () => tools.choose("box")],
  [["b"], "Tool: brush", () => tools.choose("brush")],
  [["e"], "Tool: eraser", () => tools.choose("eraser")],
  [["g"], "Tool: outline with corners", () => tools.choose("polygon")],
  [["v"], "Tool: select", () => tools.choose("select")],
  [["h"], "Tool: move the view", () => tools.choose("pan")],
  [["k", "j"], "Outline: next, previous corner",
    (event) => polygon.choose(event.key === "k" ? 1 : -1)],
  [["i"], "Outline: another corner behind the chosen one", () => polygon.insert()],
  [["]", "["], "Larger, smaller brush",
    (event) => panels.slide("radius", event.key === "]" ? 1.25 : 0.8)],
  [["+", "=", "-"], "Zoom in, out at the cursor or pointer",
    (event) => zoom(event.key === "-" ? 0.8 : 1.25)],
  [["0"], "Show all of the photograph", () => { view.fit(); stage.all(); }],
  [["'", ";"], "More, less opacity",
    (event) => panels.slide("opacity", event.key === "'" ? 1.25 : 0.8)],
  [["o"], "Outline of masks on, off", () => toggle("outline")],
  [["l"], "Show what the last step changed", () => toggle("last-change")],
  [["m"], "Preview under the pointer on, off", () => toggle("preview")],
  [["q"], "Loupe on, off", () => toggle("loupe-on")],
  [["r"], "Name the object", () => edit("name")],
  [["d"], "Class of the object, or of the next one", () => edit("category")],
  [["Ctrl+e"], "Files: export, import", () => panels.openFiles()],
  [["?"], "This sheet", () => panels.openHelp()],
  [["Escape"], "Leave off what was begun; back to the photograph", () => {
    corner = null;
    tools.cancel();
    document.getElementById("marks").focus();
  }],
];

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓",
  PageDown: "Page ↓", PageUp: "Page ↑", Delete: "Del", Escape: "Esc" };

export const shownKey = (key) => key.split("+").filter(Boolean).map((part) =>
  NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join(" ") || key;

const FIELDS = "input:not([type=checkbox]):not([type=range]), select, textarea";
const BUTTONS = "button, a, input, summary";

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (document.querySelector("dialog[open]")) return;
  if (target.matches(FIELDS)) {
    if (key === "Escape" || key === "Enter") document.getElementById("marks").focus();
    return;
  }
  if (event.altKey) return;
  const control = event.ctrlKey || event.metaKey;
  // Keys that work the control which has the focus are that control's.
  if (!control && target.matches(BUTTONS) && [" ", "Enter"].includes(key)) return;
  if (!control && target.matches("input[type=range]") && /Arrow|Page/.test(key)) return;
  if (target.closest(".strip, aside, [role=toolbar]") && key.startsWith("Arrow")) return;
  if (!control && key.length === 1 && key !== "?" && !store.settings.letterKeys) return;
  const pressed = control ? `Ctrl+${event.shiftKey ? "Shift+" : ""}${key.toLowerCase()}`
    : key.length === 1 ? key.toLowerCase() : key;
  const found = KEYS.find(([keys]) => keys.includes(pressed));
  if (!found) return;
  event.preventDefault();
  found[2](event);
});

// Who works with the mouse means the photograph by the next key, not the button clicked last.
document.addEventListener("click", (event) => {
  const isControl = event.target.closest("button, label.check, input[type=range]");
  if (event.detail > 0 && isControl && !event.target.closest("dialog")) {
    setTimeout(() => {
      if (!document.querySelector("dialog[open]")) {
        document.getElementById("marks").focus({ preventScroll: true });
      }
    });
  }
});
