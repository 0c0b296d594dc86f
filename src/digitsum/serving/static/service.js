// The network where the service runs it: what page.js says that it needs

class Refused extends Error {}

async function predict(picture, addend, signal) {
  const form = new FormData();
  form.append("pictures", picture instanceof HTMLCanvasElement ? toBlob(picture) : picture, "picture");
  form.append("addends", addend);
  const response = await fetch("predict", {method: "POST", body: form, signal});
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.error.message);
  const [prediction] = answer.predictions;
  prediction.seen.pixels = bytes(prediction.seen.pixels);
  return prediction;
}

const isThere = () => fetch("health").then(response => response.ok, () => false);
const about = () => fetch("model").then(response => response.json());

const bytes = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
// canvas.toBlob waits until the browser is idle, in Chromium for up to a second
const toBlob = canvas => new Blob([bytes(canvas.toDataURL().split(",")[1])], {type: "image/png"});

