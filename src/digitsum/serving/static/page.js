// The page of both: `network.js`, which comes before it, is service.js or, in the static site, local.js. It gives
//
//   predict(picture, addend, signal)  // a promise of the answer, as /predict gives it, or of a Refused
//   atWork(picture, addend, signal)  // a promise of what the networks of one digit make of it, for strip.js, or null
//   isThere()  // a promise of whether the network answers
//   about()  // a promise of what it is: {network, parameters}
//   Refused  // the error of a picture that can't be read, in one sentence
//
// and the constants of Python's that are used here. strip.js comes before it, too.

"use strict";

const DELAY = 80;  // ms from a change to the question, so that a stroke asks a few times a second
const QUIET = 700;  // ms without a new answer, until a screen reader speaks it
const RETRY = 2000;  // ms between two looks for a service that is gone
const SENT = 300;  // pixels, the side of the picture that is sent of a drawing
const LIKELY = 0.1;  // a reading is named where it is as probable

// What is asked: a drawing or a picture, and an addend

const $ = selector => document.querySelector(selector);
const canvas = $("#pad canvas"), shown = $("#pad img");
let strokes = [];  // each {width, points}; widths and coordinates are shares of the pad's side
let picture = null;  // a file, which hides the drawing
let drawn = false;  // whether the pen is down

function draw(target, ink, strokes) {
  const side = target.width, pen = target.getContext("2d");
  pen.clearRect(0, 0, side, side);
  pen.strokeStyle = ink;
  pen.lineCap = pen.lineJoin = "round";
  for (const {width, points} of strokes) {
    const at = points.map(([x, y]) => [x * side, y * side]);
    pen.lineWidth = width * side;
    pen.beginPath();
    pen.moveTo(...at[0]);
    for (let i = 1; i < at.length - 1; i++) {  // a curve through the middles of the lines has no corners
      pen.quadraticCurveTo(...at[i], (at[i][0] + at[i + 1][0]) / 2, (at[i][1] + at[i + 1][1]) / 2);
    }
    if (at.length === 1) at.push([at[0][0] + 0.01, at[0][1]]);  // a line without a length isn't drawn
    pen.lineTo(...at.at(-1));
    pen.stroke();
  }
}

function drawing() {
  const sent = document.createElement("canvas");  // no ink is transparent, which counts as white paper
  sent.width = sent.height = SENT;
  draw(sent, "black", strokes);
  return sent;
}

const ink = () => getComputedStyle(canvas).color;

function show() {
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  draw(canvas, ink(), strokes);
  $("#hint").hidden = strokes.length || picture;
  $("#undo").disabled = $("#clear").disabled = !strokes.length && !picture;
  $("#name").hidden = !picture;
  canvas.style.visibility = picture ? "hidden" : "visible";
}

function change() {
  show();
  ask();
}

