// @ts-nocheck
// A small line chart in SVG: linear or log axis, cursor, hover, legend, table of its numbers.
// PixelViz.chart(host) -> { draw(spec), cursor(x) }.
// spec: { label, xLabel, yLabel, log, yRange: [low, high] or null, targets: [{y, name}],
//         series: [{ name, color, dash, tag, x: [...], y: [...] }] }
(() => {
  const root = (window.PixelViz = window.PixelViz || {});
  if (root.chart) return;
  const SVG = "http://www.w3.org/2000/svg";

  root.node = (name, attributes = {}, text = "") => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  };
  // Text with the index of a symbol lowered: x_T, x_δ.
  root.typeset = (text) => {
    const span = root.node("span");
    text.split(/(_[A-Za-z0-9δθφ](?![A-Za-z0-9_]))/).forEach((part) => span.append(part.startsWith("_") ? root.node("sub", {}, part.slice(1)) : part));
    return span;
  };
  const shape = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  root.number = (value) => {
    if (value === null || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("e+", "e");
    return String(Number(value.toPrecision(4)));
  };
  const decade = (exponent) =>
    exponent === 0 ? "1" : exponent === 1 ? "10" : "10" + String(exponent).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

  const niceTicks = (low, high, count) => {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const ticks = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) ticks.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return ticks;
  };

  const usable = (spec, y) => Number.isFinite(y) && y !== null && (!spec.log || y > 0);

  function domains(spec) {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const s of spec.series)
      for (let k = 0; k < s.y.length; k++) {
        if (!usable(spec, s.y[k])) continue;
        x0 = Math.min(x0, s.x[k]); x1 = Math.max(x1, s.x[k]);
        y0 = Math.min(y0, s.y[k]); y1 = Math.max(y1, s.y[k]);
      }
    if (x0 > x1) return null;
    for (const target of spec.targets || []) { y0 = Math.min(y0, target.y); y1 = Math.max(y1, target.y); }
    if (spec.yRange) [y0, y1] = [spec.yRange[0] ?? y0, spec.yRange[1] ?? y1];
    if (spec.log) { [y0, y1] = [Math.floor(Math.log10(y0)), Math.ceil(Math.log10(y1))]; if (y0 === y1) y1 += 1; }
    else if (y0 === y1) { y0 -= 0.5; y1 += 0.5; }
    else if (!spec.yRange) { const pad = (y1 - y0) * 0.05; y0 -= pad; y1 += pad; }
    if (x0 === x1) x1 = x0 + 1;
    return { x0, x1, y0, y1 };
  }

  root.chart = (host) => {
    host.classList.add("pv-chart");
    const legend = root.node("div", { class: "pv-legend" });
    const stage = root.node("div", { class: "pv-stage" });
    const tip = root.node("div", { class: "pv-tip", hidden: "" });
    const details = root.node("details", { class: "pv-numbers" });
    details.append(root.node("summary", {}, "Numbers"), root.node("div"));
    host.replaceChildren(legend, stage, details);
    let spec = null, map = null, cursorAt = null, cursorLine = null, dots = [];

    const nearest = (xs, x) => {
      let low = 0, high = xs.length - 1;
      while (high - low > 1) { const mid = (low + high) >> 1; if (xs[mid] <= x) low = mid; else high = mid; }
      return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
    };

    function place() {
      if (!map || cursorAt === null) return;
      const px = map.x(cursorAt);
      cursorLine.setAttribute("x1", px); cursorLine.setAttribute("x2", px);
      cursorLine.style.display = "";
      dots.forEach(([dot, s]) => {
        const y = s.y[nearest(s.x, cursorAt)];
        const inside = usable(spec, y) && map.inside(y);
        dot.style.display = inside ? "" : "none";
        if (inside) { dot.setAttribute("cx", px); dot.setAttribute("cy", map.y(y)); }
      });
    }

    function render() {
      if (!spec) return;
      const width = stage.clientWidth;
      if (!width) return;
      const d = domains(spec);
      stage.replaceChildren(tip);
      map = null;
      if (!d) { stage.append(root.node("p", { class: "pv-empty" }, spec.empty || "Nothing to draw yet.")); return; }
      const height = Math.max(170, Math.min(spec.height || 230, width * 0.62));
      const m = { left: 52, right: 12, top: 10, bottom: 36 };
      const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.label });
      const x = (v) => m.left + ((v - d.x0) / (d.x1 - d.x0)) * (width - m.left - m.right);
      const y = (v) => { const u = spec.log ? Math.log10(v) : v; return height - m.bottom - ((u - d.y0) / (d.y1 - d.y0)) * (height - m.top - m.bottom); };
      const inside = (v) => { const u = spec.log ? Math.log10(v) : v; return u >= d.y0 - 1e-9 && u <= d.y1 + 1e-9; };
      map = { x, y, inside };

      const grid = shape("g", { class: "pv-grid" });
      const every = Math.max(1, Math.ceil((d.y1 - d.y0) / 7));
      const yTicks = spec.log
        ? Array.from({ length: d.y1 - d.y0 + 1 }, (_, k) => d.y0 + k).filter((e) => (d.y1 - e) % every === 0).map((e) => [10 ** e, decade(e)])
        : niceTicks(d.y0, d.y1, Math.max(3, height / 50)).map((v) => [v, root.number(v)]);
      for (const [v, text] of yTicks) {
        grid.append(shape("line", { x1: m.left, x2: width - m.right, y1: y(v), y2: y(v) }));
        grid.append(shape("text", { x: m.left - 6, y: y(v) + 3.5, "text-anchor": "end" }, text));
      }
      for (const v of niceTicks(d.x0, d.x1, Math.max(3, width / 90)).filter((v) => !spec.wholeX || Number.isInteger(v))) {
        grid.append(shape("line", { x1: x(v), x2: x(v), y1: height - m.bottom, y2: height - m.bottom + 4 }));
        grid.append(shape("text", { x: x(v), y: height - m.bottom + 16, "text-anchor": "middle" }, root.number(v)));
      }
      grid.append(shape("text", { class: "pv-axis", x: (m.left + width - m.right) / 2, y: height - 4, "text-anchor": "middle" }, spec.xLabel));
      grid.append(shape("text", { class: "pv-axis", transform: `translate(11 ${(height - m.bottom + m.top) / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.yLabel));
      svg.append(grid);

      for (const target of spec.targets || []) {
        svg.append(shape("line", { class: "pv-target", x1: m.left, x2: width - m.right, y1: y(target.y), y2: y(target.y) }));
        svg.append(shape("text", { class: "pv-target-name", x: width - m.right - 2, y: y(target.y) - 4, "text-anchor": "end" }, target.name));
      }
      const clip = "pv-clip-" + Math.random().toString(36).slice(2);
      const defs = shape("defs", {});
      const box = shape("clipPath", { id: clip });
      box.append(shape("rect", { x: m.left, y: m.top, width: width - m.left - m.right, height: height - m.top - m.bottom }));
      defs.append(box); svg.append(defs);
      const lines = shape("g", { "clip-path": `url(#${clip})` });
      const tags = shape("g", {});
      dots = [];
      for (const s of spec.series) {
        let path = "", pen = false;
        for (let k = 0; k < s.y.length; k++) {
          if (!usable(spec, s.y[k])) { pen = false; continue; }
          path += `${pen ? "L" : "M"}${x(s.x[k]).toFixed(1)} ${Math.max(-1e4, Math.min(1e4, y(s.y[k]))).toFixed(1)}`;
          pen = true;
        }
        lines.append(shape("path", { d: path, stroke: s.color, "stroke-dasharray": s.dash || "none", class: "pv-line" }));
        if (s.points) s.y.forEach((v, k) => usable(spec, v) && lines.append(shape("circle", { cx: x(s.x[k]), cy: y(v), r: 3, fill: s.color })));
        if (s.tag) {
          let at = Math.round((s.tagAt || 0.5) * (s.x.length - 1));
          while (at > 1 && !(usable(spec, s.y[at]) && inside(s.y[at]))) at = Math.floor(at * 0.75);
          if (usable(spec, s.y[at]) && inside(s.y[at])) {
            tags.append(shape("circle", { cx: x(s.x[at]), cy: y(s.y[at]), r: 7.5, fill: s.color }));
            tags.append(shape("text", { class: "pv-tag", x: x(s.x[at]), y: y(s.y[at]) + 3.5, "text-anchor": "middle" }, s.tag));
          }
        }
        dots.push([shape("circle", { r: 3.2, fill: s.color, class: "pv-dot", style: "display:none" }), s]);
      }
      cursorLine = shape("line", { class: "pv-cursor", y1: m.top, y2: height - m.bottom, style: "display:none" });
      svg.append(lines, tags, cursorLine, ...dots.map(([dot]) => dot));
      svg.addEventListener("pointermove", (event) => {
        const at = d.x0 + ((event.offsetX - m.left) / (width - m.left - m.right)) * (d.x1 - d.x0);
        if (at < d.x0 || at > d.x1) { tip.hidden = true; return; }
        const longest = spec.series.reduce((a, b) => (b.x.length > a.x.length ? b : a));
        const here = longest.x[nearest(longest.x, at)];
        tip.replaceChildren(root.node("b", {}, `${spec.xLabel} = ${root.number(here)}`));
        for (const s of spec.series) {
          const line = root.node("span");
          line.append(swatch(s), " ", root.typeset(s.name), `: ${root.number(s.y[nearest(s.x, here)])}`);
          tip.append(line);
        }
        tip.hidden = false;
        tip.style.left = Math.max(0, Math.min(event.offsetX + 12, width - tip.offsetWidth - 2)) + "px";
        tip.style.top = Math.max(0, Math.min(event.offsetY + 12, height - tip.offsetHeight)) + "px";
      });
      svg.addEventListener("pointerleave", () => { tip.hidden = true; });
      stage.append(svg);
      place();
    }

    function swatch(s) {
      const svg = shape("svg", { width: 22, height: 8, "aria-hidden": "true" });
      svg.append(shape("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke: s.color, "stroke-width": 2.5, "stroke-dasharray": s.dash || "none" }));
      return svg;
    }

    function fillTable() {
      if (!details.open || !spec) return;
      const table = root.node("table");
      const head = root.node("tr");
      head.append(root.node("th", {}, spec.xLabel), ...spec.series.map((s) => root.node("th", {}, s.name)));
      table.append(head);
      const longest = spec.series.reduce((a, b) => (b.x.length > a.x.length ? b : a), { x: [] }).x;
      const rows = Math.min(11, longest.length);
      for (let r = 0; r < rows; r++) {
        const at = longest[Math.round((r * (longest.length - 1)) / Math.max(1, rows - 1))];
        const row = root.node("tr");
        row.append(root.node("td", {}, root.number(at)), ...spec.series.map((s) => root.node("td", {}, root.number(s.y[nearest(s.x, at)]))));
        table.append(row);
      }
      details.lastChild.replaceChildren(table);
    }

    details.addEventListener("toggle", fillTable);
    new ResizeObserver(() => { if (stage.clientWidth !== stage.dataset.width * 1) { stage.dataset.width = stage.clientWidth; render(); } }).observe(stage);
    return {
      draw(next) {
        spec = next;
        // One entry per name: a dashed twin of a curve needs no line of its own.
        legend.replaceChildren(...(spec.legend || spec.series).map((s) => {
          const item = root.node("span");
          item.append(swatch(s), " ", root.typeset(s.name));
          return item;
        }));
        details.hidden = !spec.series.length;
        render();
        fillTable();
      },
      cursor(x) { cursorAt = x; place(); },
    };
  };

  // Runs `draw` with the parsed value now and after every update; a widget's value is a JSON string or empty.
  root.follow = (props, watch, draw) => {
    const update = () => draw(props.value ? JSON.parse(props.value) : null);
    watch("value", update);
    update();
  };
})();
