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
    // Zoom and camera stay as they are when there is more to draw.
    const layout = { ...figure.layout, uirevision: "kept", paper_bgcolor: "transparent", plot_bgcolor: "transparent" };
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

  function watchPlots(within) {
    for (const plot of within.querySelectorAll(".plot")) {
      if (plot.closest(".spatial") && document.documentElement.classList.contains("no-webgl")) continue;
      seen.observe(plot);
      plot.addEventListener("click", () => plot.parentElement.classList.add("awake"));
    }
  }
  watchPlots(document);
  dark.addEventListener("change", () => figures.forEach((_, plot) => draw(plot)));

  // What a newer page has otherwise is put in place; what is the same stays, drawn and scrolled.
  function update(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    const [children, news] = [[...old.children], [...fresh.children]];
    if (old.matches(".plot")) {
      old.setAttribute("aria-label", fresh.getAttribute("aria-label"));
    } else if (old.matches("script")) {
      if (old.textContent === fresh.textContent) return;
      old.textContent = fresh.textContent;
      const plot = old.previousElementSibling;
      if (!figures.has(plot)) return;
      figures.set(plot, JSON.parse(old.textContent));
      draw(plot);
    } else if (children.length && children.length === news.length
        && children.every((child, i) => child.tagName === news[i].tagName && child.id === news[i].id)) {
      children.forEach((child, i) => update(child, news[i]));
    } else {
      old.replaceWith(fresh);
      watchPlots(fresh);
    }
  }

  const bar = document.querySelector(".live");
  const every = 1000 * Number(document.body.dataset.refresh);
  let version = null;
  async function look() {
    let status, page;
    try {
      status = await (await fetch("live", { cache: "no-store" })).json();
      if (version !== null && version !== status.version) page = await (await fetch(".", { cache: "no-store" })).text();
    } catch {
      show({ state: "lost", label: "Not connected", text: "this page stays as it is until dcmnet report --watch serves it again" });
      return;
    }
    if (page) {
      const fresh = new DOMParser().parseFromString(page, "text/html");
      for (const part of ["header", "main", "footer"]) update(document.querySelector(part), fresh.querySelector(part));
    }
    version = status.version;
    show(status);
  }
  const title = document.title;
  function show({ state, label, text, done }) {
    bar.dataset.state = state;
    if (bar.querySelector("strong").textContent !== label) bar.querySelector("strong").textContent = label;
    bar.querySelector(".text").textContent = text;
    if (done !== undefined) bar.style.setProperty("--done", done);
    document.title = `${label} · ${title}`;
  }
  if (bar && location.protocol.startsWith("http")) {
    bar.hidden = false;
    (async () => {
      for (;;) {
        await look();
        await new Promise((awake) => setTimeout(awake, every));
      }
    })();
  } else if (every) {
    setTimeout(() => location.reload(), every);
  }
})();
