"use strict";
(function () {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dashes = ["solid", "dash", "dot", "dashdot", "solid", "dash", "dot", "dashdot"];
  const symbols = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star"];
  const light = { ink: "#16181d", soft: "#5d636e", grid: "#e6e6e3", panel: "#ffffff",
    s: ["#0b62c4", "#d07c00", "#00896a", "#a8478a", "#6f7682", "#c8401b", "#2f9fd8", "#8a7400"] };

  function theme(printing) {
    if (printing) return light;
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue("--" + name).trim();
    return { ink: read("ink"), soft: read("soft"), grid: read("grid"), panel: read("panel"),
      s: dashes.map((_, colour) => read("s" + colour)) };
  }
  // Plotly reads a little HTML in its texts; names are plain text.
  function plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }
  function shorten(text, length) {
    return plain(text.length > length ? text.slice(0, length - 1) + "…" : text);
  }
  function clear(colour, share) {
    const n = parseInt(colour.slice(1), 16);
    return "rgba(" + (n >> 16) + "," + ((n >> 8) & 255) + "," + (n & 255) + "," + share + ")";
  }
  function spans(series) {
    return series.value.map((v, i) => series.low && series.low[i] !== null
      ? " (" + series.low[i].toFixed(3) + " to " + series.high[i].toFixed(3) + ")" : "");
  }
  function percents(low, high) {
    return low === null ? "" : " (" + (100 * low).toFixed(1) + " to " + (100 * high).toFixed(1) + "%)";
  }
  function errors(series, colour) {
    const distances = (ends) => series.value.map((v, i) => ends[i] === null ? 0 : Math.abs(ends[i] - v));
    return { type: "data", symmetric: false, array: distances(series.high), arrayminus: distances(series.low),
      color: colour, thickness: 1.6, width: 3 };
  }
  function axis(look, more) {
    return Object.assign({ gridcolor: look.grid, linecolor: look.grid, zeroline: false, tickfont: { color: look.soft },
      automargin: true, fixedrange: true }, more,
    more.title ? { title: { text: more.title.text, font: { color: look.soft, size: 12 }, standoff: 8 } } : {});
  }

  const visible = new Set(charts.gains.flatMap((chart) => chart.series.filter((s) => s.visible).map((s) => s.name)));
  for (const button of document.querySelectorAll(".toggle")) {
    const name = button.dataset.system;
    button.setAttribute("aria-pressed", String(visible.has(name)));
    button.addEventListener("click", () => {
      if (!visible.delete(name)) visible.add(name);
      button.setAttribute("aria-pressed", String(visible.has(name)));
      drawAll(false);
    });
  }

  const draw = {
    curve(chart, look) {
      const traces = [];
      for (const s of chart.series) {
        if (!s.low.includes(null)) {
          traces.push({ x: s.x.concat(s.x.slice().reverse()), y: s.high.concat(s.low.slice().reverse()), fill: "toself",
            fillcolor: clear(look.s[s.colour], 0.16), line: { width: 0 }, mode: "lines", hoverinfo: "skip" });
        }
      }
      for (const s of chart.series) {
        traces.push({ x: s.x, y: s.value, name: shorten(s.name, 24), customdata: spans(s), mode: "lines+markers",
          zorder: s.colour === 0 ? 2 : 1,
          line: { color: look.s[s.colour], dash: dashes[s.colour], width: s.colour === 0 ? 3 : 2 },
          marker: { symbol: symbols[s.colour], size: s.colour === 0 ? 8 : 6.5, color: look.s[s.colour] },
          hovertemplate: "%{y:.3f}%{customdata}" });
      }
      const ks = [...new Set(chart.series.flatMap((s) => s.x))].sort((a, b) => a - b);
      return [traces, { height: 320, hovermode: "x unified",
        xaxis: axis(look, { type: "log", tickvals: ks, ticktext: ks.map(String), unifiedhovertitle: { text: "first %{x}" },
          title: { text: "first k" } }),
        yaxis: axis(look, { rangemode: "tozero", tickformat: ".1f", hoverformat: ".3f" }) }];
    },
    bars(chart, look) {
      const traces = chart.series.map((s) => ({ type: "bar", x: s.x, y: s.value, name: shorten(s.name, 24),
        customdata: spans(s), hovertemplate: "%{y:.3f}%{customdata}",
        marker: { color: clear(look.s[s.colour], s.colour === 0 ? 1 : 0.62) }, error_y: errors(s, look.ink) }));
      return [traces, { height: 340, barmode: "group", bargap: 0.22, bargroupgap: 0.06, hovermode: "closest",
        xaxis: axis(look, { tickangle: 0, showgrid: false }),
        yaxis: axis(look, { rangemode: "tozero", tickformat: ".1f" }) }];
    },
    gains(chart, look) {
      const series = chart.series.filter((s) => visible.has(s.name));
      const n = Math.max(1, series.length);
      const rowOf = new Map(chart.slices.map((name, i) => [name, i]));
      const traces = series.map((s, i) => ({ type: "scatter", mode: "markers", name: shorten(s.name, 24),
        x: s.value, y: s.y.map((name) => rowOf.get(name) + (i - (n - 1) / 2) * Math.min(0.2, 0.7 / n)),
        text: s.y.map((name) => shorten(name, 40)), customdata: spans(s),
        hovertemplate: "%{text}<br>%{x:+.3f}%{customdata}", error_x: errors(s, look.s[s.colour]),
        marker: { size: 9, symbol: symbols[s.colour], line: { width: 2, color: look.s[s.colour] },
          color: s.significant.map((yes) => (yes ? look.s[s.colour] : look.panel)) } }));
      return [traces, { height: 84 + chart.slices.length * Math.max(34, 13 * n), hovermode: "closest",
        shapes: [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, layer: "below",
          line: { color: look.soft, width: 1.5 } }],
        xaxis: axis(look, { tickformat: "+.2~f", nticks: 5, title: { text: "difference" } }),
        yaxis: axis(look, { tickvals: [...rowOf.values()], ticktext: chart.slices.map((name) => shorten(name, 22)),
          range: [chart.slices.length - 0.5, -0.5], tickfont: { color: look.ink } }) }];
    },
    reliability(chart, look) {
      const top = 1.04 * Math.max(0.05,
        ...chart.series.flatMap((s) => s.x.concat(s.value, s.high.filter((end) => end !== null))));
      const largest = Math.max(1, ...chart.series.flatMap((s) => s.looks));
      const traces = chart.series.map((s) => ({ x: s.x, y: s.value, name: plain(s.name), mode: "lines+markers",
        zorder: s.colour === 0 ? 2 : 1,
        customdata: s.looks.map((n, i) => percents(s.low[i], s.high[i]) + " of " + Math.round(n).toLocaleString("en") + " looks"),
        error_y: errors(s, look.s[s.colour]), line: { color: look.s[s.colour], dash: dashes[s.colour], width: s.colour === 0 ? 2.4 : 1.8 },
        marker: { symbol: symbols[s.colour], color: look.s[s.colour], opacity: 1, line: { width: 1, color: look.panel },
          size: s.looks.map((n) => 4 + 6 * Math.sqrt(n / largest)) },
        hovertemplate: "probability %{x:.1%}, clicked %{y:.1%}%{customdata}" }));
      return [traces, { height: 340, hovermode: "closest",
        shapes: [{ type: "line", x0: 0, y0: 0, x1: top, y1: top, layer: "below", line: { color: look.soft, width: 1.5, dash: "dot" } }],
        xaxis: axis(look, { range: [0, top], tickformat: ".0%", title: { text: "probability" } }),
        yaxis: axis(look, { range: [0, top], tickformat: ".0%", title: { text: "clicked by those who look" } }) }];
    },
    kept(chart, look) {
      const traces = chart.series.map((s) => ({ x: s.x, y: s.value, name: plain(s.name), mode: "lines",
        line: { color: look.s[s.colour], dash: dashes[s.colour], width: s.colour === 0 ? 3 : 2 }, hovertemplate: "%{y:.1%}" }));
      return [traces, { height: 300, hovermode: "x unified",
        xaxis: axis(look, { tickformat: ".0%", unifiedhovertitle: { text: "at least %{x:.0%}" }, title: { text: "minimum probability" } }),
        yaxis: axis(look, { range: [0, 1.03], tickformat: ".0%", title: { text: "share" } }) }];
    },
    training(chart, look) {
      const traces = chart.series.map((s) => ({ x: s.x, y: s.value, name: shorten(s.name, 24),
        mode: s.x.length < 30 ? "lines+markers" : "lines", marker: { symbol: symbols[s.colour], size: 7 },
        line: { color: look.s[s.colour], dash: dashes[s.colour], width: 2 } }));
      return [traces, { height: 300, showlegend: true, hovermode: "x unified", xaxis: axis(look, { title: { text: "step" } }),
        yaxis: axis(look, { hoverformat: ".4f" }) }];
    },
  };

  function drawAll(printing) {
    if (typeof Plotly === "undefined") return;
    const look = theme(printing);
    for (const plot of document.querySelectorAll(".plot")) {
      const chart = charts[plot.dataset.chart][Number(plot.dataset.index)];
      const [traces, layout] = draw[chart.kind](chart, look);
      Plotly.react(plot, traces, Object.assign({ showlegend: false, autosize: true,
        margin: { l: 44, r: 14, t: 14, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: look.ink } },
        hoverlabel: { bgcolor: look.panel, bordercolor: look.grid, font: { color: look.ink, size: 12.5 }, namelength: -1 },
        font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: look.soft } }, layout),
      { displayModeBar: false, responsive: true });
    }
  }
  drawAll(false);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(false));
  addEventListener("beforeprint", () => drawAll(true));
  addEventListener("afterprint", () => drawAll(false));

  const table = document.getElementById("numbers");
  if (!table) return;
  const body = table.tBodies[0];
  const slice = document.getElementById("slice");
  const word = document.getElementById("word") || { value: "", addEventListener() {} };
  function show() {
    let count = 0;
    for (const row of body.rows) {
      row.hidden = (slice.value !== "" && row.dataset.slice !== slice.value) || (word.value !== "" && row.className !== word.value);
      count += row.hidden ? 0 : 1;
    }
    document.getElementById("count").textContent = count + " of " + body.rows.length + " rows";
  }
  slice.addEventListener("change", show);
  word.addEventListener("change", show);
  show();
  function key(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
    if (text === "") return null;
    return Number.isNaN(Number(text)) ? text : Number(text);
  }
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const column = head.cellIndex;
    const way = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    for (const cell of head.parentNode.cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const keyed = [...body.rows].map((row) => [key(row, column), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    });
    body.append(...keyed.map(([, row]) => row));
  });
})();
