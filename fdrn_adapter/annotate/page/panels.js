// What is around the stage: photographs, objects, settings, dialogs.

import * as actions from "./actions.js";
import { imagePath, post } from "./api.js";
import * as polygon from "./polygon.js";
import * as stage from "./stage.js";
import { activeObject, store } from "./store.js";
import * as tools from "./tools.js";

const byId = (id) => document.getElementById(id);
const element = (tag, properties = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...inside);
  return made;
};

export const count = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

// -- photographs ----------------------------------------------------------------------------------

const MARKS = { finished: "✓", damaged: "!", begun: "", open: "" };
const items = new Map(); // name -> button

function showImages() {
  const list = byId("images");
  const names = store.images.map((i) => i.name);
  if (names.join("\n") !== [...items.keys()].join("\n")) {
    items.clear();
    list.replaceChildren(...store.images.map(({ name }) => {
      const picture = element("img", { loading: "lazy", alt: "",
        src: `${imagePath(name)}/thumbnail` });
      const button = element("button", { type: "button", title: name,
        onclick: () => actions.open(name) }, picture, element("span", { className: "badge", ariaHidden: "true" }));
      items.set(name, button);
      return element("li", {}, button);
    }));
  }
  for (const image of store.images) {
    const isOpen = image.name === store.name, button = items.get(image.name);
    const number = isOpen ? store.objects.length : image.objects;
    const state = isOpen && image.state !== "damaged"
      ? (store.finished ? "finished" : number ? "begun" : "open") : image.state;
    const badge = [MARKS[state], number || ""].join(" ").trim();
    const said = { finished: "done", begun: "begun", open: "not begun", damaged: "damaged" }[state];
    button.className = state;
    button.lastChild.textContent = badge;
    button.lastChild.hidden = !badge;
    button.setAttribute("aria-label",
      `${image.name}: ${said}, ${count(number, "object")}`);
    button.setAttribute("aria-current", isOpen);
    if (isOpen && document.activeElement !== button) {
      list.scrollLeft = button.offsetLeft - list.offsetLeft - list.clientWidth / 2 + 38;
    }
  }
}

function showProgress() {
  const { images = 0, finished = 0, objects = 0, clicks_per_object: clicks = 0,
    seconds_per_object: seconds = 0 } = store.progress;
  const each = objects ? ` · an object takes ${count(clicks, "click")}, ${seconds} s` : "";
  byId("progress").textContent = images
    ? `${finished} of ${images} done · ${count(objects, "object")}${each}` : "";
  byId("title").textContent = store.name ? `${store.folder} / ${store.name}` : store.folder;
  byId("hint").textContent = images ? (store.name || store.opening ? "" : "Choose a photograph.")
    : "Drop photographs here, or add them by “Files”.";
}

// -- objects --------------------------------------------------------------------------------------

function showObjects() {
  const list = byId("objects"), had = list.contains(document.activeElement);
  list.replaceChildren(...store.objects.map((o) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = o.colour;
    const what = [o.name, o.category].filter(Boolean).join(" · ");
    const said = element("span", { className: "visually-hidden",
      textContent: ` click${o.made === 1 ? "" : "s"}${o.done ? ", finished" : ""}` });
    const button = element("button", { type: "button", onclick: () => actions.select(o.id) },
      swatch, element("span", { className: "what", textContent: what }),
      element("span", { className: "number" }, String(o.made), said,
        element("span", { textContent: o.done ? " ✓" : "", ariaHidden: "true" })));
    button.setAttribute("aria-pressed", o.id === store.active);
    return element("li", {}, button);
  }));
  if (had) list.querySelector("[aria-pressed=true]")?.focus();
  byId("no-objects").hidden = store.objects.length > 0;
  byId("new-object").disabled = store.active === null;
  const o = activeObject();
  byId("details").hidden = !o;
  byId("category-what").textContent = o ? "Class" : "Class of the next";
  if (o) {
    for (const [id, value] of [["name", o.name], ["category", o.category], ["colour", o.colour]]) {
      if (byId(id) !== document.activeElement) byId(id).value = value;
    }
  }
  const classes = new Set([...store.classes, ...store.objects.map((one) => one.category)]);
  byId("classes").replaceChildren(...[...classes].filter(Boolean).map((c) =>
    element("option", { value: c })));
}

function showControls() {
  for (const button of byId("tools").querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === store.tool);
  }
  byId("sign").textContent = store.positive ? "+ on object" : "− off object";
  byId("sign").setAttribute("aria-pressed", !store.positive);
  byId("undo").disabled = !store.undo;
  byId("redo").disabled = !store.redo;
  byId("undo").setAttribute("aria-label", `Undo${store.undo ? `: ${store.undo}` : ""}`);
  byId("redo").setAttribute("aria-label", `Redo${store.redo ? `: ${store.redo}` : ""}`);
  byId("finish").disabled = store.active === null;
  byId("finished").checked = store.finished;
  byId("finished").disabled = !store.name;
  const o = activeObject();
  byId("marks").setAttribute("aria-label", store.name
    ? `${store.name}, ${count(store.objects.length, "object")}, ${o ? `${o.name} is active` : "no active one"}`
    : "Photograph: none is open");
}

let overviewTimer = 0;

actions.onChange(() => {
  showImages();
  showProgress();
  showObjects();
  showControls();
  polygon.refresh();
});

/** Have progress and states of the strip asked again, when nobody clicks. */
export function refreshOverview() {
  clearTimeout(overviewTimer);
  overviewTimer = setTimeout(() => actions.loadOverview().catch(() => {}), 1500);
}

