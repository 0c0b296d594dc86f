// prepare.js, whose path is the argument, outside a browser: a request a line in, {picture} or {image,
// probability}, and an answer a line out, images, a sentence or whether the image may be two. A picture is
// {size, width, height, pixels}, RGBA, base64; one without pixels can't be decoded.

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
  drawImage({pixels}, left, top) {
    const start = -4 * top * this.width, size = Math.min(this.data.length, pixels.length - start);
    for (let i = 0; i < size; i++) {
      if (i % 4 === 3) continue;
      const alpha = pixels[start + (i | 3)];
      this.data[i] = Math.round((pixels[start + i] * alpha + this.data[i] * (255 - alpha)) / 255);
    }
  }
  getImageData(left, top, width, height) {
    return {data: this.data, width, height};
  }
}

const twin = new Function("Refused", "createImageBitmap", "OffscreenCanvas",
  `${fs.readFileSync(process.argv[2])}; return {readNumber, mayBeTwo};`);
const {readNumber, mayBeTwo} = twin(Refused, createImageBitmap, OffscreenCanvas);

async function answer({picture, image, probability}) {
  if (image) return mayBeTwo(Buffer.from(image, "base64"), probability);
  try {
    return (await readNumber(picture)).map(image => Buffer.from(image).toString("base64"));
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
