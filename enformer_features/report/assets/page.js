// Tables that are sorted by their headings, and scores along a window with zoom.
"use strict";

const SVG = "http://www.w3.org/2000/svg"; // a name, never fetched

function sortTable(table, column) {
  const heading = table.tHead.rows[0].cells[column];
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const isNumeric = heading.classList.contains("number");
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
    const order = isNumeric ? x - y : x.localeCompare(y, "en", { numeric: true });
    return descending ? -order : order;
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    if (cell.classList.contains("plain")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    button.addEventListener("click", () => sortTable(table, column));
    cell.append(button);
  });
}

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

function decodeScores(text, scale) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const scores = new Float64Array(bytes.length / 2);
  for (let i = 0; i < scores.length; i++) scores[i] = view.getInt16(2 * i, true) * scale;
  return scores;
}

class Logo {
  static LEAST = 10; // bases
  static LETTER_PIXELS = 4;
  static BOTTOM = 22; // pixels, for the axis

  constructor(box, shapes) {
    const data = JSON.parse(box.querySelector("script").textContent);
    Object.assign(this, data, { box, shapes });
    this.scores = decodeScores(data.scores, data.scale);
    this.length = this.letters.length;
    this.svg = box.querySelector("svg");
    this.readout = box.querySelector(".readout");
    this.input = box.querySelector("input");
    this.pointers = new Map();
    this.listen();
    this.shown = this.readable(...data.shown);
    const linked = this.fromHash();
    this.show(...(linked ?? this.shown));
    if (linked) this.box.scrollIntoView({ block: "center" });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  // On a narrow screen fewer letters are shown at first, so that they can be read.
  readable(start, end) {
    const n = Math.floor((this.svg.clientWidth || 600) / (2 * Logo.LETTER_PIXELS));
    const least = Math.max(Math.min(n, end - start), Logo.LEAST);
    const first = Math.round((start + end - least) / 2);
    return [first, first + least];
  }

  // Positions are 0-based inside, and 1-based in what is read; first and last are within the window, from its start.
  show(start, end) {
    const n = Math.round(Math.min(Math.max(end - start, Logo.LEAST), this.length));
    const least = this.start;
    const first = Math.round(Math.min(Math.max(start, least), least + this.length - n));
    this.first = first;
    this.last = first + n;
    this.input.value = `${this.chrom}:${this.first + 1}-${this.last}`;
    this.draw();
    this.tell();
  }

  zoom(factor, at = (this.first + this.last) / 2) {
    const n = (this.last - this.first) * factor;
    const share = (at - this.first) / (this.last - this.first);
    const size = Math.min(Math.max(n, Logo.LEAST), this.length);
    this.show(at - share * size, at + (1 - share) * size);
  }

  pan(share) {
    const step = Math.round((this.last - this.first) * share) || Math.sign(share);
    this.show(this.first + step, this.last + step);
  }

  tell() {
    const n = grouped(this.last - this.first);
    this.readout.textContent =
      `${this.chrom}:${grouped(this.first + 1)}-${grouped(this.last)} (1-based), ${n} bp`;
  }

  tellBase(position) {
    const i = position - this.start;
    if (i < 0 || i >= this.length) return;
    this.readout.textContent =
      `${this.chrom}:${grouped(position + 1)} (1-based): ${this.letters[i]}, ` +
      `score ${this.scores[i].toPrecision(3)}`;
  }

  draw() {
    const width = this.svg.clientWidth || 600;
    const height = this.svg.clientHeight || 200;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    const pixels = width / (this.last - this.first);
    const x = (position) => (position - this.first) * pixels;
    this.drawMarks(x, height);
    const isLetters = pixels >= Logo.LETTER_PIXELS;
    this.svg.dataset.drawn = isLetters ? "letters" : "bars";
    const bars = isLetters ? this.bases() : this.columns(width);
    const top = Math.max(...bars.map((bar) => bar.up), 0);
    const bottom = Math.min(...bars.map((bar) => bar.down), 0);
    const room = height - Logo.BOTTOM - 14;
    const scale = room / (top - bottom || 1);
    const zero = 8 + top * scale;
    for (const bar of bars) {
      if (isLetters) this.drawLetter(bar, x, zero, scale, pixels);
      else this.drawBar(bar, x, zero, scale);
    }
    const line = { x1: 0, x2: width, y1: zero, y2: zero, stroke: "#404040" };
    element("line", { ...line, "stroke-width": 0.6 }, this.svg);
    this.drawAxis(x, width, height);
    this.svg.setAttribute(
      "aria-label", `scores of ${this.chrom}:${this.first + 1}-${this.last}`);
  }

  bases() {
    const found = [];
    for (let at = this.first; at < this.last; at++) {
      const score = this.scores[at - this.start];
      const [up, down] = [Math.max(score, 0), Math.min(score, 0)];
      found.push({ at, end: at + 1, up, down, letter: this.letters[at - this.start] });
    }
    return found;
  }

  // Above and below 0 are summed apart, so that nothing cancels out unseen.
  columns(width) {
    const n = Math.max(Math.min(Math.floor(width / 2), this.last - this.first), 1);
    const found = [];
    for (let i = 0; i < n; i++) {
      const at = this.first + Math.floor((i * (this.last - this.first)) / n);
      const end = this.first + Math.floor(((i + 1) * (this.last - this.first)) / n);
      let [up, down] = [0, 0];
      for (let j = at - this.start; j < end - this.start; j++) {
        const score = this.scores[j];
        if (score > 0) up += score;
        else down += score;
      }
      found.push({ at, end, up, down });
    }
    return found;
  }

  drawBar(bar, x, zero, scale) {
    const place = { x: x(bar.at), width: Math.max(x(bar.end) - x(bar.at), 0.5) };
    const up = { y: zero - bar.up * scale, height: bar.up * scale, fill: "#D55E00" };
    const down = { y: zero, height: -bar.down * scale, fill: "#0072B2" };
    if (bar.up) element("rect", { ...place, ...up, class: "up" }, this.svg);
    if (bar.down) element("rect", { ...place, ...down, class: "down" }, this.svg);
  }

  drawLetter(bar, x, zero, scale, pixels) {
    const shape = this.shapes[bar.letter];
    const high = (bar.up || -bar.down) * scale;
    if (!shape || !high) return;
    const wide = 0.92 * pixels;
    const low = bar.up ? zero : zero + high; // the foot of a letter, which stands upright
    const move = `translate(${x(bar.at) + 0.04 * pixels} ${low}) scale(${wide} ${-high})`;
    const look = { d: shape.path, fill: shape.color, class: "letter" };
    element("path", { ...look, transform: move, "data-letter": bar.letter }, this.svg);
  }

  drawMarks(x, height) {
    const seen = this.marks.filter((m) => m.end > this.first && m.start < this.last);
    for (const mark of seen) {
      const place = { x: x(mark.start), width: Math.max(x(mark.end) - x(mark.start), 1) };
      const look = { y: 0, height: height - Logo.BOTTOM, fill: mark.color, class: "mark" };
      const rect = element("rect", { ...place, ...look, opacity: 0.25 }, this.svg);
      element("title", {}, rect).textContent = mark.label;
    }
  }

  drawAxis(x, width, height) {
    const base = height - Logo.BOTTOM;
    const about = (this.last - this.first) / Math.max(width / 130, 1);
    const power = 10 ** Math.floor(Math.log10(about));
    const step = Math.max([1, 2, 5, 10].find((m) => m * power >= about) * power, 1);
    const least = Math.ceil((this.first + 1) / step) * step; // 1-based, as the field
    for (let at = least; at <= this.last; at += step) {
      const middle = x(at - 0.5);
      const tick = { x1: middle, x2: middle, y1: base, y2: base + 5, stroke: "#56606a" };
      element("line", tick, this.svg);
      const anchor = middle < 45 ? "start" : middle > width - 45 ? "end" : "middle";
      const place = { x: middle, y: base + 17, "text-anchor": anchor };
      element("text", place, this.svg).textContent = grouped(at);
    }
  }

  listen() {
    const { svg } = this;
    const doing = {
      "zoom-in": () => this.zoom(0.5),
      "zoom-out": () => this.zoom(2),
      left: () => this.pan(-0.5),
      right: () => this.pan(0.5),
      all: () => this.show(this.start, this.start + this.length),
      home: () => this.show(...this.shown),
    };
    for (const button of this.box.querySelectorAll("button[data-do]")) {
      button.addEventListener("click", () => { doing[button.dataset.do](); this.keep(); });
    }
    const keys = { "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", Home: "all",
      ArrowLeft: "left", ArrowRight: "right" };
    svg.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      doing[keys[event.key]]();
      this.keep();
    });
    this.input.addEventListener("change", () => this.jump(this.input.value));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== svg) return; // the page scrolls
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.at(event));
      this.keep();
    }, { passive: false });
    svg.addEventListener("dblclick", (event) => {
      this.zoom(0.4, this.at(event));
      this.keep();
    });
    svg.addEventListener("pointerdown", (event) => {
      this.pointers.set(event.pointerId, event.offsetX);
      this.began = { first: this.first, last: this.last, spread: this.spread(), event };
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      svg.addEventListener(name, (event) => {
        this.pointers.delete(event.pointerId);
        this.keep();
      });
    }
    addEventListener("hashchange", () => {
      const place = this.fromHash();
      if (!place) return;
      this.show(...place);
      this.box.scrollIntoView({ block: "center" });
    });
  }

  at(event) {
    const share = event.offsetX / (this.svg.clientWidth || 1);
    return this.first + share * (this.last - this.first);
  }

  spread() {
    const places = [...this.pointers.values()];
    return places.length === 2 ? Math.abs(places[0] - places[1]) || 1 : 0;
  }

  move(event) {
    if (!this.pointers.has(event.pointerId)) {
      this.tellBase(Math.floor(this.at(event)));
      return;
    }
    this.pointers.set(event.pointerId, event.offsetX);
    const { first, last, spread, event: start } = this.began;
    if (spread && this.pointers.size === 2) { // two fingers
      const middle = (first + last) / 2;
      const half = ((last - first) / 2) * (spread / this.spread());
      this.show(middle - half, middle + half);
      return;
    }
    const bases = ((start.offsetX - event.offsetX) / this.svg.clientWidth) * (last - first);
    this.show(first + bases, last + bases);
  }

  // "chr1:101-200" as it is written everywhere, 1-based and inclusive.
  jump(text) {
    const found = /^(?:(.+):)?([\d,]+)-([\d,]+)$/.exec(text.trim());
    const isHere = found && (!found[1] || found[1] === this.chrom);
    const [start, end] = isHere
      ? [found[2], found[3]].map((part) => Number(part.replaceAll(",", "")))
      : [0, 0];
    const isWithin = start > this.start && end <= this.start + this.length && end >= start;
    if (!isHere || !isWithin) {
      const least = `${this.chrom}:${this.start + 1}-${this.start + this.length}`;
      this.readout.textContent = `${text} is no part of ${least}`;
      return;
    }
    this.show(start - 1, end);
    this.keep();
  }

  keep() {
    const place = `#${this.box.id}:${this.first + 1}-${this.last}`;
    try { history.replaceState(null, "", place); } catch { /* no address to keep it in */ }
  }

  fromHash() {
    let hash = "";
    try { hash = decodeURIComponent(location.hash); } catch { /* no address of ours: #100% */ }
    const found = /^#(.+):(\d+)-(\d+)$/.exec(hash);
    return found && found[1] === this.box.id ? [found[2] - 1, Number(found[3])] : null;
  }
}

const shapes = document.getElementById("letters");
const logos = new Map();
for (const box of document.querySelectorAll(".logo")) {
  logos.set(box.id, new Logo(box, JSON.parse(shapes.textContent)));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.go");
  if (!button) return;
  const logo = logos.get(button.dataset.logo);
  const [start, end] = [Number(button.dataset.start), Number(button.dataset.end)];
  const flank = Math.max(Math.round((end - start) / 2), 10);
  logo.show(start - flank, end + flank);
  logo.keep();
  logo.box.scrollIntoView({ block: "nearest" });
});