// -- controls -------------------------------------------------------------------------------------

for (const button of byId("tools").querySelectorAll("[data-tool]")) {
  button.onclick = () => tools.choose(button.dataset.tool);
}
byId("sign").onclick = () => {
  store.positive = !store.positive;
  actions.say(store.positive ? "Left clicks are on the object." : "Left clicks are off the object.");
  showControls();
};
byId("undo").onclick = () => actions.step("undo", { object: null });
byId("redo").onclick = () => actions.step("redo", { object: null });
byId("finish").onclick = () => actions.finishObject();
byId("new-object").onclick = () => actions.select(null);
byId("delete").onclick = () => actions.deleteObject();
byId("previous-image").onclick = () => actions.goBy(-1);
byId("next-image").onclick = () => actions.goBy(1);
byId("finished").onchange = () => actions.mark(byId("finished").checked);
byId("zoom-in").onclick = () => { stage.view.zoom(1.5); stage.all(); };
byId("zoom-out").onclick = () => { stage.view.zoom(1 / 1.5); stage.all(); };
byId("zoom-fit").onclick = () => { stage.view.fit(); stage.all(); };
for (const id of ["name", "category", "colour"]) {
  byId(id).onchange = () => {
    const value = byId(id).value.trim();
    if (store.active !== null && (value || id === "category")) {
      actions.step("describe", { [id]: value });
    }
  };
}

const SETTINGS = { outline: "outline", preview: "preview", "last-change": "lastChange",
  "loupe-on": "loupe", "letter-keys": "letterKeys" };
for (const [id, name] of Object.entries(SETTINGS)) {
  byId(id).onchange = () => {
    store.settings[name] = byId(id).checked;
    keepSettings();
    stage.overlay(null);
  };
}
byId("opacity").oninput = byId("radius").oninput = () => {
  store.settings.opacity = byId("opacity").value / 100;
  store.settings.radius = Number(byId("radius").value);
  keepSettings();
  stage.overlay(null);
};

/** Make a slider's value so many times larger. */
export function slide(id, factor) {
  const slider = byId(id), now = Number(slider.value);
  slider.value = factor > 1 ? Math.max(now + 1, now * factor) : Math.min(now - 1, now * factor);
  slider.oninput();
  actions.say(`${id === "radius" ? "Brush" : "Opacity"} ${slider.value}`);
}

function keepSettings() {
  localStorage.setItem("fdrn annotate", JSON.stringify(store.settings));
}

export function restoreSettings() {
  try {
    Object.assign(store.settings, JSON.parse(localStorage.getItem("fdrn annotate") ?? "{}"));
  } catch { /* of another version */ }
  for (const [id, name] of Object.entries(SETTINGS)) byId(id).checked = store.settings[name];
  byId("opacity").value = store.settings.opacity * 100;
  byId("radius").value = store.settings.radius;
}

// -- dialogs --------------------------------------------------------------------------------------

export const openHelp = () => byId("help").showModal();
byId("help-button").onclick = openHelp;
byId("files-button").onclick = openFiles;

const KINDS = { coco: "COCO JSON", label_maps: "PNG label maps", labelme: "labelme JSON" };

export function openFiles() {
  byId("exports").replaceChildren(...store.exports.map((kind) => {
    const button = element("button", { type: "button", textContent: "Write to the folder",
      onclick: () => write(kind) });
    button.setAttribute("aria-label", `Write to the folder: ${KINDS[kind]}`);
    const link = element("a", { href: `/api/export/${kind}`, textContent: "Download" });
    link.download = "";
    link.setAttribute("aria-label", `Download ${KINDS[kind]}`);
    return element("li", {}, element("span", { textContent: KINDS[kind] }), button, link);
  }));
  byId("files-status").textContent = "";
  byId("files").showModal();
}

async function write(kind) {
  const status = byId("files-status");
  status.textContent = "Writing …";
  try {
    status.textContent = `Written: ${(await post(`/api/export/${kind}`)).written}`;
  } catch (error) {
    status.textContent = error.message;
  }
}

/** Add photographs and import masks; JSON files are masks in any case. */
export function takeFiles(files, asMasks) {
  const status = byId("files").open ? (text) => { byId("files-status").textContent = text; }
    : actions.say;
  return actions.inOrder(async () => {
    const said = [];
    let first = "", images = 0, objects = 0;
    for (const file of files) {
      status(`${file.name} …`);
      const masks = asMasks || file.name.toLowerCase().endsWith(".json");
      try {
        const path = `/api/${masks ? "import" : "photographs"}?name=${encodeURIComponent(file.name)}`;
        const answer = await post(path, file);
        if (masks) {
          objects += answer.objects;
          said.push(...answer.skipped);
          if (answer.images.includes(store.name)) await actions.reloadState();
        } else {
          first ||= answer.name;
          images += 1;
        }
      } catch (error) {
        said.push(`${file.name}: ${error.message}`);
      }
    }
    await actions.loadOverview();
    status([images && `${count(images, "photograph")} added.`,
      objects && `${count(objects, "object")} imported.`,
      ...said].filter(Boolean).join(" ") || "There was nothing in these files.");
    if (first && !store.name) setTimeout(() => actions.open(first));
  });
}

byId("add-photographs").onchange = (event) => takeFiles([...event.target.files], false);
byId("import-files").onchange = (event) => takeFiles([...event.target.files], true);

addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.stage.classList.add("dropping");
});
addEventListener("dragleave", () => stage.stage.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  stage.stage.classList.remove("dropping");
  takeFiles([...event.dataTransfer.files], false);
});
