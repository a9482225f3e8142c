/** Which part of the map is seen: its centre and how far in, and the way between places of the map and of the screen. */

const MAX_ZOOM = 60;

/** A camera over the square from -1 to 1, which at zoom 1 fills a box of the given size. */
export class Camera {
  x = 0;
  y = 0;
  zoom = 1;
  width = 1;
  height = 1;

  resize(width, height) {
    [this.width, this.height] = [Math.max(width, 1), Math.max(height, 1)];
  }

  /** Pixels for one unit of the map. */
  get scale() {
    return (Math.min(this.width, this.height) / 2.16) * this.zoom;
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }

  toMap(px, py) {
    return [this.x + (px - this.width / 2) / this.scale, this.y - (py - this.height / 2) / this.scale];
  }

  /** Moves by pixels. */
  pan(dx, dy) {
    this.x -= dx / this.scale;
    this.y += dy / this.scale;
    this.#keep();
  }

  /** Zooms by a factor; what is at a place of the screen stays there. */
  zoomAt(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.toMap(px, py);
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.8), MAX_ZOOM);
    const [nx, ny] = this.toMap(px, py);
    this.x += x - nx;
    this.y += y - ny;
    this.#keep();
  }

  /** Looks at a place of the map. */
  look(x, y, zoom = this.zoom) {
    this.x = x;
    this.y = y;
    this.zoom = Math.min(Math.max(zoom, 0.8), MAX_ZOOM);
    this.#keep();
  }

  #keep() {
    this.x = Math.min(Math.max(this.x, -1.1), 1.1);
    this.y = Math.min(Math.max(this.y, -1.1), 1.1);
  }
}
