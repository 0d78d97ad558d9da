// Charts: specifications of the server, fitted to the page, fed with rows, drawn only while they are near the screen.

import { Ranges } from "./ranges.js";
import { overMap, rows } from "./store.js";

const PALETTE = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#ff9da6", "#9d755d", "#bab0ac"];
const CROWDED = 40; // measurements beyond which markers would hide the lines
const MANY = 5000; // points beyond which they have no markers at all: the line says which it is, not where
const HEIGHT = 200;
const ERRORS = 1; // Vega's level; above it are hints on what it left out
const LEGEND_ROWS = 14;
const CRAMPED = 170; // width of a panel below which words are spared
const PANEL = 260; // pixels that a panel takes where there are more than two beside each other
const NARROW = 460; // width of a chart below which the legend is placed underneath
const LEGEND = 190; // pixels of a condition's name
const BUTTONS = 130; // pixels beside the title

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A colour for each condition, the same wherever it is shown and whatever is filtered; a ramp where there are many.
export function colors(conditions) {
  const all = [...conditions];
  const ramp = (k) => `hsl(${Math.round(265 - (250 * k) / (all.length - 1))}, 58%, 52%)`;
  return new Map(all.map(({ id }, k) => [id, all.length > PALETTE.length ? ramp(k) : PALETTE[k]]));
}

// Charts are drawn one after another, a new one on the screen before the next begins. draw: tells whether it is new.
let turn = Promise.resolve();
function inTurn(draw) {
  const drawn = turn.then(draw);
  turn = drawn.catch(() => {}).then((isNew) => isNew && shown());
  return drawn;
}

// Once the browser has shown what was drawn, or soon if it shows nothing, as in a tab that is hidden.
export function shown() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
    setTimeout(resolve, 100);
  });
}

