// The page: opens the folder, and the photograph that was open or the first that is not done.

import * as actions from "./actions.js";
import { KEYS, shownKey } from "./keys.js";
import * as panels from "./panels.js";
import { store } from "./store.js";

const keys = document.getElementById("keys");
for (const [names, what] of KEYS) {
  const row = keys.insertRow();
  const cell = row.insertCell();
  names.forEach((name, i) => {
    const key = document.createElement("kbd");
    key.textContent = shownKey(name);
    cell.append(i ? " " : "", key);
  });
  row.insertCell().textContent = what;
}

panels.restoreSettings();
actions.onChange(() => {
  document.title = store.name ? `${store.name} · fdrn annotate` : "fdrn annotate";
});
let revision = -1;
actions.onChange(() => {
  if (store.revision !== revision) panels.refreshOverview();
  revision = store.revision;
});
addEventListener("focus", () => actions.lookAgain());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) actions.lookAgain();
});

actions.inOrder(async () => {
  await actions.loadOverview();
  const wanted = decodeURIComponent(location.hash.slice(1));
  const names = store.images.map((i) => i.name);
  const name = names.includes(wanted) ? wanted
    : (store.images.find((i) => !["finished", "damaged"].includes(i.state)) ?? {}).name;
  if (name) setTimeout(() => actions.open(name));
});
