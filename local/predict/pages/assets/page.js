// The page of one recording: its state, and what is shown of it.

const MOST_LISTED = 200; // rows of the table of events, which is for single events
const element = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.data = JSON.parse(element("data").textContent);
    const { labels, n_frames, double, duration_s } = this.data;
    this.scores = scoresByClass(decoded(element("scores").textContent), labels.length, n_frames, double);
    this.boundaries = boundariesOf(this.data.boundaries, n_frames);
    this.thresholds = [...this.data.thresholds];
    this.picture = element("picture");
    this.boxesOf = labels.map((_, c) => ofClass(this.data.boxes || [], c));
    const truth = this.data.truth;
    this.truthOf = labels.map((_, c) => (truth ? ofClass(truth.events, c) : null));
    this.view = { start: 0, end: duration_s };
    this.selected = null;
    this.showsAll = false;
    this.colours = coloursNow();
    this.rows = [
      ...this.data.merged.map((one) => new Row(this, one.label, one.members, null)),
      ...labels.map((label, c) => new Row(this, label, [c], c)),
    ];
    this.update();
    this.player = new Player(element("audio"), this.data.sound, element("sound").textContent, duration_s, () =>
      this.placeChanged()
    );
  }

  /** The lower threshold in force: never above the upper one. */
  lowOf(c, threshold) {
    const low = this.data.low[c];
    return low === null ? null : Math.min(low, threshold);
  }

  /** Recompute the events of rows that a class concerns, or of all. */
  update(c = null) {
    for (const row of this.rows) if (c === null || row.members.includes(c)) row.update();
    this.events = inTableOrder(this.rows.filter((row) => row.isWritten).flatMap((row) => row.events));
    const isThere = (one) => one.events.some((event) => this.isSelected(event));
    if (this.selected && !this.rows.some(isThere)) this.selected = null;
  }

  isSelected(one) {
    const other = this.selected;
    return other !== null && one.label === other.label && one.onset === other.onset && one.offset === other.offset;
  }

  get isCorrected() {
    return this.thresholds.some((value, c) => value !== this.data.thresholds[c]);
  }

  setThreshold(c, value) {
    this.thresholds[c] = value;
    this.update(c);
    const row = this.rows.find((one) => one.c === c);
    this.say(`${row.label}: ${row.countText()}`);
    this.draw();
  }

  setView(start, end) {
    const whole = this.data.duration_s;
    const least = Math.min(whole, 0.25);
    const long = Math.min(Math.max(end - start, least), whole);
    const from = Math.min(Math.max(start, 0), whole - long);
    this.view = { start: from, end: from + long };
    this.draw();
  }

  /** Zoom about a time, which stays where it is. */
  zoom(factor, about = null) {
    const { start, end } = this.view;
    const place = this.player.place;
    const centre = about ?? (place >= start && place <= end ? place : (start + end) / 2);
    this.setView(centre - (centre - start) * factor, centre + (end - centre) * factor);
  }

  /** Move the view, if need be, so that a time is in it. */
  reveal(seconds) {
    const { start, end } = this.view;
    if (seconds < start || seconds > end) {
      const long = end - start;
      this.setView(seconds - long * 0.1, seconds + long * 0.9);
    }
  }

  select(event, plays) {
    this.selected = event;
    this.reveal(event.onset);
    this.say(eventText(event));
    if (plays) this.player.play(event.onset, event.offset);
    else this.player.seek(event.onset);
    this.draw();
  }

  /** Select the next (1) or previous (-1) event, from the selected one or the place. */
  step(direction) {
    const shown = this.events;
    if (!shown.length) return this.say("no events");
    let at = shown.findIndex((one) => this.isSelected(one)) + direction;
    if (!this.selected) {
      const after = shown.findIndex((one) => one.onset >= this.player.place);
      const next = after < 0 ? shown.length : after;
      at = direction > 0 ? next : next - 1;
    }
    if (at < 0 || at >= shown.length) return this.say(direction > 0 ? "no later event" : "no earlier event");
    const row = this.rows.find((one) => one.label === shown[at].label);
    if (row.isFolded && !this.showsAll) this.showAll(true);
    this.select(shown[at], false);
  }

  showAll(shows) {
    this.showsAll = shows;
    this.draw();
  }

  say(text) {
    element("status").textContent = text;
  }

  placeChanged() {
    if (!this.player) return;
    if (this.player.playing && !this.isDragging) this.reveal(this.player.place);
    this.drawPlace();
  }

  /** Draw everything at the next frame of the screen. */
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.drawNow();
    });
  }

  drawNow() {
    for (const row of this.rows) row.element.hidden = row.isFolded && !this.showsAll;
    element("timeline").style.setProperty("--tools", element("tools").offsetHeight + "px");
    drawSpectrogram(element("spectrogram"), this, this.colours);
    drawTimes(element("times"), this, this.colours);
    drawOverview(element("overview"), this, this.colours);
    for (const row of this.rows) if (!row.element.hidden) row.draw();
    this.drawPlace();
    this.tell();
  }

  drawPlace() {
    const { start, end } = this.view;
    const { place, state, playing } = this.player;
    const plot = element("spectrogram");
    const part = (place - start) / (end - start);
    const cursor = element("cursor");
    cursor.hidden = part < 0 || part > 1;
    const left = plot.getBoundingClientRect().left - element("timeline").getBoundingClientRect().left;
    cursor.style.left = left + part * plot.clientWidth + "px";
    const long = this.data.duration_s;
    element("clock").textContent = `${clockText(place, 1)} / ${clockText(long, 1)}`;
    const button = element("play");
    button.disabled = state === "none" || state === "failed";
    button.textContent = playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.tellSound();
  }

  tellSound() {
    const { sound } = this.data;
    let text = sound.note;
    if (this.player.state === "failed") {
      const where = sound.urls[0] === undefined ? "" : ` at ${shownAddress(sound.urls[0])}`;
      const why = "it was moved or removed, or this browser does not play its format";
      text = `No sound: the recording${where} cannot be played; ${why}. ${sound.note}`;
    }
    element("note").hidden = !text;
    if (element("note").textContent !== text) element("note").textContent = text;
  }

  /** Texts that follow from events: counts, buttons, and the table. */
  tell() {
    const written = this.events.length;
    const facts = this.data.facts.map(([name, value]) => `${name} ${value}`);
    const parts = [durationText(this.data.duration_s), `${countOf(written, "event")} detected`, ...facts];
    element("about").textContent = parts.join(" · ");
    const folded = this.rows.filter((row) => row.isFolded).length;
    const button = element("folded");
    button.hidden = folded === 0;
    button.setAttribute("aria-pressed", String(this.showsAll));
    button.textContent = this.showsAll ? "Hide quiet classes" : `Show all classes (${folded} folded)`;
    element("reset").disabled = !this.isCorrected;
    if (element("list").open) this.fillList();
  }

  fillList() {
    const { start, end } = this.view;
    const inView = this.events.filter((one) => one.offset > start && one.onset < end);
    const rows = inView.slice(0, MOST_LISTED).map((one) => {
      const row = document.createElement("tr");
      for (const text of [fixed(one.onset, 3), fixed(one.offset, 3), one.label, fixed(one.confidence, 4)]) {
        row.insertCell().textContent = text;
      }
      const button = document.createElement("button");
      button.textContent = "▶";
      button.setAttribute("aria-label", "Play " + eventText(one));
      button.addEventListener("click", () => this.select(one, true));
      row.insertCell().append(button);
      return row;
    });
    element("list").querySelector("tbody").replaceChildren(...rows);
    const more = inView.length - rows.length;
    element("more").textContent = more ? `and ${more} more in view; zoom in to list them` : "";
  }
}

/** Events or boxes of one class, from lists of [class, onset, offset, confidence]. */
function ofClass(events, c) {
  const own = events.filter((one) => one[0] === c);
  return own.map(([, onset, offset, confidence]) => ({ onset, offset, confidence }));
}

function eventText(one) {
  return `${one.label} ${fixed(one.onset, 2)} to ${fixed(one.offset, 2)} s, confidence ${fixed(one.confidence, 2)}`;
}

function shownAddress(address) {
  try {
    return decodeURIComponent(address);
  } catch {
    return address; // bytes that are not UTF-8
  }
}
