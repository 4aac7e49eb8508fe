// Remembers which jobs this browser has started, newest first.

const KEY = "service.jobs";
export const MOST = 50;

export function remembered() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((job) => typeof job?.id === "string") : [];
  } catch {
    return []; // the browser forbids it, or somebody else wrote there
  }
}

export function remember(job) {
  const others = remembered().filter((other) => other.id !== job.id);
  save([job, ...others].slice(0, MOST));
}

export function forget(id) {
  save(remembered().filter((job) => job.id !== id));
}

function save(jobs) {
  try {
    localStorage.setItem(KEY, JSON.stringify(jobs));
  } catch {
    // The list is then this page's only.
  }
}
