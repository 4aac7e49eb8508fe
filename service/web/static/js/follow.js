// Follows an address that can be asked, waited on and streamed: by whichever of these works.

const MAX_FAILURES = 2; // failures of one way before the next is tried
const BACK_TO_STREAMS = 60_000; // milliseconds
const WAIT = 25; // seconds of one long poll
const POLL = 2_000; // milliseconds
const PAUSES = [300, 1_000, 2_000, 3_000]; // milliseconds before asking a server that is away

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export class Follower {
  // `address()` is where to look, null if nowhere; `onData(json)` takes what came; `onState(name)` hears "live",
  // "polling", "busy" (the server is there, but cannot say), "away" or "refused".
  constructor({ address, onData, onState = () => {}, waits = true }) {
    Object.assign(this, { address, onData, onState, waits });
    this.run = 0;
    this.streamFailures = 0;
    this.waitFailures = 0;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.stop();
      else this.restart();
    });
    addEventListener("pagehide", () => this.stop());
  }

  restart() {
    this.stop();
    this.etag = null;
    if (!document.hidden && this.address()) this.follow(this.run);
  }

  stop() {
    this.run += 1;
    this.source?.close();
    this.request?.abort();
  }

  async follow(run) {
    let missed = 0;
    while (run === this.run) {
      if (this.streamFailures < MAX_FAILURES && (await this.listen(run))) missed = 0;
      if (run !== this.run) return;
      // The stream ended or never began: ask, to learn whether the server is there at all.
      const waits = this.waits && this.streamFailures >= MAX_FAILURES && this.waitFailures < MAX_FAILURES;
      const answer = await this.ask(waits && missed === 0 ? WAIT : 0, run);
      if (run !== this.run) return;
      if (answer === "refused") return this.onState("refused");
      if (answer === "ok") {
        missed = 0;
        if (this.streamFailures >= MAX_FAILURES) this.onState("polling");
        await pause(!waits && this.streamFailures >= MAX_FAILURES ? POLL : PAUSES[0]);
      } else {
        missed += 1;
        if (waits) this.waitFailures += 1;
        if (answer === "away" && missed === 1) {
          await pause(PAUSES[0]); // a restart may be over by then
          continue;
        }
        this.onState(answer);
        await pause(PAUSES[Math.min(missed, PAUSES.length - 1)]);
      }
    }
  }

  // Take events until the stream breaks; whether it ever began.
  listen(run) {
    return new Promise((resolve) => {
      let began = false;
      const source = new EventSource(this.address());
      this.source = source;
      source.onopen = () => {
        began = true;
        this.streamFailures = 0;
        if (run === this.run) this.onState("live");
      };
      source.onmessage = (event) => {
        if (run === this.run) this.onData(JSON.parse(event.data));
      };
      source.onerror = () => {
        source.close();
        if (!began && ++this.streamFailures === MAX_FAILURES) {
          setTimeout(() => {
            this.streamFailures = this.waitFailures = 0;
          }, BACK_TO_STREAMS);
        }
        resolve(began);
      };
    });
  }

  async ask(wait, run) {
    const url = new URL(this.address(), location.href);
    if (wait) url.searchParams.set("wait", wait);
    const headers = { Accept: "application/json" };
    if (this.etag) headers["If-None-Match"] = this.etag;
    this.request = new AbortController();
    const deadline = setTimeout(() => this.request.abort(), (wait + 10) * 1000);
    try {
      const response = await fetch(url, { headers, signal: this.request.signal, cache: "no-store" });
      if (response.status === 304) return "ok";
      if (response.status === 403 || response.status === 404) return "refused";
      if (!response.ok) return "busy";
      const data = await response.json();
      this.etag = response.headers.get("ETag");
      if (run === this.run) this.onData(data);
      return "ok";
    } catch {
      // Without an answer a stream is no worse than asking: when the server is back, try it first.
      this.streamFailures = 0;
      return "away";
    } finally {
      clearTimeout(deadline);
    }
  }
}
