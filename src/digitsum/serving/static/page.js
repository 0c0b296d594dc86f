// The page of both: `network.js`, which comes before it, is service.js or, in the static site, local.js. It gives
//
//   predict(picture, addend, signal)  // a promise of the answer, as /predict gives it, or of a Refused
//   isThere()  // a promise of whether the network answers
//   about()  // a promise of what it is: {network, parameters}
//   Refused  // the error of a picture that can't be read, in one sentence
//
// and the constants of Python's that are used here.

"use strict";

const DELAY = 80;  // ms from a change to the question, so that a stroke asks a few times a second
const QUIET = 700;  // ms without a new answer, until a screen reader speaks it
const RETRY = 2000;  // ms between two looks for a service that is gone
const SENT = 300;  // pixels, the side of the picture that is sent of a drawing

// What is asked: a drawing or a picture, and an addend

const $ = selector => document.querySelector(selector);
const canvas = $("#pad canvas"), shown = $("#pad img");
let strokes = [];  // each {width, points}; widths and coordinates are shares of the pad's side
let picture = null;  // a file, which hides the drawing
let drawn = false;  // whether the pen is down

function draw(target, ink) {
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
  draw(sent, "black");
  return sent;
}

function show() {
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  draw(canvas, getComputedStyle(canvas).color);
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

for (let n = 0; n < 10; n++) {
  $(".addends").insertAdjacentHTML("beforeend",
    `<label><input type="radio" name="addend" value="${n}"><span>${n}</span></label>`);
}
const typed = $("#typed");
typed.maxLength = MAX_ADDEND_DIGITS;
let chosen;  // the addend, a string of digits, as it may be any whole number
function choose(digits) {
  chosen = typed.value = String(BigInt(digits));
  for (const radio of document.getElementsByName("addend")) radio.checked = radio.value === chosen;
  ask();
}
$(".addends").onchange = event => choose(event.target.value);
typed.oninput = () => {
  typed.value = typed.value.replace(/\D/g, "");
  if (typed.value) choose(typed.value);
};
typed.onchange = () => { typed.value = chosen; };  // where it was left empty

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
  if (!strokes.length && !picture) {
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

const charts = {digits: columns("#digits", 10), sums: columns("#sums", 19)};

function columns(chart, count) {
  return Array.from({length: count}, (_, n) => {
    const column = document.createElement("div");
    column.className = "column";
    column.innerHTML = `<div class="track"><span class="value"></span><div class="bar"></div></div><span class="tick">${n}</span>`;
    $(chart).append(column);
    return column;
  });
}

function fill(name, probabilities, best) {
  charts[name].forEach((column, n) => {
    const share = percent(probabilities[n]);
    column.classList.toggle("best", n === best);
    column.querySelector(".bar").style.setProperty("--p", probabilities[n]);
    column.querySelector(".value").textContent = n === best ? share : "";
    column.title = `${n}: ${share}`;
  });
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const spoken = order.slice(0, 3).map(n => `${n}: ${percent(probabilities[n])}`).join(", ");
  $(`#${name}`).setAttribute("aria-label", best === null ? "No answer yet" : `Most probable: ${spoken}`);
}

function percent(p) {
  if (p > 0.999) return "> 99.9 %";  // a network is never quite sure, whatever rounding makes of it
  if (p < 0.001) return "< 0.1 %";
  return `${(100 * p).toFixed(p > 0.99 || p < 0.01 ? 1 : 0)} %`;
}

const sentence = text => text[0].toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");

let answered = null;  // the latest answer, of which one digit is chosen
const NONE = {
  seen: {height: SIDE, width: SIDE, pixels: new Uint8Array(SIDE * SIDE)},
  digits: [{digit: null, probabilities: new Float32Array(10)}],
};

function tell(answer, addend) {
  answered = answer;
  const number = answer.digits.map(each => each.digit).join("");  // as it was drawn, with its zeros
  $("#result").classList.remove("empty");
  say(number, addend, answer.sum, answer.consistent);  // the addend of this answer: the sentence is never half old
  const doubt = doubtOf(answer);
  $("#uncertain span").textContent = doubt && `Uncertain: ${doubt}`;
  $("#refusal").textContent = "";
  see(answer);
  const sums = answer.sum_probabilities;
  $("#sums").hidden = !sums;
  $("#whole").hidden = !!sums;
  $("#whole").textContent = `${percent(answer.probability)}: the probability that the number is right. `
    + "The sum is exact arithmetic on it, not an output of the network.";
  if (sums) fill("sums", sums, Number(answer.sum));
  speak(`${doubt && `Uncertain, ${doubt}: `}${number} plus ${addend} ${answer.consistent ? "is" : "isn't"} ${answer.sum}`);
}

function doubtOf({consistent, uncertain, doubt, digits}) {
  if (!consistent) return "the two outputs contradict each other";
  if (doubt) return doubt;
  return uncertain ? `perhaps not a ${digits.length === 1 ? "digit" : "number"}` : "";
}

function empty(refusal = "") {
  answered = null;
  $("#result").classList.add("empty");
  say("?", chosen, "?");
  $("#uncertain span").textContent = "";
  $("#refusal").textContent = refusal;
  see(NONE);
  $("#sums").hidden = false;
  $("#whole").hidden = true;
  fill("sums", new Float32Array(19), null);
  speak(refusal);
}

function say(number, addend, sum, consistent = true) {
  $("#number").textContent = number;
  $("#equals").textContent = consistent ? "=" : "≠";
  $("#addend").textContent = addend;
  $("#sum").textContent = sum;
  $("#sentence").style.setProperty("--digits", `${number}${addend}${sum}`.length);
}

function see({seen: {height, width, pixels}, digits}) {
  const canvas = $(".seen canvas"), image = new ImageData(width, height);
  pixels.forEach((ink, i) => image.data.set([ink, ink, ink, 255], 4 * i));
  Object.assign(canvas, {width, height});
  canvas.getContext("2d").putImageData(image, 0, 0);
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
  const {probabilities, digit} = (answered ?? NONE).digits[Math.max(chosen, 0)];  // of one digit, there is no choice
  fill("digits", probabilities, digit);
}
$(".marks").onchange = showDigit;

let voice = null;
function speak(text) {
  clearTimeout(voice);
  voice = setTimeout(() => { $("#spoken").textContent = text; }, QUIET);
}

choose("5");
new ResizeObserver(show).observe(canvas);
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
  matchMedia(query).addEventListener("change", show);
}
about().then(
  model => { $("#about").textContent = `Model: ${model.network}, ${model.parameters.toLocaleString("en")} parameters.`; },
  () => {},  // the page works without it
);
