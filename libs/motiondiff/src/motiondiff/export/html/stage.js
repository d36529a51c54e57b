// The motions, the camera and the drawing, on a 2D canvas: no WebGL, no library, nothing loaded from anywhere.
// Vectors are metres, y up, as in the motions. `controls.js` follows in the same function.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const canvas = $("canvas"), pen = canvas.getContext("2d");
const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 4];
const VIEW = { azimuth: -0.66, elevation: 0.23 };  // from the right front, slightly from above
const NEAR = 0.05, TAN = Math.tan(17.5 * Math.PI / 180);
const COLOURS = {
  light: { paper: "#ffffff", floor: "#f0f2f5", grid: "#d5dae1", shadow: "#c3cad4", ink: "#222833", faint: "#667080",
    first: ["#3a4150", "#1f77c8", "#e8702a"], second: ["#6d5a8f", "#8a3ffc", "#d0268c"] },
  dark: { paper: "#14171c", floor: "#1c2128", grid: "#323944", shadow: "#0b0d10", ink: "#e8ebf0", faint: "#9aa4b2",
    first: ["#aab4c3", "#4aa3f0", "#f28c4b"], second: ["#a897cf", "#a67bff", "#f060b4"] },
};

// ---- the motions ----------------------------------------------------------------------------------------------------
function decode(motion) {
  const bytes = Uint8Array.from(atob(motion.data), (letter) => letter.charCodeAt(0));
  const { names, parents } = data.skeletons[motion.skeleton];
  const count = motion.frames * names.length * 3;
  const root = new Float32Array(bytes.buffer, 0, motion.frames * 3);
  const steps = new Int16Array(bytes.buffer, motion.frames * 12, count);
  const points = new Float32Array(count);
  for (let i = 0, f = 0; f < motion.frames; f++)
    for (let j = 0; j < names.length; j++)
      for (let k = 0; k < 3; k++, i++) points[i] = root[3 * f + k] + motion.step * steps[i];
  const low = [Infinity, 0, Infinity], high = [-Infinity, 0, -Infinity];
  for (let i = 0; i < count; i++) {
    low[i % 3] = Math.min(low[i % 3], points[i]);
    high[i % 3] = Math.max(high[i % 3], points[i]);
  }
  return { points, low, high, joints: names.length, seconds: (motion.frames - 1) / motion.fps, ...data.skeletons[motion.skeleton] };
}
const decoded = new Map();
function clip(index) {
  if (!decoded.has(index)) decoded.set(index, { ...data.motions[index], ...decode(data.motions[index]) });
  return decoded.get(index);
}
// joints at a time in seconds, straight between frames, held after the end
function pose(motion, seconds) {
  const at = Math.min(Math.max(seconds * motion.fps, 0), motion.frames - 1);
  const frame = Math.min(Math.floor(at), Math.max(motion.frames - 2, 0)), part = at - frame, size = 3 * motion.joints;
  const now = motion.points.slice(frame * size, (frame + 1) * size);
  if (part > 0) for (let i = 0; i < size; i++) now[i] += part * (motion.points[(frame + 1) * size + i] - now[i]);
  return now;
}

// ---- state ----------------------------------------------------------------------------------------------------------
const state = { first: 0, second: -1, time: 0, playing: false, speed: 1, view: "overlay", theme: "light", hover: null };
const camera = { azimuth: 0, elevation: 0, distance: 3, pan: [0, 0, 0], moved: false };
let dirty = true, hits = [];
const shown = () => state.second < 0 ? [state.first] : [state.first, state.second];
const duration = () => Math.max(...shown().map((index) => clip(index).seconds));
const redraw = () => { dirty = true; };

// how far the second motion is moved over the floor
function shift(index) {
  if (index !== state.second || state.second < 0 || !$("align").checked || state.view !== "overlay") return [0, 0, 0];
  const a = clip(state.first).points, b = clip(index).points;
  return [a[0] - b[0], 0, a[2] - b[2]];
}

