// search.js, whose path is the argument, outside a browser: a request a line in, {looks, mayHaveLost}, and an
// answer a line out, {readings, combined, singles, doubt}, the last two of the first look. A look's steps are parts
// of one array of float32, as the network gives them.

const fs = require("fs"), readline = require("readline");

const twin = new Function(`${fs.readFileSync(process.argv[2])}; return {readSteps, combine, singleDigits, rowDoubt};`);
const {readSteps, combine, singleDigits, rowDoubt} = twin();

function answer({looks, mayHaveLost}) {
  const seen = looks.map(partsOf), readings = seen.map(steps => readSteps(steps));
  return {
    readings,
    combined: combine(seen, readings),
    singles: singleDigits(seen[0]),
    doubt: rowDoubt(readings[0], mayHaveLost),
  };
}

function partsOf(steps) {
  const symbols = Float32Array.from(steps.flat());
  return steps.map((step, t) => symbols.subarray(t * step.length, (t + 1) * step.length));
}

(async () => {
  for await (const line of readline.createInterface({input: process.stdin})) {
    console.log(JSON.stringify(answer(JSON.parse(line))));
  }
})();
