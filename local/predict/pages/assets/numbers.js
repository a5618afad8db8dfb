// Numbers as they were computed and as Python writes them, and texts of both kinds of pages.

/** Bytes of base64. */
function decoded(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Scores of each class over its frames; little-endian, as typed arrays are on all that browse. */
function scoresByClass(bytes, nClasses, nFrames, double) {
  const Kind = double ? Float64Array : Float32Array;
  const all = new Kind(bytes.buffer, 0, nClasses * nFrames);
  return Array.from({ length: nClasses }, (_, c) => all.subarray(c * nFrames, (c + 1) * nFrames));
}

/** Seconds at which frames begin, and the end of the last. */
function boundariesOf(rule, nFrames) {
  if (rule.seconds) return Float64Array.from(rule.seconds);
  return Float64Array.from({ length: nFrames + 1 }, (_, k) => Math.min(k / rule.rate_hz, rule.end_s));
}

/**
 * A number that is not negative with `digits` after the point, as Python formats it. Of two equally
 * near ones Python takes the even one, toFixed the larger. These are the odd multiples of
 * 2^-(digits + 1): a decimal half of the last digit has no other binary form.
 */
function fixed(x, digits) {
  const text = x.toFixed(digits);
  const halves = x * 2 ** (digits + 1);
  const isTie = Number.isInteger(halves) && halves % 2 !== 0 && isHalf(x, digits);
  if (!isTie || Number(text[text.length - 1]) % 2 === 0) return text;
  const lower = (BigInt(text.replace(".", "")) - 1n).toString().padStart(digits + 1, "0");
  return lower.slice(0, -digits) + "." + lower.slice(-digits);
}

/** Whether exactly a 5 follows the last digit; binary fractions have finite decimals. */
function isHalf(x, digits) {
  return /^50*$/.test(x.toFixed(digits + 30).split(".")[1].slice(digits));
}

/** A number as text that Python's float() and YAML take for the same number. */
function numeral(x) {
  const text = String(x);
  return text.includes("e") && !text.includes(".") ? text.replace("e", ".0e") : text;
}

/** Whether a time is below a limit, both rounded to the microsecond. */
function isShorter(seconds, limit) {
  return microseconds(seconds) < microseconds(limit);
}

/** Whole microseconds; of two equally near ones the even one, as numpy rounds. */
function microseconds(seconds) {
  const whole = Math.round(seconds * 1e6);
  return whole - seconds * 1e6 === 0.5 && whole % 2 !== 0 ? whole - 1 : whole;
}

/** Order of texts by their characters' codes, as Python sorts (not by UTF-16 units). */
function compareText(a, b) {
  const one = Array.from(a);
  const other = Array.from(b);
  for (let i = 0; i < Math.min(one.length, other.length); i++) {
    const difference = one[i].codePointAt(0) - other[i].codePointAt(0);
    if (difference) return difference;
  }
  return one.length - other.length;
}

/** A duration for people: 12.5 s, 3 min 5 s, 1 h 2 min. */
function durationText(seconds) {
  if (Math.round(seconds * 10) / 10 < 60) return seconds.toFixed(1) + " s";
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A place in the recording: 1:02:03.4 with as many decimals as asked for. */
function clockText(seconds, decimals) {
  const scale = 10 ** decimals;
  const units = Math.round(seconds * scale);
  const whole = Math.floor(units / scale);
  const pair = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const start = hours ? `${hours}:${pair(minutes)}` : String(minutes);
  const rest = decimals ? "." + String(units % scale).padStart(decimals, "0") : "";
  return `${start}:${pair(whole % 60)}${rest}`;
}

function countOf(n, one, many) {
  return `${n} ${n === 1 ? one : many || one + "s"}`;
}

/** A label whose lines may also break after underscores and slashes. */
function breakable(label) {
  const parts = label.split(/(?<=[_/])/);
  return parts.flatMap((part, k) => (k ? [document.createElement("wbr"), part] : [part]));
}