function point(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function begin(event) {
  if (picture) {
    setPicture(null);
    strokes = [];
  }
  getSelection().removeAllRanges();  // that the way to the pad may have left
  $("#pad").setPointerCapture(event.pointerId);
  drawn = true;
  strokes.push({width: $("#thickness").value / 100, points: [point(event)]});
  change();
}

const ground = "html, body, header, main, section, .tools, fieldset, .addends";  // where nothing else is dragged
let outside = null;  // the pointer that was pressed there, and may come to the pad
addEventListener("pointerdown", event => { outside = event.target.matches(ground) ? event.pointerId : null; });

$("#pad").addEventListener("pointerdown", event => {
  if (event.button || !event.isPrimary) return;
  event.preventDefault();
  begin(event);
});

$("#pad").addEventListener("pointermove", event => {
  if ($("#pad").hasPointerCapture(event.pointerId)) {
    strokes.at(-1)?.points.push(...(event.getCoalescedEvents?.() ?? [event]).map(point));
    change();
  } else if (event.buttons === 1 && event.pointerId === outside) begin(event);
});

$("#pad").addEventListener("lostpointercapture", () => {
  drawn = false;
  ask();  // once more, as what was refused meanwhile isn't shown
});

function setPicture(file) {
  forget();
  URL.revokeObjectURL(shown.src);
  picture = file;
  shown.hidden = true;
  if (!file) return;
  $("#name").textContent = file.name;
  shown.src = URL.createObjectURL(file);
}
shown.onload = () => { shown.hidden = !picture; };  // what no browser shows, as TIFF, stays a name

function take(files) {
  if (!files.length) return;
  setPicture(files[0]);
  change();
}

function undo() {
  if (picture) setPicture(null);
  else strokes.pop();
  change();
}

function clear() {
  setPicture(null);
  strokes = [];
  change();
}

$("#undo").onclick = undo;
$("#clear").onclick = clear;
$("#open").onclick = () => $("#file").click();
$("#file").onchange = event => {
  take(event.target.files);
  event.target.value = "";  // so that the same file can be opened again
};
addEventListener("paste", event => take(event.clipboardData.files));
addEventListener("dragover", event => {
  event.preventDefault();
  $("#pad").classList.add("over");
});
for (const ending of ["dragleave", "drop"]) {
  addEventListener(ending, () => $("#pad").classList.remove("over"));
}
addEventListener("drop", event => {
  event.preventDefault();
  take(event.dataTransfer.files);
});

// Examples: a name, the pen, and strokes of joints in hundredths of the pad

const EXAMPLES = [
  ["A seven", 3, "28 24, 72 24", "72 24, 60 50, 46 82", "40 52, 72 50"],
  ["A two of a thick pen", 11, "28 34, 40 20, 62 22, 68 38, 52 56, 26 80", "26 80, 74 80"],
  ["An eight", 5, "64 28, 50 18, 36 30, 48 48, 64 66, 52 82, 36 72, 46 52, 62 34, 64 28"],
  ["A one with nose and foot", 7, "34 36, 52 18", "52 18, 52 50, 52 82", "34 82, 52 82, 70 82"],
  ["A small five of a fine pen", 2, "58 34, 45 34", "45 34, 42 47", "42 47, 50 44, 59 50, 57 60, 48 64, 40 60"],
  ["The number 42", 5, "28 28, 20 44, 12 54", "12 54, 26 54, 42 53", "34 32, 33 54, 32 74",
    "58 38, 66 28, 80 30, 84 42, 72 54, 56 70", "56 70, 88 70"],
  ["The number 2026", 4, "6 42, 12 34, 22 38, 16 52, 6 64", "6 64, 25 64", "38 34, 30 44, 32 62, 42 64, 46 48, 38 34",
    "54 42, 60 34, 70 38, 64 52, 54 64", "54 64, 73 64", "90 34, 82 44, 79 58, 86 65, 93 58, 88 50, 80 55"],
  ["The number 35, whose digits touch", 5, "18 32, 34 26, 44 34, 36 46, 30 48", "30 48, 44 52, 48 64, 36 74, 18 70",
    "78 28, 56 28", "56 28, 52 48", "52 48, 66 44, 78 54, 74 70, 58 74, 47 67"],
  ["A four that may be a nine", 6, "41 22, 31 31, 35 48, 50 55, 60 39", "65 7, 69 46, 54 91"],
  ["A one that may be a seven", 6, "37 32, 55 19", "62 12, 50 47, 48 76"],  // on which concat contradicts itself
  ["A number with a point", 5, "24 28, 24 50, 23 74", "44 74", "62 28, 84 28", "84 28, 76 48, 68 74"],
  ["A smiley", 5, "50 14, 24 24, 14 50, 24 76, 50 86, 76 76, 86 50, 76 24, 50 14", "38 34, 38 44", "62 34, 62 44",
    "32 58, 40 68, 50 71, 60 68, 68 58"],
].map(([name, pen, ...lines]) => ({name, strokes: lines.map(line => ({
  width: pen / 100, points: line.split(", ").map(joint => joint.split(" ").map(share => share / 100)),
}))}));

for (const {name} of EXAMPLES) {
  $("#examples").insertAdjacentHTML("beforeend",
    `<button type="button" title="${name}" aria-label="${name}" tabindex="-1"><canvas width="72" height="72"></canvas></button>`);
}
const examples = [...$("#examples").children];
examples[0].tabIndex = 0;  // from which arrows lead to the others
examples.forEach((button, i) => {
  button.onclick = () => {
    setPicture(null);
    strokes = [...EXAMPLES[i].strokes];
    change();
  };
  button.onkeydown = ({key}) => {
    const step = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1}[key];
    if (step) examples.at((i + step) % examples.length).focus();
  };
});

function showExamples() {
  examples.forEach((button, i) => draw(button.firstChild, ink(), EXAMPLES[i].strokes));
}

for (let n = 0; n < 10; n++) {
  $(".addends").insertAdjacentHTML("beforeend",
    `<label><input type="radio" name="addend" value="${n}"><span>${n}</span></label>`);
}
const typed = $("#typed");
let chosen;  // the addend, a string of digits, as it may be any whole number; null where none is
function choose(digits) {
  typed.value = digits;
  add(digits);
}
function add(text) {
  const isWhole = /^[0-9]+$/.test(text), isLong = text.length > MAX_ADDEND_DIGITS;
  chosen = isWhole && !isLong ? String(BigInt(text)) : null;
  $("#wrong").textContent = chosen ? "" : isWhole
    ? `The number to add has ${text.length} digits, more than ${MAX_ADDEND_DIGITS}.`
    : `The number to add should be a whole number, 0 or more, not ${text || "nothing"}.`;
  typed.ariaInvalid = !chosen;
  for (const radio of document.getElementsByName("addend")) radio.checked = radio.value === chosen;
  if (chosen?.length === 1) strip.choose(chosen);
  ask();
}
$(".addends").onchange = event => choose(event.target.value);
typed.oninput = () => {
  const text = typed.value.trim();
  if (text || chosen === null) add(text);
};
typed.onchange = () => { typed.value = chosen ?? typed.value; };  // where it was left empty

