// The page: one form, one stage, the jobs of this browser, and the way in.

import { hasEnded, parseHeaders, pause, Service } from "./api.js";
import { Form } from "./form.js";
import { shelve, shelved, unshelve } from "./shelf.js";
import { Stage } from "./stage.js";
import { state } from "./words.js";

const LOOK_MS = 5000;
const $ = (id) => document.getElementById(id);

const service = new Service(new URL("..", location.href));
const statuses = new Map(); // by id, as they were told last
const stage = new Stage(service, { onStatus: remember, onJob: open, onErased: forget });
const form = new Form(service, open);
let hasAsked = false; // for access: who closed the question does not want to hear it again

greet();
refresh();

/** Ask what is deployed until it is known. */
async function greet() {
  while (true) {
    try {
      const info = await service.info();
      form.show(info);
      $("notice").hidden = true;
      $("deployed").textContent = deployed(info);
      $("deployed").hidden = false;
      $("version").textContent = `InfiniteTalk ${info.version}`;
      return;
    } catch (problem) {
      $("notice").textContent = problem.message;
      $("notice").hidden = false;
      if ([401, 403].includes(problem.status) && !hasAsked) askForAccess();
      await pause(LOOK_MS);
    }
  }
}

function deployed({ preset, engines }) {
  const gpu = engines.find((engine) => engine.gpu)?.gpu;
  return [`preset ${preset.name}`, gpu].filter(Boolean).join(" · ");
}

/** Put a job on the stage and into the list. */
function open(job) {
  shelve({ ...job, created: job.created ?? Date.now() });
  show(job);
}

function show(job) {
  stage.open(job);
  draw();
  $("stage").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function remember(id, status) {
  statuses.set(id, status);
  draw();
}

function forget(id) {
  unshelve(id);
  statuses.delete(id);
  draw();
}

/** Keep the list true: jobs go on while others are looked at, and expire. */
async function refresh() {
  while (true) {
    for (const { id } of shelved()) {
      const known = statuses.get(id);
      if (id === stage.job?.id || (known && hasEnded(known))) continue;
      try {
        remember(id, await service.status(id));
      } catch (problem) {
        if ([404, 410].includes(problem.status)) forget(id);
        else break;
      }
    }
    draw();
    await pause(LOOK_MS);
  }
}

function draw() {
  const jobs = shelved();
  $("mine").hidden = jobs.length === 0;
  const rows = [...$("jobs").children];
  const isSame = rows.length === jobs.length && rows.every((row, i) => row.dataset.id === jobs[i].id);
  if (!isSame) $("jobs").replaceChildren(...jobs.map(row));
  for (const line of $("jobs").children) describe(line);
}

function row(job) {
  const line = document.createElement("li");
  line.dataset.id = job.id;
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const picture = job.thumb
    ? Object.assign(new Image(), { src: job.thumb, alt: "" })
    : Object.assign(document.createElement("span"), { className: "blank" });
  const name = document.createElement("span");
  name.className = "name";
  const when = Object.assign(document.createElement("span"), { className: "hint" });
  when.textContent = new Date(job.created).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  name.append(job.name, when);
  button.append(picture, name, Object.assign(document.createElement("span"), { className: "state" }));
  button.addEventListener("click", () => show(job));
  line.append(button);
  return line;
}

function describe(line) {
  const status = statuses.get(line.dataset.id);
  const said = line.querySelector(".state");
  said.textContent = status ? state(status) : "";
  said.classList.toggle("failed", status?.status === "failed");
  line.firstChild.setAttribute("aria-current", line.dataset.id === stage.job?.id);
}

function askForAccess() {
  hasAsked = true;
  const { key, headers } = service.access;
  $("key").value = key;
  $("headers").value = headers;
  $("access-error").hidden = true;
  $("access").showModal();
}

for (const id of ["key", "headers"]) {
  $(id).addEventListener("input", () => ($("access-error").hidden = true));
}
$("connection").addEventListener("click", askForAccess);
$("access-close").addEventListener("click", () => $("access").close());
$("access-form").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    parseHeaders($("headers").value);
  } catch (error) {
    $("access-error").textContent = error.message;
    $("access-error").hidden = false;
    return;
  }
  service.access = { key: $("key").value.trim(), headers: $("headers").value };
  $("access").close();
  greet();
});
