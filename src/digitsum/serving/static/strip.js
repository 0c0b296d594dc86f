// The networks of one digit at work: a strip of bars, drawn from their own numbers.
//
//   const strip = makeStrip(element, addend => ...);  // which is called with what the slider is moved to
//   strip.choose(addend);  // moves the slider
//   strip.show({exact: {digit, sum}, concat: {digit, sum, joined, terms}, seen}, addend);
//
// `seen` is {height, width, pixels}, the rest as /networks gives it, but for `terms`, all in one array. Nothing
// but page.css is needed, so that it can be shown elsewhere.

"use strict";

function percent(p) {
  if (p > 0.999) return "> 99.9 %";  // a network is never quite sure, whatever rounding makes of it
  if (p < 0.001) return "< 0.1 %";
  return `${(100 * p).toFixed(p > 0.99 || p < 0.01 ? 1 : 0)} %`;
}

// Names the most probable
function spoken(probabilities) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  return `Most probable: ${order.slice(0, 3).map(n => `${n}: ${percent(probabilities[n])}`).join(", ")}`;
}

function paint(canvas, {height, width, pixels}) {
  const image = new ImageData(width, height);
  pixels.forEach((ink, i) => image.data.set([ink, ink, ink, 255], 4 * i));
  Object.assign(canvas, {width, height});
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const highest = values => values.indexOf(Math.max(...values));

function columns(chart, count) {
  return Array.from({length: count}, (_, n) => {
    const column = document.createElement("div");
    column.className = "column";
    column.innerHTML = `<div class="track"><span class="value"></span><div class="bar"></div></div><span class="tick">${n}</span>`;
    chart.append(column);
    return {column, bar: column.querySelector(".bar"), value: column.querySelector(".value")};
  });
}

// Of 1, or of the largest value where that is larger; what is best is written above its bar, too
function fill(columns, values, best, said = percent) {
  const most = Math.max(1, ...values.map(Math.abs));
  columns.forEach(({column, bar, value}, n) => {
    const text = said(values[n]);
    column.classList.toggle("best", n === best);
    column.title = `${n}: ${text}`;
    value.textContent = n === best ? text : "";
    bar.style.setProperty("--v", values[n] / most);
  });
}

const STRIP = `
  <div class="given">
    <canvas role="img" aria-label="The digit as both networks see it, 28 x 28 pixels"></canvas>
    <label>Number to add: <output></output><input type="range" min="0" max="9"></label>
    <fieldset class="switch">
      <legend>Network</legend>
      <label><input type="radio" name="network" value="exact" checked><span>exact</span></label>
      <label><input type="radio" name="network" value="concat"><span>concat</span></label>
    </fieldset>
  </div>
  <div class="work">
    <div class="joined">
      <div><h3>Ten scores of the digit</h3><div class="chart signed" role="img"></div></div>
      <div><h3>Their softmax</h3><div class="chart" role="img"></div></div>
      <div><h3>The number to add</h3><div class="chart" role="img"></div></div>
    </div>
    <h3>First output: the digit, moved along by the number</h3>
    <div class="chart moved"><div class="chart" role="img"></div></div>
    <h3>Second output: the sum. Choose a bar to see what it is made of</h3>
    <div class="chart sums" role="radiogroup" aria-label="Sum"></div>
    <p id="made"></p>
    <p class="verdict"></p>
  </div>`;

function makeStrip(place, onaddend) {
  place.innerHTML = STRIP;
  const find = selector => place.querySelector(selector), slider = find("[type=range]");
  const joined = [...place.querySelectorAll(".joined .chart")].map(chart => columns(chart, 10));
  const digits = columns(find(".moved > .chart"), 10), sums = columns(find(".sums"), 19);
  for (const [sum, {column}] of sums.entries()) {
    column.insertAdjacentHTML("beforeend",
      `<label><input type="radio" name="made" value="${sum}" aria-describedby="made"></label>`);
  }
  let numbers, addend, name;

  function show(some, n) {
    [numbers, addend] = [some, n];
    paint(find("canvas"), numbers.seen);
    draw();
  }

  function draw() {
    name = find("[name=network]:checked").value;
    const {digit, sum} = numbers[name], score = value => value.toFixed(1);
    find(".joined").hidden = name === "exact";
    joined.forEach((columns, part) => {
      const values = numbers.concat.joined.slice(10 * part, 10 * part + 10), said = part ? percent : score;
      const best = highest(values);
      fill(columns, values, best, said);
      columns[0].column.parentNode.ariaLabel = `Highest: ${best}: ${said(values[best])}`;
    });
    fill(digits, digit, highest(digit));
    fill(sums, sum, highest(sum));
    find(".moved > .chart").ariaLabel = spoken(digit);
    find(".moved").style.setProperty("--addend", addend);
    sums.forEach(({column}, s) => { column.querySelector("input").ariaLabel = `${s}: ${percent(sum[s])}`; });
    find(".verdict").textContent = verdict(highest(digit), highest(sum));
    place.querySelectorAll("[name=made]")[highest(sum)].checked = true;
    light();
  }

  function verdict(digit, sum) {
    if (name === "exact") return "The second output is the first, moved along: they can't contradict each other.";
    if (digit + addend === sum) return `Here both outputs agree: ${digit} + ${addend} = ${sum}.`;
    return `The two outputs contradict each other: the digit says ${digit}, the sum says ${sum}, and`
      + ` ${digit} + ${addend} is ${digit + addend}.`;
  }

  // What the chosen sum is made of: of `exact` a digit, of `concat` terms, beside those of another sum
  function light() {
    const sum = Number(find("[name=made]:checked").value), digit = sum - addend, isExact = name === "exact";
    digits.forEach(({bar}, n) => bar.classList.toggle("lit", isExact && n === digit));
    if (isExact) {
      find("#made").textContent = madeOf(sum, digit);
      return;
    }
    const order = [...sums.keys()].sort((a, b) => numbers.concat.sum[b] - numbers.concat.sum[a]);
    const other = order[sum === order[0] ? 1 : 0], {terms} = numbers.concat;
    const ahead = Array.from({length: 31}, (_, i) => terms[31 * sum + i] - terms[31 * other + i]);
    const most = Math.max(...ahead.slice(0, 30).map(Math.abs));
    joined.flat().forEach(({bar}, i) => {
      bar.style.setProperty("--lit", `${100 * Math.abs(ahead[i]) / most}%`);
      bar.classList.toggle("against", ahead[i] < -0.02 * most);
    });
    find("#made").textContent = addedUp(sum, other, ahead);
  }

  function madeOf(sum, digit) {
    if (!(digit in digits)) return `No digit and ${addend} make ${sum}: the sum is as good as impossible.`;
    return `The sum is ${sum} where the digit is ${digit}, as ${addend} is added:`
      + ` its probability is that of the ${digit}, ${percent(numbers.exact.digit[digit])}.`;
  }

  function addedUp(sum, other, ahead) {
    const total = (from, to) => ahead.slice(from, to).reduce((one, other) => one + other, 0);
    const signed = value => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(1);
    return `${sum} has ${percent(numbers.concat.sum[sum])}. Its score beside that of ${other}: ${signed(total(0, 31))},`
      + ` of which ${signed(total(0, 20))} come from the picture, ${signed(total(20, 30))} from the number,`
      + ` ${signed(ahead[30])} from the bias. Filled bars speak for ${sum}, hollow ones for ${other}.`;
  }

  slider.oninput = () => onaddend(slider.value);
  for (const radio of place.querySelectorAll("[name=network]")) radio.onchange = draw;
  find(".sums").onchange = light;
  const choose = n => { slider.value = find("output").textContent = n; };
  return {show, choose};
}
