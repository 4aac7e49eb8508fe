// Follows the job on this page by polling its result until it has ended.

const RETRY_SECONDS = 2;

function show(section, job) {
  const state = section.querySelector(".state");
  state.textContent = job.state;
  state.dataset.state = job.state;
  const bar = section.querySelector("progress");
  bar.hidden = !job.progress?.total;
  if (job.progress?.total) {
    bar.max = job.progress.total;
    bar.value = job.progress.current;
  }
  section.querySelector(".note").textContent = job.progress?.note ?? "";
  const value = section.querySelector(".value");
  value.hidden = !job.ready;
  value.textContent = job.error
    ? `${job.error.type}: ${job.error.message}`
    : JSON.stringify(job.result, null, 2);
}

// Ask once; returns the seconds to wait before asking again, or null when there is no more to ask.
async function poll(section) {
  let response;
  try {
    response = await fetch(section.dataset.resultUrl, { headers: { Accept: "application/json" } });
  } catch {
    section.querySelector(".note").textContent = "The server cannot be reached; trying again.";
    return RETRY_SECONDS;
  }
  const answer = await response.json();
  if (!response.ok) {
    section.querySelector(".note").textContent = answer.detail;
    return response.status === 404 ? null : RETRY_SECONDS;
  }
  show(section, answer);
  return answer.ready ? null : Number(response.headers.get("Retry-After") ?? 1);
}

async function follow(section) {
  let seconds = 0.2;
  while (seconds !== null) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    seconds = await poll(section);
  }
}

for (const section of document.querySelectorAll("[data-result-url]:not([data-ready])")) {
  follow(section);
}
