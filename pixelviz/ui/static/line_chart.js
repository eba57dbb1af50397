// A chart whose whole specification comes from Python.
const host = element.querySelector(".pv-line-chart");
const chart = window.PixelViz.chart(host);
window.PixelViz.follow(props, watch, (spec) => {
  host.hidden = !spec;
  if (!spec) return;
  chart.draw(spec);
  if (spec.cursor !== null) chart.cursor(spec.cursor);
});
