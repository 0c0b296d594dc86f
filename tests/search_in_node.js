// search.js, whose path is the argument, outside a browser: a request a line in, {steps, mayHaveLost}, and an
// answer a line out, {reading, singles, doubt}. Steps are parts of one array of float32, as the network gives them.

const fs = require("fs"), readline = require("readline");

const twin = new Function(`${fs.readFileSync(process.argv[2])}; return {readSteps, singleDigits, rowDoubt};`);
const {readSteps, singleDigits, rowDoubt} = twin();

function answer({steps, mayHaveLost}) {
  const symbols = Float32Array.from(steps.flat());
  const parts = steps.map((step, t) => symbols.subarray(t * step.length, (t + 1) * step.length));
  const reading = readSteps(parts);
  return {reading, singles: singleDigits(parts), doubt: rowDoubt(reading, mayHaveLost)};
}

(async () => {
  for await (const line of readline.createInterface({input: process.stdin})) {
    console.log(JSON.stringify(answer(JSON.parse(line))));
  }
})();
