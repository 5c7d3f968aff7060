// The parts of the page that its reader can work: pixels to choose, a segment to walk along.
// Everything comes from the blocks of data in the page; nothing is loaded.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function drawn(tag, attributes, text = "") {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  // Numbers as the rest of the page writes them.
  function number(value, digits = 3) {
    if (value === null || !Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    let text;
    if (size >= 1e-3 && size < 1e5) {
      text = String(Number(value.toPrecision(digits)));
    } else {
      const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
      const raised = [...String(Number(exponent))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
      text = `${Number(mantissa)} × 10${raised.join("")}`;
    }
    return text.replace("-", "−");
  }

  function percent(share) {
    if (!Number.isFinite(share) || Math.abs(share) > 10) return "–";
    return `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 1 : 0).replace("-", "−")} %`;
  }

  const count = (value) => value.toLocaleString("en-US");

  function bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  async function inflate(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Int8Array(await new Response(stream).arrayBuffer());
  }

  // Draws one atom: a square around its center, with a ring where the chosen pixel lies.
  class Atoms {
    constructor(data, values) {
      this.places = data.places;
      this.values = data.values;
      this.colors = bytes(data.palette);
      this.bytes = values;
    }

    tile(index, label, words, pixel, scale = null) {
      const [start, top, left, height, width, row, column, radius] = this.places[index];
      const [peak, kept, sum] = this.values[index];
      const side = 2 * radius + 1;
      const canvas = element("canvas", { role: "img", "aria-label": words, width: side, height: side });
      const context = canvas.getContext("2d");
      const image = context.createImageData(side, side);
      // On another scale than the atom's own, square roots shrink by that of the ratio.
      const factor = scale ? Math.sqrt(peak / scale) : 1;
      for (let i = 0; i < height; i += 1) {
        for (let j = 0; j < width; j += 1) {
          const value = Math.max(-127, Math.min(127, factor * this.bytes[start + i * width + j]));
          const color = 3 * Math.round(127.5 + (value * 127.5) / 127);
          const at = 4 * ((top + i - row + radius) * side + left + j - column + radius);
          for (let c = 0; c < 3; c += 1) image.data[at + c] = this.colors[color + c];
          image.data[at + 3] = 255;
        }
      }
      context.putImageData(image, 0, 0);
      const frame = element("div", { class: "frame" }, canvas);
      const [down, across] = [pixel.row - row + radius, pixel.column - column + radius];
      if (down >= 0 && down < side && across >= 0 && across < side) {
        const ring = element("i", { class: "here" });
        ring.style.top = `${(100 * (down + 0.5)) / side}%`;
        ring.style.left = `${(100 * (across + 0.5)) / side}%`;
        frame.append(ring);
      }
      const note =
        `±${number(scale || peak)}, sum ${number(sum)}; ${side} × ${side} px around ` +
        `(${row}, ${column}), ${(100 * kept).toFixed(1)} % of its energy`;
      return element(
        "div",
        {},
        element("div", { class: "label" }, label),
        frame,
        element("div", { class: "note" }, note),
      );
    }
  }

  function table(rows, heading = null) {
    const body = element("tbody");
    for (const [cells, kind] of rows) {
      const line = element("tr", kind ? { class: kind } : {});
      for (const cell of cells) line.append(element("td", {}, cell));
      body.append(line);
    }
    const made = element("table");
    if (heading) {
      const line = element("tr");
      for (const cell of heading) line.append(element("th", { scope: "col" }, cell));
      made.append(element("thead", {}, line));
    }
    made.append(body);
    return made;
  }

  function mark(letter, kind, data, row, column) {
    const made = element("span", { class: `mark ${kind}`, "data-letter": letter, "aria-hidden": "true" });
    made.style.left = `${(100 * (column + 0.5)) / data.width}%`;
    made.style.top = `${(100 * (row + 0.5)) / data.height}%`;
    return made;
  }

  function tensorName(tensor) {
    if (tensor.is_image) return "the input itself";
    const shape = tensor.shape.slice(-3);
    const [channels, ...sides] = shape;
    return sides.length ? `${sides.join(" × ")}, ${channels} channels` : `${channels} values`;
  }

  function pixelChooser(root, data, atoms) {
    const { points, tensors, through_scan: throughScan } = data.grid;
    const picker = root.querySelector(".picker");
    const facts = root.querySelector(".facts");
    const [tiles, pairs] = ["atoms", "pairs"].map((p) => root.querySelector(`[data-part=${p}]`));
    const matrix = throughScan ? "L A" : "L";
    let chosen = 0;
    let shownMark = null;

    for (const point of points) {
      const dot = element("i", { class: "dot" });
      dot.style.left = `${(100 * (point.column + 0.5)) / data.width}%`;
      dot.style.top = `${(100 * (point.row + 0.5)) / data.height}%`;
      picker.append(dot);
    }

    function valueRows(point) {
      return [
        [["output f(x)[p]", number(point.output, 4), ""], "sum"],
        [["linear part (L x)[p]", number(point.linear, 4), percent(point.linear / point.output)]],
        [["offset b[p]", number(point.offset, 4), percent(point.offset / point.output)]],
      ];
    }

    function supportRows(point) {
      const null_ = point.null_linear + point.null_offset;
      const share = (value) => percent(value / point.output);
      return [
        [["determined by the scan", number(point.determined), share(point.determined)]],
        [["contradicts the scan", number(point.contradiction), share(point.contradiction)]],
        [["null space, by L x", number(point.null_linear), share(point.null_linear)]],
        [["null space, by b", number(point.null_offset), share(point.null_offset)]],
        [["null space together", number(null_), share(null_)], "sum"],
      ];
    }

    function show(index) {
      chosen = index;
      const point = points[index];
      shownMark?.remove();
      shownMark = mark("p", "", data, point.row, point.column);
      picker.append(shownMark);
      const parts = point.parts.map((part, i) => [[tensorName(tensors[i]), number(part), percent(part / point.linear)]]);
      facts.replaceChildren(
        element("p", {}, element("b", {}, `Row ${point.row}, column ${point.column}`)),
        table(valueRows(point), ["the value", "", "share of f"]),
      );
      if (data.support) facts.append(table(supportRows(point), ["what the scan supports", "", "share of f"]));
      facts.append(table(parts, ["(L x)[p] by tensor at the cut", "", "share of L x"]));
      tiles.replaceChildren(
        atoms.tile(point.row_atom, `row of ${matrix}`, `What the pixel is made of: its filter.`, point),
        atoms.tile(point.column_atom, `column of ${matrix}`, `What a bright pixel here becomes.`, point),
      );
      pairs.replaceChildren(...point.pairs.map((pair) => pairOf(pair, point)));
    }

    function pairOf(pair, point) {
      const where = `${tensorName(tensors[pair.tensor])}; unit (${pair.unit.join(", ")})`;
      return element(
        "div",
        {},
        element(
          "div",
          { class: "tiles two" },
          atoms.tile(pair.analysis_atom, throughScan ? "A* bᵢ" : "bᵢ", "Analysis atom.", point),
          atoms.tile(pair.synthesis_atom, "b̃ᵢ", "Synthesis atom.", point),
        ),
        element(
          "div",
          { class: "note" },
          `⟨bᵢ, x⟩ = ${number(pair.coefficient)}, adds ${number(pair.contribution)} to (L x)[p]. ${where}`,
        ),
      );
    }

    function nearest(event) {
      const box = picker.querySelector("img").getBoundingClientRect();
      const row = ((event.clientY - box.top) / box.height) * data.height - 0.5;
      const column = ((event.clientX - box.left) / box.width) * data.width - 0.5;
      const distance = (p) => (p.row - row) ** 2 + (p.column - column) ** 2;
      return points.reduce((best, p, i) => (distance(p) < distance(points[best]) ? i : best), 0);
    }

    function choose(index) {
      if (index !== chosen) show(index);
    }

    picker.addEventListener("pointerdown", (event) => {
      picker.setPointerCapture(event.pointerId);
      choose(nearest(event));
    });
    picker.addEventListener("pointermove", (event) => {
      if (event.buttons) choose(nearest(event));
    });
    picker.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      const from = points[chosen];
      let best = null;
      points.forEach((point, index) => {
        const [down, across] = [point.row - from.row, point.column - from.column];
        const along = down * step[0] + across * step[1];
        const beside = Math.abs(down * step[1]) + Math.abs(across * step[0]);
        if (along <= 0 || beside > along) return;
        const cost = along + 2 * beside;
        if (best === null || cost < best.cost) best = { index, cost };
      });
      if (best) choose(best.index);
    });
    show(points.length - 1);
    root.hidden = false;
  }

  function boundaryWalk(root, data, atoms) {
    const segment = data.segment;
    const { boundaries, gains, layers, rows, changes } = segment;
    const facts = root.querySelector(".facts");
    const spot = root.querySelector(".spot");
    const slider = root.querySelector("input");
    const buttons = root.querySelectorAll("button");
    const plot = root.querySelector("svg");
    const pixel = { row: segment.row, column: segment.column };
    const gainPlot = new GainPlot(plot, segment);
    let shown = [];

    // Below this it is rounding: the unit does not reach the pixel.
    function rowChange(share) {
      return share > 1e-9 ? `${number(100 * share)} % of its norm` : "none";
    }

    function layerTable(upTo) {
      const active = layers.map((layer) => layer.num_active);
      const crossed = layers.map(() => 0);
      for (const boundary of boundaries.slice(0, upTo)) {
        for (const { layer, to } of boundary.switches) {
          crossed[layer] += 1;
          if (to && active[layer] !== null) active[layer] += to === "on" ? 1 : -1;
        }
      }
      const here = new Set(boundaries[upTo - 1].switches.map((s) => s.layer));
      const lines = layers.map((layer, i) => {
        const bar = element("i");
        if (active[i] !== null) bar.style.width = `${(100 * active[i]) / layer.num_units}%`;
        const shownActive = active[i] === null ? "–" : count(active[i]);
        return [[layer.name, shownActive, count(layer.num_units), element("span", { class: "bar", "aria-hidden": "true" }, bar), String(crossed[i])], here.has(i) ? "now" : ""];
      });
      return table(lines, ["layer", "on", "units", "", "switched so far"]);
    }

    function show(k) {
      const boundary = boundaries[k - 1];
      const before = k === 1 ? segment.num_active : boundaries[k - 2].num_active;
      slider.value = String(k);
      slider.setAttribute("aria-valuetext", `boundary ${k} of ${boundaries.length}`);
      buttons[0].disabled = k === 1;
      buttons[1].disabled = k === boundaries.length;
      gainPlot.draw(k);
      const units = boundary.switches.map(({ layer, unit, to }) => `${layers[layer].name} (${unit.join(", ")}) ${to ? `switches ${to}` : "switches"}`);
      facts.replaceChildren(
        element("p", {}, element("b", {}, `Boundary ${k} of ${boundaries.length}`)),
        table([
          [["at a change of norm", number(boundary.position, 4)]],
          [["unit", units.join("; ")]],
          [["units on", `${count(before)} → ${count(boundary.num_active)}`]],
          [["gain |sₖ|", `${number(gains[k - 1], 5)} → ${number(gains[k], 5)}`]],
          [["change of the slope", number(boundary.slope_change)]],
          [["slope at the pixel", `${number(segment.pixel_slopes[k - 1], 4)} → ${number(segment.pixel_slopes[k], 4)}`]],
          [["change of the row", rowChange(changes[k - 1].share)]],
          [["since the start", rowChange(changes[k - 1].since_start)]],
        ]),
      );
      for (const old of shown) old.remove();
      const [row, column] = boundary.strongest_at;
      shown = [mark("p", "", data, pixel.row, pixel.column)];
      if (boundary.slope_change > 0) shown.push(mark("q", "bend", data, row, column));
      spot.append(...shown);
      const peak = Math.max(atoms.values[rows[k - 1]][0], atoms.values[rows[k]][0]);
      root.querySelector("[data-part=rows]").replaceChildren(
        atoms.tile(rows[k - 1], "row before", "The row of the pixel before the boundary.", pixel, peak),
        atoms.tile(rows[k], "row after", "The row of the pixel after the boundary.", pixel, peak),
        atoms.tile(changes[k - 1].atom, "after − before", "The change of the row, on its own scale.", pixel),
      );
      root.querySelector("[data-part=layers]").replaceChildren(layerTable(k));
    }

    const current = () => Number(slider.value);
    slider.addEventListener("input", () => show(current()));
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const wanted = current() + Number(button.dataset.step);
        show(Math.max(1, Math.min(boundaries.length, wanted)));
      });
    }
    plot.addEventListener("pointerdown", (event) => {
      const box = plot.getBoundingClientRect();
      show(gainPlot.nearest(event.clientX - box.left));
    });
    root.hidden = false; // before the first drawing, which asks how wide it is
    show(1);
    new ResizeObserver(() => gainPlot.draw(current())).observe(plot);
  }

  // The plot of the gain of every piece, as wide as the page lets it be, with a marker.
  class GainPlot {
    constructor(svg, segment) {
      this.svg = svg;
      this.segment = segment;
      const { gains } = segment;
      [this.least, this.most] = [Math.min(...gains), Math.max(...gains)];
      const spread = (this.most - this.least) / (Math.abs(this.most) || 1);
      this.digits = Math.max(3, Math.min(9, 2 + Math.ceil(-Math.log10(spread || 1))));
    }

    get width() {
      return Math.max(280, this.svg.clientWidth);
    }

    across(position) {
      const [left, right] = [66, this.width - 10];
      return left + ((right - left) * position) / this.segment.length;
    }

    up(gain) {
      const margin = (this.most - this.least || Math.abs(this.most) || 1) * 0.08;
      return 180 - (154 * (gain - this.least + margin)) / (this.most - this.least + 2 * margin);
    }

    nearest(x) {
      const distances = this.segment.boundaries.map((b) => Math.abs(this.across(b.position) - x));
      return 1 + distances.indexOf(Math.min(...distances));
    }

    draw(k) {
      const { gains, boundaries, length } = this.segment;
      const [left, right] = [this.across(0), this.across(length)];
      const text = (x, y, words, anchor) => drawn("text", { x, y, "text-anchor": anchor }, words);
      const parts = [text(4, 14, "gain |sₖ|, piece by piece", "start")];
      for (const gain of new Set([this.least, (this.least + this.most) / 2, this.most])) {
        const y = this.up(gain);
        parts.push(drawn("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
        parts.push(text(left - 6, y + 4, number(gain, this.digits), "end"));
      }
      parts.push(text(left, 196, "0", "start"), text(right, 196, number(length), "end"));
      parts.push(text((left + right) / 2, 212, "norm of the change", "middle"));
      const ends = [0, ...boundaries.map((b) => b.position), length].map((p) => this.across(p));
      const steps = gains.map((g, i) => `${i ? "V" : `M${ends[0]},`}${this.up(g)}H${ends[i + 1]}`);
      parts.push(drawn("path", { class: "gain", d: steps.join("") }));
      parts.push(drawn("line", { class: "now", x1: ends[k], x2: ends[k], y1: 26, y2: 180 }));
      parts.push(drawn("circle", { class: "dot-now", r: 4, cx: ends[k], cy: this.up(gains[k]) }));
      this.svg.setAttribute("viewBox", `0 0 ${this.width} 220`);
      const range = `from ${number(this.least, this.digits)} to ${number(this.most, this.digits)}`;
      const place = `boundary ${k} at ${number(boundaries[k - 1].position)}`;
      this.svg.setAttribute("aria-label", `Gain of ${gains.length} pieces, ${range}; ${place}.`);
      this.svg.replaceChildren(...parts);
    }
  }

  async function start() {
    for (const block of document.querySelectorAll("script[id^=instrument-data-]")) {
      const index = block.id.split("-").pop();
      const data = JSON.parse(block.textContent);
      const atoms = new Atoms(data, await inflate(data.atoms));
      const grid = document.getElementById(`grid-${index}`);
      if (grid) pixelChooser(grid, data, atoms);
      const segment = document.getElementById(`segment-${index}`);
      if (segment) boundaryWalk(segment, data, atoms);
    }
    document.documentElement.dataset.ready = "true";
  }

  start();
})();
