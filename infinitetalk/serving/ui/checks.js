// What the server would refuse, said before anything is sent and in the server's own words.
// A test sends the same to the server and compares.

const WHOLE = /^[+-]?\d+$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const MAX_SEED = 9223372036854775807n;

/** The sentence about each field that is wrong. `info` is what /v1/info tells. */
export function check(values, info) {
  const { limits, preset } = info;
  return compact({
    image: missing("image", values.image) ?? tooLarge("image", values.image, limits),
    audio: missing("audio", values.audio) ?? tooLarge("audio", values.audio, limits),
    prompt: tooLong("prompt", values.prompt, limits.max_prompt_characters),
    consent: unstated(values.consent, info.needs_consent),
    seed: seed(values.seed),
    steps: whole("steps", values.steps, 1) ?? most("steps", values.steps, preset.max_steps, 1),
    audio_guidance: between("audio_guidance", values.audio_guidance, 0, 20),
    text_guidance: between("text_guidance", values.text_guidance, 0, 20),
    max_seconds: between("max_seconds", values.max_seconds, limits.min_speech_seconds, Infinity),
  });
}

/** The sentence about a picture of this size, if it is too large. */
export function checkPicture(width, height, { limits }) {
  if (width * height <= limits.max_image_megapixels * 1e6) return null;
  return `image is ${width}x${height}, more than ` +
    `${limits.max_image_megapixels} megapixels.`;
}

/** The sentence about speech of this length, if it is too long. */
export function checkSpeech(seconds, { limits }) {
  return seconds > limits.max_audio_seconds
    ? `The speech is longer than ${limits.max_audio_seconds} seconds.` : null;
}

function missing(name, file) {
  return file ? null : `${name} is missing: send a file, or ${name}_url.`;
}

function tooLarge(name, file, { max_file_megabytes: limit }) {
  return file.size > limit * 1_000_000 ? `${name} is larger than ${limit} MB.` : null;
}

function tooLong(name, text, limit) {
  return [...text.normalize("NFC")].length > limit
    ? `${name} is longer than ${limit} characters.` : null;
}

function unstated(text, isNeeded) {
  return isNeeded && text === ""
    ? "Say in consent whose consent covers the face and the voice, or where it is recorded." : null;
}

function seed(text) {
  const wrong = whole("seed", text, 0);
  if (wrong || text === "") return wrong;
  return BigInt(text) > MAX_SEED ? `seed must be at most ${MAX_SEED}.` : null;
}

function whole(name, text, least) {
  if (text === "") return null;
  if (!WHOLE.test(text)) return `${name} must be a whole number.`;
  return BigInt(text) < BigInt(least) ? `${name} must be at least ${least}.` : null;
}

function most(name, text, limit, least) {
  return Number(text) > limit ? `${name} must be between ${least} and ${limit}, not ${text}.` : null;
}

function between(name, text, least, limit) {
  if (text === "") return null;
  if (!NUMBER.test(text)) return `${name} must be a number.`;
  if (Number(text) < least) return `${name} must be at least ${least}.`;
  return Number(text) > limit ? `${name} must be at most ${limit}.` : null;
}

function compact(sentences) {
  return Object.fromEntries(Object.entries(sentences).filter(([, sentence]) => sentence));
}
