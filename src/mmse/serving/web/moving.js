/** Moves the map by mouse, by one or two fingers, and by keys. */

const STEP = 60;
const SLACK = 5;

/**
 * Wires a canvas to a camera. `draw` draws it again, `point(x, y, reach)` points at the item there and gives its
 * index, `open` opens an item, `tell` says it aloud.
 */
export function moveMap(canvas, camera, { draw, point, open, tell }) {
  const down = new Map();
  let travelled = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!down.size) travelled = 0;
    down.set(event.pointerId, at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = at(event);
    const before = down.get(event.pointerId);
    if (!before) {
      point(...here);
      return;
    }
    const others = [...down].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (others.length) pinch(before, here, others[0]);
    else camera.pan(here[0] - before[0], here[1] - before[1]);
    travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
    down.set(event.pointerId, here);
    if (travelled > SLACK) point(-1e6, -1e6);
    draw();
  });
  const up = (event) => {
    const alone = down.size === 1 && down.has(event.pointerId);
    down.delete(event.pointerId);
    if (event.type === "pointerup" && alone && travelled <= SLACK) open(point(...at(event), event.pointerType === "touch" ? 22 : 14));
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => {
    if (!down.size) point(-1e6, -1e6);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    camera.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...at(event));
    draw();
  }, { passive: false });

  function pinch(before, here, other) {
    const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
    const is = Math.hypot(here[0] - other[0], here[1] - other[1]);
    camera.zoomAt(is / Math.max(was, 1), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    camera.pan((here[0] - before[0]) / 2, (here[1] - before[1]) / 2);
  }

  const middle = () => point(camera.width / 2, camera.height / 2, 60);
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowLeft: () => camera.pan(STEP, 0), ArrowRight: () => camera.pan(-STEP, 0),
      ArrowUp: () => camera.pan(0, STEP), ArrowDown: () => camera.pan(0, -STEP),
      "+": () => camera.zoomAt(1.5), "=": () => camera.zoomAt(1.5), "-": () => camera.zoomAt(1 / 1.5), 0: () => camera.look(0, 0, 1),
    };
    if (event.key === "Enter") open(middle());
    else if (event.key in moves) {
      moves[event.key]();
      draw();
      tell(middle());
    } else return;
    event.preventDefault();
  });
}
