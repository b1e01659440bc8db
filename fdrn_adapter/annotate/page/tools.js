// What pointers do on the stage: mouse, pen and fingers.

import { changed, say, select, step } from "./actions.js";
import * as hover from "./hover.js";
import * as polygon from "./polygon.js";
import * as stage from "./stage.js";
import { labelAt, store } from "./store.js";

const DRAG_PX = 5, FINGER_DRAG_PX = 12;
const { view, pointer } = stage;
const canvas = document.getElementById("marks");
const fingers = new Map(); // pointers that are down
let gesture = null; // {kind, x, y, ...}: what the pointer that is down does
let pending = null; // a click on its way
export const cursor = { x: null, y: null }; // of the keys, in pixels of the photograph

export const inside = (x, y) => x >= 0 && y >= 0 && x < store.size[1] && y < store.size[0];

export function choose(tool) {
  store.tool = tool;
  hover.stop();
  polygon.refresh();
  stage.marks();
  changed();
}

/** Click at a pixel of the photograph. */
export function clickAt(x, y, positive, since) {
  if (!store.name) return;
  if (!inside(x, y)) return say("That is beside the photograph.");
  pending = { x, y, positive };
  stage.marks();
  step("click", { x, y, positive }, since).then(() => {
    pending = null;
    stage.marks();
  });
}

/** Select the object at a pixel of the photograph. */
export function selectAt(x, y) {
  const o = store.objects[labelAt(x, y) - 1];
  select(o ? o.id : null);
  say(o ? `${o.name} selected.` : "There is no object here: the next click begins one.");
}

export function boxFrom(x1, y1, x2, y2, since) {
  const clip = (v, most) => Math.min(most - 1, Math.max(0, Math.floor(v)));
  const [rows, columns] = store.size;
  step("box", { box: [clip(x1, columns), clip(y1, rows), clip(x2, columns), clip(y2, rows)] },
    since);
}

export function stroke(points, erase, since) {
  // The server's pixels have their middle at whole numbers.
  step("brush", { points: points.map(([x, y]) => [x - 0.5, y - 0.5]), erase,
    radius: store.settings.radius }, since);
}

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

// -- pointers -------------------------------------------------------------------------------------

canvas.addEventListener("contextmenu", (event) => event.preventDefault());

canvas.addEventListener("pointerdown", (event) => {
  const [x, y] = place(event);
  canvas.setPointerCapture(event.pointerId);
  canvas.focus({ preventScroll: true });
  fingers.set(event.pointerId, [x, y]);
  hover.stop();
  cursor.x = null;
  if (fingers.size === 2) return startPinch();
  if (fingers.size > 2 || !store.name) return;
  const kind = kindOf(event);
  if (kind === "polygon" && !polygon.press(x, y, event.button === 2)) {
    gesture = { kind: "pan", x, y, moved: false };
    return;
  }
  gesture = {
    kind, x, y, moved: false, positive: event.button === 2 ? !store.positive : store.positive,
    points: [view.toImage(x, y)], erase: (store.tool === "eraser") !== (event.button === 2),
    touch: event.pointerType === "touch", last: [x, y],
  };
  stage.marks();
});

function kindOf(event) {
  if (event.button === 1 || store.tool === "pan") return "pan";
  if (event.altKey || store.tool === "select") return "select";
  if (store.tool === "box" || (event.shiftKey && store.tool === "click")) return "box";
  if (store.tool === "brush" || store.tool === "eraser") return "stroke";
  return store.tool;
}

canvas.addEventListener("pointermove", (event) => {
  const [x, y] = place(event);
  Object.assign(pointer, { x, y, inside: event.pointerType !== "touch" || gesture !== null });
  if (fingers.has(event.pointerId)) {
    const before = fingers.get(event.pointerId);
    fingers.set(event.pointerId, [x, y]);
    if (gesture?.kind === "pinch") return pinch();
    if (gesture) return dragged(x, y, before, event);
    return;
  }
  const [column, row] = view.toImage(x, y);
  if (inside(column, row)) hover.moved(column, row, store.positive);
  else hover.stop();
  stage.marks();
});

function dragged(x, y, before, event) {
  const least = gesture.touch ? FINGER_DRAG_PX : DRAG_PX;
  if (!gesture.moved && Math.hypot(x - gesture.x, y - gesture.y) < least
    && !["stroke", "polygon"].includes(gesture.kind)) return;
  gesture.moved = true;
  if (gesture.kind === "click" || gesture.kind === "select") gesture.kind = "pan";
  if (gesture.kind === "pan") {
    view.pan(x - before[0], y - before[1]);
    return stage.all();
  }
  if (gesture.kind === "polygon") polygon.drag(x, y);
  if (gesture.kind === "stroke") {
    const seen = event.getCoalescedEvents?.() ?? [];
    for (const one of seen.length ? seen : [event]) {
      gesture.points.push(view.toImage(...place(one)));
    }
  }
  gesture.last = [x, y];
  stage.marks();
}

