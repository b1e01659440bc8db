// The canvases of the stage, and when they are painted: once a frame, and only what changed.

import { decodedPart } from "./masks.js";
import { coloursOf, paint } from "./paint.js";
import { activeMask, labelAt, store } from "./store.js";
import { View } from "./view.js";

const MOST_PIXELS = 2_500_000; // of the overlay; larger screens get it a little coarser
const byId = (id) => document.getElementById(id);

export const stage = byId("stage");
export const view = new View();
const photoContext = byId("photo").getContext("2d");
const overlayContext = byId("overlay").getContext("2d");
const marksContext = byId("marks").getContext("2d");
const loupeContext = byId("loupe").getContext("2d");

let photo = null, ratio = 1;
let photoDue = false, overlayDue = null, frame = 0;
let afterPaint = [];
let drawMarks = () => {};
export const preview = { part: null };
export const pointer = { x: 0, y: 0, inside: false }; // on the stage

export function setMarks(draw) {
  drawMarks = draw;
}

export function setPhoto(found) {
  photo?.close();
  photo = found;
  if (photo) {
    view.columns = store.size[1];
    view.rows = store.size[0];
    view.fit();
  }
  all();
}

/** Have everything painted. */
export function all() {
  photoDue = true;
  overlay(null);
}

/** Have the overlay painted: boxes of the photograph, or null for all of it. */
export function overlay(boxes) {
  if (overlayDue === "all") return marks();
  overlayDue = boxes === null || store.settings.lastChange || preview.part
    ? "all" : [...(overlayDue ?? []), ...boxes];
  marks();
}

/** Have the marks painted: clicks, corners, the brush, the cursor. */
export function marks() {
  frame ||= requestAnimationFrame(painted);
}

/** Call something when what is due now is on the screen. */
export function whenPainted(call) {
  afterPaint.push(call);
  marks();
}

function painted() {
  frame = 0;
  if (photoDue) {
    if (photo) photo.draw(photoContext, view, ratio);
    else photoContext.clearRect(0, 0, photoContext.canvas.width, photoContext.canvas.height);
  }
  if (overlayDue) {
    const rects = overlayDue === "all" ? [null] : overlayDue.map((box) => {
      const [x, y] = view.toStage(box.x, box.y);
      return { x, y, w: box.w * view.scale, h: box.h * view.scale };
    });
    const look = lookNow();
    for (const rect of rects) paint(overlayContext, view, ratio, store.map, look, rect);
  }
  photoDue = false;
  overlayDue = null;
  marksContext.setTransform(1, 0, 0, 1, 0, 0);
  marksContext.clearRect(0, 0, marksContext.canvas.width, marksContext.canvas.height);
  marksContext.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawMarks(marksContext, view);
  drawLoupe();
  const calls = afterPaint;
  afterPaint = [];
  calls.forEach((call) => call());
}

function lookNow() {
  const { opacity, outline, lastChange } = store.settings;
  const shown = lastChange && store.lastChange;
  return {
    ...coloursOf(store.objects, store.active, opacity), outline, preview: preview.part,
    active: activeMask(), label: store.objects.findIndex((o) => o.id === store.active) + 1,
    mask: shown ? store.masks.get(store.lastChange.id) : activeMask(),
    turned: shown ? (shown.part ??= decodedPart(shown.change)) : null,
  };
}

// -- the loupe ------------------------------------------------------------------------------------

const LOUPE_PX = 150, MAGNIFIED = 4, NEAR_PX = 14;

/** Whether the border of a mask is near a point of the stage. */
function nearBorder(x, y) {
  const seen = new Set();
  for (const away of [0, NEAR_PX / 2, NEAR_PX]) {
    for (let turn = 0; turn < 8; turn++) {
      const [column, row] = view.toImage(
        x + away * Math.cos(turn * Math.PI / 4), y + away * Math.sin(turn * Math.PI / 4));
      seen.add(labelAt(column, row));
    }
  }
  return seen.size > 1;
}

function drawLoupe() {
  const { x, y, inside } = pointer;
  const canvas = loupeContext.canvas;
  const wanted = store.settings.loupe && inside && photo && view.scale < 6 && nearBorder(x, y);
  canvas.hidden = !wanted;
  if (!wanted) return;
  canvas.classList.toggle("right", x < view.width / 2);
  canvas.width = canvas.height = LOUPE_PX;
  const near = Object.assign(new View(), { scale: view.scale * MAGNIFIED });
  const [column, row] = view.toImage(x, y);
  near.left = column - LOUPE_PX / 2 / near.scale;
  near.top = row - LOUPE_PX / 2 / near.scale;
  photo.draw(loupeContext, near, 1);
  const layer = new OffscreenCanvas(LOUPE_PX, LOUPE_PX);
  paint(layer.getContext("2d"), near, 1, store.map,
    { ...lookNow(), preview: null, turned: null }, null);
  loupeContext.setTransform(1, 0, 0, 1, 0, 0);
  loupeContext.drawImage(layer, 0, 0);
  loupeContext.strokeStyle = "#fff";
  loupeContext.strokeRect(LOUPE_PX / 2 - 4, LOUPE_PX / 2 - 4, 8, 8);
}

// -- sizes ----------------------------------------------------------------------------------------

function resized() {
  const { clientWidth: width, clientHeight: height } = stage;
  const fitted = Math.abs(view.scale - view.fitting) < 1e-6;
  ratio = Math.min(window.devicePixelRatio || 1, Math.sqrt(MOST_PIXELS / (width * height || 1)));
  for (const context of [photoContext, overlayContext, marksContext]) {
    context.canvas.width = Math.round(width * ratio);
    context.canvas.height = Math.round(height * ratio);
  }
  view.width = width;
  view.height = height;
  if (fitted) view.fit();
  all();
}

new ResizeObserver(resized).observe(stage);
