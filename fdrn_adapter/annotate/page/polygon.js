// The outline of the active object as corners to be dragged, by pointer or by keys.

import { inOrder, say, step } from "./actions.js";
import { imagePath, post } from "./api.js";
import * as stage from "./stage.js";
import { activeObject, store } from "./store.js";

const NEAR_PX = 10;
const KEY_REST_MS = 500;

let rings = []; // of corners [x, y]
let known = []; // the same before they were dragged
let chosen = null; // [ring, corner]
let dragging = false, keyTimer = 0, ofRevision = -1;

export const isShown = () => store.tool === "polygon" && rings.length > 0;

const copied = (list) => list.map((ring) => ring.map((corner) => [...corner]));

/** Take the active object's outline from the server, if it is not the one that is shown. */
export function refresh() {
  if (store.tool !== "polygon" || !store.name || store.opening) {
    rings = [];
    ofRevision = -1;
    return;
  }
  const o = activeObject();
  if (!o) {
    rings = [];
    stage.marks();
    return;
  }
  if (ofRevision === `${store.name} ${store.revision} ${o.id}`) return;
  const isNew = ofRevision === -1;
  ofRevision = `${store.name} ${store.revision} ${o.id}`;
  inOrder(async () => {
    const tolerance = Math.max(1.05, 2.5 / stage.view.scale);
    const answer = await post(`${imagePath(store.name)}/corners`, { object: o.id, tolerance });
    rings = answer.rings;
    known = copied(rings);
    if (chosen && !rings[chosen[0]]?.[chosen[1]]) chosen = null;
    stage.marks();
    const count = rings.reduce((sum, ring) => sum + ring.length, 0);
    if (isNew) say(`Outline of ${o.name}: ${count} corners.`);
  });
}

function nearest(x, y) {
  let best = null, least = NEAR_PX ** 2;
  rings.forEach((ring, r) => ring.forEach((corner, c) => {
    const [u, v] = stage.view.toStage(...corner);
    const away = (u - x) ** 2 + (v - y) ** 2;
    if (away < least) [best, least] = [[r, c], away];
  }));
  return best;
}

/** A place on an edge near a point of the stage: [ring, corner behind it]. */
function nearestEdge(x, y) {
  let best = null, least = NEAR_PX ** 2;
  rings.forEach((ring, r) => ring.forEach((corner, c) => {
    const [u, v] = stage.view.toStage(...corner);
    const [p, q] = stage.view.toStage(...ring[(c + 1) % ring.length]);
    const length = (p - u) ** 2 + (q - v) ** 2 || 1;
    const along = Math.min(1, Math.max(0, ((x - u) * (p - u) + (y - v) * (q - v)) / length));
    const away = (u + along * (p - u) - x) ** 2 + (v + along * (q - v) - y) ** 2;
    if (away < least) [best, least] = [[r, c + 1], away];
  }));
  return best;
}

/** Whether a press takes a corner, or an edge, on which it makes one. */
export function press(x, y, remove) {
  let found = nearest(x, y);
  if (remove) {
    if (found) [chosen] = [found], removeChosen();
    return true;
  }
  if (!found && (found = nearestEdge(x, y))) {
    rings[found[0]].splice(found[1], 0, stage.view.toImage(x, y));
  }
  if (!found) return false;
  chosen = found;
  dragging = true;
  stage.marks();
  return true;
}

export function drag(x, y) {
  if (!dragging) return;
  rings[chosen[0]][chosen[1]] = stage.view.toImage(x, y);
  stage.marks();
}

export function release() {
  if (dragging) commit();
  dragging = false;
}

export function cancel() {
  dragging = false;
  rings = copied(known);
  stage.marks();
}

function commit() {
  clearTimeout(keyTimer);
  if (JSON.stringify(known) === JSON.stringify(rings)) return;
  const after = copied(rings.filter((ring) => ring.length > 2));
  step("polygon", { before: known, after });
}

function removeChosen() {
  if (!chosen) return;
  const ring = rings[chosen[0]];
  ring.splice(chosen[1], 1);
  if (ring.length < 3) rings.splice(chosen[0], 1);
  chosen = null;
  commit();
}

// -- keys -----------------------------------------------------------------------------------------

/** The next or previous corner. */
export function choose(by) {
  const all = rings.flatMap((ring, r) => ring.map((_, c) => [r, c]));
  if (!all.length) return say("There is no outline: choose an object first.");
  const now = chosen ? all.findIndex(([r, c]) => r === chosen[0] && c === chosen[1]) : -1;
  chosen = all[(now + by + all.length) % all.length];
  const [x, y] = rings[chosen[0]][chosen[1]];
  stage.view.show(x, y);
  stage.all();
  say(`Corner ${all.indexOf(chosen) + 1} of ${all.length}, at ${Math.round(x)}, ${Math.round(y)}.`);
}

/** Move the chosen corner by pixels of the photograph; false if there is none. */
export function nudge(dx, dy) {
  if (!isShown() || !chosen) return false;
  const corner = rings[chosen[0]][chosen[1]];
  corner[0] += dx;
  corner[1] += dy;
  clearTimeout(keyTimer);
  keyTimer = setTimeout(commit, KEY_REST_MS);
  stage.marks();
  return true;
}

/** A corner in the middle of the edge behind the chosen one. */
export function insert() {
  if (!isShown() || !chosen) return;
  const [r, c] = chosen, ring = rings[r], next = ring[(c + 1) % ring.length];
  ring.splice(c + 1, 0, [(ring[c][0] + next[0]) / 2, (ring[c][1] + next[1]) / 2]);
  chosen = [r, c + 1];
  stage.marks();
}

/** Remove the chosen corner; false if there is none. */
export function removeCorner() {
  if (!isShown() || !chosen) return false;
  removeChosen();
  return true;
}

export function draw(context, view) {
  if (!isShown()) return;
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.beginPath();
  for (const ring of rings) {
    ring.forEach((corner, i) => context[i ? "lineTo" : "moveTo"](...view.toStage(...corner)));
    context.closePath();
  }
  context.stroke();
  rings.forEach((ring, r) => ring.forEach((corner, c) => {
    const [x, y] = view.toStage(...corner);
    const isChosen = chosen && chosen[0] === r && chosen[1] === c;
    context.fillStyle = isChosen ? "#1fb5ff" : "#fff";
    context.strokeStyle = "#000";
    const size = isChosen ? 9 : 7;
    context.fillRect(x - size / 2, y - size / 2, size, size);
    context.strokeRect(x - size / 2, y - size / 2, size, size);
  }));
}
