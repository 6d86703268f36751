// The stage: one job, from waiting to the finished video.

import { hasEnded } from "./api.js";
import { LivePlayer } from "./player.js";
import { facts, sentence, windowsDone } from "./words.js";

const MANY = 48; // windows that are too many to be told apart
const $ = (id) => document.getElementById(id);

export class Stage {
  /** `onStatus` is told every status; `onJob`, `onErased` what the buttons made of the job. */
  constructor(service, { onStatus, onJob, onErased }) {
    this.service = service;
    this.onStatus = onStatus;
    this.job = null;
    this.#button("cancel", () => service.cancel(this.job.id));
    this.#button("retry", async () => onJob({ ...this.job, id: await service.retry(this.job.id) }));
    this.#button("delete", async () => {
      const { id } = this.job;
      await service.erase(id);
      this.clear();
      onErased(id);
    });
  }

  /** Follow a job; what was followed before is left. */
  async open(job) {
    this.clear();
    this.job = job;
    this.following = new AbortController();
    const { signal } = this.following;
    $("job").hidden = false;
    document.querySelector("main").classList.add("watching");
    try {
      await this.service.follow(
        job.id, (status) => this.#show(status), (problem) => this.#complain(problem), signal,
      );
    } catch (problem) {
      if (!signal.aborted) this.#lose(problem);
    }
  }

  clear() {
    this.following?.abort();
    this.player?.stop();
    this.player = this.job = this.status = null;
    this.isPlaying = false;
    const video = $("video");
    video.removeAttribute("src");
    video.load();
    for (const name of ["job", "video", "badge", "job-error", "download"]) $(name).hidden = true;
    $("empty").hidden = false;
    document.querySelector("main").classList.remove("watching");
  }

  #show(status) {
    const isNew = this.status?.status !== status.status;
    this.status = status;
    this.#complain(null);
    $("status").textContent = sentence(status);
    $("facts").textContent = facts(status);
    this.#fill(status);
    $("cancel").hidden = hasEnded(status);
    $("retry").hidden = $("delete").hidden = !hasEnded(status);
    if (isNew) this.#enter(status);
    this.onStatus(this.job.id, status);
  }

  /** What happens once when a job comes into a state. */
  #enter(status) {
    $("announced").textContent = sentence(status); // every step would be too much to listen to
    $("empty-text").textContent = {
      completed: "", failed: "There is no video.", canceled: "There is no video.",
    }[status.status] ?? "It plays here from its first window on.";
    if (status.status === "completed") return this.#offer();
    if (status.status === "failed") return this.#complain(status.error);
    if (status.status === "in_progress") this.#watch();
  }

  /** Play what is rendered while the rest is rendered. */
  async #watch() {
    if (this.player || !LivePlayer.isSupported) return;
    const player = (this.player = new LivePlayer($("video"), this.service));
    try {
      await player.play(this.job.id, () => {
        this.#reveal();
        $("badge").textContent = "Plays while it is made";
        $("badge").hidden = false;
      });
    } catch (problem) {
      if (this.player !== player) return;
      this.player = null;
      if (this.status?.status === "completed") this.#offer(); // the whole video then
      else $("empty-text").textContent = "It plays here as soon as it is done.";
    }
  }

  /** The finished video: to keep, and to play if it is not playing already. */
  async #offer() {
    const { job } = this;
    const url = await this.service.video(job.id).catch((problem) => this.#complain(problem));
    if (this.job !== job || !url) return;
    Object.assign($("download"), { href: url, download: `${job.id}.mp4`, hidden: false });
    $("badge").hidden = true;
    if (!this.player) {
      $("video").src = url;
      this.#reveal();
    }
  }

  #reveal() {
    const video = $("video");
    $("empty").hidden = true;
    video.hidden = false;
    video.controls = true;
    if (!this.isPlaying) video.play().catch(() => {}); // a browser may want a press for sound
    this.isPlaying = true;
  }

  #fill(status) {
    const bar = $("windows");
    const done = windowsDone(status);
    const parts = done.length > MANY || done.length === 0 ? [status.progress] : done;
    if (bar.children.length !== parts.length) {
      bar.replaceChildren(...parts.map(() => document.createElement("span")));
    }
    parts.forEach((share, index) => bar.children[index].style.setProperty("--done", share));
    bar.setAttribute("aria-valuenow", Math.round(status.progress * 100));
    bar.setAttribute("aria-valuetext", sentence(status));
  }

  #complain(problem) {
    $("job-error").textContent = problem?.message ?? "";
    $("job-error").hidden = !problem;
  }

  /** The job is not there any more, or is not ours. */
  #lose(problem) {
    $("status").textContent = "";
    $("facts").textContent = "";
    for (const name of ["cancel", "retry", "delete"]) $(name).hidden = true;
    this.#complain(problem);
  }

  #button(id, act) {
    const button = $(id);
    button.addEventListener("click", async () => {
      button.disabled = true;
      await act().catch((problem) => this.#complain(problem));
      button.disabled = false;
    });
  }
}
