// A row: the scores, events and threshold of a class.

const NEAR = 0.5; // a class without an event is shown if it comes this close to its threshold

/** A class, or several under one label: its name, canvas and threshold. */
class Row {
  constructor(page, label, members, c) {
    Object.assign(this, { page, label, members, c, events: [] });
    this.annotated = c === null ? null : page.truthOf[c];
    this.element = document.createElement("div");
    this.element.className = "row class";
    this.element.dataset.label = label;
    this.name = add(this.element, "div", "name");
    this.name.append(...breakable(label));
    this.count = add(this.name, "span", "count");
    this.home = c === null ? undefined : page.data.merged.find((one) => one.members.includes(c));
    if (this.home) add(this.name, "span", "members").textContent = "in " + this.home.label;
    if (c === null) {
      const names = members.map((member) => page.data.labels[member]);
      add(this.name, "span", "members").textContent = "any of " + names.join(", ");
    }
    this.canvas = add(add(this.element, "div", "plot"), "canvas", "");
    this.canvas.setAttribute("role", "img");
    this.control = add(this.element, "div", "control");
    if (c !== null) this.addControls();
    element("rows").append(this.element);
    this.canvas.addEventListener("click", (click) => this.clicked(click));
    this.canvas.addEventListener("mousemove", (move) => this.showTip(move));
    this.canvas.addEventListener("mouseleave", () => (element("tip").hidden = true));
    // Of note with the thresholds of the command, whatever they become: no row goes while it is used.
    const highest = Math.max(...members.map((member) => maximum(page.scores[member])));
    const limits = members.map((member) => page.data.thresholds[member]);
    this.isFolded = highest <= NEAR * Math.min(...limits) && !(this.annotated && this.annotated.length);
  }

  addControls() {
    const { c, page } = this;
    const input = (type, step) => {
      const one = add(this.control, "input", "");
      Object.assign(one, { type, min: "0", max: "0.99", step });
      one.setAttribute("aria-label", `Threshold of ${this.label}`);
      return one;
    };
    this.slider = input("range", "any");
    this.number = input("number", "0.01"); // of its arrows; any other number will do
    this.back = add(this.control, "button", "");
    this.back.textContent = "↺";
    this.back.title = `back to ${numeral(page.data.thresholds[c])}`;
    this.back.setAttribute("aria-label", `Reset the threshold of ${this.label}`);
    this.slider.addEventListener("input", () => {
      page.setThreshold(c, Math.round(Number(this.slider.value) * 100) / 100);
    });
    this.slider.addEventListener("keydown", (key) => this.stepped(key));
    this.number.addEventListener("change", () => {
      const value = Number(this.number.value);
      const fits = this.number.value !== "" && value >= 0 && value < 1;
      if (!fits) page.say(`a threshold is at least 0 and below 1: ${this.label} keeps ${numeral(page.thresholds[c])}`);
      if (fits) page.setThreshold(c, value);
      this.number.value = numeral(page.thresholds[c]);
    });
    this.back.addEventListener("click", () => page.setThreshold(c, page.data.thresholds[c]));
  }

  /** Arrow keys move the slider by hundredths; those of a slider without steps would be coarse. */
  stepped(key) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    if (!(key.key in steps)) return;
    key.preventDefault();
    const value = Math.round(this.page.thresholds[this.c] * 100 + steps[key.key]) / 100;
    this.page.setThreshold(this.c, Math.min(Math.max(value, 0), 0.99));
  }

  get threshold() {
    return this.c === null ? null : this.page.thresholds[this.c];
  }

  /** Whether its events are in tables, in which those of members have the merged label. */
  get isWritten() {
    return this.c === null || !this.home;
  }

  update() {
    const { page, members } = this;
    const lists = members.map((member) => eventsOfClass(page, member, page.thresholds[member]));
    this.events = this.c === null ? unionOf(lists, this.label) : lists[0];
    if (this.annotated) compare(this.events, this.annotated, page.data.truth);
  }

  countText() {
    if (!this.annotated) return countOf(this.events.length, "event");
    const found = this.annotated.filter((one) => one.hit).length;
    const wrong = this.events.filter((one) => !one.hit).length;
    return `${found} of ${this.annotated.length} found, ${wrong} false`;
  }

  draw() {
    drawRow(this.canvas, this.page, this, this.page.colours);
    this.count.textContent = this.countText();
    this.canvas.setAttribute("aria-label", `Scores and events of ${this.label}: ${this.countText()}`);
    if (this.c === null) return;
    const changed = this.threshold !== this.page.data.thresholds[this.c];
    this.control.classList.toggle("changed", changed);
    this.back.disabled = !changed;
    this.slider.value = this.threshold;
    if (document.activeElement !== this.number) this.number.value = numeral(this.threshold);
  }

  /** The event at a place of the canvas; short ones may be missed by three pixels. */
  eventAt(mouse) {
    const { view } = this.page;
    const perPixel = (view.end - view.start) / this.canvas.clientWidth;
    const seconds = view.start + mouse.offsetX * perPixel;
    const apart = (one) => Math.max(one.onset - seconds, seconds - one.offset, 0);
    const near = this.events.filter((one) => apart(one) <= 3 * perPixel).sort((a, b) => apart(a) - apart(b));
    return { seconds, event: near[0] || null };
  }

  clicked(mouse) {
    const { seconds, event } = this.eventAt(mouse);
    if (event) this.page.select(event, true);
    else this.page.player.seek(seconds);
  }

  showTip(mouse) {
    const { event } = this.eventAt(mouse);
    const tip = element("tip");
    tip.hidden = !event;
    if (!event) return;
    tip.textContent = eventText(event);
    tip.style.left = Math.min(mouse.clientX + 12, window.innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = mouse.clientY + 16 + "px";
  }
}

function add(parent, tag, className) {
  const child = document.createElement(tag);
  if (className) child.className = className;
  parent.append(child);
  return child;
}

function maximum(scores) {
  let most = -Infinity;
  for (let k = 0; k < scores.length; k++) if (scores[k] > most) most = scores[k];
  return most;
}
