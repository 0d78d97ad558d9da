// What the server has sent: runs, conditions, and the points of each condition by step.

// "ari/val/layer_3" or "val/accuracy" -> {metric, split, layer}, as in journal.parse.
function parse(key) {
  const parts = key.split("/");
  if (parts.length === 2) return { metric: parts[1], split: parts[0], layer: null };
  return { metric: parts[0], split: parts[1], layer: Number(parts[2].replace("layer_", "")) };
}

export class Store {
  version = 0;
  root = "";
  metrics = ""; // the keys of all metrics
  columns = []; // the metrics of the table
  runs = new Map(); // id -> run, in order
  conditions = new Map(); // id -> {id, sweep, label, runs, name, keys, curves, maps, metrics, steps: step -> point}

  // Take an answer of /view. Gives {points: Map(condition id -> its changed steps, null for all), names, metrics:
  // whether the names of conditions, and the metrics, changed}; null if nothing is new.
  take(view) {
    if (view.version === this.version) return null;
    const before = [this.version && this.#names(), this.metrics];
    const { version, root, columns } = view;
    Object.assign(this, { version, root, columns, metrics: view.metrics.join() });
    this.runs = new Map(view.runs.map((run) => [run.id, run]));
    const empty = () => ({ keys: [], curves: [], metrics: new Set(), steps: new Map() });
    const known = ({ id }) => this.conditions.get(id) ?? empty();
    this.conditions = new Map(view.conditions.map((facts) => [facts.id, Object.assign(known(facts), facts)]));
    const sweeps = new Set(view.conditions.map(({ sweep }) => sweep));
    for (const condition of this.conditions.values()) {
      const { id, sweep, label } = condition;
      condition.name = sweeps.size === 1 || sweep === label ? label : `${sweep}: ${label}`;
      for (const run of condition.runs) Object.assign(this.runs.get(run), { condition: label, condition_id: id });
    }
    const points = new Map(Object.entries(view.curves).map(([id, curves]) => [id, this.#take(id, curves)]));
    return { points, names: before[0] !== this.#names(), metrics: before[1] !== this.metrics };
  }

  #names() {
    return JSON.stringify([...this.conditions.values()].map(({ id, name }) => [id, name]));
  }

  // The steps that changed, null for all.
  #take(id, { keys, steps, maps, n, mean, lower, upper, runs }) {
    const condition = this.conditions.get(id);
    const point = (k) => ({ n: n[k], mean: mean[k], lower: lower[k], upper: upper[k], runs: runs[k] });
    const [before, after] = [condition.steps, new Map(steps.map((step, k) => [step, point(k)]))];
    const all = [...keys, ...Object.keys(maps)];
    const others = all.join() !== condition.keys.join();
    Object.assign(condition, { maps, steps: after });
    if (others) {
      Object.assign(condition, { keys: all, curves: keys.map(parse), metrics: new Set(all.map((key) => parse(key).metric)) });
      return null;
    }
    return [...new Set([...before.keys(), ...steps])].filter((step) => !same(before.get(step), after.get(step)));
  }
}

function same(one, other) {
  return one && other && String(one.n) === String(other.n) && one.mean.every((mean, k) => mean === other.mean[k]);
}

// Rows for a chart, at these steps, of the curves that are wanted.
export function rows(condition, steps, wanted) {
  const curves = condition.curves.map((curve, k) => [curve, k]).filter(([curve]) => wanted(curve));
  return steps.filter((step) => condition.steps.has(step)).flatMap((step) => {
    const { n, mean, lower, upper, runs } = condition.steps.get(step);
    return curves.map(([{ metric, split, layer }, k]) => ({
      condition: condition.name, metric, split, layer, step, n: n[k] ?? n,
      mean: mean[k], lower: lower?.[k] ?? null, upper: upper?.[k] ?? null, runs: runs?.[k] ?? null,
    }));
  });
}

// Rows for a map of layers by layers, as it was last measured.
export function tiles({ name: condition, maps }, step, metrics) {
  return Object.entries(maps).flatMap(([key, matrix]) => {
    const where = { condition, ...parse(key), step };
    const row = (means, layer) => means.map((mean, other_layer) => ({ ...where, layer, other_layer, mean }));
    return metrics.has(where.metric) ? matrix.flatMap(row) : [];
  });
}

// The last step at which as many runs as at any measured one of these metrics: the latest at which all can be compared.
export function lastCommonStep(condition, metrics) {
  const curves = condition.curves.flatMap(({ metric }, k) => (metrics.includes(metric) ? [k] : []));
  const count = ({ n, mean }) => Math.max(0, ...curves.map((k) => (mean[k] === null ? 0 : n[k] ?? n)));
  const counts = [...condition.steps].map(([step, point]) => [step, count(point)]);
  const most = Math.max(...counts.map(([, n]) => n));
  return Math.max(...counts.filter(([, n]) => n === most).map(([step]) => step));
}
