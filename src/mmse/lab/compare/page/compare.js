"use strict";
(function () {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const shown = new Set(JSON.parse(document.getElementById("shown").textContent));

  // A colour is a name, perhaps with its opacity: "--s3", "--s3/0.14".
  function coloured(value, style) {
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, style)]));
    }
    if (typeof value !== "string" || !value.startsWith("--")) return value;
    const [name, share] = value.split("/");
    const colour = style.getPropertyValue(name).trim();
    if (share === undefined) return colour;
    const n = parseInt(colour.slice(1), 16);
    return "rgba(" + (n >> 16) + "," + ((n >> 8) & 255) + "," + (n & 255) + "," + share + ")";
  }
  // Plotly reads a little HTML in its texts; names are plain text.
  function plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }
  function escaped(trace) {
    const texts = trace.text ? { text: trace.text.map(plain) } : {};
    return Object.assign({}, trace, { name: plain(trace.name || "") }, texts);
  }
  function axis(given) {
    const title = given.title ? { title: { text: plain(given.title), font: { color: "--soft", size: 12 }, standoff: 8 } } : {};
    const texts = given.ticktext ? { ticktext: given.ticktext.map(plain) } : {};
    return Object.assign({ gridcolor: "--grid", linecolor: "--grid", zerolinecolor: "--soft", zeroline: false,
      tickfont: { color: "--soft" }, automargin: true, fixedrange: true }, given, title, texts);
  }
  // Systems share a row of slices: they stand a little above and below it.
  function apart(traces) {
    const rows = traces.filter((trace) => trace.row);
    const step = Math.min(0.2, 0.7 / Math.max(1, rows.length));
    rows.forEach((trace, i) => { trace.y = trace.y.map((y) => y + (i - (rows.length - 1) / 2) * step); });
    return traces;
  }

  function drawAll() {
    if (typeof Plotly === "undefined") return;
    const style = getComputedStyle(document.documentElement);
    const family = getComputedStyle(document.body).fontFamily;
    for (const place of document.querySelectorAll(".plot")) {
      const chart = charts[Number(place.dataset.place)];
      const traces = apart(chart.traces.filter((trace) => shown.has(trace.system)).map(escaped));
      const layout = { height: chart.height, showlegend: false, autosize: true, hovermode: "closest",
        margin: { l: 44, r: 22, t: 18, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: { bgcolor: "--panel", bordercolor: "--grid", font: { color: "--ink", size: 12.5 }, namelength: -1 },
        font: { family: family, size: 12.5, color: "--soft" }, xaxis: axis(chart.x), yaxis: axis(chart.y) };
      Plotly.react(place, coloured(traces, style), coloured(layout, style), { displayModeBar: false, responsive: true });
    }
  }

  const buttons = [...document.querySelectorAll(".toggle")];
  function press() {
    for (const button of buttons) button.setAttribute("aria-pressed", String(shown.has(button.dataset.system)));
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      if (!shown.delete(button.dataset.system)) shown.add(button.dataset.system);
      press();
      drawAll();
    });
  }
  press();
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
