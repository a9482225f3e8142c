/** Moves the map by mouse, by one or two fingers, and by keys. */

const STEP = 60;
const SLACK = 5;

/**
 * Wires a canvas to a camera. `draw` draws it again, `point(x, y, reach)` points at the item there and gives its
 * index, `open` opens an item, `tell` says it aloud.
 */
export function moveMap(canvas, camera, { draw, point, open, tell }) {
  const pointers = new Map();
  let distance = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) distance = 0;
    pointers.set(event.pointerId, at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const position = at(event);
    const former = pointers.get(event.pointerId);
    if (!former) {
      point(...position);
      return;
    }
    const otherPointers = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (otherPointers.length) pinch(former, position, otherPointers[0]);
    else camera.pan(position[0] - former[0], position[1] - former[1]);
    distance += Math.hypot(position[0] - former[0], position[1] - former[1]);
    pointers.set(event.pointerId, position);
    if (distance > SLACK) point(-1e6, -1e6);
    draw();
  });
  const release = (event) => {
    const isSingle = pointers.size === 1 && pointers.has(event.pointerId);
    pointers.delete(event.pointerId);
    if (event.type === "pointerup" && isSingle && distance <= SLACK) open(point(...at(event), event.pointerType === "touch" ? 22 : 14));
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => {
    if (!pointers.size) point(-1e6, -1e6);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    camera.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...at(event));
    draw();
  }, { passive: false });

  function pinch(former, position, fixed) {
    const was = Math.hypot(former[0] - fixed[0], former[1] - fixed[1]);
    const is = Math.hypot(position[0] - fixed[0], position[1] - fixed[1]);
    camera.zoomAt(is / Math.max(was, 1), (position[0] + fixed[0]) / 2, (position[1] + fixed[1]) / 2);
    camera.pan((position[0] - former[0]) / 2, (position[1] - former[1]) / 2);
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
