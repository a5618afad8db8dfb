// Canvases: the visible part of the spectrogram, of scores and of events.

const CURVE_HEIGHT = 0.62; // of a row; as in the timeline
const STEPS_S = [
  0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400,
];

/** Colours of the style sheet, which follow the reader's choice of dark or light. */
function coloursNow() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue("--" + name).trim();
  const names = ["text", "muted", "line", "score", "detected", "annotated", "threshold", "surface"];
  return Object.fromEntries(names.map((name) => [name, colour(name)]));
}

/** A cleared context in units of CSS pixels, at the resolution of the screen. */
function cleared(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(Math.round(width * scale), 1);
  canvas.height = Math.max(Math.round(height * scale), 1);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { context, width, height };
}

/** The frame in which a time lies. */
function frameAt(boundaries, seconds) {
  let low = 0;
  let high = boundaries.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (boundaries[middle] <= seconds) low = middle;
    else high = middle;
  }
  return low;
}

/** Highest score of each pixel of the view; NaN beyond the recording. */
function highestPerPixel(scores, boundaries, view, nPixels) {
  const highest = new Float64Array(nPixels).fill(NaN);
  const perPixel = (view.end - view.start) / nPixels;
  const end = boundaries[boundaries.length - 1];
  let frame = frameAt(boundaries, view.start);
  for (let pixel = 0; pixel < nPixels; pixel++) {
    const from = view.start + pixel * perPixel;
    if (from >= end) break;
    while (frame + 1 < scores.length && boundaries[frame + 1] <= from) frame++;
    let most = scores[frame];
    while (frame + 1 < scores.length && boundaries[frame + 1] < from + perPixel) {
      frame++;
      if (scores[frame] > most) most = scores[frame];
    }
    highest[pixel] = most;
  }
  return highest;
}

function drawSpectrogram(canvas, page, colours) {
  const { context, width, height } = cleared(canvas);
  const { picture, view } = page;
  context.fillStyle = "#000004";
  context.fillRect(0, 0, width, height);
  const perSecond = picture.naturalWidth / page.data.mel.end_s;
  const from = view.start * perSecond;
  const wide = (view.end - view.start) * perSecond;
  const inside = Math.min(wide, picture.naturalWidth - from);
  context.imageSmoothingEnabled = wide > width; // many columns a pixel are averaged, few stay sharp
  if (inside > 0) {
    const shown = (width * inside) / wide;
    context.drawImage(picture, from, 0, inside, picture.naturalHeight, 0, 0, shown, height);
  }
}

function drawRow(canvas, page, row, colours) {
  const { context, width, height } = cleared(canvas);
  const base = height - 1;
  const tall = base * CURVE_HEIGHT;
  for (const c of row.members) drawCurve(context, page, c, width, base, tall, colours, row.members.length);
  if (row.threshold !== null) {
    context.strokeStyle = colours.threshold;
    context.setLineDash([2, 3]);
    const y = Math.round(base - row.threshold * tall) - 0.5;
    line(context, 0, y, width, y);
    context.setLineDash([]);
  }
  context.strokeStyle = colours.line;
  line(context, 0, base + 0.5, width, base + 0.5);
  const top = base - tall;
  const both = row.annotated !== null;
  if (both) {
    for (const one of row.annotated) {
      drawBar(context, page.view, one, 1, top * 0.38, width, colours.annotated, one.hit);
    }
  }
  const y = both ? 2 + top * 0.46 : top * 0.2;
  const h = both ? top * 0.38 : top * 0.6;
  for (const one of row.events) {
    drawBar(context, page.view, one, y, h, width, colours.detected, one.hit !== false);
    if (page.isSelected(one)) outline(context, page.view, one, y, h, width, colours.text);
  }
}

