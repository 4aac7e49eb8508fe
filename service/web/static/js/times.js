// Shows moments in the reader's own time and language, with 24 hours.

const STYLES = {
  time: { timeStyle: "medium", hourCycle: "h23" },
  full: { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" },
  precise: { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" },
};
const formats = Object.fromEntries(
  Object.entries(STYLES).map(([name, style]) => [name, new Intl.DateTimeFormat(undefined, style)]),
);
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });

export function localTimes(root = document) {
  const today = new Date().toDateString();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    const style = element.dataset.format;
    const old = style === "time" && moment.toDateString() !== today;
    element.textContent = (old ? day : (formats[style] ?? formats.time)).format(moment);
    element.title = moment.toString();
  }
}

localTimes();