canvas.addEventListener("pointerup", (event) => {
  const [x, y] = place(event);
  fingers.delete(event.pointerId);
  const done = gesture;
  if (done?.kind === "pinch") {
    if (!fingers.size) gesture = null;
    return;
  }
  gesture = null;
  if (!done) return;
  const [column, row] = view.toImage(x, y);
  if (done.kind === "click") clickAt(column, row, done.positive, event.timeStamp);
  if (done.kind === "select") selectAt(column, row);
  if (done.kind === "stroke") stroke(done.points, done.erase, event.timeStamp);
  if (done.kind === "polygon") polygon.release();
  if (done.kind === "box" && done.moved) {
    boxFrom(...view.toImage(done.x, done.y), column, row, event.timeStamp);
  }
  stage.marks();
});

canvas.addEventListener("pointercancel", (event) => {
  fingers.delete(event.pointerId);
  cancel();
});

canvas.addEventListener("pointerleave", () => {
  pointer.inside = false;
  hover.stop();
  stage.marks();
});

export function cancel() {
  gesture = null;
  polygon.cancel();
  hover.stop();
  stage.marks();
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  hover.stop();
  const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
  view.zoom(Math.exp(-Math.max(-200, Math.min(200, pixels)) * 0.0022), ...place(event));
  stage.all();
}, { passive: false });

function startPinch() {
  if (gesture?.kind === "polygon") polygon.cancel();
  gesture = { kind: "pinch", ...spread() };
  stage.marks();
}

function spread() {
  const [[x1, y1], [x2, y2]] = [...fingers.values()];
  return { apart: Math.hypot(x2 - x1, y2 - y1) || 1, middle: [(x1 + x2) / 2, (y1 + y2) / 2] };
}

function pinch() {
  if (fingers.size < 2) return;
  const now = spread();
  view.pan(now.middle[0] - gesture.middle[0], now.middle[1] - gesture.middle[1]);
  view.zoom(now.apart / gesture.apart, ...now.middle);
  Object.assign(gesture, now);
  stage.all();
}

// -- marks ----------------------------------------------------------------------------------------

stage.setMarks((context) => {
  const o = store.objects.find((found) => found.id === store.active);
  if (!store.opening) {
    for (const [x, y, positive] of o?.clicks ?? []) dot(context, x + 0.5, y + 0.5, positive, 1);
    if (pending) dot(context, pending.x, pending.y, pending.positive, 0.6);
  }
  polygon.draw(context, view);
  if (gesture?.kind === "box" && gesture.moved) {
    const [x, y] = gesture.last;
    context.setLineDash([6, 4]);
    lines(context, () => context.rect(gesture.x, gesture.y, x - gesture.x, y - gesture.y));
    context.setLineDash([]);
  }
  const radius = store.settings.radius * view.scale;
  if (gesture?.kind === "stroke") {
    context.strokeStyle = gesture.erase ? "#ff3c46aa" : "#7ddc5aaa";
    context.lineWidth = radius * 2;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    gesture.points.forEach((point) => context.lineTo(...view.toStage(...point)));
    context.lineTo(...view.toStage(...gesture.points.at(-1)));
    context.stroke();
  }
  const at = cursor.x === null ? (pointer.inside ? [pointer.x, pointer.y] : null)
    : view.toStage(cursor.x, cursor.y);
  if (at && (store.tool === "brush" || store.tool === "eraser")) {
    lines(context, () => context.arc(...at, radius, 0, 7));
  }
  if (cursor.x !== null) {
    lines(context, () => {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(at[0] + dx * 4, at[1] + dy * 4);
        context.lineTo(at[0] + dx * 14, at[1] + dy * 14);
      }
    });
  }
  const [column, row] = at ? view.toImage(...at).map(Math.floor) : [-1, -1];
  document.getElementById("where").textContent =
    inside(column, row) ? `x ${column}, y ${row} · ${Math.round(view.scale * 100)} %` : "";
});

function dot(context, x, y, positive, alpha) {
  const [u, v] = view.toStage(x, y);
  context.globalAlpha = alpha;
  context.fillStyle = positive ? "#35d04a" : "#ff3b47";
  context.strokeStyle = "#fff";
  context.lineWidth = 1.5;
  context.beginPath();
  context.arc(u, v, 5.5, 0, 7);
  context.fill();
  context.stroke();
  context.lineWidth = 1.6;
  context.beginPath();
  context.moveTo(u - 2.6, v);
  context.lineTo(u + 2.6, v);
  if (positive) {
    context.moveTo(u, v - 2.6);
    context.lineTo(u, v + 2.6);
  }
  context.stroke();
  context.globalAlpha = 1;
}

/** A path in black and white, to be seen on any photograph. */
function lines(context, path) {
  for (const [colour, width] of [["#000", 3], ["#fff", 1.2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    path();
    context.stroke();
  }
}
