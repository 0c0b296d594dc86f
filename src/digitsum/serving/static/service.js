// The network where the service runs it: what page.js says that it needs

class Refused extends Error {}

document.querySelector("#links").insertAdjacentHTML("beforeend", ` <a href="docs">The interface for programs</a>`);

const LARGEST = 9_900_000;  // bytes: the service takes 10 million of a request
const PHOTO = 3000;  // pixels, the side of a photo that is made smaller
const REFUSALS = {  // where the service's own speak of requests
  busy: "the service has too much to do; try again soon",
  slow_upload: "the picture took too long to send; choose a smaller one",
  timeout: "the picture took too long to read; choose a smaller one",
};

async function predict(picture, addend, signal) {
  const {predictions: [prediction]} = await post("predict", {pictures: await sent(picture), addends: addend}, signal);
  prediction.seen.pixels = bytes(prediction.seen.pixels);
  return prediction;
}

async function atWork(picture, addend, signal) {
  const numbers = await post("networks", {picture: await sent(picture), addend}, signal);
  numbers.seen.pixels = bytes(numbers.seen.pixels);
  numbers.concat.terms = numbers.concat.terms.flat();
  return numbers;
}

async function post(path, fields, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  const response = await fetch(path, {method: "POST", body: form, signal});
  const answer = await response.json();
  if (!response.ok) throw new Refused(REFUSALS[answer.error.code] ?? answer.error.message);
  return answer;
}

const smaller = new WeakMap();  // of each large photo, a promise
function sent(picture) {
  if (picture instanceof HTMLCanvasElement) return toBlob(picture);
  if (picture.size <= LARGEST) return picture;
  if (!smaller.has(picture)) smaller.set(picture, shrink(picture));
  return smaller.get(picture);
}

async function shrink(picture) {
  const bitmap = await createImageBitmap(picture).catch(() => null);
  if (!bitmap) return picture;  // which the service refuses
  const share = Math.min(PHOTO / Math.max(bitmap.width, bitmap.height), 1);
  const canvas = new OffscreenCanvas(Math.ceil(share * bitmap.width), Math.ceil(share * bitmap.height));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";  // where it is transparent
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({type: "image/jpeg", quality: 0.9});
}

const isThere = () => fetch("health").then(response => response.ok, () => false);
const about = () => fetch("model").then(response => response.json());

const bytes = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
// canvas.toBlob waits until the browser is idle, in Chromium for up to a second
const toBlob = canvas => new Blob([bytes(canvas.toDataURL().split(",")[1])], {type: "image/png"});

