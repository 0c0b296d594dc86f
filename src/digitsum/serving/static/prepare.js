// Any picture of a handwritten digit, or of a number, prepared as the networks take it, in the browser.
//
//   const {pixels} = await readPicture(file);  // of a digit: Uint8Array of 28 x 28, 255 ink
//   const {height, width, pixels, mayHaveLost} = await readRow(file);  // of a row: 32 pixels high
//   narrow({height, width, pixels})  // the same, for a second look
//
// The twin of `digitsum.reading` (decoding.py, finding.py, imaging.py, morphology.py, paper.py, pieces.py,
// ruling.py, strips.py), step by step, where the reasons for each step stand; their constants come before this.
// An array here is {height, width, values}, values row by row as float32, as there.

const {readPicture, readRow, narrow} = (() => {  // the only names that the page sees

const STRIP = 1_000_000;  // pixels of a picture that are drawn at a time

async function readPicture(picture) {
  const bitmap = await open(picture), grey = decode(bitmap);
  if (isPrepared(grey)) return imageOf(grey);
  const {ink, chosen, apart, top, bottom, left, right} = find(bitmap, grey, true);
  if (apart > 1) throw refusal(`it shows ${apart} digits, not one; the network row reads rows of digits`);
  const mask = array(ink.height, ink.width);
  for (const {pixels} of chosen) for (const pixel of pixels) mask.values[pixel] = 1;
  const near = dilate(pad(mask, GREY), GREY).values;
  return imageOf(digitOf(crop(cut(ofEach(ink, (value, i) => value * near[i]), top, bottom, left, right))));
}

async function readRow(picture) {
  const bitmap = await open(picture), grey = decode(bitmap);
  const {ink, mayHaveLost, top, bottom, left, right} =
    isPrepared(grey) ? findInInk(ofEach(grey, value => value / 255)) : find(bitmap, grey);
  const margin = Math.floor(PAPER_AROUND * (bottom - top)) + 1;
  const row = cut(ink, top - margin, bottom + margin, left - margin, right + margin);
  return {...imageOf(stripOf(row)), mayHaveLost};
}

function narrow({height, width, pixels}) {
  const strip = {height, width, values: Float32Array.from(pixels)};
  return imageOf(resize(strip, height, bilinear, NARROWER));
}

const refusal = why => new Refused(`the picture can't be read: ${why}`);
const noInk = () => refusal("no ink stands out from its background");

// Clamped arrays round halves to even numbers, as numpy does
const imageOf = ({height, width, values}) =>
  ({height, width, pixels: new Uint8Array(Uint8ClampedArray.from(values).buffer)});

// From a file or a canvas to grey levels, shrunk

async function open(picture) {
  if (picture.size > MAX_BYTES) throw refusal(`it has more than ${MAX_BYTES} bytes; make it smaller`);
  // without the conversion of colours, which Pillow doesn't do either
  const options = {imageOrientation: "from-image", colorSpaceConversion: "none"};
  const bitmap = await createImageBitmap(picture, options).catch(() => {
    throw refusal("it is damaged, or in no format that this browser reads; save it as PNG or JPEG");
  });
  const {width, height} = bitmap;
  if (width * height > MAX_PIXELS) {
    throw refusal(`it has ${width} x ${height} pixels, more than ${MAX_PIXELS}; make it smaller`);
  }
  return bitmap;
}

function decode(bitmap, part = [0, 1, 0, 1], longest = WORKING) {
  const white = shrink(bitmap, part, longest, "white");
  if (lowest(white.values) < LIGHT) return white;
  const black = shrink(bitmap, part, longest, "black");
  return mean(black.values) < 255 / 2 ? black : white;  // where most is transparent
}

// The whole picture may need a larger canvas than a phone gives, so it is drawn in strips of whole blocks
function shrink(bitmap, [top, bottom, left, right], longest, paper) {
  const [above, height] = span(top, bottom, bitmap.height), [before, width] = span(left, right, bitmap.width);
  const k = factor(Math.max(width, height), longest), down = Math.min(k, height), aside = Math.min(k, width);
  const shrunk = array(Math.ceil(height / down), Math.ceil(width / aside));
  const most = Math.max(Math.floor(STRIP / (width * down)), 1);
  const strip = new OffscreenCanvas(width, most * down).getContext("2d", {willReadFrequently: true});
  strip.fillStyle = paper;  // where the picture is transparent
  for (let row = 0; row < shrunk.height; row += most) {
    const rows = Math.min(most * down, height - row * down);
    strip.fillRect(0, 0, width, rows);
    strip.drawImage(bitmap, -before, -above - row * down);
    const means = meansOfBlocks(strip.getImageData(0, 0, width, rows), down, aside);
    shrunk.values.set(means, row * shrunk.width);
  }
  return shrunk;
}

// Of shares of a size: where they start, and how many pixels they are
function span(start, end, size) {
  const first = Math.floor(start * size);
  return [first, Math.max(Math.floor(end * size) - first, 1)];
}

// How many times smaller: a power of two, or three of them
function factor(longer, longest) {
  const times = Math.ceil(longer / longest), step = 2 ** Math.max(Math.floor(Math.log2(times)) - 1, 0);
  return Math.ceil(times / step) * step;
}

// Of the grey levels, with the weights of ITU-R 601, as Pillow rounds them, some halves down; the last
// blocks may have fewer pixels
function meansOfBlocks({data, width, height}, down, aside) {
  const columns = Math.ceil(width / aside), count = Math.ceil(height / down) * columns;
  const sums = new Float64Array(count), areas = new Int32Array(count);
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i += 4) {
      const block = Math.floor(row / down) * columns + Math.floor(column / aside);
      sums[block] += (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
      areas[block]++;
    }
  }
  return sums.map((total, i) =>
    Math.floor((total + (areas[i] >> 1)) * Math.floor(2 ** 24 / areas[i]) / 2 ** 24));
}

const isPrepared = grey =>
  grey.height === SIDE && grey.width === SIDE && highest(grey.values) > 127 && median(grey.values) === 0;

// From grey levels to ink, rounded to float32 and summed in float64 where paper.py is

function findInk(grey, closing, ofOne) {
  const rim = rimOf(grey), inside = grid => pad(grid, -rim);
  if (Math.min(grey.height, grey.width) <= 2 * rim) throw noInk();
  const before = findDepth(grey, isDarkOnLight(inside(grey)), closing), depth = withoutRules(before, ofOne);
  const whole = strength(inside(depth)), least = depth === before ? 0 : LEFT * strength(before);
  if (whole < Math.max(FAINTEST, least)) throw noInk();
  return ofEach(depth, value => Math.min(value / Math.fround(whole), 1));
}

function withoutRules(depth, ofOne) {
  const turned = transpose(depth), erased = eraseRules(turned);
  if (erased === turned) return ofOne ? eraseRules(depth) : depth;
  const rest = eraseRules(transpose(erased)), whole = strength(rest);
  if (ofOne || whole <= LEFT * strength(depth)) return rest;
  return boxOfStrong(rest, STRONG * whole).height - 1 >= HIGH * rest.height ? depth : rest;
}

const rimOf = ({height, width}) => Math.max(Math.floor(RIM * Math.min(height, width)), 1);

function isDarkOnLight(grey) {
  const radius = Math.floor(longer(grey) * AROUND);
  return isEdgeLight(grey, Math.max(radius, 1)) ?? thirdMoment(grey, radius) <= 0;
}

// Of a drawing; null where its edge doesn't tell
function isEdgeLight(grey, radius) {
  const edge = border(grey, 1), level = median(edge);
  if (edge.filter(value => Math.abs(value - level) <= EVEN).length < MOSTLY * edge.length) return null;
  const middle = (lowest(grey.values) + highest(grey.values)) / 2, isLight = level >= middle;
  const near = border(grey, radius);
  if (!isLight && near.filter(value => value >= middle).length >= near.length / 2) return true;
  const other = ofEach(grey, value => (value >= middle) !== isLight);
  if (!highest(other.values)) return null;
  const around = border(crop(other), 1);
  return around.filter(Boolean).length < MOSTLY * around.length ? isLight : null;
}

// The pixels that are less than `by` from the edge
const border = ({height, width, values}, by) => values.filter((_, i) => {
  const row = Math.floor(i / width), column = i % width;
  return Math.min(row, column, height - 1 - row, width - 1 - column) < by;
});

// Of what stands out from the mean of the square around it, in float64
function thirdMoment(grey, radius) {
  const size = 2 * radius + 1, sums = alongBoth(pad(grey, radius, null), part => sumsOfColumns(part, size)).values;
  return grey.values.reduce((total, value, i) => total + (value - sums[i] / size ** 2) ** 3, 0);
}

// Of each `size` pixels above each other
function sumsOfColumns({height, width, values}, size) {
  const ends = Float64Array.from(values);
  for (let i = width; i < ends.length; i++) ends[i] += ends[i - width];
  const sums = ends.subarray((size - 1) * width).map((end, i) => end - (ends[i - width] ?? 0));
  return {height: height - size + 1, width, values: sums};
}

function findDepth(grey, isDark, closing) {
  const brightest = highest(grey.values);
  if (!isDark) grey = ofEach(grey, value => 255 - value);
  const paper = closing(grey, Math.floor(longer(grey) * PAPER / 2));
  const dark = Math.max(DARKEST * Math.max(highest(paper.values), brightest), 1);
  const depth = ofEach(grey, (value, i) => (paper.values[i] - value) / Math.max(paper.values[i], dark));
  const noise = median(depth.values);
  return ofEach(depth, value => Math.max(value - noise, 0));
}

function strength(depth) {
  const weights = squared(squared(depth)), weighted = ofEach(depth, (value, i) => value * weights.values[i]);
  return sum(weighted.values) / Math.max(sum(weights.values), 1e-9);
}

const squared = grid => ofEach(grid, value => value * value);

function crop(ink) {
  const {top, bottom, left, right} = boxOfStrong(ink, STRONG);
  return cut(ink, top, bottom + 1, left, right + 1);
}

const boxOfStrong = ({width, values}, strong) =>
  boxOf([...values.keys()].filter(i => values[i] > Math.fround(strong)), width);

// Lines from the left edge to the right one are taken away, in float64 where ruling.py has it

function eraseRules(depth) {
  const {height, width} = depth, thickest = Math.floor(width * THICKEST) + EDGE;
  if (width < BLOCKS || height < 2 * thickest) return depth;
  const blocks = meansOfColumns(depth);
  if (!mayHaveRules(blocks)) return depth;
  const opened = openColumns(blocks, thickest).values;
  const above = ofEach(blocks, (value, i) => value - opened[i]);
  const least = Math.max(VISIBLE, 2 * mean(above.values)), ridge = ofEach(above, value => value < least ? 0 : value);
  const lines = findRules(ridge, width);
  if (!lines.length) return depth;
  const size = thickness(ridge, lines, thickest) + EDGE, band = array(height + 2 * size, width);
  for (const line of lines) {
    rowsOf(line, width).forEach((row, column) => { band.values[(row + size) * width + column] = 1; });
  }
  const reach = (size >> 1) + 2, near = overColumns(band, 2 * reach + 1, 1).values;
  const rest = openColumns(depth, size).values;
  return ofEach(depth, (value, i) => near[i + (size - reach) * width] ? rest[i] : value);
}

function meansOfColumns(depth) {
  const edge = block => Math.floor(block * depth.width / BLOCKS), size = block => edge(block + 1) - edge(block);
  const sums = scaleRows(depth, BLOCKS, block => [edge(block), new Array(size(block)).fill(1)], Float64Array);
  return ofEach(sums, (total, i) => total / size(i % BLOCKS));
}

// Whether two edges have something that may be a line
function mayHaveRules(blocks) {
  const {height} = blocks, sides = [[0, height, 0, ENDS], [0, height, BLOCKS - ENDS, BLOCKS]];
  const borders = [...sides, [0, 1, 0, BLOCKS], [height - 1, height, 0, BLOCKS]];
  return borders.filter(border => highest(cut(blocks, ...border).values) >= VISIBLE).length >= 2;
}

function findRules(ridge, width) {
  const {height, values} = ridge, most = Math.floor(width * STEEPEST_LINE), size = height + 2 * most + 2;
  const falls = [], near = overColumns(padRows(ridge, 2), 5, 1).values;
  for (let fall = -most; fall <= most; fall += TURN) falls.push(fall);
  const peaks = [...values.keys()].filter(i =>
    values[i] > (values[i - BLOCKS] ?? 0) && values[i] >= (values[i + BLOCKS] ?? 0));
  const votes = falls.map(fall => {
    const counts = new Int32Array(size), drops = rowsOf({start: 0, fall}, BLOCKS);
    for (const i of peaks) counts[Math.floor(i / BLOCKS) - drops[i % BLOCKS] + most + 1]++;
    return counts.map((count, i) => (counts[i - 1] ?? 0) + count + (counts[i + 1] ?? 0));
  });
  const lines = Array.from({length: height + 2 * most}, (_, i) => {
    const counts = votes.map(ofFall => ofFall[i + 1]);
    return {start: i - most, fall: falls[counts.indexOf(highest(counts))]};
  });
  return lines.filter(line => isRule(rowsOf(line, BLOCKS).map((row, block) => near[row * BLOCKS + block])));
}

// By what is near it in each block: 0 is nothing, and undefined is outside
function isRule(near) {
  const inside = near.filter(value => value !== undefined);
  const isSeen = end => end.filter(value => value !== 0).length >= ENDS / 2;
  return inside.filter(Boolean).length >= Math.max(COVERED * inside.length, 1)
    && isSeen(near.slice(0, ENDS)) && isSeen(near.slice(-ENDS));
}

// In which row a line is in the middle of each of so many parts of the width
const rowsOf = ({start, fall}, parts) => Array.from(
  {length: parts}, (_, part) => start + Math.floor(((2 * part + 1) * fall + parts) / (2 * parts)));

function thickness(ridge, lines, most) {
  const reach = most >> 1, thin = padRows(ofEach(ridge, value => value > 0), 2 * reach);
  const counts = sumsOfColumns(thin, 2 * reach + 1).values;
  const seen = lines.flatMap(line => rowsOf(line, BLOCKS).map(
    (row, block) => counts[(row + reach) * BLOCKS + block])).filter(Boolean);
  return Math.floor(mean(seen));
}

// Where the digits stand

function find(bitmap, grey, ofOne = false) {
  const [place, closing] = findIn(grey, ofOne), [top, bottom] = place.part, height = place.bottom - place.top;
  if (height >= SMALL || 2 * longer(grey) <= WORKING) return place;  // it wasn't shrunk
  const longest = Math.floor(2 * SMALL * (2 + (place.right - place.left) / height));
  const larger = decode(bitmap, place.part, Math.max(longest, WORKING));
  if (larger.height <= ENLARGED * (bottom - top) * grey.height) return place;
  return findInInk(findInk(larger, closing, ofOne), ofOne);
}

function findIn(grey, ofOne) {
  try {
    const place = findInInk(findInk(grey, close, ofOne), ofOne), [top, bottom] = place.part;
    if (ofOne || top > 0 || bottom < 1) return [place, close];
  } catch (error) {
    if (!(error instanceof Refused)) throw error;  // all its ink may lie along the edge
  }
  return [findInInk(findInk(grey, closeWithin, ofOne), ofOne), closeWithin];
}

function findInInk(ink, ofOne = false, part = null) {
  const {large, mayHaveLost} = choose(piecesOf(ink), ink, ofOne), tall = largest(large, "height", TALL);
  if (!part) {
    part = around(tall, AROUND_ROW * most(tall, "height"), ink);
    const angle = ofOne ? 0 : slope(tall, ink.width);
    if (angle) return findInInk(turn(ink, angle), false, part);
  }
  const top = least(tall, "top"), bottom = most(tall, "bottom") + 1;
  const main = largest(largest(tall, "area", MAIN), "height", DIGIT), gap = GAP * most(main, "height");
  if (most(main, "top") - least(main, "bottom") > gap) {
    throw refusal("its digits don't stand in one row; show one row at a time");
  }
  const chosen = large.filter(piece => piece.bottom >= top && piece.top < bottom);
  const left = least(chosen, "left"), right = most(chosen, "right") + 1, apart = countApart(main, gap);
  const times = (right - left) / (bottom - top);
  if (times > LONGEST) {
    throw refusal(`its row is ${Math.round(times)} times as long as high, more than ${LONGEST}; show a part at a time`);
  }
  return {ink, chosen, top, bottom, left, right, part, apart, mayHaveLost};
}

// Which pieces may be digits or marks, and whether one that may be was left out
function choose(pieces, ink, ofOne) {
  const isBorder = ({inner, area}) => inner < BORDER * area;
  const total = some => sum(some.map(({area}) => area));
  let others = pieces.filter(piece => !isBorder(piece) && !isLine(piece, ink.width));
  let inside = others.filter(({isStrong}) => isStrong);
  if (!inside.length) inside = others = pieces.filter(({isStrong}) => isStrong);  // all is cut to the ink
  if (!inside.length) throw noInk();
  inside = largest(inside, "area", SPECK);
  const tall = largest(inside, "height", TALL), highest = most(tall, "height");
  const extent = Math.max(highest, most(tall, "width"));
  if (extent < Math.max(SMALLEST * longer(ink), 2) || total(tall) < SPECKS * total(others)) {
    throw refusal("no digit stands out from the specks on its background; write it larger and darker");
  }
  if (ofOne) return {large: withoutNeighbours(inside, ink), mayHaveLost: false};
  const isDigit = ({height}) => height >= AS_TALL * highest && height * AS_TALL <= highest;
  const atEdge = pieces.filter(piece => isBorder(piece) && piece.isStrong && !inside.includes(piece));
  const mayHaveLost = atEdge.some(piece =>
    !isDigit(piece) && piece.height >= LOST * highest && piece.height <= highest);
  return {large: [...inside, ...atEdge.filter(isDigit)], mayHaveLost};
}

// Without what touches the picture's edge beside a digit that doesn't, and isn't much lower
function withoutNeighbours(inside, {height, width}) {
  const free = inside.filter(({top, bottom, left, right}) =>
    top > 0 && bottom < height - 1 && left > 0 && right < width - 1);
  if (most(free, "height") < DIGIT * most(inside, "height")) return inside;
  const start = least(free, "left"), end = most(free, "right");
  return inside.filter(piece => free.includes(piece) || piece.left >= start && piece.right <= end);
}

function isLine({pixels, area, left, height, width}, whole) {
  if (height >= FLAT * width || width <= LONG * whole) return false;
  const across = new Int32Array(width);
  for (const pixel of pixels) across[pixel % whole - left]++;
  return area / width > EVEN_LINE * Math.max(...across);
}

function countApart(main, gap) {
  let apart = 0, end = -Infinity;
  for (const {left, right} of main.toSorted((one, other) => one.left - other.left)) {
    apart += left - end > gap;
    end = Math.max(end, right);
  }
  return apart;
}

// By how many degrees a long row falls, 0 if it is level, or too short to tell
function slope(tall, width) {
  const [rows, columns] = placesOf(tall.flatMap(piece => piece.pixels), width);
  const across = covariance(columns, columns), down = covariance(rows, rows);
  const both = 2 * covariance(columns, rows), angle = Math.atan2(both, across - down) * 180 / Math.PI / 2;
  const long = (tall.length > 1 ? LONG_ROW : ONE_PIECE) * (across + down);
  const isKnown = Math.hypot(both, across - down) >= long;
  return isKnown && Math.abs(angle) >= LEVEL && Math.abs(angle) <= STEEPEST ? angle : 0;
}

function covariance(some, others) {
  const one = mean(some), other = mean(others);
  return mean(some.map((value, i) => (value - one) * (others[i] - other)));
}

// As Pillow's `rotate` does, by degrees, with bilinear interpolation; all of it has room
function turn({height, width, values}, degrees) {
  const angle = degrees * Math.PI / 180, sin = Math.sin(angle), cos = Math.cos(angle);
  const room = (size, extent) => Math.ceil((size + extent) / 2) - Math.floor((size - extent) / 2);
  const turned = array(room(height, Math.abs(sin) * width + cos * height),
    room(width, cos * width + Math.abs(sin) * height));
  return ofEach(turned, (_, i) => {
    const right = i % turned.width + 0.5 - turned.width / 2;
    const down = Math.floor(i / turned.width) + 0.5 - turned.height / 2;
    const x = cos * right - sin * down + width / 2, y = sin * right + cos * down + height / 2;
    if (x < 0 || x >= width || y < 0 || y >= height) return 0;
    const row = Math.floor(y - 0.5), column = Math.floor(x - 0.5);
    const [above, below] = [row, row + 1].map(at => {
      const start = clamp(at, height) * width, value = values[start + clamp(column, width)];
      return value + Math.fround(values[start + clamp(column + 1, width)] - value) * (x - 0.5 - column);
    });
    return above + (below - above) * (y - 0.5 - row);
  });
}

// The part of a picture that holds pieces, with paper around, as shares
const around = (pieces, paper, {height, width}) => [
  Math.max((least(pieces, "top") - paper) / height, 0),
  Math.min((most(pieces, "bottom") + 1 + paper) / height, 1),
  Math.max((least(pieces, "left") - paper) / width, 0),
  Math.min((most(pieces, "right") + 1 + paper) / width, 1),
];

function piecesOf(ink) {
  const rim = rimOf(ink), inside = pad(pad(ink, -rim), rim).values;
  return Array.from(connected(ink), pixels => ({
    pixels,
    area: pixels.length,
    inner: pixels.filter(pixel => inside[pixel]).length,  // how many lie inside the rim
    isStrong: pixels.some(pixel => ink.values[pixel] > Math.fround(STRONG)),  // or it is dust
    ...boxOf(pixels, ink.width),
  }));
}

// The pixels of each piece; corners connect too
function* connected(ink) {
  const wide = ink.width + 1, steps = [-wide - 1, -wide, 1 - wide, -1, 1, wide - 1, wide, wide + 1];
  // pixels that no piece has yet, and an empty column, so that the ends of rows don't connect
  const free = cut(ink, 0, ink.height, 0, wide).values.map(value => value > Math.fround(WEAK));
  for (let start = free.indexOf(1); start >= 0; start = free.indexOf(1, start)) {
    const pixels = [start];
    free[start] = 0;
    for (const pixel of pixels) {  // which grows meanwhile
      for (const near of steps.map(step => pixel + step).filter(place => free[place])) {
        pixels.push(near);
        free[near] = 0;
      }
    }
    yield pixels.map(pixel => pixel - Math.floor(pixel / wide));
  }
}

function boxOf(pixels, width) {
  const places = placesOf(pixels, width), [top, left] = places.map(lowest), [bottom, right] = places.map(highest);
  return {top, bottom, left, right, height: bottom - top + 1, width: right - left + 1};
}

// In which rows and columns they lie
const placesOf = (pixels, width) =>
  [pixels.map(pixel => Math.floor(pixel / width)), pixels.map(pixel => pixel % width)];

const most = (pieces, side) => highest(pieces.map(piece => piece[side]));
const least = (pieces, side) => lowest(pieces.map(piece => piece[side]));

// Those that have at least a share of what the largest has
const largest = (pieces, side, share) => {
  const least = share * most(pieces, side);
  return pieces.filter(piece => piece[side] >= least);
};

// From ink to the image of a digit or the strip of a row

function digitOf(ink) {
  if (longer(ink) > LARGE) ink = fit(ink, LARGE);
  return centre(fit(thicken(ink, STROKE / LARGE * longer(ink)), BOX));
}

function stripOf(ink) {
  if (ink.height > LARGE) ink = resize(ink, LARGE, box);
  ink = thicken(ink, PEN / LARGE * ink.height);
  return ofEach(resize(ink, HEIGHT, ink.height > HEIGHT ? box : bicubic), value => 255 * value);
}

function thicken(ink, least) {
  const mask = ofEach(ink, value => value > Math.fround(STRONG));
  const outline = differences(mask) + differences(transpose(mask));
  const radius = Math.max(Math.floor((least - 2 * sum(mask.values) / Math.max(outline, 1)) / 2 + 0.5), 0);
  return dilate(pad(ink, 2 * radius), radius);
}

// The sum of all differences of neighbours along the rows; around the array is 0
const differences = grid => pad(grid, 1).values.reduce(
  (total, value, i, values) => total + Math.abs(value - (values[i - 1] ?? 0)), 0);

function resize(ink, height, weights, times = 1) {
  const width = Math.max(Math.floor(times * ink.width * height / ink.height + 0.5), 8);
  return scale(ink, height, width, weights, Float32Array);
}

function fit(ink, size) {
  const [height, width] = [ink.height, ink.width].map(
    side => Math.max(Math.floor(side * size / longer(ink) + 0.5), 1));
  const {values} = scale(ink, height, width, overlaps, Float64Array);
  return {height, width, values: Float32Array.from(values)};
}

const scale = (grid, height, width, weights, kind) =>
  transpose(scaleRows(transpose(scaleRows(grid, width, weights, kind)), height, weights, kind));

// Each new pixel is a sum of old ones, from one on, with weights
function scaleRows({height, width, values}, size, weightsOf, kind) {
  const parts = Array.from({length: size}, (_, column) => weightsOf(column, width, size));
  return ofEach(array(height, size, kind), (_, i) => {
    const [first, weights] = parts[i % size], start = Math.floor(i / size) * width + first;
    return weights.reduce((total, weight, k) => total + weight * values[start + k], 0);
  });
}

// The average of the area that a pixel covers
function overlaps(column, before, after) {
  const start = column * before / after, end = (column + 1) * before / after, first = Math.floor(start);
  const weigh = i => Math.max(Math.min(end, i + 1) - Math.max(start, i), 0) * after / before;
  return [first, Array.from({length: Math.min(Math.ceil(end), before) - first}, (_, i) => weigh(first + i))];
}

// As Pillow's filters do: `curve` gives the weights of pixels at most `reach` from the middle
const filter = (reach, curve) => (column, before, after) => {
  const ratio = before / after, wide = Math.max(ratio, 1), middle = (column + 0.5) * ratio;
  const first = Math.max(Math.floor(middle - reach * wide + 0.5), 0);
  const end = Math.min(Math.floor(middle + reach * wide + 0.5), before);
  const weights = Array.from({length: end - first}, (_, i) => curve((i + first - middle + 0.5) * (1 / wide)));
  const total = sum(weights);
  return [first, weights.map(weight => weight / total)];
};

const box = filter(0.5, x => x > -0.5 && x <= 0.5 ? 1 : 0);
const bilinear = filter(1, x => Math.max(1 - Math.abs(x), 0));
const bicubic = filter(2, x => {
  x = Math.abs(x);
  return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
});

function centre(ink) {
  const top = placeOf(transpose(ink)), left = placeOf(ink), most = highest(ink.values);
  return ofEach(cut(ink, -top, SIDE - top, -left, SIDE - left), value => Math.floor(255 * value / most + 0.5));
}

function placeOf(ink) {
  const moment = ink.values.reduce((total, value, i) => total + value * (i % ink.width), 0);
  const middle = Math.floor(moment / sum(ink.values) + 0.501);  // errors of rounding shouldn't decide a tie
  return Math.min(Math.max(SIDE / 2 - middle, 0), SIDE - ink.width);
}

// Arrays, as numpy has them

const array = (height, width, kind = Float32Array) => ({height, width, values: new kind(height * width)});
const longer = grid => Math.max(grid.height, grid.width);
const clamp = (place, size) => Math.min(Math.max(place, 0), size - 1);

// Plain loops, as the arrays' own `map` and `reduce` take three times as long
function ofEach({height, width, values}, change) {
  const result = array(height, width, values.constructor);
  for (let i = 0; i < values.length; i++) result.values[i] = change(values[i], i);
  return result;
}

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

const mean = values => sum(values) / values.length;
const lowest = values => values.reduce((least, value) => Math.min(least, value), Infinity);
const highest = values => values.reduce((most, value) => Math.max(most, value), -Infinity);
const median = values => values.toSorted()[values.length >> 1];  // of an even number the higher of both

function transpose(grid) {
  const result = array(grid.width, grid.height, grid.values.constructor);
  for (let row = 0, from = 0; row < grid.height; row++) {
    for (let to = row; to < result.values.length; to += grid.height) result.values[to] = grid.values[from++];
  }
  return result;
}

// What changes columns changes rows, too
const alongBoth = (grid, change) => transpose(change(transpose(change(grid))));

// From a row and a column on to others, which may lie beyond the edge: there is `beyond` or, if that is null, what
// is at the edge
function cut({height, width, values}, top, bottom, left, right, beyond = 0) {
  const part = array(bottom - top, right - left, values.constructor);
  for (let row = top, i = 0; row < bottom; row++) {
    const start = clamp(row, height) * width, isOut = row < 0 || row >= height;
    for (let column = left; column < right; column++, i++) {
      const isBeyond = isOut || column < 0 || column >= width;
      part.values[i] = isBeyond && beyond !== null ? beyond : values[start + clamp(column, width)];
    }
  }
  return part;
}

const pad = (grid, by, beyond) => cut(grid, -by, grid.height + by, -by, grid.width + by, beyond);

const padRows = (grid, by) => cut(grid, -by, grid.height + by, 0, grid.width);

const close = (grey, radius) => erode(dilate(pad(grey, 2 * radius, null), radius), radius);

// At the edge, too, where squares end
function closeWithin(grey, radius) {
  const high = dilate(pad(grey, radius, lowest(grey.values)), radius);
  return erode(pad(high, radius, highest(high.values)), radius);
}

const openColumns = (depth, size) => overColumns(overColumns(padRows(depth, size - 1), size, -1), size, 1);

// Of each square that lies in the grid
const dilate = (grid, radius) => alongBoth(grid, part => overColumns(part, 2 * radius + 1, 1));
const erode = (grid, radius) => alongBoth(grid, part => overColumns(part, 2 * radius + 1, -1));

// Of each `size` pixels above each other that lie in the grid
function overColumns({height, width, values}, size, sign) {
  values = values.slice();
  for (let reach = 1, step; reach < size; reach += step) {
    step = Math.min(reach, size - reach);
    for (let i = 0, next = step * width; next < values.length; i++, next++) {
      if (sign * values[next] > sign * values[i]) values[i] = values[next];
    }
  }
  const rows = height - size + 1;
  return {height: rows, width, values: values.subarray(0, rows * width)};
}

return {readPicture, readRow, narrow};
})();
