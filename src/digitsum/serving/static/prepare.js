// Any picture of a handwritten digit, or of a number, prepared as MNIST's images were, in the browser.
//
//   const images = await readNumber(file);  // of each digit, from left to right: Uint8Array of 28 x 28, 255 ink
//   mayBeTwo(image, probability)  // whether it may be two digits that touch, however probable one is
//
// The twin of `digitsum.reading` (imaging.py, decoding.py, ruling.py, pieces.py, morphology.py), step by step,
// where the reasons for each step stand; their constants come before this. An array here is {height, width,
// values}, values row by row as float32, as there.

const {readNumber, mayBeTwo} = (() => {  // the only names that the page sees

const STRIP = 1_000_000;  // pixels of a picture that are drawn at a time

async function readNumber(picture) {
  try {
    return prepare(await decode(picture));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    throw new Refused(`the picture can't be read: ${error.message}`);
  }
}

function mayBeTwo(image, probability) {
  const isInk = i => image[i] > 127, rows = new Set();
  let runs = 0;
  for (let i = 0; i < image.length; i++) {
    if (!isInk(i)) continue;
    rows.add(Math.floor(i / SIDE));
    if (i % SIDE === 0 || !isInk(i - 1)) runs++;
  }
  const surety = -Math.log(Math.max(1 - probability, 1e-6));
  return runs > HIGH * rows.size + surety - RUNS;
}

// From a file or a canvas to grey levels, shrunk

async function decode(picture) {
  if (picture.size > MAX_BYTES) throw new Refused(`it has more than ${MAX_BYTES} bytes; make it smaller`);
  // without the conversion of colours, which Pillow doesn't do either
  const options = {imageOrientation: "from-image", colorSpaceConversion: "none"};
  const bitmap = await createImageBitmap(picture, options).catch(() => {
    throw new Refused("it is damaged, or in no format that this browser reads; save it as PNG or JPEG");
  });
  const {width, height} = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new Refused(`it has ${width} x ${height} pixels, more than ${MAX_PIXELS}; make it smaller`);
  }
  const white = shrink(bitmap, "white");
  if (lowestOf(white) < LIGHT) return white;
  const black = shrink(bitmap, "black");
  return sum(black) < black.values.length * 255 / 2 ? black : white;  // where most is transparent
}

// The whole picture may need a larger canvas than a phone gives, so it is drawn in strips of whole blocks
function shrink(bitmap, paper) {
  const {width, height} = bitmap, k = factor(Math.max(width, height));
  const down = Math.min(k, height), right = Math.min(k, width);
  const shrunk = array(Math.ceil(height / down), Math.ceil(width / right));
  const most = Math.max(Math.floor(STRIP / (width * down)), 1);
  const strip = new OffscreenCanvas(width, most * down).getContext("2d", {willReadFrequently: true});
  strip.fillStyle = paper;  // where the picture is transparent
  for (let row = 0; row < shrunk.height; row += most) {
    const rows = Math.min(most * down, height - row * down);
    strip.fillRect(0, 0, width, rows);
    strip.drawImage(bitmap, 0, -row * down);
    const means = meansOfBlocks(strip.getImageData(0, 0, width, rows), down, right);
    shrunk.values.set(means, row * shrunk.width);
  }
  return shrunk;
}

// How many times smaller: a power of two, or three of them
function factor(longer) {
  const times = Math.ceil(longer / WORKING), step = 2 ** Math.max(Math.floor(Math.log2(times)) - 1, 0);
  return Math.ceil(times / step) * step;
}

// Of the grey levels, with the weights of ITU-R 601, as Pillow rounds them, some halves down; the last
// blocks may have fewer pixels
function meansOfBlocks({data, width, height}, down, right) {
  const columns = Math.ceil(width / right), sums = new Float64Array(Math.ceil(height / down) * columns);
  for (let row = 0, i = 0; row < height; row++) {
    for (let block = Math.floor(row / down) * columns, column = 0; column < width; block++) {
      for (const end = Math.min(column + right, width); column < end; column++, i += 4) {
        sums[block] += (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
      }
    }
  }
  return sums.map((total, i) => {
    const below = height - Math.floor(i / columns) * down, beside = width - i % columns * right;
    const area = Math.min(down, below) * Math.min(right, beside);
    return Math.floor((total + (area >> 1)) * Math.floor(2 ** 24 / area) / 2 ** 24);
  });
}

// From grey levels to MNIST, rounded to float32 and summed in float64 where imaging.py is

function prepare(grey) {
  if (isPrepared(grey)) return [Uint8Array.from(grey.values)];
  const {ink, hasRules} = findInk(
    isDarkOnLight(grey) ? grey : ofEach(grey, value => 255 - value), highestOf(grey));
  const chosen = choose(ofEach(ink, value => value > STRONG), hasRules), digits = [];
  const owners = withRim(ownersOf(group(chosen, ink), ink));
  for (let number = 1; number <= highestOf(owners); number++) {
    digits.push(crop(ofEach(ink, (value, i) => owners.values[i] === number ? value : 0)));
  }
  return digits.map(digit => centre(fit(thicken(digit), BOX)));
}

const isPrepared = grey =>
  grey.height === SIDE && grey.width === SIDE && highestOf(grey) > 127 && median(grey) === 0;

function isDarkOnLight(grey) {
  const radius = Math.floor(longer(grey) * AROUND), isLight = isEdgeLight(grey, Math.max(radius, 1));
  if (isLight !== null) return isLight;
  const around = meanAround(grey, radius);
  return grey.values.reduce((total, value, i) => total + (value - around[i]) ** 3, 0) <= 0;
}

// Of a drawing; null where its edge doesn't tell
function isEdgeLight(grey, radius) {
  const edge = border(grey, 1), level = median({values: edge});
  if (edge.filter(value => Math.abs(value - level) <= EVEN).length < MOSTLY * edge.length) return null;
  const middle = (lowestOf(grey) + highestOf(grey)) / 2, isLight = level >= middle;
  const near = border(grey, radius);
  if (!isLight && near.filter(value => value >= middle).length >= near.length / 2) return true;
  const other = ofEach(grey, value => (value >= middle) !== isLight);
  if (!highestOf(other)) return null;
  const around = border(crop(other), 1);
  return around.filter(Boolean).length < MOSTLY * around.length ? isLight : null;
}

// The pixels that are less than `by` from the edge
const border = ({height, width, values}, by) => values.filter((_, i) => {
  const row = Math.floor(i / width), column = i % width;
  return Math.min(row, column, height - 1 - row, width - 1 - column) < by;
});

// The sums of all above and to the left give that of any square, in float64
function meanAround(grey, radius) {
  const size = 2 * radius + 1, sums = sumsBefore(padEdge(grey, radius));
  const width = grey.width + size, means = new Float64Array(grey.values.length);
  for (let row = 0, i = 0; row < grey.height; row++) {
    for (let above = row * width; i < (row + 1) * grey.width; i++, above++) {
      const below = above + size * width;
      means[i] = (sums[below + size] - sums[below] - sums[above + size] + sums[above]) / size ** 2;
    }
  }
  return means;
}

function sumsBefore({height, width, values}) {
  const sums = new Float64Array((height + 1) * (width + 1));
  for (let row = 0, i = width + 1; row < height; row++) {
    let line = 0;
    sums[i++] = 0;
    for (let column = 0; column < width; column++, i++) {
      line += values[row * width + column];
      sums[i] = sums[i - width - 1] + line;
    }
  }
  return sums;
}

function findInk(grey, brightest) {
  const paper = close(grey, Math.floor(longer(grey) * PAPER / 2));
  const dark = Math.max(DARKEST * Math.max(highestOf(paper), brightest), 1);
  const raw = ofEach(grey, (value, i) => (paper.values[i] - value) / Math.max(paper.values[i], dark));
  const noise = median(raw);
  const whole = ofEach(raw, value => Math.max(value - noise, 0));
  const once = eraseRules(whole), turned = transpose(once), twice = eraseRules(turned);
  const depth = transpose(twice), hasRules = once !== whole || twice !== turned;
  const most = strength(depth);
  if (most < Math.max(FAINTEST, LEFT * strength(whole))) {
    throw new Refused("no ink stands out from its background");
  }
  return {ink: ofEach(depth, value => Math.min(value / Math.fround(most), 1)), hasRules};
}

function strength(depth) {
  let weighted = 0, weights = 0;
  for (const value of depth.values) {
    const square = Math.fround(value * value), weight = Math.fround(square * square);
    weighted += Math.fround(weight * value);
    weights += weight;
  }
  return weighted / Math.max(weights, 1e-9);
}

function eraseRules(depth) {
  const {height, width} = depth, thickest = Math.floor(width * THICKEST) + EDGE;
  if (width < BLOCKS || height < 2 * thickest) return depth;
  const blocks = meansOfColumns(depth);
  if (visibleBorders(blocks) < 2) return depth;
  const opened = openColumns(blocks, thickest).values;
  const ridge = {...blocks, values: blocks.values.map((value, i) => value - opened[i])};
  const least = Math.max(VISIBLE, 2 * sum(ridge) / ridge.values.length);
  ridge.values = ridge.values.map(value => value < least ? 0 : value);
  const lines = findRules(ridge, width);
  if (!lines.length) return depth;
  const size = thickness(ridge, lines, thickest) + EDGE, band = array(height + 2 * size, width);
  for (const {start, fall} of lines) {
    for (let column = 0; column < width; column++) {
      const row = start + drop(fall, column, width) + size;
      if (row >= 0 && row < band.height) band.values[row * width + column] = 1;
    }
  }
  const reach = (size >> 1) + 2, around = overColumns(Math.max, band, 2 * reach + 1).values;
  const rest = openColumns(depth, size).values;
  return ofEach(depth, (value, i) => around[i + (size - reach) * width] ? rest[i] : value);
}

// At how many of the left, right, upper and lower edges something may be a line
function visibleBorders({height, values}) {
  const visible = [false, false, false, false];
  values.forEach((value, i) => {
    if (value < VISIBLE) return;
    const block = i % BLOCKS, row = (i - block) / BLOCKS;
    [block < ENDS, block >= BLOCKS - ENDS, row === 0, row === height - 1].forEach((at, edge) => {
      visible[edge] ||= at;
    });
  });
  return visible.filter(Boolean).length;
}

// Of blocks of columns, in float64
function meansOfColumns({height, width, values}) {
  const blocks = {height, width: BLOCKS, values: new Float64Array(height * BLOCKS)};
  for (let i = 0; i < blocks.values.length; i++) {
    const row = Math.floor(i / BLOCKS) * width, block = i % BLOCKS;
    const start = Math.floor(block * width / BLOCKS), end = Math.floor((block + 1) * width / BLOCKS);
    for (let column = start; column < end; column++) blocks.values[i] += values[row + column];
    blocks.values[i] /= end - start;
  }
  return blocks;
}

function findRules(ridge, width) {
  const {height, values} = ridge, most = Math.floor(width * STEEPEST), size = height + 2 * most + 2;
  const falls = [], peaks = [];
  for (let fall = -most; fall <= most; fall += TURN) falls.push(fall);
  values.forEach((value, i) => {
    if (value > (values[i - BLOCKS] ?? 0) && value >= (values[i + BLOCKS] ?? 0)) peaks.push(i);
  });
  const votes = falls.map(fall => {
    const counts = new Int32Array(size);
    for (const i of peaks) counts[Math.floor(i / BLOCKS) - drop(fall, i % BLOCKS, BLOCKS) + most + 1]++;
    return counts.map((count, i) => (counts[i - 1] ?? 0) + count + (counts[i + 1] ?? 0));
  });
  const near = overColumns(Math.max, padRows(ridge, 2), 5), lines = [];
  for (let start = -most; start < height + most; start++) {
    const place = start + most + 1;
    const best = falls.reduce((one, _, i) => votes[i][place] > votes[one][place] ? i : one, 0);
    if (isRule(near, start, falls[best])) lines.push({start, fall: falls[best]});
  }
  return lines;
}

function isRule(near, start, fall) {
  let seen = 0, inside = 0;
  const ends = [0, 0];
  for (let block = 0; block < BLOCKS; block++) {
    const row = start + drop(fall, block, BLOCKS), isInside = row >= 0 && row < near.height;
    const isSeen = isInside && near.values[row * BLOCKS + block] > 0;
    seen += isSeen;
    inside += isInside;
    if (block < ENDS) ends[0] += isSeen || !isInside;
    if (block >= BLOCKS - ENDS) ends[1] += isSeen || !isInside;
  }
  return seen >= Math.max(COVERED * inside, 1) && Math.min(...ends) >= ENDS / 2;
}

// How many rows a line has fallen in the middle of one of so many parts of the width
const drop = (fall, part, parts) => Math.floor(((2 * part + 1) * fall + parts) / (2 * parts));

function thickness({height, values}, lines, most) {
  let total = 0, places = 0;
  for (const {start, fall} of lines) {
    for (let block = 0; block < BLOCKS; block++) {
      const row = start + drop(fall, block, BLOCKS), reach = most >> 1;
      let count = 0;
      for (let i = Math.max(row - reach, 0); i < Math.min(row + reach + 1, height); i++) {
        count += values[i * BLOCKS + block] > 0;
      }
      total += count;
      places += count > 0;
    }
  }
  return Math.floor(total / places);
}

function openColumns(depth, size) {
  const lowest = overColumns(Math.min, padRows(depth, size - 1), size);
  return overColumns(Math.max, lowest, size);
}

// Of each `size` pixels above each other that lie in the array
function overColumns(choose, {height, width, values}, size) {
  values = values.slice();
  for (let reach = 1, step; reach < size; reach += step) {
    step = Math.min(reach, size - reach);
    const ahead = step * width;
    for (let i = 0; i < values.length - ahead; i++) values[i] = choose(values[i], values[i + ahead]);
  }
  const rows = height - size + 1;
  return {height: rows, width, values: values.subarray(0, rows * width)};
}

function padRows({height, width, values}, by) {
  const wide = new values.constructor((height + 2 * by) * width);
  wide.set(values, by * width);
  return {height: height + 2 * by, width, values: wide};
}

function close(grey, radius) {
  const negative = grid => ofEach(grid, value => -value);
  return negative(highest(negative(highest(padEdge(grey, 2 * radius), radius)), radius));
}

// Of each square that lies in the grid: along the rows, then, transposed, along the columns
function highest(grid, radius) {
  for (let axis = 0; axis < 2; axis++) {
    const {height, width, values} = grid, rows = array(height, width - 2 * radius);
    for (let row = 0; row < height; row++) {
      const line = values.slice(row * width, (row + 1) * width);
      lookAhead(line, 2 * radius + 1);
      rows.values.set(line.subarray(0, rows.width), row * rows.width);
    }
    grid = transpose(rows);
  }
  return grid;
}

// Each pixel learns the highest of `size` pixels from itself on, and meanwhile of `reach`
function lookAhead(line, size) {
  for (let reach = 1, step; reach < size; reach += step) {
    step = Math.min(reach, size - reach);
    for (let i = 0; i < line.length - step; i++) {
      if (line[i + step] > line[i]) line[i] = line[i + step];
    }
  }
}

function choose(mask, hasRules) {
  let pieces = piecesOf(mask);
  const inside = pieces.filter(piece => !touchesEdge(piece, mask));
  if (hasRules || largestOf(inside) >= SPECK * largestOf(pieces)) pieces = inside;
  const most = largestOf(pieces), large = pieces.filter(({area}) => area >= SPECK * most);
  const highest = Math.max(0, ...large.map(heightOf));
  const isTall = piece => heightOf(piece) >= FRAGMENT * highest, tall = pieces.filter(isTall);
  const chosen = pieces.filter(piece => piece.area >= CRUMB * most || isTall(piece));
  const extent = tall.reduce((size, {left, right}) => Math.max(size, right - left + 1), highest);
  const tooSmall = extent < Math.max(SMALLEST * longer(mask), tall.length > 1 ? LEAST : 2);
  if (tooSmall || Math.max(areaOf(tall), 2 * most) < areaOf(pieces) / 2 || chosen.length > MOST) {
    throw new Refused("no digit stands out from the specks on its background; write it larger and darker");
  }
  return chosen;
}

const heightOf = ({top, bottom}) => bottom - top + 1;
const areaOf = pieces => pieces.reduce((total, {area}) => total + area, 0);
const largestOf = pieces => pieces.reduce((most, {area}) => Math.max(most, area), 0);
const touchesEdge = ({top, bottom, left, right}, {height, width}) =>
  top === 0 || bottom === height - 1 || left === 0 || right === width - 1;

// The digits from left to right, each a list of pieces
function group(chosen, shape) {
  const bodies = bodiesOf(chosen, shape).map(pieces => ({pieces, ...around(pieces)}));
  const highest = Math.max(...bodies.map(heightOf)), isLow = body => heightOf(body) < FRAGMENT * highest;
  const digits = bodies.filter(body => !isLow(body)), tall = digits.flatMap(({pieces}) => pieces);
  const inOrder = chosen.filter(piece => tall.includes(piece));
  const isDust = ({pieces}) => areaOf(pieces) < SPECK * largestOf(chosen);
  for (const piece of bodies.filter(body => isLow(body) && !isDust(body)).flatMap(({pieces}) => pieces)) {
    const nearest = nearestOf(inOrder, piece);
    digits.find(({pieces}) => pieces.includes(nearest)).pieces.push(piece);
  }
  digits.sort((one, other) => one.left + one.right - other.left - other.right);
  if (digits.some((digit, i) => i && sharedRows(digit, digits[i - 1]) < LEVEL)) {
    throw new Refused("its digits don't stand in one row; show one row at a time");
  }
  return digits.map(({pieces}) => pieces);
}

function bodiesOf(chosen, shape) {
  const bodies = [], remaining = new Set(chosen), highest = Math.max(...chosen.map(heightOf));
  const grown = grownLabels(chosen, shape);
  const belong = (one, other) => grown(one) === grown(other) || areOne(one, other, highest);
  for (const first of chosen) {
    if (!remaining.delete(first)) continue;
    const body = [first];
    for (const piece of body) {  // which grows meanwhile
      for (const other of remaining) if (belong(piece, other)) body.push(other), remaining.delete(other);
    }
    bodies.push(body);
  }
  return bodies;
}

// Which piece each becomes a part of, if all are grown by half of the gap that a broken stroke has
function grownLabels(chosen, shape) {
  const radius = Math.floor(Math.max(...chosen.map(heightOf)) * BREAK / 2 + 0.5);
  const mask = highest(pad(ownersOf([chosen], shape), 2 * radius), radius), pieces = piecesOf(mask);
  const labels = ownersOf(pieces.map(piece => [piece]), mask);
  return ({top, starts}) => labels.values[(top + radius) * mask.width + starts[top] + radius];
}

function areOne(one, other, highest) {
  const gap = Math.max(one.top, other.top) - Math.min(one.bottom, other.bottom);
  const columns = shared(one.left, one.right, other.left, other.right);
  if (sharedRows(one, other) < (columns > 0 ? OVERLAP : LEVEL)) {
    return columns > -ASIDE && gap < GAP * Math.max(heightOf(around([one, other])), highest);
  }
  return Math.max(rowsBefore(one, other), rowsBefore(other, one)) <= BESIDE * (1 - gap);
}

const rowsBefore = (one, other) => one.ends.reduce((rows, end, row) => rows + (end < other.starts[row]), 0);

const sharedRows = (one, other) => shared(one.top, one.bottom, other.top, other.bottom);

// Which part of the shorter of two intervals lies in the other; less than 0: they are apart
const shared = (start, end, otherStart, otherEnd) => {
  const shorter = Math.min(end - start, otherEnd - otherStart) + 1;
  return (Math.min(end, otherEnd) - Math.max(start, otherStart) + 1) / shorter;
};

const around = pieces => ({
  top: Math.min(...pieces.map(({top}) => top)), bottom: Math.max(...pieces.map(({bottom}) => bottom)),
  left: Math.min(...pieces.map(({left}) => left)), right: Math.max(...pieces.map(({right}) => right)),
});

function nearestOf(tall, {top, bottom, left, right}) {
  const distances = tall.map(piece => {
    const row = Math.min(Math.max((top + bottom) >> 1, piece.top), piece.bottom);
    const down = Math.max(piece.top - bottom, top - piece.bottom, 0);
    const aside = Math.max(piece.starts[row] - right, left - piece.ends[row], 0);
    return down * down + aside * aside;
  });
  return tall[distances.indexOf(Math.min(...distances))];
}

// Which digit lies where, 1 is the first
function ownersOf(digits, {height, width}) {
  const owners = array(height, width);
  digits.forEach((digit, i) => digit.forEach(({pixels}) => pixels.forEach(pixel => {
    owners.values[pixel] = i + 1;
  })));
  return owners;
}

function withRim(owners) {
  const near = highest(pad(owners, RIM), RIM);
  return ofEach(owners, (owner, i) => owner || near.values[i]);
}

// Corners connect too
function piecesOf(mask) {
  const width = mask.width + 2, pieces = [];
  const left = Uint8Array.from(pad(mask, 1).values);  // the pixels that no piece has yet
  const steps = [-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1];
  const place = pixel => (Math.floor(pixel / width) - 1) * mask.width + pixel % width - 1;
  for (let start = 0; start < left.length; start++) {
    if (!left[start]) continue;
    left[start] = 0;
    const piece = [start];
    for (const pixel of piece) {  // which grows meanwhile
      for (const step of steps) {
        if (!left[pixel + step]) continue;
        left[pixel + step] = 0;
        piece.push(pixel + step);
      }
    }
    pieces.push(measured(piece.map(place), mask.width));
  }
  return pieces;
}

// The places of a piece's pixels in `values`, their box, and the first and last column of each row
function measured(pixels, width) {
  const starts = [], ends = [];
  for (const pixel of pixels) {
    const row = Math.floor(pixel / width), column = pixel % width;
    starts[row] = Math.min(starts[row] ?? column, column);
    ends[row] = Math.max(ends[row] ?? column, column);
  }
  const top = Math.floor(pixels[0] / width), bottom = ends.length - 1;
  const left = starts.reduce((one, other) => Math.min(one, other));
  const right = ends.reduce((one, other) => Math.max(one, other));
  return {pixels, area: pixels.length, top, bottom, left, right, starts, ends};
}

function crop(ink) {
  const strong = [];
  ink.values.forEach((value, i) => { if (value > STRONG) strong.push(i); });
  const {top, bottom, left, right} = measured(strong, ink.width);
  return cut(ink, top, left, bottom - top + 1, right - left + 1);
}

function thicken(ink) {
  if (longer(ink) > LARGE) ink = fit(ink, LARGE);
  const outline = differences(ink) + differences(transpose(ink));
  const missing = STROKE / LARGE * longer(ink) - 2 * sum(ink) / outline;
  const radius = Math.max(Math.floor(missing / 2 + 0.5), 0);
  return highest(pad(ink, 2 * radius), radius);
}

// The sum of all differences of neighbours along the rows; around the array is 0
const differences = grid => pad(grid, 1).values.reduce(
  (total, value, i, values) => total + Math.abs(value - (values[i - 1] ?? 0)), 0);

const fit = (ink, size) => {
  const scale = side => Math.max(Math.floor(side * size / longer(ink) + 0.5), 1);
  const rows = scaleRows(ink, scale(ink.width)), both = scaleRows(transpose(rows), scale(ink.height));
  return ofEach(transpose(both), value => value);
};

// Each new pixel is the average of the area that it covers, in float64
function scaleRows(grid, width) {
  const result = {height: grid.height, width, values: new Float64Array(grid.height * width)};
  for (let column = 0; column < width; column++) {
    const start = column * grid.width / width, end = (column + 1) * grid.width / width;
    for (let i = Math.floor(start); i < Math.min(Math.ceil(end), grid.width); i++) {
      const part = (Math.min(end, i + 1) - Math.max(start, i)) * width / grid.width;
      for (let row = 0; row < grid.height; row++) {
        result.values[row * width + column] += part * grid.values[row * grid.width + i];
      }
    }
  }
  return result;
}

function centre(ink) {
  const image = new Uint8Array(SIDE * SIDE), most = highestOf(ink);
  const left = place(ink), top = place(transpose(ink));
  ink.values.forEach((value, i) => {
    const row = top + Math.floor(i / ink.width), column = left + i % ink.width;
    image[row * SIDE + column] = 255 * value / most + 0.5;  // which is cut to a whole number
  });
  return image;
}

function place(ink) {
  const moment = ink.values.reduce((total, value, i) => total + value * (i % ink.width), 0);
  const middle = Math.floor(moment / sum(ink) + 0.501);  // errors of rounding shouldn't decide a tie
  return Math.min(Math.max(SIDE / 2 - middle, 0), SIDE - ink.width);
}

// Arrays, as numpy has them

const array = (height, width) => ({height, width, values: new Float32Array(height * width)});
const longer = grid => Math.max(grid.height, grid.width);
const lowestOf = grid => grid.values.reduce((least, value) => Math.min(least, value));
const highestOf = grid => grid.values.reduce((most, value) => Math.max(most, value));

// Plain loops, as the arrays' own `map` and `reduce` take three times as long
function ofEach(grid, change) {
  const result = array(grid.height, grid.width);
  for (let i = 0; i < result.values.length; i++) result.values[i] = change(grid.values[i], i);
  return result;
}

function sum(grid) {
  let total = 0;
  for (const value of grid.values) total += value;
  return total;
}

// Of an even number the higher of both
const median = ({values}) => values.toSorted()[values.length >> 1];

function transpose(grid) {
  const values = new grid.values.constructor(grid.values.length);
  const result = {height: grid.width, width: grid.height, values};
  for (let row = 0, from = 0; row < grid.height; row++) {
    for (let to = row; to < result.values.length; to += grid.height) result.values[to] = grid.values[from++];
  }
  return result;
}

function cut({width, values}, top, left, rows, columns) {
  const part = array(rows, columns);
  for (let row = 0; row < rows; row++) {
    const from = (top + row) * width + left;
    part.values.set(values.subarray(from, from + columns), row * columns);
  }
  return part;
}

function pad({height, width, values}, by) {
  const wide = array(height + 2 * by, width + 2 * by);
  for (let row = 0; row < height; row++) {
    wide.values.set(values.subarray(row * width, (row + 1) * width), (row + by) * wide.width + by);
  }
  return wide;
}

// Beyond the edge the array goes on as at the edge
function padEdge({height, width, values}, by) {
  const wide = array(height + 2 * by, width + 2 * by);
  for (let row = 0; row < wide.height; row++) {
    const from = Math.min(Math.max(row - by, 0), height - 1) * width, to = row * wide.width;
    wide.values.fill(values[from], to, to + by);
    wide.values.set(values.subarray(from, from + width), to + by);
    wide.values.fill(values[from + width - 1], to + by + width, to + wide.width);
  }
  return wide;
}

return {readNumber, mayBeTwo};
})();
