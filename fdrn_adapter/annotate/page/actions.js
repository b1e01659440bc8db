// Steps, one after the other, and what the server answers.

import { get, getBlob, imagePath, post } from "./api.js";
import * as hover from "./hover.js";
import * as stage from "./stage.js";
import { activate, store, takeStep, takeWhole } from "./store.js";
import { Photo } from "./view.js";

let queue = Promise.resolve();
let listeners = [];
const prefetched = { name: "", blob: null };

/** Call something after everything that changes the store. */
export function onChange(call) {
  listeners.push(call);
}

export function changed() {
  listeners.forEach((call) => call());
}

export function say(text) {
  document.getElementById("status").textContent = text;
}

function complain(text) {
  const banner = document.getElementById("banner");
  banner.textContent = text;
  banner.hidden = !text;
}

/** Do things in their order; an error of one is said, and the next one goes on. */
export function inOrder(work) {
  queue = queue.then(work).catch(failed);
  return queue;
}

async function failed(error) {
  if (error.name === "AbortError") return;
  if (error.code === "stale") {
    await reloadState();
    say("Another tab changed this photograph: this is its newest state. " +
      "Your last step was not made.");
  } else if (error.code === "gone") {
    complain(error.message);
    await serverBack();
  } else {
    if (!error.status) console.error(error);
    say(error.message);
  }
  changed();
}

async function serverBack() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      await loadOverview();
      break;
    } catch { /* not yet */ }
  }
  complain("");
  if (store.name) await reloadState();
  say("The server is back; the last step may be missing.");
}

// -- photographs ----------------------------------------------------------------------------------

export async function loadOverview() {
  Object.assign(store, await get("/api/overview"));
  changed();
}

export function open(name) {
  store.opening = name;
  hover.stop();
  say(`Opening ${name} …`);
  changed();
  return inOrder(async () => {
    if (store.opening !== name) return; // another one was asked for since
    const picture = prefetched.name === name ? prefetched.blob
      : getBlob(`${imagePath(name)}/picture`);
    try {
      const [answer, blob] = await Promise.all([post(`${imagePath(name)}/open`), picture]);
      const photo = await Photo.from(blob);
      takeWhole(name, answer);
      location.replace(`#${encodeURIComponent(name)}`);
      stage.setPhoto(photo);
      complain(answer.saved);
      const count = answer.objects.length;
      say(`${name}, ${answer.size[1]} × ${answer.size[0]} pixels, ` +
        `${count} object${count === 1 ? "" : "s"}.`);
    } finally {
      if (store.opening === name) store.opening = "";
      changed();
    }
    setTimeout(() => prepareNext(name), 1200);
  });
}

/** Have the next photograph encoded and sent while people look at this one. */
async function prepareNext(name) {
  const next = store.images[store.images.findIndex((i) => i.name === name) + 1];
  if (!next || store.name !== name || prefetched.name === next.name) return;
  try {
    Object.assign(prefetched, { name: next.name,
      blob: getBlob(`${imagePath(next.name)}/picture`) });
    await Promise.all([prefetched.blob, post(`${imagePath(next.name)}/prepare`)]);
  } catch {
    prefetched.name = "";
  }
}

/** Go so many photographs on or back. */
export function goBy(by) {
  const names = store.images.map((i) => i.name);
  const next = names[names.indexOf(store.opening || store.name) + by];
  if (next) open(next);
  else say(by > 0 ? "This is the last photograph." : "This is the first photograph.");
}

export async function reloadState() {
  takeWhole(store.name, await get(`${imagePath(store.name)}/state`));
  hover.stop();
  stage.all();
  changed();
}

/** See whether another tab worked on this photograph. */
export function lookAgain() {
  if (!store.name) return;
  inOrder(async () => {
    const { revision } = await get(`${imagePath(store.name)}/revision`);
    if (revision !== store.revision) await reloadState();
  });
}

// -- steps ----------------------------------------------------------------------------------------

const SAID = {
  click: "Click", box: "Box", brush: "Stroke", polygon: "Outline changed", undo: "Undone",
  redo: "Done again", finish: "Object finished", delete: "Object deleted", describe: "Changed",
};

/**
 * Make a step on the active object.
 *
 * @param action its name; @param body what it needs; @param since when it was asked for.
 */
export function step(action, body = {}, since = performance.now()) {
  const { name } = store;
  if (store.opening) return Promise.resolve(say(`Opening ${store.opening} …`));
  hover.stop();
  return inOrder(() => stepNow(name, action, body, since));
}

async function stepNow(name, action, body, since) {
  if (!name || name !== store.name) return;
  const category = document.getElementById("category").value;
  const answer = await post(`${imagePath(name)}/do/${action}`, {
    revision: store.revision, object: store.active, category, ...body,
  });
  if (name !== store.name) return;
  hover.stop();
  stage.overlay(takeStep(answer, action));
  complain(answer.saved);
  stage.whenPainted(() => timed(action, since, answer));
  say(described(action));
  changed();
}

function described(action) {
  const o = store.objects.find((found) => found.id === store.active);
  if (!o) return `${SAID[action]}.`;
  const share = (100 * o.area / (store.size[0] * store.size[1])).toFixed(1);
  return `${SAID[action]}: ${o.name}, ${o.clicks.length} click${o.clicks.length === 1 ? "" : "s"},` +
    ` ${share} % of the photograph.`;
}

function timed(action, since, answer) {
  const end = performance.now();
  performance.measure(`fdrn ${action}`, { start: since, end, detail: answer.network_ms });
  document.getElementById("timing").textContent = answer.network_ms
    ? `${Math.round(end - since)} ms, of which network ${Math.round(answer.network_ms)}` : "";
}

/** Finish the active object; the next click begins another one. */
export function finishObject() {
  const { name } = store;
  inOrder(async () => {
    if (store.active === null) return say("There is no object to finish.");
    await stepNow(name, "finish", {}, performance.now());
    activateNow(null);
    say("Object finished. The next click begins a new one.");
  });
}

/** Delete the active object. */
export function deleteObject() {
  const { name } = store;
  inOrder(async () => {
    if (store.active === null) return say("There is no object to delete.");
    await stepNow(name, "delete", {}, performance.now());
  });
}

/** Make another object the active one, null for a new one. */
export function select(id) {
  inOrder(async () => {
    if (id === null || store.objects.some((o) => o.id === id)) activateNow(id);
  });
}

function activateNow(id) {
  activate(id);
  hover.stop();
  stage.overlay(null);
  changed();
}

/** Say that the photograph is done, or is not. */
export function mark(finished) {
  const name = store.name;
  if (!name) return;
  inOrder(async () => {
    const answer = await post(`${imagePath(name)}/mark`, { finished });
    if (name === store.name) stage.overlay(takeStep(answer, "mark"));
    await loadOverview();
    say(finished ? "The photograph is done." : "The photograph is not done.");
  });
}
