// The most probable number that the steps along a row show, in the browser.
//
//   const reading = readSteps(steps);  // of T steps P(symbol), 12 numbers each
//   reading.digits, reading.probability  // [4, 2], 0.95
//   combine([steps, others], [reading, another])  // the average of several looks at a row
//   singleDigits(steps)  // how probable it is that one digit stands alone, and is 0, ..., 9
//   rowDoubt(reading, mayHaveLost)  // a sentence, or null
//
// The twin of `digitsum.search`, where the reasons stand, and of what `digitsum.prediction` doubts; their
// constants come before this. States are the gaps and the digits in turn: state 2 k is the gap before digit k.

const {readSteps, combine, singleDigits, rowDoubt} = (() => {  // the only names that the page sees

// `places` are the first and the last step of each digit; `marks` tells whether a mark stands before each digit
// and after the last
function readSteps(steps) {
  steps = normalised(steps);
  return readAs(steps, digitsOf(steps));
}

// Places are those of the first look
function combine(looks, readings) {
  const choices = readings.map(({digits}) => readings.map((own, i) =>
    String(own.digits) === String(digits) ? own : readAs(normalised(looks[i]), digits)));
  const averages = choices.map(choice => mean(choice.map(({probability}) => probability)));
  const best = mostProbable(averages), each = choices[best], {digits, places} = each[0];
  return {
    digits,
    places,
    probability: averages[best],
    digitProbabilities: digits.map((_, k) => TEN.map(digit =>
      mean(each.map(({digitProbabilities}) => digitProbabilities[k][digit])))),
    marks: anywhere(digits).map((_, k) => each.some(({marks}) => marks[k])),
  };
}

function readAs(steps, digits) {
  const emitted = emittedBy(steps, digits, anywhere(digits));
  const ahead = forward(emitted, digits), back = backward(emitted, digits);
  // P(the alignment is in a state at a step | the number); each state's emission is in both factors
  const occupied = emitted.map((row, t) => shares(
    row.map((p, s) => ahead.states[t][s] * back.states[t][s] / Math.max(p, TINY))));
  const share = steps.map(step => step[MARK] / Math.max(step[MARK] + step[NOTHING], TINY));
  return {
    digits,
    probability: chance(steps, digits),
    digitProbabilities: replaced(steps, digits, ahead, back),
    places: digits.map((_, k) => strongest(occupied.map(row => row[2 * k + 1]))),
    marks: anywhere(digits).map((_, k) => occupied.some((row, t) => row[2 * k] * share[t] > 0.5)),
  };
}

function digitsOf(steps) {
  const digits = mostProbableNumber(steps);
  if (digits.length || chance(steps, []) >= NO_DIGIT) return digits;
  return [mostProbable(singleDigits(steps))];
}

function singleDigits(steps) {
  steps = normalised(steps);
  return TEN.map(digit => chance(steps, [digit]));
}

function rowDoubt({digits, marks}, mayHaveLost) {
  if (mayHaveLost) return "something as tall as a digit was left out at the edge of the row";
  const parting = plainMarks(digits), inside = marks.slice(0, -1);
  const isPlain = marks.every((mark, k) => !mark || parting[k]);
  // thousands are parted everywhere or nowhere: 1234.567 is a decimal
  if (isPlain && (!inside.includes(true) || inside.every((mark, k) => mark || !parting[k]))) return null;
  const shown = digits.map((digit, k) => inside[k] ? `·${digit}` : `${digit}`).join("");
  return `it shows ${shown}: a mark stands ${marks[0] ? "before" : "between"} its digits`;
}

const TEN = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

// Where marks may stand that don't change a whole number
const plainMarks = digits => anywhere(digits).map((_, k) => {
  const left = digits.length - k;
  return left === 0 || k > 0 && digits[0] !== 0 && left % GROUP === 0;
});

const anywhere = digits => Array(digits.length + 1).fill(true);

// In float64: float32 doesn't quite add up to 1, which tells over hundreds of steps
const normalised = steps => steps.map(step => shares([...step]));

function mostProbableNumber(steps) {
  // a mark parts digits as nothing does
  const best = steps.map(step => [...step.slice(0, MARK), step[MARK] + step[NOTHING]]);
  const path = best.map(mostProbable);
  const digits = path.filter((symbol, t) => symbol !== MARK && symbol !== path[t - 1]);
  if (best.reduce((product, step) => product * Math.max(...step), 1) >= 0.5) return digits;  // of this alignment alone
  const least = chance(steps, digits, anywhere(digits));
  return least >= 0.5 ? digits : Array.from(search(best, digits.join(""), least), Number);
}

// From the empty prefix on for a number more probable than the `best`, which has `least`. `ends` and `rests` are
// P(a prefix's alignments of the first t steps that end with its last digit, or with none)
function search(steps, best, least) {
  const rests = [1];
  steps.forEach((step, t) => rests.push(rests[t] * step[MARK]));
  const queue = [{begun: 1, prefix: "", ends: rests.map(() => 0), rests}];
  let most = least, found = best;  // which no digit at all doesn't beat: it is one alignment, not the best
  for (let left = Math.floor(SEARCHED / steps.length); left > 0 && queue[0]?.begun > most; left--) {
    const first = queue.shift();
    for (const digit of TEN) {
      const longer = extended(first, digit, steps), whole = longer.ends.at(-1) + longer.rests.at(-1);
      if (whole > most) [most, found] = [whole, longer.prefix];
      if (longer.begun > most) queue.push(longer);
    }
    queue.sort((one, other) => other.begun - one.begun || (one.prefix < other.prefix ? -1 : 1));
  }
  return found;
}

// `begun` is P(all numbers that begin so): where the digit is first seen
function extended({prefix, ends, rests}, digit, steps) {
  const longer = {begun: 0, prefix: prefix + digit, ends: [0], rests: [0]}, repeats = prefix.endsWith(digit);
  steps.forEach((step, t) => {
    const entering = (repeats ? rests[t] : rests[t] + ends[t]) * step[digit];
    longer.begun += entering;
    longer.ends.push(entering + step[digit] * longer.ends[t]);
    longer.rests.push(step[MARK] * (longer.rests[t] + longer.ends[t]));
  });
  return longer;
}

// P(number), over all alignments
function chance(steps, digits, marks = plainMarks(digits)) {
  const {states, scales} = forward(emittedBy(steps, digits, marks), digits);
  const whole = sum(states.at(-1).slice(-2));  // all digits have been seen
  return whole > 0 ? Math.exp(Math.min(Math.log(Math.max(whole, TINY)) + scales.at(-1), 0)) : 0;
}

// What each state emits at each step
const emittedBy = (steps, digits, marks) => steps.map(step => marks.flatMap((mark, k) => {
  const gap = step[NOTHING] + step[MARK] * mark;
  return k < digits.length ? [gap, step[digits[k]]] : [gap];
}));

// P(state) of each step, divided by the exponential of a scale
function forward(emitted, digits) {
  const states = [], scales = [];
  let state = emitted[0].map((_, s) => s === 0 ? 1 : 0), scale = 0;  // a gap that has emitted nothing
  for (const row of emitted) {
    const next = row.map((p, s) => {
      const skips = s % 2 && s > 1 && digits[s >> 1] !== digits[(s >> 1) - 1];  // the gap between digits
      return (state[s] + (state[s - 1] ?? 0) + (skips ? state[s - 2] : 0)) * p;
    });
    scale += Math.log(Math.max(sum(next), TINY));
    states.push(state = shares(next));
    scales.push(scale);
  }
  return {states, scales};
}

function backward(emitted, digits) {
  const turned = rows => rows.map(row => row.toReversed()).toReversed();
  const {states, scales} = forward(turned(emitted), digits.toReversed());
  return {states: turned(states), scales: scales.toReversed()};
}

// How probable the number is with each digit in each place; marks may stand anywhere
function replaced(steps, digits, ahead, back) {
  const end = Array(2 * digits.length).fill(0);  // beyond both ends lies the gap that has emitted nothing
  const before = [[1, ...end], ...ahead.states], after = [...back.states.slice(1), [...end, 1]];
  const shrink = ahead.scales.map((scale, t) => Math.exp((ahead.scales[t - 1] ?? 0) - scale));
  const logs = ahead.scales.map((scale, t) => scale + (back.scales[t + 1] ?? 0)), highest = Math.max(...logs);
  return digits.map((_, k) => shares(TEN.map(digit => {
    let place = 0, total = 0;
    steps.forEach((step, t) => {
      const last = digit === digits[k - 1] ? 0 : before[t][2 * k - 1] ?? 0;
      const next = digit === digits[k + 1] ? 0 : after[t][2 * k + 3] ?? 0;
      place = (place + before[t][2 * k] + last) * (step[digit] * shrink[t]);
      total += place * ((after[t][2 * k + 2] + next) * Math.exp(logs[t] - highest));
    });
    return total;
  })));
}

// From which to which step a digit has at least half of its highest probability
function strongest(seen) {
  const half = Math.max(...seen) / 2, isStrong = p => p >= half;
  return [seen.findIndex(isStrong), seen.findLastIndex(isStrong)];
}

// Together 1
function shares(values) {
  const total = Math.max(sum(values), TINY);
  return values.map(value => value / total);
}

const mostProbable = chances => chances.indexOf(Math.max(...chances));
const sum = values => values.reduce((total, value) => total + value, 0);
const mean = values => sum(values) / values.length;

return {readSteps, combine, singleDigits, rowDoubt};
})();
