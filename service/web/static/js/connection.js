// Says in words when the server cannot be reached, and when it is back.

const WORDS = {
  away: "The server cannot be reached. Trying again…",
  busy: "The server cannot look this up at the moment. Trying again…",
  refused: "You are not signed in any more. Reload the page.",
};

const line = document.getElementById("connection");
let wasAway = false;

export function showConnection(state) {
  if (WORDS[state]) {
    wasAway = true;
    line.dataset.kind = state;
    line.textContent = WORDS[state];
  } else if (wasAway) {
    wasAway = false;
    line.dataset.kind = "back";
    line.textContent = "Connected again.";
    setTimeout(() => {
      if (!wasAway) line.textContent = "";
    }, 2_000);
  }
}
