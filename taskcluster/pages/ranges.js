// The ranges of axes that depend on the points, kept by the page: where Vega takes them from the points, it works out
// every point again whenever one comes.

const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];

export class Ranges {
  // Take the axes of a compiled chart over. metrics: that it shows, one a panel where it has panels side by side, and of
  // one range otherwise; rows: those that it begins with; ends: gives the last steps of all runs.
  constructor(compiled, metrics, rows, ends) {
    const ours = compiled.scales.filter(({ type, domain }) => type === "linear" && (domain.field || domain.fields));
    this.axes = ours.map((scale) => {
      const steps = (scale.domain.fields ?? [scale.domain]).some(({ field }) => field === "step");
      const panel = scale.name.match(/^concat_(\d+)_/);
      const kind = steps ? { values: stepOf, ends } : ofMetric(metrics[panel?.[1] ?? 0], Boolean(panel));
      const axis = { signal: `${scale.name}_range`, ...kind };
      axis.range = covering(axis, rows);
      scale.domain = { signal: axis.signal };
      compiled.signals.push({ name: axis.signal, value: axis.range });
      return axis;
    });
  }

  // Make room for rows that came; replaced: they are all there are.
  include(view, rows, replaced) {
    for (const axis of this.axes) {
      const range = covering(axis, rows);
      if (!replaced) [range[0], range[1]] = [Math.min(range[0], axis.range[0]), Math.max(range[1], axis.range[1])];
      if (String(range) === String(axis.range)) continue;
      axis.range = range;
      view.signal(axis.signal, range);
    }
  }
}

const stepOf = ({ step }) => [step];

// Means and runs of a metric without a range, or of a chart's rows, which are all of it; with the bound that it may
// have. Intervals may reach out of the axis.
function ofMetric({ key, low, high }, only) {
  const values = ({ metric, mean, runs }) => (only && metric !== key ? [] : [low, high, mean, ...(runs ?? [])]);
  return { values: (row) => values(row).filter((value) => value !== null), ends: () => [], bounds: [low, high] };
}

// From the smallest value to the largest, with room for some more on a side that has no bound.
function covering({ values, ends, bounds = [0, null] }, rows) {
  let [from, to] = [Infinity, -Infinity];
  for (const value of rows.flatMap(values)) [from, to] = [Math.min(from, value), Math.max(to, value)];
  if (from > to) return [0, 1];
  return [bounds[0] === null ? -roomy(-from, []) : from, bounds[1] === null ? roomy(to, ends()) : to];
}

// The next round number, or the end of a run if that comes first. With every new range all points are worked out again.
function roomy(value, ends) {
  const unit = 10 ** Math.floor(Math.log10(Math.abs(value) || 1));
  const up = () => ROUND.find((number) => number * unit >= value);
  const round = unit * (value < 0 ? -ROUND.findLast((number) => number * unit <= -value) : up());
  return Math.min(round, ...ends.filter((end) => end >= value));
}
