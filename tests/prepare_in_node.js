// prepare.js, whose path is the argument, outside a browser: a request a line in, {reader, picture}, and an answer
// a line out, what the reader gives, pixels as base64, or a sentence. A picture is {size, width, height, pixels},
// RGBA, base64; one without pixels can't be decoded. `narrow` takes a strip, {height, width, pixels}.

const fs = require("fs"), readline = require("readline");

class Refused extends Error {}  // as in local.js

const createImageBitmap = async ({width, height, pixels}) => {
  if (pixels === undefined) throw new Error("no picture");
  return {width, height, pixels: Buffer.from(pixels, "base64")};
};

class OffscreenCanvas {
  constructor(width, height) {
    Object.assign(this, {width, data: new Uint8ClampedArray(4 * width * height)});
  }
  getContext() {
    return this;
  }
  fillRect(left, top, width, height) {
    const levels = {white: 0xffffffff, black: 0xff000000};
    new Uint32Array(this.data.buffer).fill(levels[this.fillStyle], 0, width * height);
  }
  drawImage({width, height, pixels}, left, top) {
    const rows = Math.min(this.data.length / this.width / 4, height + top);
    for (let i = 0; i < 4 * rows * this.width; i++) {
      const column = (i >> 2) % this.width - left, row = Math.floor((i >> 2) / this.width) - top;
      if (i % 4 === 3 || column >= width) continue;
      const from = 4 * (row * width + column), alpha = pixels[from + 3];
      this.data[i] = Math.round((pixels[from + i % 4] * alpha + this.data[i] * (255 - alpha)) / 255);
    }
  }
  getImageData(left, top, width, height) {
    return {data: this.data, width, height};
  }
}

const twin = new Function("Refused", "createImageBitmap", "OffscreenCanvas",
  `${fs.readFileSync(process.argv[2])}; return {readPicture, readRow, narrow};`);
const readers = twin(Refused, createImageBitmap, OffscreenCanvas);

async function answer({reader, picture}) {
  try {
    if (reader === "narrow") picture.pixels = Buffer.from(picture.pixels, "base64");
    const read = await readers[reader](picture);
    return {...read, pixels: Buffer.from(read.pixels).toString("base64")};
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return error.message;
  }
}

(async () => {
  for await (const line of readline.createInterface({input: process.stdin})) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
})();
