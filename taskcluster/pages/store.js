// What the server has told so far: metrics, runs, conditions, and the points of each condition by step.

const SHARE = 0.6; // of a range, beyond which an interval says nothing, as in statistics.py

// "ari/val/layer_3" or "val/accuracy" -> {metric, split, layer}, as in journal.parse.
function parse(key) {
  const parts = key.split("/");
  if (parts.length === 2) return { metric: parts[1], split: parts[0], layer: null };
  return { metric: parts[0], split: parts[1], layer: Number(parts[2].replace("layer_", "")) };
}

export class Store {
  constructor() {
    this.forget();
  }

  forget() {
    this.epoch = "";
    this.version = 0;
    this.root = "";
    this.metrics = []; // the part of the catalogue that a view shows, as in metrics.py
    this.runs = new Map(); // id -> run, in order
    this.conditions = new Map(); // id -> {id, sweep, label, runs, name, curves, steps: Map(step -> point)}
  }

  // Take an answer of /changes. Gives {points: Map(condition id -> its changed steps, null for all), runs: changed or
  // gone, names: whether conditions came, went or are called otherwise, metrics: whether they changed}; null if nothing
  // is new.
  take(changes) {
    if (changes.epoch !== this.epoch) this.forget(); // another server, whose versions count from another beginning
    const first = !this.epoch;
    this.epoch = changes.epoch;
    this.root = changes.root;
    if (changes.version === this.version && !first) return null;
    this.version = changes.version;
    if (!changes.runs) return { points: new Map(), names: first, metrics: first };
    this.metrics = changes.metrics ?? this.metrics;
    this.runs = merged(this.runs, changes.runs, changes.changed_runs);
    const before = [...this.conditions.values()].map((c) => c.name).join("\n");
    this.conditions = merged(this.conditions, changes.conditions, changes.changed_conditions);
    const sweeps = new Set([...this.conditions.values()].map((c) => c.sweep));
    for (const condition of this.conditions.values()) {
      const { sweep, label } = condition;
      condition.name = sweeps.size === 1 || sweep === label ? label : `${sweep}: ${label}`;
      condition.steps ??= new Map();
      condition.curves ??= [];
    }
    const points = new Map(changes.curves.map((curves) => [curves.condition, this.#take(curves)]));
    const names = first || before !== [...this.conditions.values()].map((c) => c.name).join("\n");
    return { points, names, metrics: first || changes.metrics !== null };
  }

  // The metrics of a view, in order, with a number for each layer or without layers.
  shown(shownIn, byLayer) {
    return this.metrics.filter((metric) => metric.views.includes(shownIn) && metric.by_layer === byLayer);
  }

  #take(curves) {
    const condition = this.conditions.get(curves.condition);
    if (curves.replaced) {
      condition.steps = new Map();
      condition.curves = curves.curves.map(parse);
    }
    condition.wider = curves.wider;
    curves.steps.forEach((step, k) => {
      const [lower, upper, runs] = [curves.lower?.[k], curves.upper?.[k], curves.runs?.[k]];
      condition.steps.set(step, { n: curves.n[k], mean: curves.mean[k], lower, upper, runs });
    });
    return curves.replaced ? null : curves.steps;
  }
}

function merged(before, order, changed) {
  const now = new Map(changed.map((item) => [item.id, item]));
  return new Map(order.map((id) => [id, Object.assign(before.get(id) ?? {}, now.get(id))]));
}

// Rows for a chart, at these steps, of the curves that are wanted.
export function rows(condition, steps, wanted) {
  const curves = condition.curves.map((curve, k) => [curve, k]).filter(([curve]) => wanted(curve));
  const found = [];
  for (const step of steps) {
    const point = condition.steps.get(step);
    if (!point) continue;
    for (const [{ metric, split, layer }, k] of curves) {
      found.push({
        condition: condition.name, metric, split, layer, step,
        n: point.n[k] ?? point.n, mean: point.mean[k], lower: point.lower?.[k] ?? null, upper: point.upper?.[k] ?? null,
        runs: point.runs?.[k] ?? null,
      });
    }
  }
  return found;
}

export function lastLayer(condition, metric) {
  return Math.max(...condition.curves.map((curve) => (curve.metric === metric.key ? curve.layer : 0)));
}

// The interval of a row that holds in all cells of its map together; null without one, or where it says nothing, as in
// statistics.telling. It is wider on a scale without the metric's bounds, as in statistics.limits.
export function overMap({ wider }, { low, high, least, key }, { n, mean, lower, upper }) {
  const times = wider[key]?.[n];
  if (!times || lower === null) return null;
  const [from, to] = [least ?? low ?? -Infinity, high ?? Infinity];
  const [free, bounded] = unbounded(from, to);
  if (!(from < mean && mean < to)) return [lower, upper];
  const middle = free(mean);
  const ends = [lower, upper].map((end) => (from < end && end < to ? bounded(middle + times * (free(end) - middle)) : end));
  return ends[1] - ends[0] > SHARE * (to - from) ? null : ends;
}

// A function from values between two bounds to all numbers, and its inverse.
function unbounded(from, to) {
  if (from === -Infinity && to === Infinity) return [(value) => value, (value) => value];
  if (to === Infinity) return [(value) => Math.log(value - from), (free) => from + Math.exp(free)];
  if (from === -Infinity) return [(value) => -Math.log(to - value), (free) => to - Math.exp(-free)];
  const logit = (value) => Math.log((value - from) / (to - value));
  return [logit, (free) => from + (to - from) / (1 + Math.exp(-free))];
}

// The last step that as many runs have measured as any: the latest at which all can be compared. metrics: that were to
// be measured, any if left out.
export function lastCommonStep(condition, metrics = null) {
  const asked = condition.curves.flatMap(({ metric }, k) => (metrics?.includes(metric) ? [k] : []));
  const of = ({ n, mean }) => (metrics ? asked.map((k) => (mean[k] === null ? 0 : n[k] ?? n)) : [n].flat());
  const counts = [...condition.steps].map(([step, point]) => [step, Math.max(0, ...of(point))]);
  const most = Math.max(...counts.map(([, n]) => n));
  return Math.max(...counts.filter(([, n]) => n === most).map(([step]) => step));
}
