// Shows moments in the reader's own time and language, with 24 hours, and how long ago they were.

const STYLES = {
  time: { timeStyle: "medium", hourCycle: "h23" },
  full: { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" },
  precise: { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" },
};
const formats = Object.fromEntries(
  Object.entries(STYLES).map(([name, style]) => [name, new Intl.DateTimeFormat(undefined, style)]),
);
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });

const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]; // seconds

let ahead = 0; // of this clock, the server's, where the page is told: milliseconds

export function setClock(at) {
  ahead = at * 1000 - Date.now();
}

// The server's time in seconds.
export function now() {
  return (Date.now() + ahead) / 1000;
}

// As the server has it in `duration`, in whole seconds.
function elapsedSince(moment) {
  const seconds = Math.max(0, Math.floor(now() - moment.getTime() / 1000));
  for (const [unit, name, part, partName] of UNITS) {
    if (seconds < unit) continue;
    const rest = Math.floor((seconds % unit) / part);
    return `${Math.floor(seconds / unit)} ${name}${rest ? ` ${rest} ${partName}` : ""}`;
  }
  return `${seconds} s`;
}

function textOf(moment, style) {
  if (style === "elapsed") return elapsedSince(moment);
  const old = style === "time" && moment.toDateString() !== new Date().toDateString();
  return (old ? day : (formats[style] ?? formats.time)).format(moment);
}

export function localTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    element.textContent = textOf(moment, element.dataset.format);
    element.title = moment.toString();
  }
}

function countOn() {
  for (const element of document.querySelectorAll("time[data-format=elapsed]")) {
    const text = elapsedSince(new Date(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}

localTimes();
setInterval(() => document.hidden || countOn(), 1000);
