"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const view = read("view");
  const root = document.documentElement;
  const host = document.getElementById("panels");
  const show = { train: true, test: true, seeds: false, yMax: view.y_ranges[0], hidden: new Set() };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const alpha = (hex, a) => hex + Math.round(a * 255).toString(16).padStart(2, "0");
  const steps = (n) => n.toLocaleString("en-US");
  const tick = (n) => String(Math.round(n * 1e6) / 1e6);
  const error = (v) => (v == null ? "–" : v.toFixed(2));
  const lastIndex = (values) => values.reduce((at, v, i) => (v == null ? at : i), -1);
  const charts = [];

  // Data and series of one panel, for what is shown at present. uPlot wants one x and columns beside it.
  function columns(panel) {
    const data = [panel.x];
    const series = [{}];
    const bands = [];
    const add = (values, style) => {
      series.push({ spanGaps: true, points: { show: panel.style === "points" && style.width > 1, size: 8, fill: style.stroke }, ...style });
      return data.push(values) - 1;
    };
    for (const net of panel.nets) {
      if (show.hidden.has(net.net)) continue;
      const color = css(`--c${net.color}`);
      for (const part of ["train", "test"]) {
        const line = net[part];
        if (!show[part] || !line) continue;
        const dash = part === "train" ? [6, 4] : undefined;
        if (show.seeds) {
          for (const seed of net.seeds) add(seed[part], { stroke: alpha(color, 0.55), width: 1, dash });
        } else if (net.seeds.length > 1) {
          const still = { stroke: "transparent", width: 0 };
          const high = add(line.high, still);
          const low = add(line.low, still);
          bands.push({ series: [high, low], fill: alpha(color, dark.matches ? 0.22 : 0.15) });
        }
        add(line.mean, { stroke: color, width: part === "train" ? 1.4 : 2.75, dash });
      }
    }
    return { data, series, bands };
  }

  // Labels moved as little as can be (least squares), so that each is a gap from its neighbours.
  function spread(ends, gap) {
    ends.sort((a, b) => a.label - b.label);
    const groups = [];
    const mean = (g) => g.sum / g.n;
    ends.forEach((end, i) => {
      groups.push({ sum: end.label - i * gap, n: 1 });
      while (groups.length > 1 && mean(groups.at(-2)) > mean(groups.at(-1))) {
        const last = groups.pop();
        groups.at(-1).sum += last.sum;
        groups.at(-1).n += last.n;
      }
    });
    let rank = 0;
    for (const g of groups) for (let i = 0; i < g.n; i++, rank++) ends[rank].label = mean(g) + rank * gap;
  }

  // A name that is too long for its place, cut short; the table under the chart has all of it.
  function cut(ctx, name, room) {
    let text = name;
    while (text.length > 3 && ctx.measureText(text).width > room) text = text.slice(0, -2).trimEnd() + "…";
    return text;
  }

  // Names at the ends of the lines, with the sign of the kind: an open square is plain, a dot residual.
  function drawEnds(u, panel) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const ends = [];
    for (const net of panel.nets) {
      const line = (show.test && net.test) || (show.train && net.train);
      if (!line || show.hidden.has(net.net)) continue;
      const at = lastIndex(line.mean);
      if (at < 0 || panel.x[at] > u.scales.x.max) continue;
      const y = u.valToPos(line.mean[at], "y", true);
      ends.push({ net, x: u.valToPos(panel.x[at], "x", true), y, label: Math.max(y, bbox.top + 4 * ratio), above: y < bbox.top });
    }
    spread(ends, 15 * ratio);
    ctx.save();
    ctx.font = `${12 * ratio}px ${css("--sans")}`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (const { net, x, y, label, above } of ends) {
      const color = css(`--c${net.color}`);
      ctx.fillStyle = ctx.strokeStyle = color;
      ctx.lineWidth = 2 * ratio;
      const r = 3.6 * ratio;
      ctx.beginPath();
      if (!above && net.kind === "residual") { ctx.arc(x, y, r + ratio, 0, 7); ctx.fill(); }
      if (!above && net.kind === "plain") {
        ctx.rect(x - r, y - r, 2 * r, 2 * r);
        ctx.fillStyle = css("--ground"); ctx.fill(); ctx.stroke(); ctx.fillStyle = color;
      }
      ctx.fillText(cut(ctx, net.net, u.width * ratio - bbox.left - bbox.width - 24 * ratio) + (above ? " ↑" : ""), bbox.left + bbox.width + 10 * ratio, label);
    }
    if (view.threshold != null && view.threshold < (panel.y_max ?? show.yMax)) {
      const y = Math.round(u.valToPos(view.threshold, "y", true)) + 0.5;
      ctx.strokeStyle = css("--faint");
      ctx.lineWidth = ratio;
      ctx.setLineDash([ratio, 3 * ratio]);
      ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
    }
    ctx.restore();
  }

  // The table under a chart: legend, switch for each network, and the values at the cursor or at the end.
  function fillReading(chart, index) {
    const { panel, head, cells } = chart;
    const at = index == null ? panel.x.length - 1 : index;
    head.textContent = panel.style === "points" ? `${panel.x_label} ${steps(panel.x[at])}` : index == null ? "at the end" : `at ${steps(panel.x[at])}`;
    panel.nets.forEach((net, i) => {
      for (const part of ["train", "test"]) {
        const values = net[part] ? net[part].mean : [];
        cells[i][part].textContent = error(index == null ? values[lastIndex(values)] : values[at]);
      }
    });
  }

  function makeReading(chart) {
    const table = document.createElement("table");
    table.className = "reading";
    table.innerHTML = "<thead><tr><th></th><th>training, %</th><th>test, %</th></tr></thead><tbody></tbody>";
    chart.head = table.querySelector("th");
    chart.cells = chart.panel.nets.map((net) => {
      const row = table.tBodies[0].insertRow();
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.net = net.net;
      button.setAttribute("aria-pressed", "true");
      const sign = document.createElement("i");
      sign.className = `sign ${net.kind} c${net.color}`;
      button.append(sign, net.net);
      button.onclick = () => {
        if (!show.hidden.delete(net.net)) show.hidden.add(net.net);
        button.setAttribute("aria-pressed", String(!show.hidden.has(net.net)));
        draw();
      };
      row.insertCell().append(button);
      return { train: row.insertCell(), test: row.insertCell() };
    });
    return table;
  }

  function plot(chart) {
    const { panel, box } = chart;
    const { data, series, bands } = columns(panel);
    const ink = css("--soft");
    const font = `12px ${css("--sans")}`;
    const grid = { stroke: css("--grid"), width: 1 };
    const longest = Math.max(...panel.nets.map((net) => net.net.length));
    if (chart.u) chart.u.destroy();
    chart.u = new uPlot({
      width: box.clientWidth, height: box.clientHeight, series, bands,
      legend: { show: false },
      padding: [10, Math.min(0.36 * box.clientWidth, 24 + 7.2 * longest), 0, 0],
      scales: {
        x: { time: false, range: (_u, min, max) => [min === panel.x[0] ? (panel.style === "curves" ? 0 : min - 0.05 * panel.x_max) : min, max === panel.x.at(-1) ? panel.x_max : max] },
        y: { range: () => [0, panel.y_max ?? show.yMax] },
      },
      axes: [
        { stroke: ink, font, labelFont: font, label: panel.x_label, labelSize: 20, size: 34, grid: { show: false }, ticks: grid, space: 56,
          ...(panel.style === "points" ? { splits: () => panel.x } : {}),
          values: (_u, ticks) => ticks.map((v) => (panel.x_unit === 1 ? steps(v) : tick(v / panel.x_unit))) },
        { stroke: ink, font, size: 34, grid, ticks: { show: false },
          values: (_u, ticks) => ticks.map(tick) },
      ],
      cursor: { sync: { key: `reslab-${panel.style}`, setSeries: false, scales: ["x", null] }, drag: { x: true, y: false }, points: { size: 7 } },
      hooks: {
        draw: [(u) => drawEnds(u, panel)],
        setCursor: [(u) => fillReading(chart, u.cursor.left < 0 ? null : u.cursor.idx)],
      },
    }, data, box);
    fillReading(chart, null);
  }

  function draw() { charts.forEach(plot); }

  function move(event, style) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    for (const { u, panel } of charts) {
      if (panel.style !== style) continue;
      const from = u.cursor.left >= 0 && u.cursor.idx != null ? u.cursor.idx : panel.x.length - 1;
      const to = Math.min(panel.x.length - 1, Math.max(0, from + way));
      u.setCursor({ left: u.valToPos(panel.x[to], "x"), top: 10 }, true, false);
    }
  }

  function press(buttons, chosen) {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === chosen));
  }

  view.panels.forEach((panel) => {
    const part = document.createElement("div");
    part.className = "panel";
    const title = document.createElement("h3");
    title.textContent = panel.title;
    const unit = document.createElement("small");
    unit.textContent = "error, %";
    title.append(unit);
    const box = document.createElement("div");
    box.className = "plot";
    box.tabIndex = 0;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${panel.label} Left and right arrow keys read values.`);
    box.onkeydown = (event) => move(event, panel.style);
    const chart = { panel, box };
    part.append(title, box, makeReading(chart));
    host.append(part);
    charts.push(chart);
  });
  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.onclick = () => {
      const name = button.dataset.toggle;
      show[name] = !show[name];
      button.setAttribute("aria-pressed", String(show[name]));
      draw();
    };
  }
  const ranges = document.querySelectorAll("[data-y]");
  for (const button of ranges) {
    button.onclick = () => { show.yMax = Number(button.dataset.y); press(ranges, button); draw(); };
  }
  document.getElementById("get-figure").href = document.querySelector(".still").src;
  document.getElementById("get-json").onclick = function () {
    const text = JSON.stringify(read("summary"), null, 2) + "\n";
    this.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  };

  root.classList.remove("static");
  try {
    draw();
  } catch (problem) {
    root.classList.add("static");
    throw problem;
  }
  dark.addEventListener("change", draw);
  new ResizeObserver(() => {
    for (const { u, box } of charts) if (u.width !== box.clientWidth && box.clientWidth) u.setSize({ width: box.clientWidth, height: box.clientHeight });
  }).observe(host);
})();
