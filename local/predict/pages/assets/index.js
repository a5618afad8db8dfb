// The index: a table of recordings, sorted by a column and filtered.

const STEP = 500; // rows shown at a time: archives have 100,000
const NAMES = new Intl.Collator("en", { numeric: true }); // r2 before r10
const MANY = 11; // columns; the titles of more stand upright
const element = (id) => document.getElementById(id);

class Index {
  constructor() {
    const { labels, rows } = JSON.parse(element("data").textContent);
    this.recordings = rows.map(([name, address, duration_s, counts], place) => {
      const counted = new Map(counts);
      const total = counts.reduce((sum, [, number]) => sum + number, 0);
      return { name, address, duration_s, counts: counted, total, place };
    });
    const totals = labels.map((_, c) => this.recordings.reduce((sum, one) => sum + (one.counts.get(c) || 0), 0));
    const order = labels.map((_, c) => c).sort((a, b) => totals[b] - totals[a] || compareText(labels[a], labels[b]));
    this.columns = [
      { title: "recording", value: (one) => one.name, isText: true },
      { title: "duration", value: (one) => one.duration_s, text: (one) => durationText(one.duration_s) },
      { title: "events", value: (one) => one.total },
      ...order.map((c) => ({ title: labels[c], isClass: true, value: (one) => one.counts.get(c) || 0 })),
    ];
    this.sorting = { column: null, descending: false };
    this.nShown = STEP;
    this.addHead();
    for (const { title } of this.columns.filter((one) => one.isClass)) {
      element("with").append(new Option(title, title));
    }
    element("with").append(new Option("(no event at all)", "\n"));
    element("name").addEventListener("input", () => this.show());
    element("with").addEventListener("change", () => this.show());
    element("filter").addEventListener("submit", (submit) => submit.preventDefault());
    element("more").addEventListener("click", () => {
      this.nShown += STEP;
      this.fill();
    });
    const long = this.recordings.reduce((sum, one) => sum + one.duration_s, 0);
    const events = this.recordings.reduce((sum, one) => sum + one.total, 0);
    const parts = [countOf(rows.length, "recording"), durationText(long), countOf(events, "event")];
    element("about").textContent = parts.join(" · ");
    this.show();
  }

  addHead() {
    const head = document.querySelector("thead tr");
    head.parentElement.className = this.columns.length > MANY ? "many" : "";
    for (const column of this.columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = column.isText ? "" : column.isClass ? "number class" : "number";
      const button = document.createElement("button");
      button.addEventListener("click", () => this.sortBy(column));
      cell.append(button);
      head.append(cell);
      Object.assign(column, { cell, button });
    }
  }

  /** Sort by a column: numbers from the largest, texts from A; the other way round if it was so. */
  sortBy(column) {
    const same = this.sorting.column === column;
    this.sorting = { column, descending: same ? !this.sorting.descending : !column.isText };
    this.show();
  }

  show() {
    const { column, descending } = this.sorting;
    const part = element("name").value.normalize().toLowerCase();
    const wanted = element("with").value;
    const counted = this.columns.find((one) => one.isClass && one.title === wanted);
    this.chosen = this.recordings.filter((one) => {
      if (!one.name.normalize().toLowerCase().includes(part)) return false;
      if (wanted === "\n") return one.total === 0;
      return !counted || counted.value(one) > 0;
    });
    if (column) {
      const order = column.isText
        ? (a, b) => NAMES.compare(a.name, b.name)
        : (a, b) => column.value(a) - column.value(b);
      const sign = descending ? -1 : 1;
      this.chosen.sort((a, b) => sign * order(a, b) || a.place - b.place);
    }
    for (const one of this.columns) {
      const arrow = one !== column ? "" : descending ? " ↓" : " ↑";
      one.button.replaceChildren(...breakable(one.title), arrow);
      one.cell.ariaSort = one !== column ? "none" : descending ? "descending" : "ascending";
    }
    this.nShown = STEP;
    this.fill();
  }

  fill() {
    const rows = this.chosen.slice(0, this.nShown).map((one) => this.rowOf(one));
    document.querySelector("tbody").replaceChildren(...rows);
    const all = this.recordings.length;
    element("shown").textContent = this.chosen.length < all ? `${this.chosen.length} of ${all}` : "";
    const rest = this.chosen.length - rows.length;
    element("more").hidden = rest <= 0;
    element("more").textContent = `Show more (${rest} not shown)`;
  }

  rowOf(one) {
    const row = document.createElement("tr");
    for (const column of this.columns) {
      const cell = document.createElement(column.isText ? "th" : "td");
      row.append(cell);
      if (column.isText) {
        cell.scope = "row";
        const link = document.createElement("a");
        link.href = one.address;
        link.textContent = one.name;
        cell.append(link);
      } else {
        cell.textContent = column.text ? column.text(one) : String(column.value(one));
        cell.className = column.value(one) ? "number" : "number none";
      }
    }
    return row;
  }
}

const theIndex = new Index();
document.documentElement.dataset.ready = "yes";
