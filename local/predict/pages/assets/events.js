// From scores and thresholds to events: the rules of predict.py (docs/predict.md).

/** Runs of frames above the threshold; with a lower one, runs above that which reach the upper. */
function runsAbove(scores, threshold, low) {
  const floor = low === null ? threshold : low;
  const runs = [];
  let first = -1;
  let reaches = false;
  for (let k = 0; k <= scores.length; k++) {
    const active = k < scores.length && scores[k] > floor;
    if (active) {
      if (first < 0) first = k;
      reaches = reaches || scores[k] > threshold;
    } else if (first >= 0) {
      if (reaches) runs.push({ first, last: k });
      first = -1;
      reaches = false;
    }
  }
  return runs;
}

/** Sequential sums in double precision: those of single precision scores are exact. */
function meanOf(scores, first, last) {
  let sum = 0;
  for (let k = first; k < last; k++) sum += scores[k];
  return sum / (last - first);
}

/** The confidence of an event with this mean score, if confidences are calibrated. */
function calibrated(curve, score) {
  if (!curve) return score;
  if (curve.temperature) {
    const inside = Math.min(Math.max(score, 1e-6), 1 - 1e-6);
    const scaled = (Math.log(inside) - Math.log1p(-inside)) / curve.temperature;
    return 1 / (1 + Math.exp(-Math.min(Math.max(scaled, -700), 700)));
  }
  const { confidence: x, probability: y } = curve;
  const last = x.length - 1;
  if (score <= x[0]) return y[0];
  if (score >= x[last]) return y[last];
  const k = frameAt(x, score);
  return ((y[k + 1] - y[k]) / (x[k + 1] - x[k])) * (score - x[k]) + y[k];
}

/** Close gaps shorter than `gap_s` between pieces that are in order of time. */
function joined(pieces, gap_s, join) {
  if (!gap_s) return pieces;
  const result = [];
  for (const piece of pieces) {
    const before = result[result.length - 1];
    if (before && isShorter(piece.onset - before.offset, gap_s)) {
      result[result.length - 1] = join(before, piece);
    } else {
      result.push(piece);
    }
  }
  return result;
}

function eventsOfFrames(page, c, threshold) {
  const scores = page.scores[c];
  const at = page.boundaries;
  const piece = (first, last) => ({ first, last, onset: at[first], offset: at[last] });
  const runs = runsAbove(scores, threshold, page.lowOf(c, threshold));
  const pieces = runs.map((run) => piece(run.first, run.last));
  return joined(pieces, page.data.merge_gap_s[c], (a, b) => piece(a.first, b.last)).map((one) => ({
    onset: one.onset,
    offset: one.offset,
    confidence: meanOf(scores, one.first, one.last),
  }));
}

function eventsOfBoxes(page, c, threshold) {
  const boxes = page.boxesOf[c].filter((box) => box.confidence > threshold);
  const join = (a, b) => ({ ...a, offset: b.offset, parts: [...a.parts, ...b.parts] });
  const pieces = boxes.map((box) => ({ onset: box.onset, offset: box.offset, parts: [box] }));
  return joined(pieces, page.data.merge_gap_s[c], join).map((one) => ({
    onset: one.onset,
    offset: one.offset,
    confidence: weightedConfidence(one.parts),
  }));
}

/** Mean of confidences, weighted by duration. */
function weightedConfidence(parts) {
  if (parts.length === 1) return parts[0].confidence;
  let sum = 0;
  let seconds = 0;
  for (const part of parts) {
    sum += part.confidence * (part.offset - part.onset);
    seconds += part.offset - part.onset;
  }
  return sum / seconds;
}

/** Events of a class at a threshold, in order of time. */
function eventsOfClass(page, c, threshold) {
  const found = page.data.boxes
    ? eventsOfBoxes(page, c, threshold)
    : eventsOfFrames(page, c, threshold);
  const least = page.data.min_duration_s[c];
  const long = least ? found.filter((one) => !isShorter(one.offset - one.onset, least)) : found;
  return long.map((one) => ({
    ...one,
    confidence: calibrated(page.data.calibration[c], one.confidence),
    label: page.data.labels[c],
  }));
}

/** Several classes' events under one label, joined where they overlap or touch. */
function unionOf(lists, label) {
  const result = [];
  for (const one of lists.flat().sort((a, b) => a.onset - b.onset || a.offset - b.offset)) {
    const before = result[result.length - 1];
    if (before && !isShorter(before.offset, one.onset)) {
      before.offset = Math.max(before.offset, one.offset);
      before.confidence = Math.max(before.confidence, one.confidence);
    } else {
      result.push({ ...one, label });
    }
  }
  return result;
}

/** Order of tables: by onset, then offset, then class. */
function inTableOrder(events) {
  return [...events].sort(
    (a, b) => a.onset - b.onset || a.offset - b.offset || compareText(a.label, b.label)
  );
}

/** The part of [onset, offset] that spans cover, in seconds; spans may overlap. */
function coveredSeconds(event, spans) {
  let covered = 0;
  let reached = event.onset;
  for (const span of [...spans].sort((a, b) => a.onset - b.onset)) {
    const from = Math.max(span.onset, reached);
    const to = Math.min(span.offset, event.offset);
    if (to > from) {
      covered += to - from;
      reached = to;
    }
  }
  return covered;
}

/** Mark detections as hits or false alarms, and annotated events as found or missed. */
function compare(detected, annotated, rule) {
  const part = (event, spans) =>
    coveredSeconds(event, spans) / Math.max(event.offset - event.onset, 1e-9);
  for (const one of detected) one.hit = part(one, annotated) >= rule.detection_overlap - 1e-9;
  const right = detected.filter((one) => one.hit);
  for (const one of annotated) one.hit = part(one, right) >= rule.truth_overlap - 1e-9;
}
