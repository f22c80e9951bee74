// Draws each chart when it comes into view, in the colours of the page.
(() => {
  "use strict";
  const coarse = matchMedia("(pointer: coarse)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: false };

  const canvas = document.createElement("canvas");
  if (!(canvas.getContext("webgl2") || canvas.getContext("webgl"))) {
    document.documentElement.classList.add("no-webgl");
  }

  function coloured(figure) {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const layout = { ...figure.layout, paper_bgcolor: "transparent", plot_bgcolor: "transparent" };
    layout.font = { color: of("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 };
    layout.hoverlabel = { font: { family: layout.font.family } };
    if (coarse) layout.dragmode = layout.scene ? layout.dragmode : false;
    for (const axis of ["xaxis", "yaxis"]) {
      if (!layout[axis]) continue;
      layout[axis] = { ...layout[axis], gridcolor: of("--grid"), linecolor: of("--line"), tickcolor: of("--line") };
    }
    // Dark lines are drawn in ink, whichever colour that is.
    const ink = (part) => part && ["#333333", "#444444"].includes(part.color) ? { ...part, color: of("--ink") } : part;
    const data = figure.data.map((trace) => trace.line && trace.type !== "scatter3d" ? { ...trace, line: ink(trace.line) } : trace);
    return { data, layout };
  }

  const figures = new Map();
  function draw(plot) {
    const chart = coloured(figures.get(plot));
    Plotly.react(plot, chart.data, chart.layout, config);
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      figures.set(entry.target, JSON.parse(entry.target.nextElementSibling.textContent));
      draw(entry.target);
    }
  }, { rootMargin: "400px" });

  for (const plot of document.querySelectorAll(".plot")) {
    if (plot.closest(".spatial") && document.documentElement.classList.contains("no-webgl")) continue;
    seen.observe(plot);
    plot.addEventListener("click", () => plot.parentElement.classList.add("awake"));
  }
  dark.addEventListener("change", () => figures.forEach((_, plot) => draw(plot)));

  const refresh = Number(document.body.dataset.refresh);
  if (refresh) setTimeout(() => location.reload(), 1000 * refresh);
})();
