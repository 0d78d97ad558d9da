// Charts: specifications of the server, fitted to the page, fed with rows, drawn only while they are near the screen.

import { lastCommonStep, rows, tiles } from "./store.js";

const PALETTE = [
  "#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#ff9da6", "#9d755d", "#bab0ac",
];
const CROWDED = 40; // measurements beyond which markers would hide the lines
const MANY = 5000; // points beyond which they have no markers at all: the line says which it is, not where
const HEIGHT = 200;
const ERRORS = 1; // Vega's level; above it are hints on what it left out
const LEGEND_ROWS = 14;
const PANEL = 260; // pixels that a panel takes if there are more than two beside each other
const NARROW = 460; // width of a chart below which the legend is placed underneath
const LEGEND = 190; // pixels of a condition's name
const LAYERS = 62; // pixels of a column of a legend of layers
const LETTER = 7; // pixels of a letter of a title, at most
const LONG = 18; // letters of a name, two of which have no room beside each other
const BUTTONS = 130; // pixels beside the title
const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]; // where axes end

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function button(text, label, act) {
  const made = element("button", { type: "button", textContent: text, ariaLabel: label, title: label });
  made.addEventListener("click", act);
  return made;
}

// A colour for each condition, the same wherever it is shown and whatever is filtered; a ramp if there are many.
export function colors(conditions) {
  const all = [...conditions];
  const ramp = (k) => `hsl(${Math.round(265 - (250 * k) / (all.length - 1))}, 58%, 52%)`;
  return new Map(all.map(({ id }, k) => [id, all.length > PALETTE.length ? ramp(k) : PALETTE[k]]));
}

