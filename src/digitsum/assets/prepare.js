// Any picture of one handwritten digit, prepared as MNIST's images were, in the browser.
//
//   const image = await readPicture(file);  // Uint8Array of 28 x 28, 0 background, 255 ink
//
// The twin of imaging.py, step by step, where the reasons for each step stand. An array here is
// {height, width, values}, values row by row as float32, as there.

const readPicture = (() => {  // the only name that the page sees

const MAX_BYTES = 40_000_000;
const MAX_PIXELS = 40_000_000;

const WORKING = 500;  // pixels: a longer side is shrunk to at most this before the ink is found
const PAPER = 1 / 3;  // of the longer side: what is dark and narrower is ink, what is wider is paper or shadow
const AROUND = 1 / 9;  // of the longer side: as far lie a pixel's surroundings, to which it is light or dark
const DARKEST = 1 / 2;  // of the brightest paper: a deeper shadow isn't evened out
const FAINTEST = 0.1;  // of the paper's brightness: less contrast is no ink
const SPECK = 0.1;  // of the largest stroke's area: a smaller piece is dust
const SMALLEST = 1 / 40;  // of the longer side: a smaller digit is a speck too
const RIM = 2;  // pixels around a stroke that keep their grey levels
const LARGE = 100;  // pixels, the longer side of the digit when its strokes are measured and thickened
const STROKE = 8;  // pixels of LARGE: thinner strokes are made as thick
const BOX = 20;  // pixels, the longer side of the digit in the end
const SIDE = 28;  // pixels, of the image in the end

async function readPicture(picture) {
  try {
    return prepare(await decode(picture));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    throw new Refused(`the picture isn't a usable picture: ${error.message}`);
  }
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
  return shrink(bitmap);
}

// The whole picture would need a canvas that a phone may not give, so one row of blocks is drawn at a time
function shrink(bitmap) {
  const k = Math.ceil(Math.max(bitmap.width, bitmap.height) / WORKING);
  const down = Math.min(k, bitmap.height), right = Math.min(k, bitmap.width);
  const shrunk = array(Math.floor(bitmap.height / down), Math.floor(bitmap.width / right));
  const strip = new OffscreenCanvas(bitmap.width, down).getContext("2d", {willReadFrequently: true});
  strip.fillStyle = "white";  // paper, where the picture is transparent
  for (let row = 0; row < shrunk.height; row++) {
    strip.fillRect(0, 0, bitmap.width, down);
    strip.drawImage(bitmap, 0, -row * down);
    const grey = greyOf(strip.getImageData(0, 0, shrunk.width * right, down));
    for (let i = 0; i < shrunk.width; i++) shrunk.values[row * shrunk.width + i] = meanOfBlock(grey, i, right);
  }
  return shrunk;
}

// The weights of ITU-R 601, as Pillow rounds them
const greyOf = ({data, width, height}) => ofEach(array(height, width), (_, i) =>
  (data[4 * i] * 19595 + data[4 * i + 1] * 38470 + data[4 * i + 2] * 7471 + 0x8000) >> 16);

function meanOfBlock(grey, block, right) {
  let total = 0;
  for (let row = 0; row < grey.height; row++) {
    const start = row * grey.width + block * right;
    for (let i = start; i < start + right; i++) total += grey.values[i];
  }
  return total / (grey.height * right);
}

// From grey levels to MNIST

function prepare(grey) {
  if (isPrepared(grey)) return Uint8Array.from(grey.values);
  const ink = findInk(isDarkOnLight(grey) ? grey : ofEach(grey, value => 255 - value));
  return centre(fit(thicken(crop(ink)), BOX));
}

const isPrepared = grey =>
  grey.height === SIDE && grey.width === SIDE && highestOf(grey) > 127 && median(grey) === 0;

function isDarkOnLight(grey) {
  const around = meanAround(grey, Math.floor(longer(grey) * AROUND));
  return grey.values.reduce((total, value, i) => total + (value - around[i]) ** 3, 0) <= 0;
}

// The sums of all above and to the left give that of any square, in float64
function meanAround(grey, radius) {
  const size = 2 * radius + 1, wide = padEdge(grey, radius, radius), width = wide.width + 1;
  const sums = new Float64Array((wide.height + 1) * width);
  for (let row = 0; row < wide.height; row++) {
    let line = 0;
    for (let column = 0; column < wide.width; column++) {
      line += wide.values[row * wide.width + column];
      sums[(row + 1) * width + column + 1] = sums[row * width + column + 1] + line;
    }
  }
  return Float64Array.from(grey.values, (_, i) => {
    const at = Math.floor(i / grey.width) * width + i % grey.width, below = at + size * width;
    return (sums[below + size] - sums[below] - sums[at + size] + sums[at]) / size ** 2;
  });
}

function findInk(grey) {
  const paper = close(grey, Math.floor(longer(grey) * PAPER / 2));
  const dark = Math.max(DARKEST * highestOf(paper), 1);
  const raw = ofEach(grey, (value, i) => (paper.values[i] - value) / Math.max(paper.values[i], dark));
  const noise = median(raw);
  const depth = ofEach(raw, value => Math.max(value - noise, 0));
  const ink = sum(ofEach(depth, value => value ** 5)) / Math.max(sum(ofEach(depth, value => value ** 4)), 1e-9);
  if (ink < FAINTEST) {
    throw new Refused("no ink stands out from its background (what is transparent counts as white)");
  }
  const around = highest(choose(ofEach(depth, value => value > ink / 2)), RIM);
  return ofEach(depth, (value, i) => Math.min(value / ink, 1) * around.values[i]);
}

function close(grey, radius) {
  const negative = grid => ofEach(grid, value => -value);
  const closed = negative(highest(negative(highest(padEdge(grey, radius, radius), radius)), radius));
  return cut(closed, radius, radius, grey.height, grey.width);
}

// Along the rows, then, transposed, along the columns
function highest(grid, radius) {
  for (let axis = 0; axis < 2; axis++) {
    grid = padEdge(grid, 0, radius);
    let reach = 1;
    while (reach < 2 * radius + 1) {  // each pixel knows the highest of `reach` pixels from itself on
      const step = Math.min(reach, 2 * radius + 1 - reach);
      grid = highestOfTwo(grid, step);
      reach += step;
    }
    grid = transpose(grid);
  }
  return grid;
}

function highestOfTwo(grid, step) {
  const result = array(grid.height, grid.width - step);
  for (let row = 0, to = 0; row < grid.height; row++) {
    for (let from = row * grid.width; from < (row + 1) * grid.width - step; from++, to++) {
      result.values[to] = Math.max(grid.values[from], grid.values[from + step]);
    }
  }
  return result;
}

function choose(mask) {
  let pieces = piecesOf(mask);
  const inside = pieces.filter(piece => !touchesEdge(piece, mask));
  if (largestOf(inside) >= SPECK * largestOf(pieces)) pieces = inside;
  const largest = pieces.find(piece => piece.length === largestOf(pieces));
  const all = pieces.reduce((total, piece) => total + piece.length, 0);
  if (extent(largest, mask) < SMALLEST * longer(mask) || largest.length < all / 4) {
    throw new Refused("no digit stands out from the specks on its background; write it larger and darker");
  }
  const digit = array(mask.height, mask.width);
  for (const piece of pieces) {
    if (piece.length >= SPECK * largest.length) piece.forEach(pixel => { digit.values[pixel] = 1; });
  }
  return digit;
}

// Each piece is the list of its pixels' places in `values`; corners connect too
function piecesOf(mask) {
  const left = Uint8Array.from(mask.values), pieces = [];  // the pixels that no piece has yet
  left.forEach((_, start) => {
    if (!left[start]) return;
    left[start] = 0;
    const piece = [start];
    for (const pixel of piece) {  // which grows meanwhile
      for (const next of neighbours(pixel, mask)) {
        if (!left[next]) continue;
        left[next] = 0;
        piece.push(next);
      }
    }
    pieces.push(piece);
  });
  return pieces;
}

function neighbours(pixel, {height, width}) {
  const row = Math.floor(pixel / width), column = pixel % width, found = [];
  for (let i = Math.max(row - 1, 0); i <= Math.min(row + 1, height - 1); i++) {
    for (let j = Math.max(column - 1, 0); j <= Math.min(column + 1, width - 1); j++) found.push(i * width + j);
  }
  return found;
}

const largestOf = pieces => pieces.reduce((most, piece) => Math.max(most, piece.length), 0);

const touchesEdge = (piece, {height, width}) => piece.some(pixel =>
  pixel < width || pixel >= (height - 1) * width || pixel % width === 0 || pixel % width === width - 1);

function extent(piece, {width}) {
  const [top, bottom] = range(piece, pixel => Math.floor(pixel / width));
  const [left, right] = range(piece, pixel => pixel % width);
  return Math.max(bottom - top, right - left);
}

// Of what `measure` gives for the items; a piece can be too long for Math.min(...piece)
const range = (items, measure) => items.map(measure).reduce(
  ([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

function crop(ink) {
  const strong = [...ink.values.keys()].filter(i => ink.values[i] > 1 / 2);
  const [top, bottom] = range(strong, i => Math.floor(i / ink.width));
  const [left, right] = range(strong, i => i % ink.width);
  return cut(ink, top, left, bottom - top + 1, right - left + 1);
}

function thicken(ink) {
  if (longer(ink) > LARGE) ink = fit(ink, LARGE);
  const outline = differences(ink) + differences(transpose(ink));
  const missing = STROKE / LARGE * longer(ink) - 2 * sum(ink) / outline;
  const radius = Math.max(Math.floor(missing / 2 + 0.5), 0);
  return highest(pad(ink, radius), radius);
}

// The sum of all differences of neighbours along the rows; around the array is 0
const differences = grid => pad(grid, 1).values.reduce(
  (total, value, i, values) => total + Math.abs(value - (values[i - 1] ?? 0)), 0);

const fit = (ink, size) => {
  const scale = side => Math.max(Math.floor(side * size / longer(ink) + 0.5), 1);
  const rows = scaleRows(ink, scale(ink.width));
  return transpose(scaleRows(transpose(rows), scale(ink.height)));
};

// Each new pixel is the average of the area that it covers
function scaleRows(grid, width) {
  const result = array(grid.height, width);
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
const ofEach = (grid, change) => ({...grid, values: grid.values.map(change)});
const longer = grid => Math.max(grid.height, grid.width);
const sum = grid => grid.values.reduce((total, value) => total + value, 0);
const highestOf = grid => grid.values.reduce((most, value) => Math.max(most, value));

function median({values}) {
  const sorted = values.toSorted(), half = values.length >> 1;
  return values.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function transpose(grid) {
  const result = array(grid.width, grid.height);
  for (let row = 0, from = 0; row < grid.height; row++) {
    for (let to = row; to < result.values.length; to += grid.height) result.values[to] = grid.values[from++];
  }
  return result;
}

const at = (grid, row, column) => grid.values[row * grid.width + column];

// The rectangle from that row and column on; `value` tells what each place holds
function rectangle(top, left, height, width, value) {
  const result = array(height, width);
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++) result.values[to++] = value(top + row, left + column);
  }
  return result;
}

const cut = (grid, top, left, height, width) =>
  rectangle(top, left, height, width, (row, column) => at(grid, row, column));

const pad = (grid, by) => rectangle(-by, -by, grid.height + 2 * by, grid.width + 2 * by, (row, column) =>
  row >= 0 && row < grid.height && column >= 0 && column < grid.width ? at(grid, row, column) : 0);

// Beyond the edge the array goes on as at the edge
function padEdge(grid, down, right) {
  const within = (place, size) => Math.min(Math.max(place, 0), size - 1);
  return rectangle(-down, -right, grid.height + 2 * down, grid.width + 2 * right, (row, column) =>
    at(grid, within(row, grid.height), within(column, grid.width)));
}

return readPicture;
})();