function drawCurve(context, page, c, width, base, tall, colours, nTogether) {
  const highest = highestPerPixel(page.scores[c], page.boundaries, page.view, Math.ceil(width));
  context.fillStyle = colours.score;
  context.globalAlpha = nTogether > 1 ? 0.4 : 0.75;
  context.beginPath();
  context.moveTo(0, base);
  let end = 0;
  for (let pixel = 0; pixel < highest.length && !Number.isNaN(highest[pixel]); pixel++) {
    const y = base - highest[pixel] * tall;
    end = pixel + 1;
    context.lineTo(pixel, y);
    context.lineTo(end, y);
  }
  context.lineTo(end, base);
  context.fill();
  context.globalAlpha = 1;
}

/** Left edge and width of an event, at least two pixels wide; null outside the view. */
function spanOf(view, event, width) {
  if (event.offset <= view.start || event.onset >= view.end) return null;
  const scale = width / (view.end - view.start);
  const x = Math.max((event.onset - view.start) * scale, -4);
  const end = Math.min((event.offset - view.start) * scale, width + 4);
  return { x, wide: Math.max(end - x, 2) };
}

/** An event: full if it is right, or nobody knows; else an outline with stripes. */
function drawBar(context, view, event, y, h, width, colour, full) {
  const span = spanOf(view, event, width);
  if (!span) return;
  context.fillStyle = context.strokeStyle = colour;
  if (full) {
    context.fillRect(span.x, y, span.wide, h);
    return;
  }
  context.save();
  context.beginPath();
  context.rect(span.x, y, span.wide, h);
  context.clip();
  context.lineWidth = 1.5;
  for (let x = Math.max(span.x, 0) - h; x < Math.min(span.x + span.wide, width); x += 5) {
    line(context, x, y + h, x + h, y);
  }
  context.lineWidth = 3;
  context.strokeRect(span.x, y, span.wide, h);
  context.restore();
}

function outline(context, view, event, y, h, width, colour) {
  const span = spanOf(view, event, width);
  if (!span) return;
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.strokeRect(span.x - 1, y - 1, span.wide + 2, h + 2);
  context.lineWidth = 1;
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function drawTimes(canvas, page, colours) {
  const { context, width } = cleared(canvas);
  const { view } = page;
  const visible = view.end - view.start;
  const most = Math.max(Math.floor(width / 75), 2);
  const step = STEPS_S.find((s) => visible / s <= most) || 14400 * Math.ceil(visible / most / 14400);
  const decimals = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  context.fillStyle = colours.muted;
  context.strokeStyle = colours.muted;
  context.font = "12px " + getComputedStyle(document.body).fontFamily;
  context.textBaseline = "top";
  for (let k = Math.ceil(view.start / step - 1e-9); k * step <= view.end + 1e-9; k++) {
    const x = ((k * step - view.start) / visible) * width;
    const text = page.data.duration_s < 60 ? (k * step).toFixed(decimals) + " s" : clockText(k * step, decimals);
    const wide = context.measureText(text).width;
    line(context, x, 0, x, 4);
    context.fillText(text, Math.min(Math.max(x - wide / 2, 0), width - wide), 6);
  }
}

/** The whole recording in a strip: where events are, and which part is in view. */
function drawOverview(canvas, page, colours) {
  const { context, width, height } = cleared(canvas);
  const whole = { start: 0, end: page.data.duration_s };
  context.fillStyle = colours.detected;
  for (const row of page.rows) {
    for (const one of row.events) {
      const span = spanOf(whole, one, width);
      if (span) context.fillRect(span.x, height * 0.3, Math.max(span.wide, 1), height * 0.4);
    }
  }
  const scale = width / whole.end;
  const left = page.view.start * scale;
  const right = page.view.end * scale;
  context.fillStyle = colours.surface;
  context.globalAlpha = 0.7;
  context.fillRect(0, 0, left, height);
  context.fillRect(right, 0, width - right, height);
  context.globalAlpha = 1;
  context.strokeStyle = colours.text;
  context.strokeRect(left + 0.5, 0.5, Math.max(right - left - 1, 2), height - 1);
}
