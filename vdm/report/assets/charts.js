"use strict";
/* Draws the page's curves by uPlot: zoom by dragging or keys, values under the cursor, a legend of buttons. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const plots = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const DASHES = { points: [], end: [], line: [], faint: [], dashed: [6, 5] };
  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const shown = (value) => {
    if (value === null || value === undefined) return "";
    const text = Math.abs(value) >= 1e4 && Math.abs(value) < 1e9
      ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
    return text.replace("-", "−");
  };
  const tick = (value, step) => {
    let places = 0;
    while (places < 6 && Math.abs(step * 10 ** places - Math.round(step * 10 ** places)) > 1e-6) places++;
    return places > 0 && places < 6 && Math.abs(value) < 1e4 ? value.toFixed(places).replace("-", "−") : shown(value);
  };
  const swatch = (style) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("width", 18); svg.setAttribute("height", 10); svg.setAttribute("aria-hidden", "true");
    const mark = document.createElementNS(space, style === "end" ? "rect" : "line");
    const places = style === "end" ? { x: 6, y: 2, width: 6, height: 6, transform: "rotate(45 9 5)" }
      : { x1: 0, x2: 18, y1: 5, y2: 5, "stroke-width": 2.2 };
    for (const [key, value] of Object.entries(places)) mark.setAttribute(key, value);
    if (style === "dashed") mark.setAttribute("stroke-dasharray", "5 3");
    svg.append(mark);
    if (style === "points") {
      const dot = document.createElementNS(space, "circle");
      dot.setAttribute("cx", 9); dot.setAttribute("cy", 5); dot.setAttribute("r", 3.5);
      svg.append(dot);
    }
    return svg;
  };

  /* Curves have values at different steps: the one nearest to the cursor is read. */
  const nearest = (plot, series, index) => {
    const values = plot.data[series], last = values.length - 1;
    for (let far = 0; index - far >= 0 || index + far <= last; far++) {
      for (const k of [index - far, index + far]) if (values[k] !== null && values[k] !== undefined) return k;
    }
    return index;
  };

  /* Error bars of points, a band around a line. */
  function drawErrors(plot, chart) {
    const { ctx } = plot;
    chart.series.forEach((series, k) => {
      if (!series.error || !plot.series[k + 1].show) return;
      const at = (value, scale) => plot.valToPos(value, scale, true);
      const low = plot.scales.y.distr === 3 ? plot.scales.y.min : -Infinity;
      const ends = series.x.map((x, j) => series.y[j] === null || series.error[j] === null ? null
        : [at(x, "x"), at(Math.max(series.y[j] - series.error[j], low), "y"), at(series.y[j] + series.error[j], "y")])
        .filter((each) => each !== null && each.every(Number.isFinite));
      ctx.save();
      ctx.beginPath();
      ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
      ctx.clip();
      ctx.strokeStyle = ctx.fillStyle = color(`--c${series.color % 6}`);
      ctx.beginPath();
      if (series.style === "line") {
        ctx.globalAlpha = 0.16;
        ends.forEach(([x, , high]) => ctx.lineTo(x, high));
        ends.reverse().forEach(([x, bottom]) => ctx.lineTo(x, bottom));
        ctx.fill();
      } else {
        ctx.lineWidth = 1.5 * devicePixelRatio;
        const cap = 3 * devicePixelRatio;
        ends.forEach(([x, bottom, high]) => {
          ctx.moveTo(x, bottom); ctx.lineTo(x, high);
          for (const y of [bottom, high]) { ctx.moveTo(x - cap, y); ctx.lineTo(x + cap, y); }
        });
        ctx.stroke();
      }
      ctx.restore();
    });
  }

  function draw(chart, place) {
    const positive = chart.series.every((s) => s.y.every((v) => v === null || v > 0));
    const wide = place.closest(".wide") !== null;
    const state = { log: false, full: false };
    const keys = make("div", { class: "keys" });
    const values = chart.series.map(() => make("span"));
    const tools = make("span", { class: "tools" }), where = make("span", { class: "unit where" });
    let plot = null;

    const button = (text, label, click, pressed) => {
      const node = make("button", { type: "button", "aria-label": `${label}: ${chart.title}` }, text);
      if (pressed !== undefined) node.setAttribute("aria-pressed", pressed);
      node.addEventListener("click", () => click(node));
      tools.append(node);
    };
    const toggle = (name) => (node) => {
      state[name] = !state[name];
      node.setAttribute("aria-pressed", state[name]);
      rebuild();
    };
    const bounds = () => {
      const xs = plot.data[0];
      return [xs[0], xs[xs.length - 1]];
    };
    const zoom = (factor) => {
      const { min, max } = plot.scales.x, [low, high] = bounds();
      const middle = plot.cursor.left > 0 ? plot.posToVal(plot.cursor.left, "x") : (min + max) / 2;
      plot.setScale("x", {
        min: Math.max(low, middle - (middle - min) * factor), max: Math.min(high, middle + (max - middle) * factor),
      });
    };
    const reset = () => { const [min, max] = bounds(); plot.setScale("x", { min, max }); };

    chart.series.forEach((series, k) => {
      const mark = swatch(series.style);
      mark.style.stroke = mark.style.fill = `var(--c${series.color % 6})`;
      if (series.style === "faint") return;
      const node = make("button", { type: "button", class: "key", "aria-pressed": "true" }, mark, series.name, " ", values[k]);
      node.addEventListener("click", () => {
        const on = node.getAttribute("aria-pressed") !== "true";
        node.setAttribute("aria-pressed", on);
        chart.series.forEach((each, j) => {
          const behind = each.style === "faint" && chart.series[j + 1] === series;
          if (j === k || behind) plot.setSeries(j + 1, { show: on });
        });
      });
      keys.append(node);
    });
    if (chart.range) button("Full range", "Show the full range", toggle("full"), false);
    if (positive) button("Log", "Logarithmic scale", toggle("log"), false);
    button("−", "Zoom out", () => zoom(2));
    button("+", "Zoom in", () => zoom(0.5));
    button("Reset", "Show all steps", reset);
    const cut = make("span", { class: "unit cut" }, "the highest values are cut off");
    place.append(where);
    place.before(keys);
    place.closest("figure").querySelector("figcaption").append(cut, tools);

    const axis = (more) => ({
      stroke: () => color("--muted"), grid: { stroke: () => color("--grid"), width: 1 },
      ticks: { show: false }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", ...more,
    });
    const options = () => ({
      width: Math.max(200, place.clientWidth), height: wide ? 340 : 220, padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false }, points: { size: 7 }, dataIdx: nearest,
        ...(chart.x === "step" ? { sync: { key: "step" } } : {}),
      },
      scales: {
        x: { time: false },
        y: state.log ? { distr: 3 } : chart.range && !state.full ? { range: chart.range } : {},
      },
      axes: [
        axis({ label: chart.x, labelSize: 18, size: 30, values: (_, ticks) => ticks.map(shown) }),
        axis({ size: 58, values: (_, ticks, __, ___, step) => ticks.map((v) => (v === null ? "" : tick(v, step))) }),
      ],
      series: [{}, ...chart.series.map((series) => ({
        label: series.name, spanGaps: true, dash: DASHES[series.style],
        width: series.style === "faint" ? 1 : 2, alpha: series.style === "faint" ? 0.35 : 1,
        stroke: () => series.style === "end" ? "transparent" : color(`--c${series.color % 6}`),
        points: {
          show: series.style === "points" || series.style === "end" || series.x.length === 1,
          size: series.style === "end" ? 10 : 7, fill: () => color(`--c${series.color % 6}`),
          stroke: () => color("--card"), width: 1,
        },
      }))],
      hooks: {
        draw: [(self) => drawErrors(self, chart)],
        setCursor: [(self) => {
          const { idx, idxs } = self.cursor, over = idx !== null && idx !== undefined;
          chart.series.forEach((_, k) => { values[k].textContent = over ? shown(self.data[k + 1][idxs[k + 1]]) : ""; });
          where.textContent = over ? `${chart.x === "step" ? "step" : "t ="} ${shown(self.data[0][idx])}` : "";
        }],
      },
    });
    function rebuild() {
      const hidden = plot ? plot.series.map((each) => each.show) : [];
      cut.hidden = !chart.range || state.full || state.log;
      if (plot) { plots.splice(plots.indexOf(plot), 1); plot.destroy(); }
      const tables = chart.series.map((series) => [series.x, series.y]);
      const aligned = tables.length > 1 ? uPlot.join(tables) : tables[0];
      plot = new uPlot(options(), aligned, place);
      hidden.forEach((show, k) => { if (k > 0 && !show) plot.setSeries(k, { show }); });
      plots.push(plot);
    }
    place.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -1, ArrowRight: 1 };
      if (event.key in moves) {
        const last = plot.data[0].length - 1, from = plot.cursor.idx ?? -1;
        const index = Math.max(0, Math.min(last, from + moves[event.key]));
        plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: plot.over.clientHeight / 2 });
      } else if (event.key === "+" || event.key === "=") zoom(0.5);
      else if (event.key === "-") zoom(2);
      else if (event.key === "0") reset();
      else return;
      event.preventDefault();
    });
    rebuild();
    new ResizeObserver(() => {
      const width = Math.max(200, place.clientWidth);
      if (width !== plot.width) plot.setSize({ width, height: plot.height });
    }).observe(place);
  }

  for (const chart of data.charts) {
    const place = document.querySelector(`[data-chart="${CSS.escape(chart.name)}"]`);
    if (place) draw(chart, place);  // what a damaged log calls a curve may not be printable
  }
  const redraw = () => plots.forEach((plot) => plot.redraw(false, true));
  addEventListener("theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
