// Three orthogonal planes of a volume on canvases; no library, nothing is loaded.
(async () => {
  const place = document.getElementById("viewer");
  if (!place || !("DecompressionStream" in window)) return;
  const spec = JSON.parse(document.getElementById("viewer-data").textContent);
  const unpack = async (text) => {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const voxels = await unpack(spec.voxels);
  // structures of a registered atlas: number in the labels -> structure and side
  const structures = (spec.structures || []).map((one, order) => ({ ...one, hue: (20 + order * 137.5) % 360, on: true }));
  const labels = structures.length ? await unpack(spec.labels) : null;
  const owners = new Map();
  for (const structure of structures)
    for (const [side, number] of Object.entries(structure.numbers)) owners.set(number, { structure, side });
  const [nx, ny, nz] = spec.shape;
  const strides = [ny * nz, nz, 1];
  const convention = document.getElementById("convention");
  const planes = [
    { name: "axial", normal: 2, across: 0, up: 1, ends: ["front", "back"] },
    { name: "coronal", normal: 1, across: 0, up: 2, ends: ["top", "bottom"] },
    { name: "sagittal", normal: 0, across: 1, up: 2, ends: ["top", "bottom"] },
  ];
  const mm = (axis, index) => spec.origin[axis] + spec.step[axis] * index;
  const index = (axis, value) =>
    Math.min(spec.shape[axis] - 1, Math.max(0, Math.round((value - spec.origin[axis]) / spec.step[axis])));
  // start at the slice of each plane with most evidence, else in the middle of the first structure, else of the volume
  const at = [0, 1, 2].map((axis) => Math.floor(spec.shape[axis] / 2));
  if (labels) {
    const first = Object.values(structures[0].numbers)[0];
    const sums = [0, 0, 0];
    let count = 0;
    labels.forEach((number, offset) => {
      if (number !== first) return;
      count += 1;
      strides.forEach((stride, axis) => { sums[axis] += Math.floor(offset / stride) % spec.shape[axis]; });
    });
    if (count) sums.forEach((sum, axis) => { at[axis] = Math.round(sum / count); });
  }
  for (const plane of planes) {
    const best = spec.evidence.filter((e) => e.plane === plane.name).sort((a, b) => b.weight - a.weight)[0];
    if (best) at[plane.normal] = index(plane.normal, best.mm);
  }
  const turned = (plane) => plane.across === 0 && !(convention && convention.checked);

  // structures that a plane passes: translucent, with the edges of their voxels; their owners in the order of the numbers
  const outline = (context, { canvas, normal, across, up }, flip) => {
    const width = spec.shape[across], height = spec.shape[up];
    const w = canvas.width / width, h = canvas.height / height;
    const at2 = (row, column) => {
      if (row < 0 || column < 0 || row >= height || column >= width) return 0;
      const a = flip ? width - 1 - column : column;
      const number = labels[at[normal] * strides[normal] + a * strides[across] + (height - 1 - row) * strides[up]];
      return number && owners.get(number).structure.on ? number : 0;
    };
    const edges = new Map();
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const number = at2(row, column);
        if (!number) continue;
        const { structure } = owners.get(number);
        context.fillStyle = `hsl(${structure.hue} 90% 60% / .22)`;
        context.fillRect(column * w, row * h, w, h);
        if (!edges.has(number)) edges.set(number, new Path2D());
        const path = edges.get(number);
        const line = (x0, y0, x1, y1) => { path.moveTo(x0 * w, y0 * h); path.lineTo(x1 * w, y1 * h); };
        if (at2(row - 1, column) !== number) line(column, row, column + 1, row);
        if (at2(row + 1, column) !== number) line(column, row + 1, column + 1, row + 1);
        if (at2(row, column - 1) !== number) line(column, row, column, row + 1);
        if (at2(row, column + 1) !== number) line(column + 1, row, column + 1, row + 1);
      }
    }
    const passed = [...edges.keys()].sort((a, b) => a - b);
    context.lineWidth = 1.5;
    for (const number of passed) {
      context.strokeStyle = `hsl(${owners.get(number).structure.hue} 95% 62%)`;
      context.stroke(edges.get(number));
    }
    return passed.map((number) => owners.get(number));
  };

  const draw = (plane) => {
    const { canvas, normal, across, up } = plane;
    const width = spec.shape[across], height = spec.shape[up];
    const small = new OffscreenCanvas(width, height);
    const image = new ImageData(width, height);
    const flip = turned(plane);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const a = flip ? width - 1 - column : column;
        const value = voxels[at[normal] * strides[normal] + a * strides[across] + (height - 1 - row) * strides[up]];
        const pixel = 4 * (row * width + column);
        image.data[pixel] = image.data[pixel + 1] = image.data[pixel + 2] = value;
        image.data[pixel + 3] = 255;
      }
    }
    small.getContext("2d").putImageData(image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = true;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const sx = canvas.width / (width * spec.step[across]), sy = canvas.height / (height * spec.step[up]);
    const x = (value) => {
      const offset = (value - mm(across, -0.5)) * sx;
      return flip ? canvas.width - offset : offset;
    };
    const y = (value) => canvas.height - (value - mm(up, -0.5)) * sy;
    const drawn = labels ? outline(context, plane, flip) : [];
    // boxes of biomarkers that this plane passes; |x| is on both sides
    const here = mm(normal, at[normal]);
    const passed = [];
    context.lineWidth = 1.5;
    spec.boxes.forEach((box, number) => {
      const [low, high] = box.mm[normal];
      const position = normal === 0 ? Math.abs(here) : here;
      if (position < low || position > high) return;
      passed.push(number);
      context.strokeStyle = `hsl(${(number * 67) % 360} 90% 62%)`;
      const spans = across !== 0 ? [box.mm[across]]
        : box.mm[0][0] === 0 ? [[-box.mm[0][1], box.mm[0][1]]]
        : [box.mm[0], [-box.mm[0][1], -box.mm[0][0]]];
      for (const [left, right] of spans) {
        const [x0, x1] = [x(left), x(right)].sort((a, b) => a - b);
        context.strokeRect(x0, y(box.mm[up][1]), x1 - x0, y(box.mm[up][0]) - y(box.mm[up][1]));
      }
    });
    // the two other planes
    context.lineWidth = 1;
    context.strokeStyle = "rgba(255, 210, 90, .55)";
    context.beginPath();
    context.moveTo(x(mm(across, at[across])), 0);
    context.lineTo(x(mm(across, at[across])), canvas.height);
    context.moveTo(0, y(mm(up, at[up])));
    context.lineTo(canvas.width, y(mm(up, at[up])));
    context.stroke();
    context.font = "600 16px system-ui, sans-serif";
    context.fillStyle = "#fff";
    context.textBaseline = "top";
    const letters = across === 0 ? (flip ? ["R", "L"] : ["L", "R"]) : ["P", "A"];
    context.textAlign = "left";
    context.fillText(letters[0], 6, 6);
    context.textAlign = "right";
    context.fillText(letters[1], canvas.width - 6, 6);
    const axis = ["x", "y", "z"][normal];
    plane.caption.textContent = `${plane.name}, ${axis} = ${here.toFixed(0)} mm`;
    const marked = (text, hue) => {
      const name = document.createElement("span");
      name.textContent = text;
      name.style.setProperty("--box", `hsl(${hue} 90% 45%)`);
      return name;
    };
    plane.names.replaceChildren(
      ...passed.map((number) => marked(spec.boxes[number].label, (number * 67) % 360)),
      ...drawn.map(({ structure, side }) => marked(side ? `${structure.label} (${side})` : structure.label, structure.hue)),
    );
    plane.slider.value = at[normal];
  };
  const redraw = () => planes.forEach(draw);

  for (const plane of planes) {
    const figure = document.createElement("figure");
    plane.canvas = document.createElement("canvas");
    const width = spec.shape[plane.across] * spec.step[plane.across];
    const height = spec.shape[plane.up] * spec.step[plane.up];
    plane.canvas.width = 2 * Math.round(width);
    plane.canvas.height = 2 * Math.round(height);
    plane.canvas.setAttribute("role", "img");
    plane.canvas.setAttribute("aria-label", `${plane.name} plane of the volume`);
    plane.slider = document.createElement("input");
    Object.assign(plane.slider, { type: "range", min: 0, max: spec.shape[plane.normal] - 1, step: 1 });
    plane.slider.setAttribute("aria-label", `position of the ${plane.name} plane`);
    plane.slider.addEventListener("input", () => { at[plane.normal] = Number(plane.slider.value); redraw(); });
    const ticks = document.createElement("div");
    ticks.className = "ticks";
    const marks = spec.evidence.filter((e) => e.plane === plane.name);
    const heaviest = Math.max(...marks.map((mark) => mark.weight));
    for (const mark of marks) {
      const tick = document.createElement("i");
      tick.style.left = `${(100 * index(plane.normal, mark.mm)) / Math.max(1, spec.shape[plane.normal] - 1)}%`;
      tick.style.opacity = 0.2 + (0.8 * mark.weight) / heaviest;
      tick.title = `${Math.round(100 * mark.weight)} % of the evidence`;
      ticks.append(tick);
    }
    plane.caption = document.createElement("figcaption");
    plane.names = document.createElement("p");
    plane.names.className = "boxes";
    plane.canvas.addEventListener("click", (event) => {
      const area = plane.canvas.getBoundingClientRect();
      const across = (event.clientX - area.left) / area.width, down = (event.clientY - area.top) / area.height;
      const size = spec.shape[plane.across];
      const column = Math.min(size - 1, Math.floor(across * size));
      at[plane.across] = turned(plane) ? size - 1 - column : column;
      at[plane.up] = Math.max(0, spec.shape[plane.up] - 1 - Math.floor(down * spec.shape[plane.up]));
      redraw();
    });
    plane.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      at[plane.normal] = Math.min(spec.shape[plane.normal] - 1, Math.max(0, at[plane.normal] + Math.sign(event.deltaY)));
      redraw();
    }, { passive: false });
    figure.append(plane.canvas, plane.slider, ticks, plane.caption, plane.names);
    place.append(figure);
  }
  if (structures.length) {
    const switches = document.createElement("fieldset");
    switches.className = "structures";
    const legend = document.createElement("legend");
    legend.textContent = "structures of the atlas";
    switches.append(legend);
    for (const structure of structures) {
      const label = document.createElement("label"), box = document.createElement("input");
      Object.assign(box, { type: "checkbox", checked: true });
      box.addEventListener("change", () => { structure.on = box.checked; redraw(); });
      label.style.setProperty("--box", `hsl(${structure.hue} 90% 45%)`);
      label.append(box, structure.label);
      switches.append(label);
    }
    place.append(switches);
  }
  if (convention) convention.addEventListener("change", redraw);
  place.hidden = false;
  redraw();
})();
