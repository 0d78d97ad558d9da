// Draw each chart once it has a width, in the widest layout that fits, and again when that or the theme changes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const actions = { export: true, source: false, compiled: false, editor: false };
for (const [name, { data, layouts }] of Object.entries(charts)) {
  const plot = document.querySelector(`#${CSS.escape(name)} > div`);
  let drawn = "";
  const draw = async () => {
    if (!plot.clientWidth) return; // it is folded
    const layout = Math.max(0, widths.findLastIndex((width) => width <= plot.clientWidth));
    const theme = dark.matches ? "dark" : "light";
    if (drawn === `${layout} ${theme}`) return;
    drawn = `${layout} ${theme}`;
    await vegaEmbed(plot, { ...layouts[layout], data }, { actions, renderer: "svg", config: themes[theme] });
    plot.dataset.drawn = drawn;
  };
  new ResizeObserver(draw).observe(plot);
  dark.addEventListener("change", draw);
}
