// Requests to the service, with the key and the headers that it or a proxy before it asks for.

const ACCESS = "infinitetalk.access";
const AGAIN_MS = 2000;

/** What the server said instead of an answer, as one sentence. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.error ?? sentenceFor(status));
    this.status = status;
    this.code = body.code ?? "http_error";
    this.field = body.field ?? null;
  }
}

export class Service {
  constructor(base) {
    this.base = base;
  }

  info() {
    return this.json("v1/info");
  }

  status(id) {
    return this.json(`v1/jobs/${id}`);
  }

  /** The id of the new job. `onProgress` is told the share that was sent. */
  async submit(fields, onProgress) {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    return (await this.#send("generate/submit", body, onProgress)).task_id;
  }

  async cancel(id) {
    await this.json(`generate/cancel?task_id=${id}`, { method: "PUT" });
  }

  async retry(id) {
    return (await this.json(`generate/retry?task_id=${id}`, { method: "POST" })).task_id;
  }

  async erase(id) {
    await this.fetch(`v1/jobs/${id}`, { method: "DELETE" });
  }

  /** Tell every status of a job until it has ended or `signal` is aborted. */
  async follow(id, onStatus, onSilence, signal) {
    while (!signal.aborted) {
      try {
        const stream = await this.fetch(`v1/jobs/${id}/events`, { signal });
        for await (const status of statusesOf(stream)) {
          onStatus(status);
          if (hasEnded(status)) return;
        }
      } catch (problem) {
        if (signal.aborted) return;
        if (problem.status && problem.status < 500 && problem.status !== 429) throw problem;
        onSilence(problem);
      }
      await pause(AGAIN_MS / 2);
    }
  }

  /** Where the finished video is: its address, or a copy here if that can only be asked with a key. */
  async video(id) {
    const path = `generate/get?task_id=${id}`;
    if (!this.isKeyed) return new URL(path, this.base).href;
    return URL.createObjectURL(await (await this.fetch(path)).blob());
  }

  async json(path, options) {
    return (await this.fetch(path, options)).json();
  }

  /** An answer that is no error. Throws Problem. */
  async fetch(path, options = {}) {
    let answer;
    try {
      answer = await fetch(new URL(path, this.base), { ...options, headers: this.headers() });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, {});
    }
    if (!answer.ok) throw new Problem(answer.status, await bodyOf(answer));
    return answer;
  }

  get access() {
    return JSON.parse(sessionStorage.getItem(ACCESS) ?? '{"key": "", "headers": ""}');
  }

  set access(access) {
    sessionStorage.setItem(ACCESS, JSON.stringify(access));
  }

  get isKeyed() {
    return Object.keys(this.headers()).length > 0;
  }

  headers() {
    const { key, headers } = this.access;
    return { ...parseHeaders(headers), ...(key && { Authorization: `Bearer ${key}` }) };
  }

  #send(path, body, onProgress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch does not tell how much was sent
      request.open("POST", new URL(path, this.base));
      const headers = { ...this.headers(), "Idempotency-Key": randomName() };
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
      request.onerror = () => reject(new Problem(0, {}));
      request.onload = () => {
        const answer = parse(request.responseText);
        if (request.status === 200) resolve(answer);
        else reject(new Problem(request.status, answer));
      };
      request.send(body);
    });
  }
}

export function hasEnded(status) {
  return ["completed", "failed", "canceled"].includes(status.status);
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** "Name: value" lines as an object. Throws TypeError for what is no header. */
export function parseHeaders(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  const pairs = lines.map((line) => {
    const [, name, value] = line.match(/^\s*([^:\s]+)\s*:\s*(.*?)\s*$/) ?? [];
    if (!name) throw new TypeError(`"${line.trim()}" is not Name: value.`);
    new Headers([[name, value]]); // throws what the browser would refuse to send
    return [name, value];
  });
  return Object.fromEntries(pairs);
}

async function* statusesOf(stream) {
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

async function bodyOf(answer) {
  return parse(await answer.text().catch(() => ""));
}

function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function randomName() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
}

function sentenceFor(status) {
  if (status === 0) return "The server cannot be reached.";
  if (status === 401 || status === 403) return "The server, or a proxy before it, asks who you are.";
  if (status >= 500) return "The server is not well at the moment.";
  return `The server answered ${status}.`;
}
