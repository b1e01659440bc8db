// Where the photograph is on the screen, and the photograph itself.

const MOST_ZOOM = 40;

/** A pixel (x, y) of the photograph is at ((x - left) * scale, (y - top) * scale) on the stage. */
export class View {
  constructor() {
    Object.assign(this, { scale: 1, left: 0, top: 0, width: 1, height: 1, columns: 1, rows: 1 });
  }

  toImage(x, y) {
    return [this.left + x / this.scale, this.top + y / this.scale];
  }

  toStage(x, y) {
    return [(x - this.left) * this.scale, (y - this.top) * this.scale];
  }

  get fitting() {
    return Math.min(this.width / this.columns, this.height / this.rows) * 0.98;
  }

  fit() {
    this.scale = this.fitting;
    this.left = (this.columns - this.width / this.scale) / 2;
    this.top = (this.rows - this.height / this.scale) / 2;
  }

  /** Zoom so that what is under a point of the stage stays there. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [column, row] = this.toImage(x, y);
    const least = Math.min(this.fitting, 1) / 2;
    this.scale = Math.min(MOST_ZOOM, Math.max(least, this.scale * factor));
    this.left = column - x / this.scale;
    this.top = row - y / this.scale;
    this.clamp();
  }

  pan(dx, dy) {
    this.left -= dx / this.scale;
    this.top -= dy / this.scale;
    this.clamp();
  }

  /** Keep some of the photograph on the stage. */
  clamp() {
    const across = this.width / this.scale, down = this.height / this.scale;
    this.left = Math.min(this.columns - across * 0.1, Math.max(-across * 0.9, this.left));
    this.top = Math.min(this.rows - down * 0.1, Math.max(-down * 0.9, this.top));
  }

  /** Move the view so that a pixel is on the stage, away from its border. */
  show(column, row, margin = 40) {
    const [x, y] = this.toStage(column, row);
    const over = (v, size) => v < margin ? margin - v : v > size - margin ? size - margin - v : 0;
    this.left -= over(x, this.width) / this.scale;
    this.top -= over(y, this.height) / this.scale;
  }
}

/** The photograph at full size and at halves of it, since browsers shrink large ones slowly. */
export class Photo {
  static async from(blob) {
    const photo = new Photo();
    photo.levels = [await createImageBitmap(blob)];
    photo.width = photo.levels[0].width;
    photo.height = photo.levels[0].height;
    while (photo.levels.at(-1).width > 1200) {
      const { width, height } = photo.levels.at(-1);
      photo.levels.push(await createImageBitmap(photo.levels.at(-1), {
        resizeWidth: Math.ceil(width / 2), resizeHeight: Math.ceil(height / 2),
        resizeQuality: "medium",
      }));
    }
    return photo;
  }

  /** Draw what a view shows; `ratio` is of device pixels to those of the stage. */
  draw(context, view, ratio) {
    const { width, height } = context.canvas;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    const scale = view.scale * ratio;
    const level = this.levels.findLast((l) => l.width >= this.width * Math.min(scale, 1)) ??
      this.levels[0];
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "medium";
    context.drawImage(level, -view.left * scale, -view.top * scale, this.width * scale,
      this.height * scale);
  }

  close() {
    this.levels.forEach((l) => l.close());
  }
}
