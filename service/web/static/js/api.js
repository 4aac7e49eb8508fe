// Starts and cancels jobs. Both throw a Problem that has words for the reader.

export class Problem extends Error {
  // `uncertain`: it may have been done all the same.
  // `pointer` is a JSON pointer into the arguments that were sent.
  constructor(message, { argument = "", pointer = "", reason = "", uncertain = false } = {}) {
    super(message);
    Object.assign(this, { argument, pointer, reason, uncertain });
  }
}

async function send(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Problem("The server cannot be reached. Try again in a moment.", { uncertain: true });
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const uncertain = response.status >= 500;
    throw new Problem(body.detail ?? `The server answered ${response.status}.`, { ...body, uncertain });
  }
  return body;
}

const unanswered = new Map(); // what was sent → the key that makes sending it once more harmless

export async function startJob(url, values) {
  const body = JSON.stringify(values);
  const sent = `${url} ${body}`;
  const key = unanswered.get(sent) ?? crypto.randomUUID?.() ?? String(Math.random());
  unanswered.set(sent, key);
  const headers = { "Content-Type": "application/json", Accept: "application/json", "Idempotency-Key": key };
  try {
    const job = await send(url, { method: "POST", headers, body });
    unanswered.delete(sent);
    return job;
  } catch (error) {
    if (!error.uncertain) unanswered.delete(sent);
    throw error;
  }
}

export function cancelJob(url) {
  return send(url, { method: "DELETE", headers: { Accept: "application/json" } });
}
