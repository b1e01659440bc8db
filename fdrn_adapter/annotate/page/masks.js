// Masks as the server sends them, and one map of all objects that the painter reads.

function decodedRuns(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Uint32Array(bytes.buffer);
}

/** What a change turns over: {x, y, w, h, bits}. */
export function decodedPart(change) {
  const [x, y, w, h] = change.box;
  const bits = new Uint8Array(w * h);
  let at = 0;
  decodedRuns(change.runs).forEach((length, i) => {
    if (i % 2) bits.fill(1, at, at + length);
    at += length;
  });
  return { x, y, w, h, bits };
}

export const at = (part, x, y) =>
  x >= part.x && y >= part.y && x < part.x + part.w && y < part.y + part.h
    ? part.bits[(y - part.y) * part.w + x - part.x] : 0;

/** A mask that grows with what is put on it. */
export class Mask {
  constructor() {
    Object.assign(this, { x: 0, y: 0, w: 0, h: 0, bits: new Uint8Array(0) });
  }

  has(x, y) {
    return at(this, x, y);
  }

  /** Turn over the pixels of a change. */
  turn(change) {
    const [x, y, w, h] = change.box;
    this.grow({ x, y, w, h });
    const { bits, w: width } = this, first = (y - this.y) * width + x - this.x;
    let row = 0, column = 0; // of the box
    decodedRuns(change.runs).forEach((length, i) => {
      while (length > 0) {
        const here = Math.min(length, w - column);
        if (i % 2) {
          const from = first + row * width + column;
          for (let k = from; k < from + here; k++) bits[k] ^= 1;
        }
        length -= here;
        column += here;
        if (column === w) [row, column] = [row + 1, 0];
      }
    });
  }

  grow(part) {
    const empty = !this.w;
    const x = empty ? part.x : Math.min(this.x, part.x);
    const y = empty ? part.y : Math.min(this.y, part.y);
    const right = Math.max(empty ? 0 : this.x + this.w, part.x + part.w);
    const bottom = Math.max(empty ? 0 : this.y + this.h, part.y + part.h);
    if (!empty && x === this.x && y === this.y && right === x + this.w && bottom === y + this.h) {
      return;
    }
    const grown = new Uint8Array((right - x) * (bottom - y));
    for (let row = 0; row < this.h; row++) {
      grown.set(this.bits.subarray(row * this.w, (row + 1) * this.w),
        (this.y - y + row) * (right - x) + this.x - x);
    }
    Object.assign(this, { x, y, w: right - x, h: bottom - y, bits: grown });
  }
}

/**
 * For each pixel the object that is shown there, the active one left out: its place among the
 * objects, from 1. So a click on the active object, however large, changes nothing here.
 */
export class LabelMap {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.labels = new Uint16Array(width * height);
    this.used = false; // there is something on it
  }

  /** Draw objects anew inside of a box, later ones over earlier ones. */
  draw(box, objects, masks, active) {
    const left = Math.max(0, box.x), top = Math.max(0, box.y);
    const right = Math.min(this.width, box.x + box.w);
    const bottom = Math.min(this.height, box.y + box.h);
    for (let y = top; y < bottom; y++) this.labels.fill(0, y * this.width + left,
      y * this.width + Math.max(left, right));
    objects.forEach(({ id }, i) => {
      const mask = id === active ? null : masks.get(id);
      if (mask) this.stamp(mask, i + 1, left, top, right, bottom);
    });
  }

  stamp(mask, label, left, top, right, bottom) {
    this.used = true;
    const x1 = Math.max(left, mask.x), x2 = Math.min(right, mask.x + mask.w);
    const y1 = Math.max(top, mask.y), y2 = Math.min(bottom, mask.y + mask.h);
    for (let y = y1; y < y2; y++) {
      let from = (y - mask.y) * mask.w + x1 - mask.x;
      let to = y * this.width + x1;
      for (let x = x1; x < x2; x++, from++, to++) if (mask.bits[from]) this.labels[to] = label;
    }
  }

  at(x, y) {
    return x >= 0 && y >= 0 && x < this.width && y < this.height
      ? this.labels[y * this.width + x] : 0;
  }
}
