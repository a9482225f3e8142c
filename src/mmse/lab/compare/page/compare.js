"use strict";
(function () {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const visible = new Set(JSON.parse(document.getElementById("visible").textContent));

  // Replaces colour names by the theme's colours; a name may have an opacity: "--s3", "--s3/0.14".
  function resolveColours(value, style) {
    if (Array.isArray(value)) return value.map((element) => resolveColours(element, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, resolveColours(field, style)]));
    }
    if (typeof value !== "string" || !value.startsWith("--")) return value;
    const [name, share] = value.split("/");
    const colour = style.getPropertyValue(name).trim();
    if (share === undefined) return colour;
    const n = parseInt(colour.slice(1), 16);
    return "rgba(" + (n >> 16) + "," + ((n >> 8) & 255) + "," + (n & 255) + "," + share + ")";
  }
  // Plotly interprets some HTML in texts; names are plain text.
  function escapeText(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }
  function escapeTrace(trace) {
    const texts = trace.text ? { text: trace.text.map(escapeText) } : {};
    return Object.assign({}, trace, { name: escapeText(trace.name || "") }, texts);
  }
  function axis(options) {
    const title = options.title ? { title: { text: escapeText(options.title), font: { color: "--soft", size: 12 }, standoff: 8 } } : {};
    const texts = options.ticktext ? { ticktext: options.ticktext.map(escapeText) } : {};
    return Object.assign({ gridcolor: "--grid", linecolor: "--grid", zerolinecolor: "--soft", zeroline: false,
      tickfont: { color: "--soft" }, automargin: true, fixedrange: true }, options, title, texts);
  }
  // Systems share the row of a slice: moves each a little up or down.
  function spread(traces) {
    const rows = traces.filter((trace) => trace.row);
    const step = Math.min(0.2, 0.7 / Math.max(1, rows.length));
    rows.forEach((trace, i) => { trace.y = trace.y.map((y) => y + (i - (rows.length - 1) / 2) * step); });
    return traces;
  }

  function drawAll() {
    if (typeof Plotly === "undefined") return;
    const style = getComputedStyle(document.documentElement);
    const family = getComputedStyle(document.body).fontFamily;
    for (const element of document.querySelectorAll(".plot")) {
      const chart = charts[Number(element.dataset.chart)];
      const traces = spread(chart.traces.filter((trace) => visible.has(trace.system)).map(escapeTrace));
      const layout = { height: chart.height, showlegend: false, autosize: true, hovermode: "closest",
        margin: { l: 44, r: 22, t: 18, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: { bgcolor: "--panel", bordercolor: "--grid", font: { color: "--ink", size: 12.5 }, namelength: -1 },
        font: { family: family, size: 12.5, color: "--soft" }, xaxis: axis(chart.x), yaxis: axis(chart.y) };
      Plotly.react(element, resolveColours(traces, style), resolveColours(layout, style), { displayModeBar: false, responsive: true });
    }
  }

  const buttons = [...document.querySelectorAll(".toggle")];
  function updateButtons() {
    for (const button of buttons) button.setAttribute("aria-pressed", String(visible.has(button.dataset.system)));
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      if (!visible.delete(button.dataset.system)) visible.add(button.dataset.system);
      updateButtons();
      drawAll();
    });
  }
  updateButtons();
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
