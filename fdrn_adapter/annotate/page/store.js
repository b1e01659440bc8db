// What the page knows: the folder, the photograph that is open, its objects and their masks.

import { LabelMap, Mask } from "./masks.js";

export const store = {
  images: [], classes: [], progress: {}, exports: [], model: "", folder: "",
  name: "", // of the open photograph
  revision: 0, finished: false, objects: [], undo: "", redo: "", saved: "",
  size: [1, 1],
  masks: new Map(), map: new LabelMap(1, 1),
  active: null, // number of the object that clicks go to, null for a new one
  lastChange: null, // {id, change, part}: of the last step; `part` is decoded when first shown
  tool: "click", positive: true,
  settings: {
    opacity: 0.45, radius: 12, outline: true, preview: true, lastChange: false, loupe: true,
    letterKeys: true,
  },
};

export const activeObject = () => store.objects.find((o) => o.id === store.active) ?? null;
export const activeMask = () => store.masks.get(store.active) ?? null;

/** The label of the object that is shown at a place of the photograph, 0 for none. */
export function labelAt(x, y) {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  if (activeMask()?.has(column, row)) {
    return store.objects.findIndex((o) => o.id === store.active) + 1;
  }
  return store.map.at(column, row);
}

const boxOf = ({ x, y, w, h }) => ({ x, y, w, h });

const SHOWN = ["revision", "finished", "objects", "undo", "redo", "saved"];

/** Take all of a photograph. */
export function takeWhole(name, answer) {
  const [rows, columns] = answer.size;
  if (store.name !== name) store.active = null;
  Object.assign(store, { name, size: answer.size, masks: new Map(), lastChange: null });
  for (const key of SHOWN) store[key] = answer[key];
  store.map = new LabelMap(columns, rows);
  for (const [id, change] of Object.entries(answer.masks)) {
    const mask = new Mask();
    mask.turn(change);
    store.masks.set(Number(id), mask);
  }
  if (!activeObject()) store.active = null;
  redraw([{ x: 0, y: 0, w: columns, h: rows }]);
}

/** Take what a step changed. Returns boxes of pixels to be painted, null for all. */
export function takeStep(answer, label) {
  const before = new Map(store.objects.map((o, i) => [o.id, { place: i, colour: o.colour }]));
  const previous = store.active;
  for (const key of SHOWN) store[key] = answer[key];
  if (answer.object != null) store.active = answer.object;
  if (!activeObject()) store.active = null;
  if (Object.keys(answer.masks).length) store.lastChange = null;
  const changed = [], below = []; // to be painted; and boxes of what is below the active object
  for (const [id, mask] of store.masks) {
    if (store.objects.some((o) => o.id === id)) continue;
    changed.push(boxOf(mask));
    below.push(boxOf(mask));
    store.masks.delete(id);
  }
  for (const [key, change] of Object.entries(answer.masks)) {
    const id = Number(key);
    if (!store.masks.has(id)) store.masks.set(id, new Mask());
    store.masks.get(id).turn(change);
    store.lastChange = { id, change, label, part: null };
    const [x, y, w, h] = change.box;
    changed.push({ x, y, w, h });
    if (id !== store.active) below.push({ x, y, w, h });
  }
  if (previous !== store.active) {
    for (const id of [previous, before.has(store.active) ? store.active : null]) {
      if (store.masks.has(id)) below.push(boxOf(store.masks.get(id)));
    }
  }
  const moved = store.objects.some((o, i) => before.has(o.id) && before.get(o.id).place !== i);
  redraw(moved ? [{ x: 0, y: 0, w: store.size[1], h: store.size[0] }] : below);
  const recoloured = store.objects.some((o) =>
    before.has(o.id) && before.get(o.id).colour !== o.colour);
  return moved || recoloured || previous !== store.active ? null : changed;
}

/** Make another object the one that clicks go to. */
export function activate(id) {
  const changed = [store.active, id].map((i) => store.masks.get(i)).filter(Boolean).map(boxOf);
  store.active = id;
  store.lastChange = null;
  redraw(changed);
}

function redraw(boxes) {
  for (const box of boxes) store.map.draw(box, store.objects, store.masks, store.active);
}
