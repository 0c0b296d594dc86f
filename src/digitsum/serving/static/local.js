// The network in the browser, what page.js says that it needs: ONNX Runtime, a module beside the page, runs
// model.onnx. Python's constants stand above, and below prepare.js, which has `readNumber`.

class Refused extends Error {}

document.querySelector("#gone").textContent = location.protocol === "file:"
  ? "A browser loads the network from a server only, for example: python -m http.server -d FOLDER"
  : "The network can't be loaded. The page keeps trying.";

document.body.insertAdjacentHTML("beforeend", `<p id="loading" role="status" hidden>Loading the network
  <progress></progress><span aria-hidden="true"></span></p>`);
const loading = document.querySelector("#loading");

let network = null;  // a promise of ONNX Runtime, its session and what model.json says, once for all questions
const loaded = () => network ??= load().catch(error => {
  network = null;
  throw error;
}).finally(() => { loading.hidden = true; });

async function load() {
  const about = await (await get("model.json")).json();
  progress(0, about.bytes);
  loading.hidden = false;
  let soFar = 0;
  const count = bytes => progress(soFar += bytes, about.bytes);
  const [ort, wasm, model] = await Promise.all([
    import("./ort.wasm.bundle.min.js"), counted("ort-wasm-simd-threaded.wasm", count), counted("model.onnx", count),
  ]);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1;  // more need headers that not every server sends
  return {ort, session: await ort.InferenceSession.create(model), about};
}

function progress(bytes, all) {
  Object.assign(loading.querySelector("progress"), {max: all, value: bytes});
  loading.querySelector("span").textContent = `${(bytes / 1e6).toFixed(1)} of ${(all / 1e6).toFixed(1)} MB`;
}

async function counted(file, count) {
  const counter = new TransformStream({transform(part, out) {
    count(part.length);
    out.enqueue(part);
  }});
  return new Response((await get(file)).body.pipeThrough(counter)).arrayBuffer();
}

async function get(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file}: HTTP ${response.status}`);
  return response;
}

async function predict(picture, addend) {
  const [images, {ort, session}] = await Promise.all([readNumber(picture), loaded()]);
  const n = BigInt(addend), isDigit = n <= 9n;
  const {digit, sum} = await session.run({
    image: new ort.Tensor("uint8", images.flatMap(image => [...image]), [images.length, 1, SIDE, SIDE]),
    addend: new ort.Tensor("int64", new BigInt64Array(images.length).fill(isDigit ? n : 0n), [images.length]),
  });
  check([...digit.data, ...sum.data]);
  const digits = images.map((image, i) => answerOf(digit.data.slice(10 * i, 10 * i + 10), image));
  const number = BigInt(digits.map(each => each.digit).join(""));
  const probability = digits.reduce((product, each) => product * each.probability, 1);
  const two = digits.some(each => mayBeTwo(each.image, each.probability));
  const sums = images.length === 1 && isDigit ? sum.data : null;
  const [total, sum_probability] = sums ? best(sums) : [number + n, probability];  // an output, or arithmetic
  const consistent = BigInt(total) === number + n;
  return {
    number: String(number),
    addend: String(n),
    sum: String(total),
    probability,
    sum_probability,
    consistent,
    uncertain: Math.min(probability, sum_probability) < CERTAIN || !consistent || two,
    doubt: null,  // of rows alone
    sum_probabilities: sums,
    digits,
  };
}

function check(probabilities) {
  if (!probabilities.every(p => p >= 0 && p <= HIGHEST)) {  // which NaN isn't either
    throw new Refused("the model isn't one of digitsum: its probabilities are not from 0 to 1");
  }
}

function best(probabilities) {
  const highest = Math.max(...probabilities);
  return [probabilities.indexOf(highest), highest];
}

function answerOf(probabilities, image) {
  const [digit, probability] = best(probabilities);
  return {digit, probability, probabilities, image};
}

const isThere = () => loaded().then(() => true, () => false);
const about = () => loaded().then(network => network.about);

