// What was chosen, looked at here: the picture's size and a small copy, the voice's length and shape.

const THUMB = 96; // pixels
const SHOWN_BYTES = 60_000_000; // longer recordings are not decoded only to be drawn

/** Width, height and a small square copy of a picture or of a video's first frame. */
export async function lookAt(file) {
  const url = URL.createObjectURL(file);
  try {
    const picture = file.type.startsWith("video/") ? await firstFrame(url) : await loaded(url);
    const width = picture.naturalWidth ?? picture.videoWidth;
    const height = picture.naturalHeight ?? picture.videoHeight;
    return { width, height, thumb: shrunk(picture, width, height) };
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Seconds of a recording, as its player sees it. */
export async function lengthOf(file) {
  const url = URL.createObjectURL(file);
  const audio = new Audio();
  audio.preload = "metadata";
  try {
    audio.src = url;
    await event(audio, "loadedmetadata");
    return audio.duration;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Loudness of a recording in so many pieces, from 0 to 1. */
export async function shapeOf(file, pieces) {
  if (file.size > SHOWN_BYTES) return Array(pieces).fill(0.5);
  const context = new OfflineAudioContext(1, 1, 16000);
  const samples = (await context.decodeAudioData(await file.arrayBuffer())).getChannelData(0);
  const length = Math.max(1, Math.floor(samples.length / pieces));
  const loudness = Array.from({ length: pieces }, (_, index) => {
    let sum = 0;
    for (let i = index * length; i < (index + 1) * length; i += 1) sum += (samples[i] ?? 0) ** 2;
    return Math.sqrt(sum / length);
  });
  const loudest = Math.max(...loudness) || 1;
  return loudness.map((one) => one / loudest);
}

async function loaded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function firstFrame(url) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = url;
  await event(video, "loadeddata");
  return video;
}

function shrunk(picture, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width: THUMB, height: THUMB });
  const side = Math.min(width, height);
  const [x, y] = [(width - side) / 2, (height - side) / 3];
  canvas.getContext("2d").drawImage(picture, x, y, side, side, 0, 0, THUMB, THUMB);
  return canvas.toDataURL("image/jpeg", 0.8);
}

function event(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("unreadable")), { once: true });
  });
}