addEventListener("keydown", event => {
  if (event.target === typed) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key === "z" && !$("#undo").disabled) undo();
  else if (command || event.altKey) return;
  else if (/^[0-9]$/.test(event.key)) choose(event.key);
  else if (event.key === "Delete" || event.key === "Backspace") clear();
  else return;
  event.preventDefault();
});

// Asking

let question = null;  // that is due or on its way: one at a time, so that the latest answer comes last
let changed = false;  // since it was asked

function ask() {
  if (!strokes.length && !picture || chosen === null) {
    forget();
    return empty();
  }
  changed = true;
  if (question) return;
  question = new AbortController();
  setTimeout(send, DELAY, question.signal);
}

function forget() {
  question?.abort();
  question = null;
}

async function send(signal) {
  if (signal.aborted) return;
  changed = false;
  const addend = chosen;
  try {
    const answer = await predict(picture ?? drawing(), addend, signal);
    if (signal.aborted) return;
    tell(answer, addend);
    gone(false);
    if (!drawn) await work(answer, addend, signal);
  } catch (error) {
    if (signal.aborted) return;
    const refused = error instanceof Refused;
    if (!refused) empty();
    else if (!drawn && !changed) empty(sentence(error.message));  // half a digit may be none
    gone(!refused);
  }
  question = null;
  if (changed) ask();
}

let watch = null;
function gone(is) {
  $("#gone").hidden = !is;
  clearTimeout(watch);
  if (!is) return;
  speak($("#gone").textContent);
  watch = setTimeout(look, RETRY);
}

async function look() {
  const back = await isThere();
  gone(!back);
  if (back) ask();
}

// Answering

const charts = {digits: columns($("#digits"), 10), sums: columns($("#sums"), 19)};

function showChart(name, probabilities, best) {
  fill(charts[name], probabilities, best);
  $(`#${name}`).ariaLabel = best === null ? "No answer yet" : spoken(probabilities);
}

const sentence = text => text[0].toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");

let answered = null;  // the latest answer, of which one digit is chosen
const NONE = {
  seen: {height: SIDE, width: SIDE, pixels: new Uint8Array(SIDE * SIDE)},
  digits: [{digit: null, probabilities: new Float32Array(10)}],
};

function tell(answer, addend) {
  answered = answer;
  const {number, sum, doubt} = headline(answer, addend), isKnown = number !== "?";
  $("#result").className = isKnown ? "" : "unknown";
  say(number, addend, sum, answer.consistent);  // the addend of this answer: the sentence is never half old
  $("#uncertain span").textContent = doubt && `Uncertain: ${doubt}`;
  $("#refusal").textContent = "";
  see(answer);
  const sums = answer.sum_probabilities;
  $("#sums").hidden = !sums;
  $("#whole").hidden = !!sums;
  $("#whole").textContent = `${percent(answer.probability)}: the probability that the number is right. `
    + "The sum is exact arithmetic on it, not an output of the network.";
  if (sums) showChart("sums", sums, Number(answer.sum));
  const said = `${number} plus ${addend} ${answer.consistent ? "is" : "isn't"} ${sum}`;
  speak([doubt && `Uncertain, ${doubt}`, isKnown && said].filter(Boolean).join(": "));
}

// What is said in large letters, and why no more; what may be wrong isn't said as if it were known
function headline({digits, sum, consistent, uncertain, doubt, probability, sum_probabilities}, addend) {
  const number = digits.map(each => each.digit).join("");  // as it was drawn, with its zeros
  if (!consistent) return {number, sum, doubt: "the two outputs contradict each other"};
  if (!uncertain) return {number, sum, doubt: ""};
  if (doubt) return {number: "?", sum: "?", doubt};
  const numbers = readings(digits, number, probability), several = digits.length > 1;
  const named = numbers.map(([each, p]) => `${several ? "" : "a "}${each} (${percent(p)})`).join(" or ");
  const sums = sum_probabilities ? likely([...sum_probabilities].entries())
    : numbers.map(([each]) => [BigInt(each) + BigInt(addend)]);
  const isLikely = numbers.reduce((total, [, p]) => total + p, 0) > 0.5;
  const shown = isLikely ? {number: either(numbers), sum: either(sums)} : {number: "?", sum: "?"};
  if (isLikely && numbers.length > 1) return {...shown, doubt: `it may be ${named}`};
  const otherwise = several ? "perhaps digits that touch, or no number" : "perhaps not a digit";
  return {...shown, doubt: numbers.length ? `perhaps ${named}, ${otherwise}` : otherwise};
}

