"use strict";
// What a page can do besides being read: themes, views, linked pictures, a table to sort, filter and fold.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  // ------------------------------------------------------------------ theme

  const theme = one("#theme");
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (darkness.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.hidden = false;
  nameTheme();
  darkness.addEventListener("change", nameTheme);
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });

  // ------------------------------------------------------------------ views: one figure of several at a time

  for (const views of all(".views")) {
    const figures = all("figure", views);
    if (figures.length < 2) continue;
    const choice = document.createElement("div");
    choice.className = "switch";
    choice.setAttribute("role", "group");
    choice.setAttribute("aria-label", "Show");
    const buttons = figures.map((figure) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one("figcaption", figure).textContent.split(",")[0];
      choice.append(button);
      return button;
    });
    const show = (chosen) => figures.forEach((figure, place) => {
      figure.hidden = place !== chosen;
      buttons[place].setAttribute("aria-pressed", String(place === chosen));
    });
    buttons.forEach((button, place) => button.addEventListener("click", () => show(place)));
    views.prepend(choice);
    show(0);
  }

  // ------------------------------------------------------------------ texts that the page carries compressed

  const unpacked = async (element) => {
    const bytes = Uint8Array.from(atob(JSON.parse(element.textContent).text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
  const carried = one("#flopscope-explanations");
  let texts = null;
  const explainInFull = async (details, place) => {
    if (!carried || !("DecompressionStream" in window)) return;
    texts ??= unpacked(carried);
    const lines = (await texts)[place].split("\n").filter((line) => line.trim());
    details.replaceChildren(one("summary", details), ...lines.map((line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line.trimEnd();
      return paragraph;
    }));
    details.classList.remove("short");
  };

  // ------------------------------------------------------------------ the table of layers

  const table = one("#table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, order) => {
    const label = one("summary", row) ?? row.cells[0];
    return {
      row, order, label,
      depth: Number(row.dataset.depth),
      sum: row.classList.contains("sum"),
      kind: row.dataset.kind ?? "",
      name: label.textContent,
      words: [label.textContent, ...[...row.cells].slice(1).map((cell) => cell.textContent)].join(" ").toLowerCase(),
      above: null, folded: false,
    };
  });
  const open = [];
  for (const line of rows) {
    while (open.length && open.at(-1).depth >= line.depth) open.pop();
    line.above = open.at(-1) ?? null;
    if (line.sum) open.push(line);
  }
  const layers = rows.filter((line) => !line.sum);
  const filter = one("#filter");
  const kind = one("#kind");
  const sorting = { column: -1, down: false };

  const isHit = (line) => (!kind.value || line.kind === kind.value) &&
    filter.value.toLowerCase().split(/\s+/).every((word) => line.words.includes(word));
  const isFolded = (line) => {
    for (let above = line.above; above; above = above.above) if (above.folded) return true;
    return false;
  };
  const update = () => {
    const flat = sorting.column >= 0;
    const narrowed = Boolean(filter.value.trim() || kind.value);
    const shown = new Set();
    for (const line of layers) {
      if (!isHit(line)) continue;
      shown.add(line);
      if (!flat) for (let above = line.above; above; above = above.above) shown.add(above);
    }
    for (const line of rows) line.row.hidden = !shown.has(line) || (!flat && !narrowed && isFolded(line));
    table.classList.toggle("flat", flat);
    const count = layers.filter((line) => shown.has(line)).length;
    one("#count").textContent = `${count} of ${layers.length} layers`;
  };

  const keyOf = (line, column, numeric) => {
    if (!numeric) return column ? line.row.cells[column].textContent : line.name;
    const cell = line.row.cells[column];
    const value = Number(cell.dataset.value ?? (cell.textContent.trim() || "none"));
    return Number.isNaN(value) ? null : value;
  };
  const arrange = () => {
    const { column, down } = sorting;
    let order = rows;
    if (column >= 0) {
      const numeric = !("text" in table.tHead.rows[0].cells[column].dataset);
      const keyed = layers.map((line) => ({ line, key: keyOf(line, column, numeric) }));
      keyed.sort((one, other) => {
        if (one.key === null || other.key === null) return (one.key === null) - (other.key === null);
        const way = numeric ? one.key - other.key : one.key.localeCompare(other.key);
        return down ? -way : way;
      });
      order = [...keyed.map(({ line }) => line), ...rows.filter((line) => line.sum)];
    }
    body.append(...order.map((line) => line.row));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    const first = !("text" in head.dataset);
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      // Numbers begin with the largest, texts with A; the third time it is the order of the run again.
      if (sorting.column !== column) Object.assign(sorting, { column, down: first });
      else if (sorting.down === first) sorting.down = !first;
      else sorting.column = -1;
      for (const cell of table.tHead.rows[0].cells) cell.setAttribute("aria-sort", "none");
      if (sorting.column >= 0) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
      arrange();
      update();
    });
  });

  const setFolded = (line, folded) => {
    line.folded = folded;
    one(".twist", line.row).setAttribute("aria-expanded", String(!folded));
  };
  for (const line of rows.filter((each) => each.sum)) {
    const twist = document.createElement("button");
    twist.type = "button";
    twist.className = "twist";
    twist.setAttribute("aria-label", `Layers of ${line.name}`);
    line.row.cells[0].prepend(twist);
    setFolded(line, false);
    twist.addEventListener("click", () => { setFolded(line, !line.folded); update(); });
  }
  const foldAll = (folded) => {
    rows.filter((line) => line.sum).forEach((line) => setFolded(line, folded));
    update();
  };
  one("#fold")?.addEventListener("click", () => foldAll(true));
  one("#unfold")?.addEventListener("click", () => foldAll(false));
  filter.addEventListener("input", update);
  kind.addEventListener("change", update);
  table.addEventListener("toggle", ({ target }) => {
    if (target.open && target.classList.contains("short")) {
      explainInFull(target, Number(target.closest("tr").id.slice("layer-".length)));
    }
  }, true);
  one(".controls").hidden = false;
  update();

  // ------------------------------------------------------------------ pictures and rows, linked

  const keyed = new Map();
  const enter = (key, element) => keyed.set(key, [...(keyed.get(key) ?? []), element]);
  const tileKey = (tile) => `layer-${tile.dataset.row}`;
  for (const tile of all("svg [data-row]")) enter(tileKey(tile), tile);
  for (const line of layers) enter(line.row.id, line.row);
  const keyAt = (target) => {
    const tile = target.closest?.("svg [data-row]");
    return tile ? tileKey(tile) : target.closest?.("#table tbody tr[id]")?.id;
  };
  let litKey = null;
  const captions = new Map(all("figure").map((figure) => [figure, one("figcaption", figure)?.textContent]));
  const tell = (figure, tile) => {
    // A title shows itself under a pointer at rest alone: not to a finger, not to a keyboard.
    const words = tile && one("title", tile)?.textContent.split("\n").join(" \u00b7 ");
    one("figcaption", figure).textContent = words || captions.get(figure);
  };
  const light = (key) => {
    if (key === litKey) return;
    for (const figure of captions.keys()) tell(figure, keyed.get(key)?.find((tile) => figure.contains(tile)));
    for (const element of keyed.get(litKey) ?? []) element.classList.remove("lit");
    for (const element of keyed.get(key) ?? []) element.classList.add("lit");
    litKey = key ?? null;
  };
  for (const event of ["pointerover", "focusin"]) {
    document.addEventListener(event, ({ target }) => light(keyAt(target)));
  }
  document.addEventListener("focusout", () => light(null));

  const goTo = (id) => {
    const line = layers.find((each) => each.row.id === id);
    if (!line) return;
    if (!isHit(line)) filter.value = kind.value = "";
    for (let above = line.above; above; above = above.above) setFolded(above, false);
    update();
    line.row.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
    line.label.tabIndex = line.label.tagName === "SUMMARY" ? 0 : -1;
    line.label.focus({ preventScroll: true });
  };
  document.addEventListener("click", ({ target }) => {
    const tile = target.closest?.("svg [data-row]");
    const link = target.closest?.('a[href^="#layer-"]');
    if (tile) goTo(tileKey(tile));
    else if (link) goTo(link.hash.slice(1));
  });

  // One stop for the keyboard in each picture; arrows go from tile to tile, Enter to the row.
  for (const picture of all("svg")) {
    const stops = all("[data-row]", picture);
    if (!stops.length) continue;
    picture.setAttribute("role", "group"); // what an image holds would not be told
    stops.forEach((tile, place) => {
      tile.setAttribute("role", "button");
      tile.setAttribute("tabindex", place ? "-1" : "0");
    });
    picture.addEventListener("keydown", (event) => {
      const place = stops.indexOf(event.target.closest("[data-row]"));
      if (place < 0) return;
      const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: stops.length - 1 }[event.key];
      if (to !== undefined && stops[to]) {
        stops[place].setAttribute("tabindex", "-1");
        stops[to].setAttribute("tabindex", "0");
        stops[to].focus();
      } else if (event.key === "Enter" || event.key === " ") {
        goTo(tileKey(stops[place]));
      } else return;
      event.preventDefault();
    });
  }
})();