// ---- camera ---------------------------------------------------------------------------------------------------------
function axes() {
  const { azimuth: a, elevation: e } = camera;
  const back = [Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e)];
  const right = [Math.cos(a), 0, -Math.sin(a)];
  return [right, [back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2],
    back[0] * right[1] - back[1] * right[0]], back];
}
const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
// what the picture's middle looks at, before panning
function middle(indices, seconds) {
  if ($("follow").checked) {
    const motion = clip(indices[0]), now = pose(motion, seconds);
    return [now[0], (motion.low[1] + motion.high[1]) / 2, now[2]];
  }
  const box = bounds(indices);
  return box.low.map((low, k) => (low + box.high[k]) / 2);
}
function bounds(indices) {
  const low = [Infinity, 0, Infinity], high = [-Infinity, 0.1, -Infinity];
  for (const index of indices) {
    const motion = clip(index), by = shift(index);
    for (let k = 0; k < 3; k++) {
      low[k] = Math.min(low[k], motion.low[k] + by[k]);
      high[k] = Math.max(high[k], motion.high[k] + by[k]);
    }
  }
  return { low, high };
}
// the distance from which everything that moves is in the picture
function fit() {
  const [right, up, back] = axes();
  let distance = 1;
  for (const pane of panes()) {
    const tan = { x: TAN * (pane.w / pane.h) * 0.88, y: TAN * 0.84 };
    const see = (point) => {
      distance = Math.max(distance, dot(point, back) + Math.max(Math.abs(dot(point, right)) / tan.x, Math.abs(dot(point, up)) / tan.y));
    };
    const still = $("follow").checked ? null : middle(pane.indices, 0);
    for (const index of pane.indices) {
      const motion = clip(index), size = 3 * motion.joints, by = shift(index), flesh = 0.06 * motion.body;
      const stride = Math.max(1, Math.floor(motion.frames / 200));
      for (let f = 0; f < motion.frames; f += stride) {
        const centre = still || middle(pane.indices, f / motion.fps);
        for (let i = f * size; i < (f + 1) * size; i += 3)
          for (const lift of [-flesh, flesh]) see([0, 1, 2].map((k) => motion.points[i + k] + by[k] - centre[k] + (k === 1 ? lift : 0)));
      }
    }
  }
  camera.distance = Math.min(distance, 500);
}
function resetView() {
  Object.assign(camera, VIEW, { pan: [0, 0, 0], moved: false });
  camera.azimuth += clip(state.first).yaw;
  fit();
  redraw();
}
const refit = () => { if (!camera.moved) fit(); redraw(); };
function panes() {
  const w = canvas.clientWidth || 1, h = canvas.clientHeight || 1;
  if (state.second < 0 || state.view === "overlay") return [{ x: 0, y: 0, w, h, indices: shown() }];
  const first = [state.first], second = [state.second];
  return w >= h
    ? [{ x: 0, y: 0, w: w / 2, h, indices: first }, { x: w / 2, y: 0, w: w / 2, h, indices: second }]
    : [{ x: 0, y: 0, w, h: h / 2, indices: first }, { x: 0, y: h / 2, w, h: h / 2, indices: second }];
}

