// The table of runs: a row each, of which only those that changed are written.

import { element } from "./chart.js";

export const ROWS = 1000; // that are listed, at most
const [WIDTH, HEIGHT] = [64, 16]; // of a sparkline

// name; of: the value of a run, by which the table is sorted; show: text or elements, by default the value; kind: a
// class, of which "wide" and "wider" are shown where there is room; spare: whether it would say nothing of these runs.
const COLUMNS = [ // before those of metrics
  { name: "status", of: (run) => run.state, show: showState, kind: "left" },
  { name: "sweep", of: (run) => run.sweep, kind: "left words wider", spare: (runs) => !several(runs, "sweep") },
  { name: "condition", of: (run) => run.condition, kind: "left words" },
  { name: "seed", of: ({ seed }) => seed, show: ({ seed }) => span("seed", seed, seed), kind: "wide" },
  { name: "step", of: (run) => run.step, show: showStep },
  {
    name: "steps/s", of: (run) => run.steps_per_second, show: (run) => fixed(run.steps_per_second, 2), kind: "wider",
    spare: (runs) => !several(runs, "steps_per_second") && runs[0]?.steps_per_second == null,
  },
  { name: "time left", of: (run) => run.seconds_left, show: showTimeLeft, kind: "wide" },
];

const span = (className, textContent, title = "") => element("span", { className, textContent, title });
const several = (runs, key) => new Set(runs.map((run) => run[key])).size > 1;

export class Table {
  constructor(table, view, openTsne) {
    Object.assign(this, { view, openTsne, body: table.tBodies[0], head: table.tHead.rows[0] });
    this.rows = new Map(); // id -> [the run as it was written, its row]
    this.columns = [];
    this.setMetrics([]);
  }

  // Other columns, for the runs that are written next.
  setMetrics(metrics) {
    if (JSON.stringify(metrics) === this.metrics) return;
    this.metrics = JSON.stringify(metrics);
    this.measured = metrics.map(({ key, name, trend, ...range }, k) => {
      const of = (run) => run.values[key];
      const show = (run) => [trend && run.trend.length > 1 ? sparkline(run.trend, range) : "", fixed(of(run), 3)];
      return { name, of, show, kind: k ? "wider" : "" };
    });
    this.columns = [];
  }

  #choose(runs) {
    const columns = [...COLUMNS, ...this.measured].filter(({ spare }) => !spare?.(runs));
    const names = (some) => some.map(({ name }) => name).join();
    if (names(columns) === names(this.columns)) return;
    this.columns = columns;
    this.head.replaceChildren(...columns.map((column) => this.#header(column)));
    this.rows.clear();
  }

  // Bring the table up to date; runs: those to show, in order; the first ROWS are.
  write(runs) {
    this.#choose(runs);
    const [before, wanted] = [this.rows, this.#sorted(runs).slice(0, ROWS)];
    const kept = (run, content, known) => (known?.[0] === content ? known : [content, this.#row(run)]);
    this.rows = new Map(wanted.map((run) => [run.id, kept(run, JSON.stringify(run), before.get(run.id))]));
    [...this.rows.values()].forEach(([, row], k) => {
      if (this.body.rows[k] !== row) this.body.insertBefore(row, this.body.rows[k] ?? null);
    });
    while (this.body.rows.length > wanted.length) this.body.lastChild.remove();
  }

  #row(run) {
    const cells = this.columns.map(({ of, show = of, kind = "" }) => {
      return element("td", { className: kind }, ...[show(run, this) ?? ""].flat());
    });
    const row = element("tr", { title: run.name, className: run.state }, ...cells);
    row.dataset.run = run.id;
    return row;
  }

  #header({ name, kind = "" }) {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      const next = { [name]: `-${name}`, [`-${name}`]: "" };
      this.view.set({ sort: next[this.view.sort] ?? name });
    });
    return element("th", { scope: "col", className: kind }, button);
  }

  #sorted(runs) {
    const down = this.view.sort.startsWith("-");
    const chosen = this.columns.find(({ name }) => name === this.view.sort.replace(/^-/, ""));
    this.columns.forEach((column, k) => {
      this.head.cells[k].ariaSort = column !== chosen ? "none" : down ? "descending" : "ascending";
    });
    if (!chosen) return runs;
    return runs.toSorted((one, other) => (down ? -1 : 1) * compare(chosen.of(one), chosen.of(other)));
  }
}

function compare(one, other) {
  if (one == null || other == null) return (one == null) - (other == null);
  if (typeof one === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

function showState(run, table) {
  const shown = span(`state ${run.state}`, run.state, run.problem);
  if (!run.has_tsne) return shown;
  const button = element("button", { type: "button", className: "link", textContent: "t-SNE" });
  button.addEventListener("click", () => table.openTsne(run.id));
  return [shown, button];
}

function showStep({ step, max_steps: steps }) {
  if (step == null || !steps) return step ?? "";
  const bar = element("progress", { ariaLabel: "progress", max: steps, value: step });
  return element("span", { className: "progress" }, bar, element("span", {}, `${step}`, span("quiet", ` / ${steps}`)));
}

function sparkline(trend, { low, high }) {
  const [from, to] = [low ?? Math.min(...trend), high ?? Math.max(...trend)];
  const x = (k) => (trend.length > 1 ? (k / (trend.length - 1)) * (WIDTH - 2) + 1 : WIDTH / 2);
  const y = (value) => HEIGHT - 1 - Math.max(0, Math.min(1, (value - from) / (to - from || 1))) * (HEIGHT - 2);
  const points = trend.map((value, k) => `${x(k).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const shape = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, class: "sparkline" };
  return trend.length ? svg("svg", { ...shape, "aria-hidden": "true" }, svg("polyline", { points })) : "";
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const fixed = (value, digits) => (value == null ? "" : value.toFixed(digits));

function showTimeLeft({ state, seconds_left: left, seconds }) {
  if (left != null) return duration(left);
  return state === "running" || !seconds ? "" : `took ${duration(seconds)}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
