// Draws the last hour, or as much of it as there were jobs, with uPlot, a plain script of the page.

const HOUR = 3600;
const HEIGHT = 190;
const [QUEUED, FINISHED, FAILED] = [1, 2, 3]; // their columns in a row
const LEAST = 30; // rows, of ten seconds each, that are shown however new the service is
const dark = matchMedia("(prefers-color-scheme: dark)");

// A colour of the stylesheet's, as a canvas needs it.
function colour(css) {
  const probe = document.createElement("span");
  probe.style.color = css;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const seconds = (value) => {
  if (value == null) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${Number(value.toPrecision(3))} s`;
};
const clock = (at) =>
  new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const perSecond = (value) => (value == null ? "–" : String(Number(value.toPrecision(3))));

function options(element, series, format) {
  const [line, text] = [colour("var(--line)"), colour("var(--muted)")];
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width: element.clientWidth || 300,
    height: HEIGHT,
    cursor: { drag: { x: false, y: false } },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, space: 90, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 56, values: (_, ticks) => ticks.map(format) },
    ],
    hooks: { setCursor: [showNewest], setData: [showNewest], ready: [showNewest] },
    series: [
      { value: (_, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString([], { hourCycle: "h23" })) },
      ...series.map(([label, name, fill]) => ({
        label,
        stroke: colour(`var(--${name})`),
        width: 1.75,
        fill: fill ? colour(`color-mix(in srgb, var(--${name}) 14%, transparent)`) : undefined,
        spanGaps: false,
        points: { show: true, size: 5, width: 1, filter: isolated },
        value: (_, value) => format(value),
      })),
    ],
  };
}

// Without a pointer on the chart, the legend has the newest values.
function showNewest(plot) {
  if (plot.cursor.idx == null) plot.setLegend({ idx: plot.data[0].length - 1 }, false);
}

// The values that have no neighbour to draw a line to.
function isolated(plot, index, show) {
  if (!show) return null;
  const values = plot.data[index];
  const found = [];
  values.forEach((value, at) => {
    if (value != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  });
  return found;
}

// Without zeros beside zeros: a line along the bottom would only hide the others.
function withoutZeros(values) {
  return values.map((value, at) =>
    value === 0 && !values[at - 1] && !values[at + 1] ? null : value,
  );
}

const SERIES = {
  rate: [[["queued", "calm"], ["finished", "good", true], ["failed", "bad"]], perSecond, [1, 2, 3]],
  time: [[["median", "good", true], ["95 %", "busy"]], seconds, [4, 5]],
};

export class Charts {
  constructor() {
    this.rows = new Map(); // by the time at which each begins
    this.plots = [];
    this.elements = [...document.querySelectorAll("[data-chart]")];
    dark.addEventListener("change", () => this.rebuild());
    new ResizeObserver(() => this.resize()).observe(document.getElementById("charts"));
  }

  add(points) {
    if (points.length === 0) return;
    for (const point of points) this.rows.set(point[0], point);
    const newest = points.at(-1)[0];
    for (const at of this.rows.keys()) if (at < newest - HOUR) this.rows.delete(at);
    if (this.plots.length === 0) this.rebuild();
    else this.draw();
  }

  rebuild() {
    for (const plot of this.plots) plot.destroy();
    this.plots = this.elements.map((element) => {
      const [series, format] = SERIES[element.dataset.chart];
      return new window.uPlot(options(element, series, format), this.data(element), element);
    });
  }

  data(element) {
    const rows = this.shown();
    const columns = [0, ...SERIES[element.dataset.chart][2]];
    return columns.map((column) => {
      const values = rows.map((row) => row[column]);
      return column === FAILED ? withoutZeros(values) : values;
    });
  }

  // From the first job on: else the first minutes of a service are a spike at the edge.
  shown() {
    const rows = [...this.rows.values()].sort((one, other) => one[0] - other[0]);
    const first = rows.findIndex((row) => row[QUEUED] || row[FINISHED]);
    const begin = Math.min(first < 0 ? rows.length : first - 1, rows.length - LEAST);
    return rows.slice(Math.max(begin, 0));
  }

  draw() {
    this.plots.forEach((plot, index) => plot.setData(this.data(this.elements[index])));
  }

  resize() {
    this.plots.forEach((plot, index) => {
      plot.setSize({ width: this.elements[index].clientWidth, height: HEIGHT });
    });
  }
}
