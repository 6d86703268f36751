// Plays a job's playlist while it still grows: a small HLS player on Media Source Extensions.
// It knows the playlists of this service and no others: one media playlist, fMP4, no encryption.

import { pause } from "./api.js";

const POLL_MS = 1500;
const AHEAD_S = 90; // loaded beyond what is shown
const BEHIND_S = 60; // kept when memory is short

export class LivePlayer {
  #stopping = new AbortController();

  constructor(video, service) {
    this.video = video;
    this.service = service;
  }

  /** Whether this browser can do it. */
  static get isSupported() {
    return Boolean(sourceClass());
  }

  /** Load window after window until the job has none left. `onFirst` is called once it can play. */
  async play(jobId, onFirst) {
    const { signal } = this.#stopping;
    const base = `v1/jobs/${jobId}/`;
    let buffer = null;
    let loaded = 0;
    while (!signal.aborted) {
      const list = await this.#playlist(`${base}playlist.m3u8`);
      for (const segment of list.segments.slice(loaded)) {
        await this.#untilNear(segment.start);
        if (!buffer) {
          buffer = await this.#open(await this.#load(base + list.init));
          onFirst();
        }
        await this.#append(buffer, await this.#load(base + segment.uri));
        loaded += 1;
      }
      if (list.isComplete) return this.#finish(buffer);
      await pause(POLL_MS);
    }
  }

  /** Load nothing more. */
  stop() {
    this.#stopping.abort();
  }

  async #playlist(path) {
    return parsePlaylist(await (await this.#get(path)).text());
  }

  async #load(path) {
    return new Uint8Array(await (await this.#get(path)).arrayBuffer());
  }

  /** An answer, however long it takes until there is one. */
  async #get(path) {
    const { signal } = this.#stopping;
    while (true) {
      try {
        return await this.service.fetch(path, { signal });
      } catch (problem) {
        if (signal.aborted || !isPassing(problem)) throw problem;
        await pause(POLL_MS);
      }
    }
  }

  async #open(init) {
    const Source = sourceClass();
    this.source = new Source();
    this.video.disableRemotePlayback = true; // without it Safari gives no source
    this.video.src = URL.createObjectURL(this.source);
    await once(this.source, "sourceopen");
    URL.revokeObjectURL(this.video.src);
    const buffer = this.source.addSourceBuffer(mediaType(init));
    await this.#append(buffer, init);
    return buffer;
  }

  async #append(buffer, bytes) {
    while (true) {
      try {
        buffer.appendBuffer(bytes);
        await once(buffer, "updateend");
        return;
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw error;
        await this.#makeRoom(buffer);
      }
    }
  }

  async #makeRoom(buffer) {
    const end = this.video.currentTime - BEHIND_S;
    if (end > 0 && buffer.buffered.length && buffer.buffered.start(0) < end) {
      buffer.remove(0, end);
      await once(buffer, "updateend");
    } else {
      await pause(POLL_MS);
    }
  }

  async #untilNear(start) {
    while (start > this.video.currentTime + AHEAD_S) {
      if (this.#stopping.signal.aborted) throw new DOMException("stopped", "AbortError");
      await pause(POLL_MS);
    }
  }

  #finish(buffer) {
    if (buffer && this.source.readyState === "open") this.source.endOfStream();
  }
}

/** Whether asking again may help: nothing there yet, a broken connection, a server that restarts. */
function isPassing({ code, status }) {
  return code === "job_not_finished" || status === 0 || status === 429 || status >= 500;
}

/** The init segment, the segments with their start in seconds, and whether more will come. */
export function parsePlaylist(text) {
  const segments = [];
  let init = null;
  let start = 0;
  let length = 0;
  for (const line of text.split("\n")) {
    if (line.startsWith("#EXT-X-MAP:")) init = line.match(/URI="([^"]+)"/)[1];
    else if (line.startsWith("#EXTINF:")) length = parseFloat(line.slice(8));
    else if (line && !line.startsWith("#")) {
      segments.push({ uri: line, start });
      start += length;
    }
  }
  return { init, segments, isComplete: text.includes("#EXT-X-ENDLIST") };
}

/** The type of an init segment, with the profile of its pictures, which its avcC box begins with. */
function mediaType(init) {
  const text = new TextDecoder("latin1").decode(init);
  const place = text.indexOf("avcC") + 5;
  const profile = Array.from(init.slice(place, place + 3), (n) => n.toString(16).padStart(2, "0"));
  return `video/mp4; codecs="avc1.${profile.join("")},mp4a.40.2"`;
}

function sourceClass() {
  return globalThis.ManagedMediaSource ?? globalThis.MediaSource;
}

function once(target, event) {
  return new Promise((resolve, reject) => {
    target.addEventListener(event, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("The video cannot be played here.")), {
      once: true,
    });
  });
}
