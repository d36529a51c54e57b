// ---- controls -------------------------------------------------------------------------------------------------------
function show() {
  const pair = state.second >= 0, total = duration(), motion = clip(state.first);
  $("scrub").max = total || 1;
  $("scrub").disabled = total === 0;
  $("scrub").value = state.time;
  const frame = Math.min(Math.round(state.time * motion.fps), motion.frames - 1) + 1;
  $("clock").textContent = `${state.time.toFixed(2)} / ${total.toFixed(2)} s · frame ${frame} of ${motion.frames}`;
  $("scrub").setAttribute("aria-valuetext", $("clock").textContent);
  $("play").textContent = state.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  for (const name of ["side", "overlay"]) $(name).setAttribute("aria-pressed", String(state.view === name));
  $("views").hidden = !pair;
  $("alignlabel").hidden = !pair || state.view !== "overlay";
  document.documentElement.dataset.theme = state.theme;
  $("theme").textContent = state.theme === "dark" ? "Light" : "Dark";
}
function go(seconds) {
  state.time = Math.min(Math.max(seconds, 0), duration());
  show();
  redraw();
}
function play(on) {
  state.playing = on && duration() > 0;
  if (state.playing && state.time >= duration()) state.time = 0;
  show();
}
function stepFrame(by) {
  play(false);
  const fps = clip(state.first).fps;
  go((Math.round(state.time * fps) + by) / fps);
}
function choose(first, second) {
  state.first = first;
  state.second = second === first ? -1 : second;
  const motion = clip(first), far = Math.hypot(motion.high[0] - motion.low[0], motion.high[2] - motion.low[2]);
  if (!camera.moved) $("follow").checked = far > 3 * motion.body;
  state.time = Math.min(state.time, duration());
  for (const item of $("list").children) {
    const index = Number(item.dataset.index);
    item.children[0].setAttribute("aria-pressed", String(index === state.first));
    item.children[1].setAttribute("aria-pressed", String(index === state.second));
    item.children[1].disabled = index === state.first;
  }
  show();
  if (!camera.moved) resetView(); else refit();
}
function setView(view) { state.view = view; show(); refit(); }
function setTheme(theme) { state.theme = theme; show(); redraw(); }
function list() {
  data.motions.forEach((motion, index) => {
    const item = document.createElement("li"), name = document.createElement("button"), other = document.createElement("button");
    item.dataset.index = index;
    name.className = "name";
    const about = [motion.name, [motion.action, motion.style, `${((motion.frames - 1) / motion.fps).toFixed(1)} s`].filter(Boolean).join(" · ")];
    for (const text of about) name.appendChild(document.createElement("span")).textContent = text;
    name.title = motion.name;
    name.onclick = () => choose(index, state.second);
    other.className = "with";
    other.textContent = "+";
    other.title = "Show beside the motion that plays";
    other.setAttribute("aria-label", `Compare with ${motion.name}`);
    other.onclick = () => choose(state.first, state.second === index ? -1 : index);
    item.append(name, other);
    $("list").append(item);
  });
  $("filter").hidden = data.motions.length < 8;
  $("filter").oninput = () => {
    const words = $("filter").value.toLowerCase().split(/\s+/);
    for (const item of $("list").children) item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
  };
  document.querySelector("nav").hidden = data.motions.length < 2;
}
const KEYS = {
  " ": () => play(!state.playing), ArrowLeft: () => stepFrame(-1), ArrowRight: () => stepFrame(1),
  Home: () => go(0), End: () => { play(false); go(duration()); }, "[": () => faster(-1), "]": () => faster(1),
  n: () => neighbour(1), p: () => neighbour(-1), s: () => setView(state.view === "side" ? "overlay" : "side"),
  a: () => toggle("align"), f: () => toggle("follow"), j: () => toggle("joints"), r: resetView,
  d: () => setTheme(state.theme === "dark" ? "light" : "dark"), h: help, "?": help,
};
function toggle(id) { $(id).checked = !$(id).checked; refit(); }
function help() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
}
function faster(by) {
  const at = Math.min(Math.max(SPEEDS.indexOf(state.speed) + by, 0), SPEEDS.length - 1);
  state.speed = SPEEDS[at];
  $("speed").value = String(state.speed);
}
function neighbour(by) {
  const count = data.motions.length;
  choose((state.first + by + count) % count, state.second);
}
function wire() {
  for (const speed of SPEEDS) $("speed").add(new Option(`${speed}×`, speed, speed === 1, speed === 1));
  $("speed").onchange = () => { state.speed = Number($("speed").value); };
  $("play").onclick = () => play(!state.playing);
  $("back").onclick = () => stepFrame(-1);
  $("forward").onclick = () => stepFrame(1);
  $("scrub").oninput = () => go(Number($("scrub").value));
  $("scrub").onpointerdown = () => play(false);
  for (const id of ["follow", "align"]) $(id).onchange = refit;
  $("joints").onchange = redraw;
  for (const view of ["side", "overlay"]) $(view).onclick = () => setView(view);
  $("theme").onclick = KEYS.d;
  $("help").onclick = help;
  document.addEventListener("keydown", (event) => {
    const typing = /^(search|text)$/.test(event.target.type) || event.target.tagName === "SELECT";
    const pressing = event.key === " " && (event.target.tagName === "BUTTON" || event.target.type === "checkbox");
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = KEYS[event.key] || KEYS[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
  new ResizeObserver(refit).observe(canvas);
  window.addEventListener("hashchange", address);
  pointers();
}
// one pointer turns (or shifts), two zoom and shift
function pointers() {
  const down = new Map();
  const pan = (dx, dy) => {
    const [right, up] = axes(), metres = camera.distance * TAN * 2 / panes()[0].h;
    camera.pan = camera.pan.map((v, k) => v - metres * (dx * right[k] - dy * up[k]));
  };
  const zoom = (factor) => { camera.distance = Math.min(Math.max(camera.distance * factor, 0.3), 500); };
  const moved = () => { camera.moved = true; redraw(); };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.classList.add("turning");
    $("tip").hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const old = down.get(event.pointerId), now = [event.clientX, event.clientY];
    if (!old) return hover(event);
    const dx = now[0] - old[0], dy = now[1] - old[1];
    if (down.size === 1) {
      if (event.shiftKey || event.buttons & 6) pan(dx, dy);
      else {
        camera.azimuth -= 0.008 * dx;
        camera.elevation = Math.min(Math.max(camera.elevation + 0.008 * dy, -0.3), 1.55);
      }
    } else if (down.size === 2) {
      const other = [...down].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(old[0] - other[0], old[1] - other[1]), after = Math.hypot(now[0] - other[0], now[1] - other[1]);
      if (before > 0 && after > 0) zoom(before / after);
      pan(dx / 2, dy / 2);
    }
    down.set(event.pointerId, now);
    moved();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
    down.delete(event.pointerId);
    if (!down.size) canvas.classList.remove("turning");
  });
  canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", resetView);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
    moved();
  }, { passive: false });
}
function hover(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, nearest = 16;
  for (const hit of hits) {
    const away = Math.hypot(hit.at[0] - x, hit.at[1] - y);
    if (away < nearest) [best, nearest] = [hit, away];
  }
  $("tip").hidden = !best;
  if (!best) return;
  $("tip").textContent = `${best.name}  ${best.point.map((v) => v.toFixed(2)).join(", ")} m`;
  $("tip").style.left = `${Math.min(best.at[0] + 12, box.width - $("tip").offsetWidth - 4)}px`;
  $("tip").style.top = `${Math.max(best.at[1] - 30, 4)}px`;
}
// #t=0.5&play=0&motion=NAME&with=NAME&view=side&theme=dark&follow=1&names=1&align=1
function address() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const find = (key) => {
    const text = wanted.get(key), byName = data.motions.findIndex((motion) => motion.name === text);
    return byName >= 0 ? byName : /^\d+$/.test(text || "") && Number(text) < data.motions.length ? Number(text) : -1;
  };
  if (["side", "overlay"].includes(wanted.get("view"))) state.view = wanted.get("view");
  if (["dark", "light"].includes(wanted.get("theme"))) state.theme = wanted.get("theme");
  const first = find("motion"), second = find("with");
  choose(first >= 0 ? first : state.first, wanted.has("with") ? second : state.second);
  for (const [key, id] of [["follow", "follow"], ["names", "joints"], ["align", "align"], ["loop", "loop"]])
    if (wanted.has(key)) $(id).checked = wanted.get(key) !== "0";
  const time = Number(wanted.get("t"));
  if (wanted.has("t") && Number.isFinite(time)) go(time);
  if (wanted.has("play")) play(wanted.get("play") !== "0");
  resetView();
  show();
}
let past = null;
function tick(now) {
  if (state.playing && past !== null) {
    let time = state.time + state.speed * Math.min((now - past) / 1000, 0.25);
    const total = duration();
    if (time >= total) {
      if ($("loop").checked) time %= total;
      else { time = total; state.playing = false; }
    }
    go(time);
  }
  past = now;
  if (dirty) { dirty = false; draw(); }
  requestAnimationFrame(tick);
}

state.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
state.view = data.view;
list();
wire();
choose(0, data.compare);
play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
address();
draw();
document.documentElement.dataset.ready = "yes";
requestAnimationFrame(tick);
