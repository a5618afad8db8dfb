// What can be taken away: events as predict.py writes them, and thresholds as it reads them.

/** NAME.tsv. */
function eventTable(page, events) {
  const rows = [["filename", "onset", "offset", "event_label", "confidence"]];
  for (const one of events) {
    const times = [fixed(one.onset, 3), fixed(one.offset, 3)];
    rows.push([page.data.name, ...times, one.label, fixed(one.confidence, 4)]);
  }
  return rows.map((row) => row.join("\t") + "\n").join("");
}

/** NAME.txt, a label track of Audacity. */
function labelTrack(events) {
  const times = (one) => `${fixed(one.onset, 6)}\t${fixed(one.offset, 6)}`;
  return events.map((one) => `${times(one)}\t${one.label} ${fixed(one.confidence, 2)}\n`).join("");
}

/** The value of --threshold in a shell; null if a label cannot be told from what is around it. */
function thresholdFlag(labels, thresholds) {
  if (labels.some((label) => /=/.test(label) || label !== label.trim())) return null;
  const value = labels.map((label, c) => `${label}=${numeral(thresholds[c])}`).join(",");
  const quoted = /["$`\\!]/.test(value) ? `'${value.replaceAll("'", "'\\''")}'` : `"${value}"`;
  return `--threshold ${quoted}`;
}

/** The section of a configuration; labels are quoted as in JSON, which is YAML. */
function thresholdYaml(labels, thresholds) {
  const lines = labels.map((label, c) => `    ${JSON.stringify(label)}: ${numeral(thresholds[c])}\n`);
  return "predict:\n  threshold:\n" + lines.join("");
}

/** Have the browser save a text. */
function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
