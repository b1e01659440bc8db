// Masks over the photograph: one pass over the pixels of the screen, however large the photograph.

const rgba = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0; // little-endian

export function colourOf(hex, alpha) {
  const n = parseInt(hex.slice(1), 16);
  return rgba(n >> 16, (n >> 8) & 255, n & 255, Math.round(alpha * 255));
}

const ADDED = rgba(90, 230, 60, 190), REMOVED = rgba(255, 60, 70, 190);
const WOULD_BE = rgba(255, 255, 255, 120), WOULD_GO = rgba(20, 20, 20, 150);

/** Colours for each label: what fills objects, and what goes around them. */
export function coloursOf(objects, active, opacity) {
  const fills = new Uint32Array(objects.length + 1), lines = new Uint32Array(objects.length + 1);
  objects.forEach((o, i) => {
    fills[i + 1] = colourOf(o.colour, opacity * (o.id === active || active === null ? 1 : 0.6));
    lines[i + 1] = colourOf(o.colour, 1);
  });
  return { fills, lines };
}

/** Columns (or rows) of the photograph under each pixel of the screen, -1 beside it. */
function places(count, start, scale, most, from) {
  const found = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const place = Math.floor(start + (i + from + 0.5) / scale);
    found[i] = place >= 0 && place < most ? place : -1;
  }
  return found;
}

/** The labels of a row of the photograph at columns of it, 0 beside it; the active object's on top. */
function labelRow(map, { active, label }, row, columns, into) {
  if (row < 0) return into.fill(0);
  const { labels, width } = map, start = row * width;
  const inside = active && row >= active.y && row < active.y + active.h;
  const from = inside ? active.x : 0, to = inside ? active.x + active.w : 0;
  const bits = inside ? (row - active.y) * active.w - active.x : 0;
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i];
    if (column < 0) into[i] = 0;
    else if (column >= from && column < to && active.bits[bits + column]) into[i] = label;
    else into[i] = map.used ? labels[start + column] : 0;
  }
}

/**
 * Paint a rectangle of the screen.
 *
 * @param context of the canvas.
 * @param view where the photograph is; `ratio` is of the canvas' pixels to the stage's.
 * @param map of the labels of all objects but the active one.
 * @param look {fills, lines, outline, active, label, mask, preview, turned}: colours of labels,
 *   whether outlines are drawn, the active object's mask and label, the mask that changes are of,
 *   what a click would turn over, and what the last step turned over.
 * @param rect x, y, w, h in pixels of the stage; all of it by default.
 */
export function paint(context, view, ratio, map, look, rect = null) {
  const { width, height } = context.canvas;
  const scale = view.scale * ratio, thick = Math.max(1, Math.round(1.6 * ratio));
  const clip = (v, most) => Math.min(most, Math.max(0, v));
  const x1 = rect ? clip(Math.floor(rect.x * ratio) - thick - 1, width) : 0;
  const y1 = rect ? clip(Math.floor(rect.y * ratio) - thick - 1, height) : 0;
  const x2 = rect ? clip(Math.ceil((rect.x + rect.w) * ratio) + thick + 1, width) : width;
  const y2 = rect ? clip(Math.ceil((rect.y + rect.h) * ratio) + thick + 1, height) : height;
  const w = x2 - x1, h = y2 - y1;
  if (w <= 0 || h <= 0) return;
  const columns = places(w + thick, view.left, scale, map.width, x1 - thick);
  const rows = places(h + thick, view.top, scale, map.height, y1 - thick);
  const picture = context.createImageData(w, h);
  const out = new Uint32Array(picture.data.buffer);
  const { fills, lines, outline, mask, preview, turned } = look;
  // 1 where a part is turned over and the mask is there now, -1 where it is not.
  const differs = (part, x, y) => {
    if (x < part.x || y < part.y || x >= part.x + part.w || y >= part.y + part.h) return 0;
    if (!part.bits[(y - part.y) * part.w + x - part.x]) return 0;
    return mask && mask.has(x, y) ? 1 : -1;
  };
  // Labels of the last rows of the screen, so that each is looked up once.
  const seen = Array.from({ length: thick + 1 }, () => new Uint16Array(w + thick));
  for (let j = 0; j < thick; j++) labelRow(map, look, rows[j], columns, seen[j]);
  for (let j = 0, to = 0; j < h; j++) {
    const row = rows[j + thick], above = seen[j % (thick + 1)];
    const here = seen[(j + thick) % (thick + 1)];
    labelRow(map, look, row, columns, here);
    for (let i = 0; i < w; i++, to++) {
      const label = here[i + thick];
      let colour = fills[label];
      if ((turned || preview) && row >= 0 && columns[i + thick] >= 0) {
        const change = turned ? differs(turned, columns[i + thick], row) : 0;
        if (change) colour = change > 0 ? ADDED : REMOVED;
        const would = preview ? differs(preview, columns[i + thick], row) : 0;
        if (would) colour = would > 0 ? WOULD_GO : WOULD_BE;
      }
      if (outline) {
        if (here[i] !== label) colour = lines[label || here[i]];
        else if (above[i + thick] !== label) colour = lines[label || above[i + thick]];
      }
      out[to] = colour;
    }
  }
  context.putImageData(picture, x1, y1);
}