export class Chart {
  // context: {store, view, charts, themes, colors, dark, tooltip}
  constructor(kind, context, ...controls) {
    this.kind = kind;
    this.context = context;
    this.plot = element("div", { className: "plot" });
    if (!kind.tiles) this.plot.style.minHeight = `${HEIGHT + 90}px`;
    this.card = element("article", { className: "card" }, this.#head(controls), this.plot);
    this.near = false;
    this.embedded = null;
    this.drawnAs = "";
    this.pending = new Map(); // condition id -> steps to draw again, null for all
    this.held = new Map(); // condition id -> step -> its rows, as Vega has them
    this.drawing = null;
    this.following = false;
  }

  // Points that came: condition id -> steps, null for all.
  touch(points) {
    for (const [id, steps] of points) {
      if (this.kind.only && this.kind.only !== id) continue;
      const before = this.pending.get(id);
      this.pending.set(id, steps === null || before === null || this.kind.steps ? null : [...(before ?? []), ...steps]);
    }
    return this.draw();
  }

  // Make the picture agree with the points and the view. One drawing at a time; what comes meanwhile follows it.
  draw() {
    if (!this.near || !this.context.charts || !this.#metrics().length) return Promise.resolve();
    this.again = true;
    this.drawing ??= inTurn(() => this.#drawAll()).finally(() => (this.drawing = null));
    return this.drawing;
  }

  drop() {
    this.near = false;
    this.embedded?.finalize();
    this.embedded = null;
    this.drawnAs = "";
    this.plot.replaceChildren();
  }

  // What is shown, row by row: within the steps of the zoom.
  shown() {
    const [from, to] = (!this.kind.unzoomed && this.context.view.steps) || [-Infinity, Infinity];
    const all = this.#conditions().flatMap((condition) => this.#rows(condition, this.#steps(condition)));
    return all.filter(({ step }) => from <= step && step <= to).map(({ runs, ...row }) => row);
  }

  async #drawAll() {
    const before = this.embedded;
    while (this.again && this.near) {
      this.again = false;
      const as = this.#signature();
      if (as !== this.drawnAs) await this.#embed(as);
      else if (this.pending.size) await this.#update();
    }
    return this.embedded !== before;
  }

  // What takes another specification to draw, not only other points.
  #signature() {
    const { view, dark, colors } = this.context;
    const conditions = this.#conditions().map((condition) => [condition.name, colors.get(condition.id)]);
    const layer = this.kind.layer && view.layer;
    return JSON.stringify([conditions, dark, this.#width(), this.#markers(), this.#metrics(), layer]);
  }

  async #embed(as) {
    this.pending.clear();
    this.held.clear();
    const values = this.#conditions().flatMap((condition) => this.#hold(condition, this.#steps(condition)));
    const ends = () => [...this.context.store.runs.values()].map((run) => run.max_steps ?? Infinity);
    let ranges;
    const patch = (compiled) => {
      ranges = new Ranges(compiled, this.#metrics(), values, ends);
      return fill(compiled, values, this.kind.unzoomed ? null : this.context.view.steps);
    };
    const old = this.embedded;
    const made = await embed(this.plot, this.#specification(), this.context, patch);
    old?.finalize();
    Object.assign(this, { embedded: made, ranges, drawnAs: as });
    if (!this.near) return this.drop();
    for (const { name } of selections(made.spec)) {
      made.view.addSignalListener(name, (_, { step }) => this.following || this.context.zoom(step));
    }
    await this.zoom(this.context.view.steps); // which may have changed since they were filled in
  }

  async #update() {
    const [gone, come] = [[], []];
    for (const [id, steps] of this.pending) {
      const condition = this.#conditions().find((one) => one.id === id);
      if (!condition) continue;
      const held = this.held.get(id) ?? new Map();
      for (const step of steps ?? [...held.keys()]) gone.push(...(held.get(step) ?? []));
      if (steps === null) held.clear();
      come.push(...this.#hold(condition, steps ?? this.#steps(condition)));
    }
    const replaced = [...this.pending.values()].includes(null);
    const all = replaced ? [...this.held.values()].flatMap((held) => [...held.values()].flat()) : come;
    this.pending.clear();
    const { view } = this.embedded;
    this.ranges.include(view, all, replaced);
    if (gone.length) await view.remove("points", gone).runAsync(); // Vega takes one change of a source at a time
    if (come.length) await view.insert("points", come).runAsync();
  }

  // Another range of steps, chosen in another chart or by hand.
  async zoom(range) {
    if (!this.embedded || this.kind.unzoomed) return;
    const { view, spec } = this.embedded;
    const other = selections(spec).filter(({ name }) => String(view.signal(`${name}_step`) ?? "") !== String(range ?? ""));
    if (!other.length) return;
    this.following = true; // or it would lead the others back to where it was sent
    for (const { name } of other) view.signal(`${name}_step`, range);
    await view.runAsync();
    this.following = false;
  }

  #hold(condition, steps) {
    const held = this.held.get(condition.id) ?? new Map();
    this.held.set(condition.id, held);
    for (const step of steps) held.set(step, []);
    const made = this.#rows(condition, steps);
    for (const row of made) held.get(row.step).push(row);
    return made;
  }

  #rows(condition, steps) {
    const [keys, layer] = [this.#metrics().map(({ key }) => key), this.kind.layer?.(this.context, condition)];
    const all = rows(condition, steps, (curve) => keys.includes(curve.metric) && (layer === undefined || curve.layer === layer));
    return this.kind.tiles ? all.filter(({ mean }) => mean !== null) : all; // what was not measured has no tile
  }

  #metrics() {
    return this.kind.metrics(this.context);
  }

  #steps(condition) {
    if (!condition.steps.size) return [];
    return this.kind.steps?.(condition, this.context) ?? [...condition.steps.keys()].sort((one, other) => one - other);
  }

  #conditions() {
    const { store, view } = this.context;
    const one = this.kind.only && store.conditions.get(this.kind.only);
    return one ? [one] : this.kind.only ? [] : view.charted(store.conditions.values());
  }