// ---- drawing --------------------------------------------------------------------------------------------------------
function draw() {
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const colours = COLOURS[state.theme];
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, w, h);
  hits = [];
  for (const pane of panes()) {
    pen.save();
    pen.beginPath();
    pen.rect(pane.x, pane.y, pane.w, pane.h);
    pen.clip();
    drawPane(pane, colours);
    pen.restore();
    if (pane.x + pane.y > 0) {
      pen.fillStyle = colours.grid;
      pen.fillRect(pane.x, pane.y, pane.x ? 1 : pane.w, pane.x ? pane.h : 1);
    }
  }
  drawNames(colours);
  $("legend").textContent = legend();
}
function drawPane(pane, colours) {
  const [right, up, back] = axes(), centre = middle(pane.indices, state.time).map((v, k) => v + camera.pan[k]);
  const focal = pane.h / 2 / TAN, x0 = pane.x + pane.w / 2, y0 = pane.y + pane.h / 2;
  const look = (p) => {  // to the camera: right, up, depth
    const d = [p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]];
    return [dot(d, right), dot(d, up), camera.distance - dot(d, back)];
  };
  const pixel = (c) => [x0 + focal * c[0] / c[2], y0 - focal * c[1] / c[2]];
  drawFloor(pane, colours, look, pixel);
  const solids = [];
  pane.indices.forEach((index) => {
    const motion = clip(index), now = pose(motion, state.time), by = shift(index), second = index === state.second && state.second >= 0;
    const palette = second && pane.indices.length > 1 ? colours.second : colours.first;
    const at = (j) => [now[3 * j] + by[0], now[3 * j + 1] + by[1], now[3 * j + 2] + by[2]];
    const points = motion.parents.map((_, j) => at(j)), seen = points.map(look);
    drawGround(motion, points, by, colours, palette, look, pixel, focal);
    motion.parents.forEach((parent, j) => {
      if (seen[j][2] > NEAR) hits.push({ name: motion.names[j], point: points[j], at: pixel(seen[j]), second, pane });
      if (parent < 0 || seen[j][2] < NEAR || seen[parent][2] < NEAR) return;
      const depth = (seen[j][2] + seen[parent][2]) / 2, side = motion.sides[j];
      const width = Math.max(2, (side ? 0.026 : 0.032) * motion.body * focal / depth);
      solids.push({ depth, from: pixel(seen[parent]), to: pixel(seen[j]), width, colour: palette[side] });
    });
    const head = motion.head;
    if (head > 0) {
      const bone = points[head].map((v, k) => v - points[motion.parents[head]][k]), length = Math.hypot(...bone);
      const above = length > 1e-6 ? bone.map((v) => v / length) : [0, 1, 0];
      const ball = look(points[head].map((v, k) => v + 0.025 * motion.body * above[k]));
      if (ball[2] > NEAR) solids.push({ depth: ball[2], from: pixel(ball), width: 2 * 0.05 * motion.body * focal / ball[2], colour: palette[0] });
    }
    if (motion.joints === 1 && seen[0][2] > NEAR)
      solids.push({ depth: seen[0][2], from: pixel(seen[0]), width: Math.max(6, 0.05 * motion.body * focal / seen[0][2]), colour: palette[0] });
  });
  // far to near, each with a light rim, so that an arm shows in front of the chest
  solids.sort((a, b) => b.depth - a.depth);
  for (const solid of solids) {
    const rim = Math.min(Math.max(1.2, 0.12 * solid.width), 2.5);
    if (solid.to) {
      stroke(solid.from, solid.to, solid.width + 2 * rim, colours.paper, "butt");
      stroke(solid.from, solid.to, solid.width, solid.colour, "round");
    } else {
      disc(solid.from, solid.width / 2 + rim, colours.paper);
      disc(solid.from, solid.width / 2, solid.colour);
    }
  }
  if (data.motions.length > 1) drawTitles(pane, colours);
}
function drawTitles(pane, colours) {
  pen.font = "600 13px system-ui, sans-serif";
  pen.textBaseline = "top";
  pane.indices.forEach((index, row) => {
    const palette = index === state.second && pane.indices.length > 1 ? colours.second : colours.first;
    disc([pane.x + 19, pane.y + 21 + 20 * row], 5, palette[pane.indices.length > 1 ? 1 : 0]);
    pen.fillStyle = colours.ink;
    pen.fillText(title(clip(index)), pane.x + 31, pane.y + 14 + 20 * row, pane.w - 44);
  });
}
function title(motion) {
  return motion.name + (motion.action && motion.action !== motion.name ? ` (${motion.action}${motion.style ? ", " + motion.style : ""})` : "");
}
function stroke(from, to, width, colour, cap) {
  pen.lineCap = cap;
  pen.lineWidth = width;
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.moveTo(from[0], from[1]);
  pen.lineTo(to[0], to[1]);
  pen.stroke();
}
function disc(at, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(at[0], at[1], radius, 0, 2 * Math.PI);
  pen.fill();
}
// the part of a closed way, in camera coordinates, that is before the camera
function before(way) {
  const kept = [];
  way.forEach((a, i) => {
    const b = way[(i + 1) % way.length];
    if (a[2] >= NEAR) kept.push(a);
    if ((a[2] >= NEAR) !== (b[2] >= NEAR)) {
      const part = (NEAR - a[2]) / (b[2] - a[2]);
      kept.push(a.map((v, k) => v + part * (b[k] - v)));
    }
  });
  return kept;
}
function gridStep(indices) {
  const { low, high } = bounds(indices);
  let step = 0.5;
  while (Math.max(high[0] - low[0], high[2] - low[2]) / step > 60) step *= 2;
  return step;
}
function drawFloor(pane, colours, look, pixel) {
  const { low, high } = bounds(pane.indices), step = gridStep(pane.indices);
  const edge = (value, way) => (way < 0 ? Math.floor((value - 0.6) / step) : Math.ceil((value + 0.6) / step)) * step;
  const [x0, x1, z0, z1] = [edge(low[0], -1), edge(high[0], 1), edge(low[2], -1), edge(high[2], 1)];
  const floor = before([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]].map(look)).map(pixel);
  if (floor.length < 3) return;
  pen.fillStyle = colours.floor;
  pen.beginPath();
  floor.forEach((p, i) => i ? pen.lineTo(p[0], p[1]) : pen.moveTo(p[0], p[1]));
  pen.fill();
  const line = (a, b) => {
    const ends = before([look(a), look(b)]).map(pixel);
    if (ends.length > 1) stroke(ends[0], ends[1], 1, colours.grid, "butt");
  };
  for (let x = x0; x <= x1 + step / 2; x += step) line([x, 0, z0], [x, 0, z1]);
  for (let z = z0; z <= z1 + step / 2; z += step) line([x0, 0, z], [x1, 0, z]);
}
// the shadow straight below the body, and the way that the root has come
function drawGround(motion, points, by, colours, palette, look, pixel, focal) {
  const flat = points.map((p) => look([p[0], 0, p[2]]));
  motion.parents.forEach((parent, j) => {
    if (parent < 0 || flat[j][2] < NEAR || flat[parent][2] < NEAR) return;
    stroke(pixel(flat[parent]), pixel(flat[j]), 0.022 * motion.body * focal / flat[j][2], colours.shadow, "round");
  });
  pen.strokeStyle = palette[1];
  pen.globalAlpha = 0.55;
  pen.lineWidth = 1.5;
  pen.beginPath();
  const last = Math.min(Math.floor(state.time * motion.fps + 1e-6), motion.frames - 1), size = 3 * motion.joints;
  const stride = Math.max(1, Math.floor(motion.frames / 2000));
  let open = false;
  for (let f = 0; f <= last; f += stride) {
    const seen = look([motion.points[f * size] + by[0], 0, motion.points[f * size + 2] + by[2]]);
    if (seen[2] < NEAR) { open = false; continue; }
    const p = pixel(seen);
    if (open) pen.lineTo(p[0], p[1]); else pen.moveTo(p[0], p[1]);
    open = true;
  }
  pen.stroke();
  pen.globalAlpha = 1;
}
function drawNames(colours) {
  if (!$("joints").checked) return;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  for (const hit of hits) {
    pen.strokeStyle = colours.paper;
    pen.strokeText(hit.name, hit.at[0] + 6, hit.at[1]);
    pen.fillStyle = colours.ink;
    pen.fillText(hit.name, hit.at[0] + 6, hit.at[1]);
  }
}
function legend() {
  const words = [`grid ${gridStep(shown())} m`];
  if (state.second >= 0) {
    const a = clip(state.first), b = clip(state.second);
    if (a.names.join("\n") === b.names.join("\n")) {
      const p = pose(a, state.time), q = pose(b, state.time), by = shift(state.second);
      let sum = 0;
      for (let i = 0; i < p.length; i += 3) sum += Math.hypot(p[i] - q[i] - by[0], p[i + 1] - q[i + 1], p[i + 2] - q[i + 2] - by[2]);
      words.push(`mean distance of the joints ${(100 * sum / a.joints).toFixed(1)} cm`);
    } else words.push("two skeletons: joints are not compared");
  }
  return words.join(" · ");
}
