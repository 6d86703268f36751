// The form: what is chosen, checked at once, and handed in.

import { check, checkPicture, checkSpeech } from "./checks.js";
import { lengthOf, lookAt, shapeOf } from "./media.js";

const TEXTS = [
  "prompt", "consent", "seed", "audio_guidance", "text_guidance", "steps", "max_seconds",
];
const BARS = 32;
const $ = (id) => document.getElementById(id);

export class Form {
  /** `onJob` is told the id of a new job, its name and its picture. */
  constructor(service, onJob) {
    this.service = service;
    this.onJob = onJob;
    this.info = null;
    this.chosen = { image: null, audio: null };
    this.wrong = {}; // sentences about media, by field
    this.arts = Object.fromEntries(
      ["image", "audio"].map((name) => [name, $(`${name}-drop`).querySelector(".drop-art").innerHTML]),
    );
    this.#listen();
  }

  /** What is deployed is known: its choices are shown. */
  show(info) {
    this.info = info;
    const { preset } = info;
    $("resolution").replaceChildren(
      ...preset.resolutions.map((name) => new Option(name, name)),
    );
    $("audio_guidance").placeholder = preset.audio_guidance;
    $("text_guidance").placeholder = preset.text_guidance;
    $("steps").placeholder = preset.steps;
    $("consent-part").hidden = !info.needs_consent;
    const caveat = preset.caveat ? ` ${preset.caveat}` : "";
    $("preset").textContent = `This server runs the preset ${preset.name}: ${preset.use}.${caveat}`;
  }

  #listen() {
    for (const name of ["image", "audio"]) {
      $(name).addEventListener("change", (event) => this.#choose(name, event.target.files[0] ?? null));
      listenForDrops($(`${name}-drop`), (file) => this.#choose(name, file));
    }
    for (const name of TEXTS) $(name).addEventListener("input", () => this.#say(name));
    $("example").addEventListener("click", () => {
      this.#chooseExample().catch((problem) => this.#complain(problem.message));
    });
    $("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  async #choose(name, file) {
    this.chosen[name] = file;
    delete this.wrong[name];
    const drop = $(`${name}-drop`);
    drop.classList.toggle("chosen", Boolean(file));
    drop.querySelector("[data-hint]").textContent = file ? file.name : "Drop or choose a file";
    drop.querySelector(".drop-art").innerHTML = this.arts[name]; // our own markup, as it came
    this.#say(name);
    if (!file) return;
    await (name === "image" ? this.#showPicture(file) : this.#showVoice(file));
    if (this.chosen[name] === file) this.#say(name);
  }

  async #showPicture(file) {
    const seen = await lookAt(file).catch(() => null); // the server may know more formats than this
    if (this.chosen.image !== file || !seen) return;
    this.thumb = seen.thumb;
    const image = Object.assign(new Image(), { src: seen.thumb, alt: "" });
    $("image-drop").querySelector(".drop-art").replaceChildren(image);
    if (this.info && !file.type.startsWith("video/")) {
      this.wrong.image = checkPicture(seen.width, seen.height, this.info);
    }
  }

  async #showVoice(file) {
    const listen = $("listen");
    URL.revokeObjectURL(listen.src);
    listen.src = URL.createObjectURL(file);
    listen.hidden = false;
    const seconds = await lengthOf(file).catch(() => null);
    if (this.chosen.audio !== file || seconds === null) return;
    if (this.info) this.wrong.audio = checkSpeech(seconds, this.info);
    $("audio-drop").querySelector("[data-hint]").textContent = `${file.name}, ${seconds.toFixed(1)} s`;
    const shape = await shapeOf(file, BARS).catch(() => null);
    if (this.chosen.audio === file && shape) {
      $("audio-drop").querySelector(".drop-art").replaceChildren(drawn(shape));
    }
  }

  async #chooseExample() {
    for (const [name, path] of [["image", "portrait.png"], ["audio", "speech.flac"]]) {
      const blob = await (await this.service.fetch(`ui/example/${path}`)).blob();
      await this.#choose(name, new File([blob], path, { type: blob.type }));
    }
  }

  get values() {
    const texts = TEXTS.map((name) => [name, $(name).value.trim()]);
    return { ...this.chosen, ...Object.fromEntries(texts) };
  }

  /** Show what is wrong with one field, or that nothing is. */
  #say(name, sentence = this.#sentences()[name]) {
    const isUntouched = ["image", "audio", "consent"].includes(name) && !this.values[name];
    const shown = isUntouched && !this.hasTried ? null : sentence;
    const place = $(`${name}-error`);
    place.textContent = shown ?? "";
    place.hidden = !shown;
    $(name).setAttribute("aria-invalid", Boolean(shown));
    $(`${name}-drop`)?.classList.toggle("wrong", Boolean(shown));
    if (shown) $(name).closest("details")?.setAttribute("open", "");
  }

  #sentences() {
    if (!this.info) return {};
    const found = check(this.values, this.info);
    return { ...found, image: found.image ?? this.wrong.image, audio: found.audio ?? this.wrong.audio };
  }

  async #submit() {
    this.hasTried = true;
    this.#complain(null);
    const sentences = this.#sentences();
    const names = ["image", "audio", ...TEXTS];
    for (const name of names) this.#say(name, sentences[name]);
    const first = names.find((name) => sentences[name]);
    if (first) return $(first).focus();
    await this.#send();
  }

  async #send() {
    this.#busy(true);
    try {
      const id = await this.service.submit(this.#fields(), (share) => this.#sent(share));
      this.onJob({ id, name: this.chosen.audio.name, thumb: this.thumb ?? null });
    } catch (problem) {
      this.#refused(problem);
    } finally {
      this.#busy(false);
    }
  }

  #refused({ field, message }) {
    if (!$(`${field}-error`)) return this.#complain(message);
    this.#say(field, message);
    $(field).focus();
  }

  #fields() {
    const given = Object.entries(this.values).filter(([, value]) => value !== "");
    return { ...Object.fromEntries(given), resolution: $("resolution").value };
  }

  #sent(share) {
    $("upload-bar").value = share;
    const isAllThere = share === 1;
    $("upload-text").textContent = isAllThere
      ? "Sent. The server looks at the files." : `Sending: ${Math.round(share * 100)} %`;
  }

  #busy(isBusy) {
    $("submit").disabled = isBusy;
    $("upload").hidden = !isBusy;
    if (isBusy) this.#sent(0);
  }

  #complain(message) {
    $("form-error").textContent = message ?? "";
    $("form-error").hidden = !message;
  }
}

function listenForDrops(place, onFile) {
  for (const name of ["dragenter", "dragover"]) {
    place.addEventListener(name, (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    place.addEventListener(name, () => place.classList.remove("over"));
  }
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) onFile(event.dataTransfer.files[0]);
  });
}

/** A recording's shape as upright bars. */
function drawn(shape) {
  const wave = Object.assign(document.createElement("span"), { className: "wave" });
  for (const loudness of shape) {
    const bar = document.createElement("span");
    bar.style.height = `${Math.max(4, loudness * 100)}%`;
    wave.append(bar);
  }
  return wave;
}
