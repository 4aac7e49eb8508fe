// Remembers which jobs this browser has started, newest first.

const KEY = "service.jobs";
const MAX_JOBS = 50;
let unsaved = null; // the jobs, where the browser does not store them

export function remembered() {
  if (unsaved) return unsaved;
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((job) => typeof job?.id === "string") : [];
  } catch {
    return []; // the browser forbids it, or the text is not ours
  }
}

export function remember(job) {
  const others = remembered().filter((other) => other.id !== job.id);
  save([job, ...others].slice(0, MAX_JOBS));
}

export function forget(id) {
  save(remembered().filter((job) => job.id !== id));
}

function save(jobs) {
  try {
    localStorage.setItem(KEY, JSON.stringify(jobs));
    unsaved = null;
  } catch {
    unsaved = jobs;
  }
}
