// Starts and cancels jobs. Both throw a Problem that has words for the reader.

export class Problem extends Error {
  constructor(message, { argument = "", reason = "" } = {}) {
    super(message);
    this.argument = argument;
    this.reason = reason;
  }
}

async function send(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Problem("The server cannot be reached. Try again in a moment.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(body.detail ?? `The server answered ${response.status}.`, body);
  return body;
}

// The key makes sending it once more after a lost answer harmless.
export function startJob(url, values, key = crypto.randomUUID?.() ?? String(Math.random())) {
  return send(url, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json",
      "Idempotency-Key": key,
    },
    body: JSON.stringify(values),
  });
}

export function cancelJob(url) {
  return send(url, { method: "DELETE", headers: { Accept: "application/json" } });
}
