// What the reader does: buttons, keys, mouse, and the dialogs.

function connect(page) {
  const on = (id, kind, act) => element(id).addEventListener(kind, act);
  on("play", "click", () => page.player.toggle());
  on("volume", "input", () => (page.player.audio.volume = Number(element("volume").value)));
  on("previous", "click", () => page.step(-1));
  on("next", "click", () => page.step(1));
  on("in", "click", () => page.zoom(0.5));
  on("out", "click", () => page.zoom(2));
  on("fit", "click", () => page.setView(0, page.data.duration_s));
  on("folded", "click", () => page.showAll(!page.showsAll));
  on("reset", "click", () => {
    page.thresholds = [...page.data.thresholds];
    page.update();
    page.draw();
  });
  on("help", "click", () => element("keys").showModal());
  on("export", "click", () => showExports(page));
  on("list", "toggle", () => page.draw());
  on("spectrogram", "click", (click) => {
    const { start, end } = page.view;
    page.player.seek(start + (click.offsetX / element("spectrogram").clientWidth) * (end - start));
  });
  connectOverview(page);
  connectExports(page);
  element("timeline").addEventListener("wheel", (wheel) => wheeled(page, wheel), { passive: false });
  document.addEventListener("keydown", (key) => pressed(page, key));
  new ResizeObserver(() => page.draw()).observe(element("timeline"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    page.colours = coloursNow();
    page.draw();
  });
}

/** Drag in the strip of the whole recording to move the view. */
function connectOverview(page) {
  const strip = element("overview");
  const moveTo = (mouse) => {
    const at = (mouse.offsetX / strip.clientWidth) * page.data.duration_s;
    const long = page.view.end - page.view.start;
    page.setView(at - long / 2, at + long / 2);
  };
  strip.addEventListener("pointerdown", (mouse) => {
    strip.setPointerCapture(mouse.pointerId);
    page.isDragging = true;
    moveTo(mouse);
  });
  strip.addEventListener("pointermove", (mouse) => page.isDragging && moveTo(mouse));
  for (const kind of ["pointerup", "pointercancel"]) {
    strip.addEventListener(kind, () => (page.isDragging = false));
  }
}

function wheeled(page, wheel) {
  const plot = element("spectrogram");
  const { start, end } = page.view;
  const long = end - start;
  if (wheel.ctrlKey) {
    wheel.preventDefault();
    const part = (wheel.clientX - plot.getBoundingClientRect().left) / plot.clientWidth;
    page.zoom(wheel.deltaY > 0 ? 1.25 : 0.8, start + Math.min(Math.max(part, 0), 1) * long);
    return;
  }
  const isSideways = wheel.shiftKey || Math.abs(wheel.deltaX) > Math.abs(wheel.deltaY);
  const sideways = isSideways ? wheel.deltaX || wheel.deltaY : 0;
  if (!sideways) return; // the page scrolls
  wheel.preventDefault();
  const moved = (sideways / plot.clientWidth) * long;
  page.setView(start + moved, end + moved);
}

/** Keys of the page, unless what has the focus needs them itself. */
function pressed(page, key) {
  if (key.ctrlKey || key.altKey || key.metaKey || document.querySelector("dialog[open]")) return;
  const target = key.target;
  if (target.matches("input[type=number], textarea")) return;
  const own = target.matches("button, summary") && (key.key === " " || key.key === "Enter");
  if (own || (target.matches("input") && /^(Arrow|Page|Home|End)/.test(key.key))) return;
  const act = keysOf(page, key.shiftKey)[key.key];
  if (!act) return;
  key.preventDefault();
  act();
}

function keysOf(page, far) {
  const { player } = page;
  const step = (page.view.end - page.view.start) * (far ? 0.1 : 0.02);
  const go = (seconds) => {
    player.seek(seconds);
    page.reveal(player.place);
  };
  return {
    " ": () => player.toggle(),
    ArrowLeft: () => go(player.place - step),
    ArrowRight: () => go(player.place + step),
    Home: () => go(0),
    End: () => go(page.data.duration_s),
    n: () => page.step(1),
    p: () => page.step(-1),
    Enter: () => page.selected && page.select(page.selected, true),
    "+": () => page.zoom(0.5),
    "=": () => page.zoom(0.5),
    "-": () => page.zoom(2),
    0: () => page.setView(0, page.data.duration_s),
    a: () => page.showAll(!page.showsAll),
    "?": () => element("keys").showModal(),
  };
}

function showExports(page) {
  const { labels } = page.data;
  const changed = labels.filter((_, c) => page.thresholds[c] !== page.data.thresholds[c]);
  const told = changed.length
    ? `${countOf(changed.length, "threshold")} corrected: ${changed.join(", ")}.`
    : "No threshold is corrected: the events are those of the command.";
  const low = labels.filter((_, c) => page.data.low[c] !== null && page.data.low[c] > page.thresholds[c]);
  const also = ` The lower thresholds of hysteresis of ${low.join(", ")} must be lowered as well.`;
  element("corrected").textContent = told + (low.length ? also : "");
  element("flag").value =
    thresholdFlag(labels, page.thresholds) ||
    "A class has a comma or an equals sign in its name, which the flag cannot take: use the YAML.";
  element("yaml").value = thresholdYaml(labels, page.thresholds);
  element("copied").textContent = "";
  element("exports").showModal();
}

function connectExports(page) {
  const stem = page.data.stem;
  const save = (id, name, text, type) => {
    element(id).textContent = "Save " + name;
    element(id).addEventListener("click", () => download(name, text(), type));
  };
  const { labels } = page.data;
  save("save-tsv", stem + ".tsv", () => eventTable(page, page.events), "text/tab-separated-values");
  save("save-txt", stem + ".txt", () => labelTrack(page.events), "text/plain");
  save("save-yaml", "thresholds.yaml", () => thresholdYaml(labels, page.thresholds), "text/yaml");
  for (const id of ["flag", "yaml"]) {
    element("copy-" + id).addEventListener("click", () => {
      element(id).select(); // navigator.clipboard is not there for files in all browsers
      const done = document.execCommand("copy");
      element("copied").textContent = done ? "copied" : "select the text and copy it";
    });
  }
}

/** Frequencies beside the spectrogram, and what the colours mean. */
function label(page) {
  for (const [khz, part] of page.data.mel.ticks) {
    const tick = add(element("ticks"), "span", "");
    tick.textContent = khz + (khz === page.data.mel.ticks.at(-1)[0] ? " kHz" : "");
    tick.style.bottom = 24 + part * 150 + "px";
  }
  const truth = page.data.truth !== null;
  const colours = [
    ["detected", truth ? "detected, right" : "detected event"],
    ...(truth ? [["wrong", "false alarm"], ["annotated", "annotated, found"], ["missed", "missed"]] : []),
    ["score", "score"],
    ["threshold", "threshold"],
  ];
  for (const [className, text] of colours) {
    const entry = add(element("legend"), "span", "");
    add(entry, "i", className);
    entry.append(text);
  }
}

let thePage = null;

async function start() {
  await element("picture").decode().catch(() => {});
  thePage = new Page();
  label(thePage);
  connect(thePage);
  thePage.drawNow();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  element("note").hidden = false;
  element("note").textContent = "This page cannot be shown: " + error;
});
