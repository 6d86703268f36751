// A job's status in words.

import { hasEnded } from "./api.js";

/** Where a job is, as a sentence. */
export function sentence(status) {
  switch (status.status) {
    case "pending":
      return status.queue_position > 1
        ? `Waiting: ${plural(status.queue_position - 1, "job is", "jobs are")} ahead.`
        : "Waiting for the engine: next in line.";
    case "completed":
      return "Done.";
    case "canceled":
      return "Canceled.";
    case "failed":
      return "This did not work.";
    default:
      return stage(status);
  }
}

/** When it will be done, what it costs, what it was made with. */
export function facts(status) {
  const { eta_s: eta, seconds, cost_usd: cost, gpu_seconds: gpu } = status;
  return [
    !hasEnded(status) && eta !== null && `about ${duration(eta)} to go`,
    `${seconds.toFixed(1)} s of video`,
    gpu > 0 && `${duration(gpu)} of computing`,
    cost > 0 && `$${cost < 0.1 ? cost.toFixed(4) : cost.toFixed(2)}`,
    `seed ${status.seed}`,
    status.attempt > 1 && status.status === "in_progress" && `attempt ${status.attempt}`,
  ].filter(Boolean).join(" · ");
}

/** How much of each window is done, from 0 to 1. */
export function windowsDone(status) {
  const { windows, window, step, steps } = status;
  if (status.status === "completed") return Array(windows).fill(1);
  return Array.from({ length: windows }, (_, index) => {
    if (index < window - 1) return 1;
    if (index > window - 1) return 0;
    return steps ? Math.min(1, step / steps) : 0;
  });
}

/** One word for the list. */
export function state(status) {
  if (status.status === "in_progress") return `${Math.round(status.progress * 100)} %`;
  return { pending: "waiting", completed: "done" }[status.status] ?? status.status;
}

function stage({ stage, window, windows, step, steps }) {
  const place = `window ${window} of ${windows}`;
  switch (stage) {
    case "denoising":
      return `Drawing ${place}, step ${step} of ${steps}.`;
    case "decoding":
      return `Turning ${place} into pictures.`;
    case "encoding":
      return "Listening to the voice.";
    case "writing":
      return "Putting the video together.";
    default:
      return "Getting ready.";
  }
}

function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}
