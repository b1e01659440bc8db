// What a click would change, shown under the pointer: asked when it rests, dropped when late.

import { imagePath, post } from "./api.js";
import { decodedPart } from "./masks.js";
import * as stage from "./stage.js";
import { store } from "./store.js";

const REST_MS = 70;
let timer = 0, asked = null;

/** The pointer is on a pixel of the photograph. */
export function moved(x, y, positive) {
  stop();
  if (!store.settings.preview || store.tool !== "click" || !store.name || store.opening) return;
  timer = setTimeout(() => ask(x, y, positive), REST_MS);
}

/** Nothing is to be shown any more. */
export function stop() {
  clearTimeout(timer);
  asked?.abort();
  asked = null;
  if (stage.preview.part) {
    stage.preview.part = null;
    stage.overlay(null);
  }
}

async function ask(x, y, positive) {
  const mine = asked = new AbortController();
  try {
    const answer = await post(`${imagePath(store.name)}/peek`,
      { object: store.active, x, y, positive }, mine.signal);
    if (asked !== mine || answer.revision !== store.revision || !answer.mask) return;
    stage.preview.part = decodedPart(answer.mask);
    stage.overlay(null);
  } catch { /* a preview less */ }
}
