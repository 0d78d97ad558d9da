// The ranges of axes that depend on the points, kept by the page: where Vega takes them from the points, it works out
// every point again whenever one comes.

const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];

export class Ranges {
  // Take the axes of a compiled chart over. metrics: that it shows, one a panel if it has panels side by side, and of
  // one range otherwise; rows: those that it begins with.
  constructor(compiled, metrics, rows) {
    const free = compiled.scales.filter(({ type, domain }) => type === "linear" && (domain.field || domain.fields));
    this.axes = free.map((scale) => {
      const steps = (scale.domain.fields ?? [scale.domain]).some(({ field }) => field === "step");
      const panel = scale.name.match(/^concat_(\d+)_/);
      const kind = steps ? { low: 0, values: ({ step }) => [step] } : ofMetric(metrics[panel?.[1] ?? 0], panel);
      const axis = { signal: `${scale.name}_range`, ...kind };
      axis.range = covering(axis, rows);
      scale.domain = { signal: axis.signal };
      compiled.signals.push({ name: axis.signal, value: axis.range });
      return axis;
    });
  }

  // Make room for new rows.
  include(view, rows) {
    for (const axis of this.axes) {
      const [from, to] = covering(axis, rows);
      const range = [Math.min(from, axis.range[0]), Math.max(to, axis.range[1])];
      if (String(range) === String(axis.range)) continue;
      axis.range = range;
      view.signal(axis.signal, range);
    }
  }
}

// Means and runs of a metric, of all rows or `only` of its own. Intervals may reach out of the axis.
function ofMetric({ key, low, high }, only) {
  const values = ({ metric, mean, runs }) => (only && metric !== key ? [] : [low, high, mean, ...(runs ?? [])]);
  return { low, high, values: (row) => values(row).filter((value) => value !== null) };
}

// From the smallest value to the largest, with room for some more on a side that has no bound.
function covering({ values, low, high = null }, rows) {
  let [from, to] = [Infinity, -Infinity];
  for (const value of rows.flatMap(values)) [from, to] = [Math.min(from, value), Math.max(to, value)];
  if (from > to) return [0, 1];
  return [low === null ? -roomy(-from) : from, high === null ? roomy(to) : to];
}

// The next round number. With every new range all points are worked out again.
function roomy(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.abs(value) || 1));
  const up = () => ROUND.find((number) => number * unit >= value);
  return unit * (value < 0 ? -ROUND.findLast((number) => number * unit <= -value) : up());
}
