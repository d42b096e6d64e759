// Pillow's resizing, so that the network gets the same pixels here as from predict.py
// (Image.resize and Image.reduce, Resample.c and Reduce.c, of Pillow 13).

const BILINEAR = { reach: 1, at: (x) => Math.max(0, 1 - x) };
const BICUBIC = {
  reach: 2,
  at: (x) => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0,
};
const GAP = 3; // reducing_gap: how much larger than the result an image is that was averaged in blocks
const ONE = 2 ** 22; // Pillow's weights are integers, in units of 1 / ONE
const STRIP = 64; // rows of such blocks that are read at once

// Gives the largest central square of an image as `side` x `side` pixels, RGB in a Uint8Array.
// `read(left, top, width, height)` gives a part of the image, four values a pixel.
function centralSquare(width, height, side, read) {
  const whole = Math.min(width, height), scale = whole / side;
  const left = Math.floor((width - whole) / 2), top = Math.floor((height - whole) / 2);
  if (whole <= side) {
    const square = { values: read(left, top, whole, whole), width: whole, height: whole, step: 4 };
    return resized(square, [0, whole], [0, whole], side, BICUBIC, false);
  }
  const factor = Math.max(1, Math.trunc(scale / GAP));
  // Beside the square, what the filter reaches of the image.
  const margin = factor > 1 ? scale / 2 : scale;
  const start = (least) => Math.max(0, Math.trunc(least - margin));
  const end = (most, size) => Math.min(size, Math.ceil(most + margin));
  const x = start(left), y = start(top);
  const part = { width: end(left + whole, width) - x, height: end(top + whole, height) - y };
  const image = factor > 1
    ? averaged(part, factor, (from, rows) => read(x, y + from, part.width, rows))
    : { ...part, values: read(x, y, part.width, part.height), step: 4 };
  const box = (least) => [least / factor, (least + whole) / factor];
  // Pillow decides it by the sides of the whole image, or of what was averaged.
  const given = factor > 1 ? image : { width, height };
  const rowsFirst = given.height - side > 2 * (given.width - side);
  return resized(image, box(left - x), box(top - y), side, BILINEAR, rowsFirst);
}

// Averages an image in blocks of `factor` x `factor` pixels; those at its end may be smaller.
function averaged({ width, height }, factor, read) {
  const made = { width: Math.ceil(width / factor), height: Math.ceil(height / factor), step: 3 };
  made.values = new Uint8Array(made.width * made.height * 3);
  for (let from = 0; from < height; from += STRIP * factor) {
    const rows = Math.min(STRIP * factor, height - from), strip = read(from, rows);
    for (let top = 0; top < rows; top += factor) {
      const bottom = Math.min(top + factor, rows);
      for (let column = 0; column < made.width; column++) {
        const left = column * factor, right = Math.min(left + factor, width);
        const count = (bottom - top) * (right - left), reciprocal = Math.floor(2 ** 24 / count);
        const target = ((from + top) / factor * made.width + column) * 3;
        for (let channel = 0; channel < 3; channel++) {
          let sum = Math.floor(count / 2);
          for (let y = top; y < bottom; y++) {
            for (let x = left; x < right; x++) sum += strip[(y * width + x) * 4 + channel];
          }
          made.values[target + channel] = Math.floor(sum * reciprocal / 2 ** 24);
        }
      }
    }
  }
  return made;
}

// Resizes the part of an image that is between two columns and two rows, one direction at a time.
function resized({ values, width, height, step }, columns, rows, side, filter, rowsFirst) {
  const across = taps(columns, width, side, filter), down = taps(rows, height, side, filter);
  if (!rowsFirst) {
    const once = pass(values, across, height, width * step, step);
    return new Uint8Array(pass(once, down, side, height * 3, 3).buffer);
  }
  const once = pass(values, down, width, step, width * step);
  const turned = pass(once, across, side, width * 3, 3), upright = new Uint8Array(turned.length);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const from = (column * side + row) * 3;
      upright.set(turned.subarray(from, from + 3), (row * side + column) * 3);
    }
  }
  return upright;
}

// Gives for each of `side` pixels which of `size` it is made of: the first, and the weights.
function taps([begin, end], size, side, filter) {
  const scale = (end - begin) / side, width = Math.max(scale, 1);
  return Array.from({ length: side }, (_, place) => {
    const center = begin + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - filter.reach * width + 0.5));
    const last = Math.min(size, Math.trunc(center + filter.reach * width + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.at(Math.abs(x + 0.5 - center) / width));
    const sum = weights.reduce((total, weight) => total + weight);
    return { first, weights: weights.map((weight) => Math.round(weight / sum * ONE)) };
  });
}

// Resizes lines, whose pixels are `step` values apart; the result is transposed.
function pass(values, all, lines, lineStep, step) {
  const made = new Uint8ClampedArray(lines * all.length * 3);
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < all.length; place++) {
      const { first, weights } = all[place];
      for (let channel = 0; channel < 3; channel++) {
        let value = ONE / 2;
        for (let tap = 0; tap < weights.length; tap++) {
          value += weights[tap] * values[line * lineStep + (first + tap) * step + channel];
        }
        made[(place * lines + line) * 3 + channel] = Math.floor(value / ONE);
      }
    }
  }
  return made;
}