// The number that was read, and those that differ from it in a digit
const readings = (digits, number, probability) => likely([[number, probability], ...digits.flatMap((each, k) =>
  Array.from(each.probabilities, (p, d) => [number.slice(0, k) + d + number.slice(k + 1), probability * p / each.probability])
    .filter(([other]) => other !== number))]);

const likely = choices => [...choices].filter(([, p]) => p >= LIKELY).sort((one, other) => other[1] - one[1]).slice(0, 3);
const either = choices => choices.length === 1 ? `${choices[0][0]}?` : choices.map(([each]) => each).join(" or ");

function empty(refusal = "") {
  answered = null;
  $("#result").className = "unknown empty";
  say("?", chosen ?? "?", "?");
  $("#uncertain span").textContent = "";
  $("#refusal").textContent = refusal;
  see(NONE);
  $("#sums").hidden = false;
  $("#whole").hidden = true;
  showChart("sums", new Float32Array(19), null);
  rest();
  speak(refusal);
}

function say(number, addend, sum, consistent = true) {
  $("#number").textContent = number;
  $("#equals").textContent = consistent ? "=" : "≠";
  $("#addend").textContent = addend;
  $("#sum").textContent = sum;
  $("#sentence").style.setProperty("--digits", `${number}${addend}${sum}`.length);
}

function see({seen, digits}) {
  const {height, width} = seen;
  paint($(".seen canvas"), seen);
  $(".seen").style.setProperty("--ratio", width / height);
  const several = digits.length > 1;
  $("#one").hidden = several;
  $("#several").hidden = !several;
  mark(several ? digits : [], width);
  showDigit();
}

const CHOICE = `<label><input type="radio" name="digit"><b></b><span></span></label>`;

function mark(digits, width) {
  const marks = $(".marks");
  while (marks.children.length > digits.length) marks.lastElementChild.remove();
  while (marks.children.length < digits.length) marks.insertAdjacentHTML("beforeend", CHOICE);
  marks.style.setProperty("--count", digits.length);
  const middles = digits.map(({place: [start, end]}) => (start + end) / 2 / width);
  const ends = [0, ...middles.slice(1).map((middle, i) => (middles[i] + middle) / 2), 1];  // halfway between two
  digits.forEach(({digit, probability}, i) => {
    const label = marks.children[i], [radio, name, caption] = label.children;
    Object.entries({from: ends[i], to: ends[i + 1], middle: middles[i]}).forEach(
      ([property, share]) => label.style.setProperty(`--${property}`, share),
    );
    name.textContent = digit;
    caption.textContent = percent(probability);
    radio.ariaLabel = label.title = `${digit}: ${percent(probability)}`;
  });
  if (digits.length && !$(".marks :checked")) $(".marks input").checked = true;
}

function showDigit() {
  const chosen = [...document.getElementsByName("digit")].findIndex(radio => radio.checked);
  const {digits, probability} = answered ?? NONE, {probabilities, digit} = digits[Math.max(chosen, 0)];  // of one, there is no choice
  // a digit that stands alone may be none
  const share = digits.length === 1 && digit !== null ? probability / probabilities[digit] : 1;
  showChart("digits", probabilities.map(p => p * share), digit);
}
$(".marks").onchange = showDigit;

// The networks at work, of one digit and an addend from 0 to 9

const strip = makeStrip($("#strip"), choose);

async function work({digits}, addend, signal) {
  if (digits.length > 1 || addend.length > 1) return rest();
  try {
    const numbers = await atWork(picture ?? drawing(), addend, signal);
    if (signal.aborted || !numbers) return;
    $("#idle").hidden = true;
    $("#strip").hidden = false;
    strip.show(numbers, Number(addend));
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) throw error;
    rest(sentence(error.message));
  }
}

function rest(why = "Draw one digit and add a number from 0 to 9 to see how two networks come by both outputs.") {
  $("#idle").textContent = why;
  $("#idle").hidden = false;
  $("#strip").hidden = true;
}

let voice = null;
function speak(text) {
  clearTimeout(voice);
  voice = setTimeout(() => { $("#spoken").textContent = text; }, QUIET);
}

choose("5");
new ResizeObserver(show).observe(canvas);
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
  matchMedia(query).addEventListener("change", () => {
    show();
    showExamples();
  });
}
showExamples();
about().then(
  model => { $("#about").textContent = `Model: ${model.network}, ${model.parameters.toLocaleString("en")} parameters.`; },
  () => {},  // the page works without it
);