  // How markers are drawn: "seen", "unseen" (but under the pointer), or "none".
  #markers() {
    if (this.kind.tiles) return "seen";
    const sizes = this.kind.steps ? [0] : this.#conditions().map((condition) => condition.steps.size);
    const lines = this.kind.only ? 14 : 4;
    if (lines * sizes.reduce((sum, size) => sum + size, 0) > MANY) return "none";
    return Math.max(0, ...sizes) > CROWDED ? "unseen" : "seen";
  }

  #width() {
    const beside = this.kind.only ? this.kind.legend ?? 62 : 62 + Math.min(LEGEND, 6 * Math.max(8, ...this.#conditions().map((c) => c.name.length)));
    const legend = this.plot.clientWidth < NARROW ? 10 : beside;
    const panels = this.#beside();
    const words = this.kind.tiles?.beside ?? 0;
    const room = this.plot.clientWidth - words - legend - 52 * (this.kind.apart ? panels : 1) - 22 * (panels - 1);
    return Math.max(110, Math.floor(room / panels));
  }

  // How many panels are beside each other.
  #beside() {
    const most = Math.max(2, Math.floor(this.plot.clientWidth / PANEL));
    if (this.kind.apart) return Math.min(this.#metrics().length, most);
    if (this.kind.tiles) return Math.min(this.#panels().length, most);
    if (this.kind.columns) return this.kind.columns(this.context);
    return this.kind.steps ? this.#metrics().length : 2;
  }

  // The names of the panels of a map.
  #panels() {
    const { tiles, told } = this.kind;
    return [...new Set(this.#metrics().map(told(this.context)[tiles.panel]))];
  }

  #specification() {
    const shown = this.#conditions();
    const scale = { domain: shown.map((one) => one.name), range: shown.map((one) => this.context.colors.get(one.id)) };
    const metrics = this.#metrics();
    const specification = withMetrics(this.context.charts[this.kind.name], metrics, this.#beside(), this.kind.told?.(this.context));
    if (this.kind.tiles) tile(specification, metrics, this.#beside(), this.#width(), this.context);
    specification.title = { text: this.kind.title(this.context), limit: this.plot.clientWidth - BUTTONS };
    adapt(specification, scale, this.#width(), this.kind.tiles?.height(metrics) ?? HEIGHT, this.#markers());
    return specification;
  }

  #head(controls) {
    const buttons = [["PNG", () => this.#picture("png")], ["SVG", () => this.#picture("svg")], ["CSV", () => this.#table()]];
    const made = buttons.map(([text, act]) => {
      const button = element("button", { type: "button", textContent: text, ariaLabel: `download this chart as ${text}` });
      button.addEventListener("click", act);
      return button;
    });
    return element("div", { className: controls.length ? "card-head" : "card-head beside" }, element("span", { className: "card-controls" }, ...controls), ...made);
  }

  async #picture(kind) {
    await this.draw();
    download(await this.embedded.view.toImageURL(kind, 2), `${this.kind.file(this.context)}.${kind}`);
  }

  #table() {
    download(csvAddress(this.shown()), `${this.kind.file(this.context)}.csv`);
  }
}

// Draw a specification into an element.
export function embed(plot, specification, context, patch) {
  const config = structuredClone(context.themes[context.dark ? "dark" : "light"]);
  config.background = getComputedStyle(plot).getPropertyValue("--card").trim();
  if (plot.clientWidth < NARROW) Object.assign(config.legend, { orient: "bottom", columns: 2 });
  config.mark = { aria: false }; // a sentence for each point, which a canvas cannot say
  const tooltip = (_, event, item, value) => context.tooltip(event, value && told(item, value, context.store));
  // ast: expressions are interpreted, as the page's policy forbids to compile them.
  const options = { mode: "vega-lite", actions: false, renderer: "canvas", ast: true, defaultStyle: false, config, patch, tooltip, logLevel: ERRORS };
  return vegaEmbed(plot, specification, options);
}

// What the pointer is on: a point, or a line, whose datum is only the first of its points.
function told(item, point, store) {
  if (item.mark.marktype === "symbol") return point;
  if (item.mark.marktype === "rect") {
    const condition = [...store.conditions.values()].find(({ name }) => name === point.condition);
    const metric = store.metrics.find(({ key }) => key === point.metric);
    return { ...point, together: condition && metric ? overMap(condition, metric, point) : null };
  }
  return { condition: point.condition, split: point.split, layer: point.layer };
}

export function csvAddress(table) {
  const columns = Object.keys(table[0] ?? {});
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = [columns, ...table.map((row) => columns.map((column) => row[column] ?? ""))];
  const text = lines.map((line) => line.map((value) => quoted(String(value))).join(",") + "\n").join("");
  return URL.createObjectURL(new Blob([text], { type: "text/csv" }));
}

export function download(address, name) {
  const link = element("a", { href: address, download: name.replace(/[^\w.=,+-]+/g, "_") });
  link.click();
  if (address.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// Give a compiled chart its first points, and the range of steps that is looked at.
function fill(compiled, values, steps) {
  compiled.data.find(({ name }) => name === "points").values = values;
  for (const signal of compiled.signals ?? []) if (/^steps_\w*_step$/.test(signal.name) && steps) signal.value = steps;
  return compiled;
}

function selections(specification) {
  const own = specification.params ?? [];
  return [...own, ...(specification.concat ?? []).flatMap(selections)].filter(({ name }) => name.startsWith("steps_"));
}

// A specification of one metric, METRIC, made into one of these: a panel each, that many beside each other, where it has
// panels side by side, and otherwise of one axis, told apart by what is told of them.
function withMetrics({ hconcat, params, ...whole }, metrics, columns, told = {}) {
  if (hconcat) {
    const copies = metrics.map((metric, k) => {
      const text = JSON.stringify({ panel: hconcat[0], params }).replaceAll("METRIC", metric.key);
      const copy = JSON.parse(text.replaceAll(/"view_\w+"/g, (name) => `${name.slice(0, -1)}_${k}"`));
      measured(copy.panel, metric);
      return copy;
    });
    return { ...structuredClone(whole), concat: copies.map(({ panel }) => panel), columns, params: copies.flatMap((copy) => copy.params) };
  }
  const made = structuredClone(params ? { ...whole, params } : whole);
  measured(made, metrics[0]);
  for (const [field, words] of Object.entries(told)) {
    const said = metrics.map((metric) => [metric.key, words(metric)]);
    made.transform.find((part) => part.as === field).calculate = `(${JSON.stringify(Object.fromEntries(said))})[datum.metric]`;
    if (made.facet.column.field === field) made.facet.column.sort = [...new Set(said.map(([, value]) => value))];
  }
  return made;
}

// Give a map as many panels in a row as there is room for, and its positions the order of the prompt.
function tile(specification, metrics, columns, width, { places }) {
  const panels = { ...specification.facet.column, header: { labelLimit: width, labelExpr: "split(datum.label, ', ')" } };
  Object.assign(specification, { facet: panels, columns });
  const { y } = specification.spec.encoding;
  if (y.field !== "place") return;
  const known = Object.keys(places);
  const order = ({ position }) => (known.includes(position) ? known.indexOf(position) : known.length);
  const sorted = metrics.toSorted((one, other) => order(one) - order(other));
  y.scale.domain = [...new Set(sorted.map(({ position }) => places[position] ?? position))];
}

// Give the axes of values the name and the range of a metric.
function measured(node, metric) {
  if (node === null || typeof node !== "object") return;
  if (node.y?.field === "mean") {
    node.y.title = metric.axis;
    const bounded = metric.low !== null && metric.high !== null;
    node.y.scale = bounded ? { domain: [metric.low, metric.high], clamp: true } : { zero: metric.low !== null };
  }
  Object.values(node).forEach((part) => measured(part, metric));
}

// Fit a specification to the page: size, colours; the wheel scrolls the page unless Ctrl is held; what a point says is
// worked out where the pointer is, not for every point.
function adapt(node, scale, width, height, markers) {
  if (Array.isArray(node)) return node.forEach((part) => adapt(part, scale, width, height, markers));
  if (node === null || typeof node !== "object") return;
  if ("width" in node && "height" in node) Object.assign(node, { width, height });
  if (node.select?.type === "interval") node.select.zoom = "wheel![event.ctrlKey || event.metaKey]";
  if (node.mark?.type === "area") delete node.encoding.strokeDash; // bands have no dashes, and Vega-Lite would say so
  if (markers === "none" && node.layer) node.layer = node.layer.filter(({ encoding }) => !encoding.tooltip && !encoding.y.field.startsWith("runs"));
  if (node.mark?.type === "line" || node.encoding?.tooltip) node.mark.tooltip = { content: "data" };
  if (node.encoding?.tooltip) {
    delete node.encoding.tooltip;
    if (node.transform) node.transform = node.transform.filter(({ as }) => !as?.startsWith("interval"));
    if (markers === "unseen") Object.assign(node.mark, { size: 70, opacity: 0 });
  }
  if (width < CRAMPED && node.x?.field === "step") node.x.title = "step";
  if (node.color?.field === "condition") {
    node.color.scale = scale;
    Object.assign(node.color.legend, { labelLimit: LEGEND, symbolLimit: LEGEND_ROWS });
  }
  Object.values(node).forEach((part) => adapt(part, scale, width, height, markers));
}
