// Draws what jobs did within the chosen time, with uPlot, a plain script of the page.

const HEIGHT = 190;
const [QUEUED, FINISHED, FAILED] = [1, 2, 3]; // their columns in a row
const LEAST = 18; // rows that are shown however new the service is
const WIDE = 50; // how many times others the greatest value is from which on an axis is logarithmic
const [LINEAR, LOG, ASINH] = [1, 3, 4]; // uPlot's numbers; the last is logarithmic, and has a zero
const WORDS = { minutes: "5 minutes", hour: "1 hour", day: "24 hours" };
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
  if (value < 1) return `${Number((value * 1000).toPrecision(3))} ms`;
  return `${Number(value.toPrecision(3))} s`;
};
const clock = (at) =>
  new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const precise = (at) => new Date(at * 1000).toLocaleTimeString([], { hourCycle: "h23" });
const perSecond = (value) => (value == null ? "–" : String(Number(value.toPrecision(3))));
const count = (value) => value.toLocaleString();

// `columns` are those of a row, and from the same number less one on those of the sums; `total` is how a sum is told.
const CHARTS = {
  rate: {
    series: [["queued", "calm"], ["finished", "good", true], ["failed", "bad"]],
    columns: [QUEUED, FINISHED, FAILED],
    format: perSecond,
    total: count,
    logarithmic: ASINH,
    share: 0.5,
  },
  time: {
    series: [["median", "good", true], ["95 %", "busy"]],
    columns: [4, 5],
    format: seconds,
    total: seconds,
    logarithmic: LOG,
    share: 0.25,
  },
};

// Whether many values could not be told apart beside the greatest; as many as the chart's `share`.
function isSpread(columns, { share }) {
  const values = columns.flat().filter((value) => value > 0).sort((one, other) => one - other);
  return values.length > 2 && values.at(-1) > WIDE * values[Math.floor(values.length * share)];
}

function scaleOf(kind, values) {
  if (kind === LINEAR) return { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] };
  const least = values.flat().reduce((found, value) => (value > 0 && value < found ? value : found), Infinity);
  if (kind === ASINH) return { distr: ASINH, asinh: least, range: (_, low, high) => [0, high * 1.3] };
  return { distr: LOG, range: (_, low, high) => [low / 1.3, high * 1.3] };
}

function options(element, chart, kind, data, told) {
  const [line, text] = [colour("var(--line)"), colour("var(--muted)")];
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const isShown = (tick) => kind === LINEAR || tick === 0 || (tick > 0 && Number.isInteger(Number(Math.log10(tick).toFixed(6))));
  const filter = (_, ticks) => ticks.map((tick) => (isShown(tick) ? tick : null));
  const labels = (_, ticks) => ticks.map((tick) => (tick == null ? "" : chart.format(tick)));
  return {
    width: element.clientWidth || 300,
    height: HEIGHT,
    cursor: { drag: { x: false, y: false } },
    scales: { y: scaleOf(kind, data.slice(1)) },
    axes: [
      { ...axis, grid: { show: false }, space: 90, gap: 12, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 60, values: labels, filter, grid: { ...axis.grid, filter } },
    ],
    hooks: { setCursor: [showSums], setData: [showSums], ready: [showSums] },
    series: [
      { value: (plot, at) => (isAtRest(plot) ? told().span : at == null ? "–" : precise(at)) },
      ...chart.series.map(([label, name, fill], index) => ({
        label,
        stroke: colour(`var(--${name})`),
        width: 1.75,
        fill: fill ? colour(`color-mix(in srgb, var(--${name}) 14%, transparent)`) : undefined,
        spanGaps: false,
        points: { show: true, size: 5, width: 1, filter: isolated },
        value: (plot, value) => {
          const sum = told().sums[chart.columns[index] - 1];
          return isAtRest(plot) && sum != null ? chart.total(sum) : chart.format(value);
        },
      })),
    ],
  };
}

const isAtRest = (plot) => plot.cursor.idx == null;

// Without a pointer on the chart, the legend has the sums of the whole time.
function showSums(plot) {
  if (isAtRest(plot)) plot.setLegend({ idx: plot.data[0].length - 1 }, false);
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

export class Charts {
  constructor() {
    this.rows = new Map(); // by the time at which each begins
    this.told = { span: "", sums: [] };
    this.plots = [];
    this.elements = [...document.querySelectorAll("[data-chart]")];
    dark.addEventListener("change", () => this.rebuild());
    new ResizeObserver(() => this.resize()).observe(document.getElementById("charts"));
  }

  // What the server says is new; where it is the whole, nothing of before counts.
  add({ rows, whole, sums }, span) {
    if (whole) this.rows.clear();
    for (const row of rows) this.rows.set(row[0], row);
    this.told = { span: WORDS[span] ?? "", sums };
    const begin = Math.max(...this.rows.keys()) - { minutes: 300, hour: 3600, day: 86400 }[span];
    for (const at of this.rows.keys()) if (at < begin) this.rows.delete(at);
    if (this.rows.size > 0) this.draw();
  }

  rebuild() {
    for (const { plot } of this.plots) plot.destroy();
    this.plots = this.elements.map((element) => this.build(element));
  }

  build(element) {
    const chart = CHARTS[element.dataset.chart];
    const data = this.data(chart);
    const kind = isSpread(data.slice(1), chart) ? chart.logarithmic : LINEAR;
    const plot = new window.uPlot(options(element, chart, kind, data, () => this.told), data, element);
    element.dataset.axis = kind === LINEAR ? "linear" : "logarithmic";
    return { plot, kind };
  }

  data(chart) {
    const rows = this.shown();
    return [0, ...chart.columns].map((column) => {
      const values = rows.map((row) => row[column]);
      return column === FAILED ? withoutZeros(values) : values;
    });
  }

  // From the first job on: else the first minutes of a service are a spike at the edge.
  shown() {
    const rows = [...this.rows.values()].sort((one, other) => one[0] - other[0]);
    const first = rows.findIndex((row) => row[QUEUED] || row[FINISHED] || row[FAILED]);
    const begin = Math.min(first < 0 ? rows.length : first - 1, rows.length - LEAST);
    return rows.slice(Math.max(begin, 0));
  }

  draw() {
    if (this.plots.length === 0) {
      this.rebuild();
      return;
    }
    this.plots = this.plots.map(({ plot, kind }, index) => {
      const chart = CHARTS[this.elements[index].dataset.chart];
      const data = this.data(chart);
      if ((kind !== LINEAR) === isSpread(data.slice(1), chart)) {
        plot.setData(data);
        return { plot, kind };
      }
      plot.destroy();
      return this.build(this.elements[index]);
    });
  }

  resize() {
    this.plots.forEach(({ plot }, index) => {
      plot.setSize({ width: this.elements[index].clientWidth, height: HEIGHT });
    });
  }
}