// Charts are drawn one after another, a new one on the screen before the next begins. draw: says whether it is new.
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
  // entry: see live_charts.entry; context: {store, view, themes, colors, dark, zoom, tooltip}; only: the id of the
  // condition of a chart of its own, "" for all
  constructor(entry, context, only, controls) {
    Object.assign(this, { entry, context, only, near: false, embedded: null, drawnAs: "", following: false });
    this.plot = element("div", { className: "plot" });
    if (!entry.height) this.plot.style.minHeight = `${HEIGHT + 90}px`;
    this.card = element("article", { className: "card" }, this.#head(controls), this.plot);
    this.pending = new Map(); // condition id -> steps to draw again, null for all
    this.held = new Map(); // condition id -> step -> its rows, as Vega has them
  }

  // Points that came: condition id -> steps, null for all.
  touch(points) {
    for (const [id, steps] of points) {
      if (this.only && this.only !== id) continue;
      const before = this.pending.get(id);
      this.pending.set(id, steps === null || before === null || this.entry.last ? null : [...(before ?? []), ...steps]);
    }
    return this.draw();
  }

  // Make the picture agree with the points and the view. One drawing at a time; what comes meanwhile follows it.
  draw() {
    if (!this.near || !this.#metrics().size) return Promise.resolve();
    this.again = true;
    this.drawing ??= inTurn(() => this.#drawAll()).finally(() => (this.drawing = null));
    return this.drawing;
  }

  drop() {
    this.embedded?.finalize();
    Object.assign(this, { near: false, embedded: null, drawnAs: "" });
    this.plot.replaceChildren();
  }

  // Another range of steps, chosen in another chart or by hand.
  async zoom(range) {
    if (!this.embedded) return;
    const { view, spec } = this.embedded;
    const at = (name) => String(view.signal(`${name}_step`) ?? "");
    const other = selections(spec).filter(({ name }) => at(name) !== String(range ?? ""));
    if (!other.length) return;
    this.following = true; // or it would lead the others back to where it was sent
    for (const { name } of other) view.signal(`${name}_step`, range);
    await view.runAsync();
    this.following = false;
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
    const conditions = this.#conditions().map(({ id, name }) => [name, colors.get(id)]);
    const layer = this.entry.one_layer && view.layer;
    return JSON.stringify([conditions, dark, this.#width(), this.#markers(), [...this.#metrics()], layer]);
  }

  async #embed(as) {
    this.pending.clear();
    this.held.clear();
    const { view, zoom } = this.context;
    const values = this.#conditions().flatMap((condition) => this.#hold(condition, this.#steps(condition)));
    this.ranges = this.#ranges(values);
    const old = this.embedded;
    this.embedded = await embed(this.plot, this.#specification(), this.context, values);
    this.drawnAs = as;
    old?.finalize();
    if (!this.near) return this.drop();
    for (const { name } of selections(this.embedded.spec)) {
      this.embedded.view.addSignalListener(name, (_, { step }) => this.following || zoom(step));
    }
    await this.zoom(view.steps);
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
    this.pending.clear();
    const outside = ([from, to], k) => from < this.ranges[k][0] || to > this.ranges[k][1];
    if (this.#ranges(come).some(outside)) return this.#embed(this.drawnAs);
    const { view } = this.embedded;
    if (gone.length) await view.remove("points", gone).runAsync(); // Vega takes one change of a source at a time
    if (come.length) await view.insert("points", come).runAsync();
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
    const { entry: { one_layer: one, chosen, height, widest }, context: { view } } = this;
    const metrics = this.#metrics();
    if (widest) return tiles(condition, steps[0], metrics);
    const layers = condition.curves.map((curve) => (curve.metric === chosen ? curve.layer : 0));
    const layer = view.layer === "last" ? Math.max(...layers) : view.layer;
    const all = rows(condition, steps, (curve) => metrics.has(curve.metric) && (!one || curve.layer === layer));
    return height ? all.filter(({ mean }) => mean !== null) : all; // what was not measured has no tile
  }

  // The ends of the axes that depend on the points, as Vega would work out all points again for each that comes: of the
  // steps, and of each metric, of all rows or those of its panel. Intervals may reach out of them.
  #ranges(rows) {
    const values = ({ mean, runs }) => [mean, ...(runs ?? [])].filter((value) => value !== null);
    const here = ({ metric }, key) => !this.entry.spec.concat || metric === key;
    const ofMetric = ({ key, low, high }) => range(rows.filter((row) => here(row, key)).flatMap(values), low, high);
    return [range(rows.map(({ step }) => step), 0, null), ...this.entry.metrics.map(ofMetric)];
  }

  // The keys of the metrics that are shown: those that a condition has.
  #metrics() {
    const [keys, there] = [this.entry.metrics.map(({ key }) => key), this.#conditions()];
    return new Set(keys.filter((key) => there.some(({ metrics }) => metrics.has(key))));
  }

  #steps(condition) {
    if (!condition.steps.size) return [];
    return this.entry.last ? [lastCommonStep(condition, this.entry.needs)] : [...condition.steps.keys()];
  }

  #conditions() {
    const { store, view } = this.context;
    if (!this.only) return view.charted(store.conditions.values());
    return [store.conditions.get(this.only)].filter(Boolean);
  }

  // How markers are drawn: "seen", "unseen" (but under the pointer), or "none".
  #markers() {
    const sizes = this.entry.last || this.entry.height ? [] : this.#conditions().map(({ steps }) => steps.size);
    const lines = this.only ? 14 : 4;
    if (lines * sizes.reduce((sum, size) => sum + size, 0) > MANY) return "none";
    return Math.max(0, ...sizes) > CROWDED ? "unseen" : "seen";
  }

  #width() {
    const names = Math.min(LEGEND, 6 * Math.max(8, ...this.#conditions().map(({ name }) => name.length)));
    const legend = this.plot.clientWidth < NARROW ? 10 : this.entry.legend ?? LAYERS * this.#layers() + (this.only ? 0 : names);
    const panels = this.#columns();
    const axes = 52 * (this.entry.spec.concat ? panels : 1);
    const room = this.plot.clientWidth - (this.entry.words ?? 0) - legend - axes - 22 * (panels - 1);
    return Math.max(84, Math.min(this.entry.widest ?? Infinity, Math.floor(room / panels) - 4));
  }

  // How many columns a legend of layers has.
  #layers() {
    const layers = this.#conditions().flatMap(({ curves }) => curves.map((curve) => (curve.layer ?? 0) + 1));
    return this.only && !this.entry.last ? Math.ceil(Math.max(1, ...layers) / LEGEND_ROWS) : 1;
  }

  // How many panels are beside each other: two splits, or as many as there are and there is room for.
  #columns() {
    const { panels } = this.entry;
    const names = panels ? new Set([...this.#metrics()].map((key) => panels[key])) : { size: 2 };
    return Math.min(names.size, Math.max(2, Math.floor(this.plot.clientWidth / PANEL)));
  }

  #specification() {
    const { entry: { spec, panels, one_layer: one, height = HEIGHT }, context: { view, colors } } = this;
    const [made, conditions, width] = [structuredClone(spec), this.#conditions(), this.#width()];
    const scale = { domain: conditions.map(({ name }) => name), range: conditions.map(({ id }) => colors.get(id)) };
    const layer = view.layer === "last" ? "last layer" : `layer ${view.layer}`;
    const title = [spec.title, one ? layer : ""].filter(Boolean).join(" · ");
    const room = this.plot.clientWidth - BUTTONS;
    made.title = { text: [...(this.only ? [conditions[0].name] : []), ...lines(title, room / LETTER)], limit: room };
    if (panels) made.columns = this.#columns();
    if (panels && made.facet) {
      const header = { labelLimit: width, labelExpr: "split(datum.label, ', ')" };
      made.facet = { ...(made.facet.column ?? made.facet), header };
    }
    const narrow = this.plot.clientWidth < NARROW;
    const columns = { condition: narrow && conditions.some(({ name }) => name.length > LONG) ? 1 : undefined };
    columns.layer = narrow ? 5 : this.#layers();
    adapt(made, scale, width, height, this.#markers(), columns);
    (made.concat ?? [made]).forEach((panel, k) => bound(panel, this.ranges[0], this.ranges[k + 1]));
    return made;
  }

  #head(controls) {
    const save = (kind) => button(kind, `download this chart as ${kind}`, () => this.#save(kind));
    const made = ["PNG", "SVG", "CSV"].map(save);
    const className = controls.length ? "card-head" : "card-head beside";
    return element("div", { className }, element("span", { className: "card-controls" }, ...controls), ...made);
  }

  // The picture, or the rows within the steps of the zoom.
  async #save(kind) {
    await this.draw();
    const condition = this.only && `-${this.context.store.conditions.get(this.only).name}`;
    const name = `${this.entry.spec.title}${condition}`;
    if (kind !== "CSV") return save(this.embedded, kind, name);
    const [from, to] = (!this.entry.last && !this.entry.height && this.context.view.steps) || [-Infinity, Infinity];
    const all = this.#conditions().flatMap((condition) => this.#rows(condition, this.#steps(condition)));
    const inside = all.filter(({ step }) => from <= step && step <= to);
    saveTable(inside.map(({ runs, ...row }) => row), name);
  }
}

// A text in lines of at most so many letters, if its words are not longer.
function lines(text, most) {
  const found = [""];
  for (const word of text.split(" ")) {
    if (found.at(-1) && found.at(-1).length + word.length >= most) found.push("");
    found.push(`${found.pop()} ${word}`.trim());
  }
  return found;
}

// Draw a specification with its first points into an element.
export function embed(plot, specification, context, values) {
  const config = structuredClone(context.themes[context.dark ? "dark" : "light"]);
  config.background = getComputedStyle(plot).getPropertyValue("--card").trim();
  if (plot.clientWidth < NARROW) Object.assign(config.legend, { orient: "bottom", columns: 2 });
  config.padding = { left: 5, top: 5, bottom: 5, right: 0 };
  config.mark = { aria: false }; // a sentence for each point, which a canvas cannot say
  const tooltip = (_, event, item, value) => context.tooltip(event, value && pointed(item, value));
  const patch = (compiled) => {
    compiled.data.find(({ name }) => name === "points").values = values;
    return compiled;
  };
  // ast: expressions are interpreted, as the page's policy forbids to compile them.
  const drawing = { mode: "vega-lite", actions: false, renderer: "canvas", ast: true, defaultStyle: false };
  return vegaEmbed(plot, specification, { ...drawing, config, patch, tooltip, logLevel: ERRORS });
}

// What the pointer is on: a point, or a line, whose datum is only the first of its points.
function pointed(item, { condition, split, layer, ...rest }) {
  return item.mark.marktype === "line" ? { condition, split, layer } : { condition, split, layer, ...rest };
}

export async function save(embedded, kind, name) {
  download(await embedded.view.toImageURL(kind.toLowerCase(), 2), `${name}.${kind.toLowerCase()}`);
}

export function saveTable(table, name) {
  const columns = Object.keys(table[0] ?? {});
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = [columns, ...table.map((row) => columns.map((column) => row[column] ?? ""))];
  const text = lines.map((line) => line.map((value) => quoted(String(value))).join(",") + "\n").join("");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  download(address, `${name}.csv`);
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function download(href, name) {
  element("a", { href, download: name.replace(/[^\w.=,+-]+/g, "_") }).click();
}

// From the smallest value to the largest, or a bound; with room for some more on a side that has none.
function range(values, low, high) {
  let [from, to] = [Infinity, -Infinity];
  for (const value of values) [from, to] = [Math.min(from, value), Math.max(to, value)];
  if (from > to) return [low ?? 0, high ?? 1];
  return [low === null ? -roomy(-from) : Math.min(low, from), high === null ? roomy(to) : Math.max(high, to)];
}

// The next round number.
function roomy(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.abs(value) || 1));
  if (value < 0) return -unit * ROUND.findLast((number) => number * unit <= -value);
  return unit * ROUND.find((number) => number * unit >= value);
}

// Give axes of steps, and of values without bounds, their ends.
function bound(node, steps, values) {
  if (node === null || typeof node !== "object") return;
  if (node.x?.field === "step" && node.x.type === "quantitative") node.x.scale = { domain: steps };
  if (node.y?.field === "mean" && !node.y.scale.domain) node.y.scale = { domain: values };
  Object.values(node).forEach((part) => bound(part, steps, values));
}

function selections(specification) {
  const here = specification.params ?? [];
  return [...here, ...(specification.concat ?? []).flatMap(selections)].filter(({ name }) => name.startsWith("steps_"));
}

// Fit a specification to the page: size, colours; the wheel scrolls the page unless Ctrl is held; what a point says is
// worked out where the pointer is, not for every point.
function adapt(node, ...fit) {
  if (Array.isArray(node)) return node.forEach((part) => adapt(part, ...fit));
  if (node === null || typeof node !== "object") return;
  const [scale, width, height, markers, columns] = fit;
  if ("width" in node) Object.assign(node, { width, height: node.height.step ? node.height : height });
  if (node.select?.type === "interval") node.select.zoom = "wheel![event.ctrlKey || event.metaKey]";
  if (node.mark?.type === "area") delete node.encoding.strokeDash; // bands have no dashes, and Vega-Lite would say so
  const plain = ({ encoding }) => !encoding.tooltip && !encoding.y.field.startsWith("runs");
  if (markers === "none" && node.layer) node.layer = node.layer.filter(plain);
  if (node.mark?.type === "line" || node.encoding?.tooltip) node.mark.tooltip = { content: "data" };
  if (node.encoding?.tooltip) {
    delete node.encoding.tooltip;
    if (node.transform) node.transform = node.transform.filter(({ as }) => as !== "measured" && !as?.startsWith("interval"));
    if (markers === "unseen") Object.assign(node.mark, { size: 70, opacity: 0 });
  }
  if (width < 170 && node.x?.field === "step") node.x.title = "step";
  if (node.color?.field === "condition") {
    node.color.scale = scale;
    Object.assign(node.color.legend, { labelLimit: LEGEND, symbolLimit: LEGEND_ROWS });
    if (columns.condition) node.color.legend.columns = columns.condition;
  }
  if (node.color?.field === "layer" && node.color.legend) {
    Object.assign(node.color.legend, { columns: columns.layer, symbolLimit: 0 });
  }
  Object.values(node).forEach((part) => adapt(part, ...fit));
}
