// The ranges of axes that depend on the points, kept by the page: where Vega takes them from the points, it works out
// every point again whenever one comes.

const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];

export class Ranges {
  // Take the axes of a compiled chart over. rows: those that it begins with; ends: gives the last steps of all runs.
  constructor(compiled, rows, ends) {
    const ours = compiled.scales.filter(({ type, domain }) => type === "linear" && (domain.field || domain.fields));
    this.axes = ours.map((scale) => {
      const steps = (scale.domain.fields ?? [scale.domain]).some(({ field }) => field === "step");
      const kind = steps ? { values: stepOf, ends } : { values: lossesOf, ends: () => [] };
      const axis = { signal: `${scale.name}_range`, ...kind };
      axis.range = covering(axis, rows);
      scale.domain = { signal: axis.signal };
      compiled.signals.push({ name: axis.signal, value: axis.range });
      return axis;
    });
  }

  // Make room for rows that came; anew: they are all there are.
  include(view, rows, anew) {
    for (const axis of this.axes) {
      const range = covering(axis, rows);
      if (!anew) [range[0], range[1]] = [Math.min(range[0], axis.range[0]), Math.max(range[1], axis.range[1])];
      if (String(range) === String(axis.range)) continue;
      axis.range = range;
      view.signal(axis.signal, range);
    }
  }
}

const stepOf = ({ step }) => [step];

// Every other value has an axis from 0 to 1.
const lossesOf = ({ metric, mean, lower, upper }) => (metric === "loss" ? [0, mean, lower, upper].filter((value) => value !== null) : []);

// From the smallest value to the largest, with room for some more.
function covering({ values, ends }, rows) {
  let [from, to] = [Infinity, -Infinity];
  for (const value of rows.flatMap(values)) [from, to] = [Math.min(from, value), Math.max(to, value)];
  return from <= to ? [from, roomy(to, ends())] : [0, 1];
}

// The next round number, or the end of a run if that comes first. With every new range all points are worked out again.
function roomy(value, ends) {
  const unit = 10 ** Math.floor(Math.log10(Math.abs(value) || 1));
  const round = unit * ROUND.find((number) => number * unit >= value);
  return Math.min(round, ...ends.filter((end) => end >= value));
}
