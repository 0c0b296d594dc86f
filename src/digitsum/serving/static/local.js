// The network in the browser, what page.js says that it needs: ONNX Runtime, a module beside the page, runs
// model.onnx. Python's constants stand above; below are search.js, which has `readSteps`, `combine`,
// `singleDigits` and `rowDoubt`, and prepare.js, which has `readPicture`, `readRow` and `narrow`.

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
  const session = await ort.InferenceSession.create(model);
  ofOneDigit();  // before the server is gone
  return {ort, session, about};
}

let others = null;  // a promise of the sessions of both networks of one digit, or of null
const ofOneDigit = () => others ??= Promise.all(["exact", "concat"].map(async name => {
  const model = await (await get(`${name}.onnx`)).arrayBuffer(), {ort} = await loaded();
  return [name, await ort.InferenceSession.create(model)];
})).catch(() => others = null);

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
  const {ort, session, about} = await loaded();
  const {digits, ...found} = await (about.reads_rows ? askRow : askDigit)(picture, BigInt(addend), ort, session);
  const number = BigInt(digits.map(({digit}) => digit).join("")), {sum, probability, sum_probability, doubt} = found;
  const consistent = sum === number + BigInt(addend);
  return {
    ...found,
    number: String(number),
    addend: String(BigInt(addend)),
    sum: String(sum),
    consistent,
    uncertain: !consistent || doubt !== null || Math.min(probability, sum_probability) < CERTAIN,
    digits: digits.map(({digit, probabilities, place = null}) =>
      ({digit, probability: probabilities[digit], probabilities: Float32Array.from(probabilities), place})),
  };
}

async function askDigit(picture, addend, ort, session) {
  const seen = await readPicture(picture), hasSums = addend <= 9n;
  const outputs = await session.run(digitInputs(ort, seen, hasSums ? addend : 0n));
  const probabilities = outputs.digit.data, sums = outputs.sum.data;
  check([...probabilities, ...sums]);
  const [digit, probability] = best(probabilities);
  const [sum, sum_probability] = hasSums ? best(sums) : [BigInt(digit) + addend, probability];
  const digits = [{digit, probabilities}], sum_probabilities = hasSums ? sums : null;
  return {sum: BigInt(sum), probability, sum_probability, sum_probabilities, digits, doubt: null, seen};
}

async function askRow(picture, addend, ort, session) {
  const {mayHaveLost, ...seen} = await readRow(picture), looks = [await stepsOf(seen, ort, session)];
  let reading = readSteps(looks[0]);
  if (reading.probability < SURE && seen.width <= SHORT) {
    looks.push(await stepsOf(narrow(seen), ort, session));
    reading = combine(looks, [reading, readSteps(looks[1])]);
  }
  const {probability, digitProbabilities, places} = reading;
  if (!places.length) {
    throw new Refused("the picture can't be read: it shows nothing that looks like a digit");
  }
  const column = step => Math.min(Math.max(4 * step - MARGIN, 0), seen.width);
  const digits = reading.digits.map((digit, k) => {
    const [first, last] = places[k];
    return {digit, probabilities: digitProbabilities[k], place: [column(first), column(last + 1)]};
  });
  const sum = BigInt(reading.digits.join("")) + addend, hasSums = digits.length === 1 && addend <= 9n;
  const sum_probabilities = hasSums ? new Float32Array(19) : null;
  for (const steps of hasSums ? looks : []) {
    singleDigits(steps).forEach((p, digit) => { sum_probabilities[Number(addend) + digit] += p / looks.length; });
  }
  const sum_probability = hasSums ? sum_probabilities[Number(sum)] : probability;
  const doubt = rowDoubt(reading, mayHaveLost);
  return {sum, probability, sum_probability, sum_probabilities, digits, doubt, seen};
}

// P(symbol) of each step of four columns, the first of which begins `MARGIN` columns before the strip
async function stepsOf({height, width, pixels}, ort, session) {
  const wide = Math.ceil((width + 2 * MARGIN) / 4) * 4, strip = new Uint8Array(height * wide);
  for (let row = 0; row < height; row++) {
    strip.set(pixels.subarray(row * width, (row + 1) * width), row * wide + MARGIN);
  }
  const {symbols} = await session.run({strip: new ort.Tensor("uint8", strip, [1, 1, height, wide])});
  check(symbols.data);
  const [, length, count] = symbols.dims;
  return Array.from({length}, (_, t) => symbols.data.subarray(t * count, (t + 1) * count));
}

async function atWork(picture, addend) {
  const sessions = await ofOneDigit();
  if (!sessions) return null;
  const {ort} = await loaded(), numbers = {seen: await readPicture(picture)};
  for (const [name, session] of sessions) {
    const outputs = await session.run(digitInputs(ort, numbers.seen, BigInt(addend)));
    numbers[name] = Object.fromEntries(Object.entries(outputs).map(([output, {data}]) => [output, data]));
  }
  return numbers;
}

const digitInputs = (ort, {pixels}, addend) => ({
  image: new ort.Tensor("uint8", pixels, [1, 1, SIDE, SIDE]),
  addend: new ort.Tensor("int64", BigInt64Array.of(addend), [1]),
});

function check(probabilities) {
  if (!probabilities.every(p => p >= 0 && p <= HIGHEST)) {  // which NaN isn't either
    throw new Refused("the model isn't one of digitsum: its probabilities are not from 0 to 1");
  }
}

function best(probabilities) {
  const highest = Math.max(...probabilities);
  return [probabilities.indexOf(highest), highest];
}

const isThere = () => loaded().then(() => true, () => false);
const about = () => loaded().then(network => network.about);

