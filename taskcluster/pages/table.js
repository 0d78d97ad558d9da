// The table of runs: one row each, of which only the cells that changed are written.

import { element } from "./charts.js";

const STATES = ["running", "finished", "interrupted", "failed", "killed", "damaged", "new"];
export const stateClass = (state) => (STATES.includes(state) ? state : "other");

export const ROWS = 1000; // that are listed, at most

const COLUMNS = [ // before those of metrics
  { name: "status", of: (run) => run.state, write: writeState },
  { name: "sweep", of: (run) => run.sweep },
  { name: "condition", of: (run) => run.condition },
  { name: "seed", of: (run) => run.seed, right: true },
  { name: "step", of: (run) => run.step, write: writeStep, right: true },
  { name: "steps/s", of: (run) => run.steps_per_second, text: speed, right: true },
  { name: "time left", of: (run) => run.seconds_left, text: timeLeft, right: true },
];

// The last value of each metric of the view "runs"; with its curve for the first of those by layer, as in `Live.trend`.
function columnsOf(metrics) {
  const shown = metrics.filter(({ views }) => views.includes("runs"));
  const first = shown.find(({ by_layer }) => by_layer);
  return shown.map((metric) => {
    const of = (run) => run.values[metric.key];
    const way = metric === first ? { write: (cell, run) => writeTrend(cell, run, metric) } : { text: (run) => fixed(of(run)) };
    return { name: metric.by_layer ? `${metric.short}, last layer` : metric.short, of, right: true, ...way };
  });
}

export class Table {
  constructor(table, view, openTsne) {
    this.view = view;
    this.openTsne = openTsne;
    this.body = table.tBodies[0];
    this.rows = new Map(); // id -> its row
    this.written = new Map(); // id -> the run as it was written
    this.head = table.tHead.rows[0];
    this.setMetrics([]);
  }

  // Other columns, for the runs that are written next.
  setMetrics(metrics) {
    this.columns = [...COLUMNS, ...columnsOf(metrics)];
    this.headers = this.columns.map((column) => this.#header(column));
    this.head.replaceChildren(...this.headers);
    for (const [id, row] of this.rows) this.#drop(id, row);
  }

  // Bring the table up to date; runs: those to show, in order; the first ROWS are.
  write(runs) {
    const wanted = this.#sorted(runs).slice(0, ROWS);
    const ids = new Set(wanted.map((run) => run.id));
    for (const [id, row] of this.rows) if (!ids.has(id)) this.#drop(id, row);
    wanted.forEach((run, k) => {
      const row = this.rows.get(run.id) ?? this.#row(run);
      if (this.body.rows[k] !== row) this.body.insertBefore(row, this.body.rows[k] ?? null);
      this.#fill(row, run);
    });
  }

  #drop(id, row) {
    row.remove();
    this.rows.delete(id);
    this.written.delete(id);
  }

  #row(run) {
    const row = element("tr", {}, ...this.columns.map((column) => element("td", { className: column.right ? "right" : "" })));
    this.rows.set(run.id, row);
    return row;
  }

  #fill(row, run) {
    const content = JSON.stringify(run);
    if (this.written.get(run.id) === content) return;
    this.written.set(run.id, content);
    row.title = run.name;
    row.dataset.run = run.id;
    row.className = stateClass(run.state);
    this.columns.forEach((column, k) => {
      const cell = row.cells[k];
      if (column.write) column.write(cell, run, this);
      else set(cell, (column.text ?? column.of)(run) ?? "");
    });
  }

  #header(column) {
    const button = element("button", { type: "button", textContent: column.name });
    button.addEventListener("click", () => {
      const [name, down] = this.#sort();
      this.view.set({ sort: name !== column.name ? column.name : down ? "" : `-${column.name}` });
    });
    return element("th", { scope: "col", className: column.right ? "right" : "" }, button);
  }

  #sort() {
    const down = this.view.sort.startsWith("-");
    return [down ? this.view.sort.slice(1) : this.view.sort, down];
  }

  #sorted(runs) {
    const [name, down] = this.#sort();
    const chosen = this.columns.find((column) => column.name === name);
    this.headers.forEach((header, k) => {
      header.ariaSort = this.columns[k] !== chosen ? "none" : down ? "descending" : "ascending";
    });
    if (!chosen) return runs;
    return [...runs].sort((one, other) => (down ? -1 : 1) * compare(chosen.of(one), chosen.of(other)));
  }
}

function compare(one, other) {
  if (one == null || other == null) return (one == null) - (other == null);
  if (typeof one === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

function writeState(cell, run, table) {
  const state = element("span", { className: `state ${stateClass(run.state)}`, textContent: run.state });
  if (run.problem) state.title = run.problem;
  cell.replaceChildren(state);
  if (!run.has_tsne) return;
  const button = element("button", { type: "button", className: "link", textContent: "t-SNE" });
  button.addEventListener("click", () => table.openTsne(run.id));
  cell.append(button);
}

function writeStep(cell, run) {
  if (run.step == null) return set(cell, "");
  const [bar, step, of] = parts(cell, () => [
    element("progress", { ariaLabel: "progress" }), element("span"), element("span", { className: "quiet" }),
  ]);
  Object.assign(bar, { max: run.max_steps || 1, value: run.step });
  set(step, run.step);
  set(of, run.max_steps == null ? "" : ` / ${run.max_steps}`);
}

const [WIDTH, HEIGHT] = [64, 16]; // of a sparkline

function writeTrend(cell, { trend, values }, { key, low, high }) {
  if (!trend.length) return set(cell, "");
  const [line, last] = parts(cell, () => [sparkline(), element("span")]);
  const [from, to] = [low ?? Math.min(...trend), high ?? Math.max(...trend)];
  const x = (k) => (trend.length > 1 ? (k / (trend.length - 1)) * (WIDTH - 2) + 1 : WIDTH / 2);
  const y = (value) => HEIGHT - 1 - Math.max(0, Math.min(1, (value - from) / (to - from || 1))) * (HEIGHT - 2);
  const points = trend.map((value, k) => `${x(k).toFixed(1)},${y(value).toFixed(1)}`);
  line.firstChild.setAttribute("points", points.join(" "));
  set(last, fixed(values[key]));
}

// The parts of a cell, made once: new elements in every row would have to be laid out again.
function parts(cell, make) {
  if (!cell.children.length) cell.replaceChildren(...make());
  return cell.children;
}

function sparkline() {
  const shape = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, class: "sparkline", "aria-hidden": "true" };
  return svg("svg", shape, svg("polyline", {}));
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function set(cell, text) {
  if (cell.textContent !== String(text)) cell.textContent = text;
}

const fixed = (value) => (value == null ? "" : value.toFixed(3));

function speed(run) {
  const value = run.steps_per_second;
  return value == null ? "" : value < 10 ? value.toFixed(2) : value.toFixed(1);
}

function timeLeft(run) {
  if (run.seconds_left != null) return duration(run.seconds_left);
  return run.state === "running" || !run.seconds ? "" : `took ${duration(run.seconds)}`;
}

export function duration(exact) {
  const seconds = Math.round(exact);
  const padded = (number) => String(number).padStart(2, "0");
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.floor(seconds / 60)} min ${padded(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${padded(Math.floor((seconds % 3600) / 60))} min`;
}
