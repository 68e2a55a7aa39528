"use strict";
// Data is only ever put into the page as text (textContent): what a model wrote can never become markup.
(() => {
  const find = (id) => document.getElementById(id);
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // ---- light and dark: the system's, until somebody chooses -------------------------------------------------
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const followSystem = () => { root.dataset.theme = dark.matches ? "dark" : "light"; };
  followSystem();
  dark.addEventListener("change", followSystem);
  find("theme").addEventListener("click", () => {
    dark.removeEventListener("change", followSystem);
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  });
  // What is folded is printed too.
  addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((one) => { one.open = true; one.dataset.folded = ""; }));
  addEventListener("afterprint", () => document.querySelectorAll("[data-folded]").forEach((one) => { one.open = false; delete one.dataset.folded; }));

  // ---- tables sort by a click on a heading ------------------------------------------------------------------
  const turned = (heading) => {
    const way = heading.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    heading.closest("tr").querySelectorAll("[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", way);
    return way === "ascending" ? 1 : -1;
  };
  const valueOf = (cell) => (cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort));
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th[aria-sort]").forEach((heading) => heading.addEventListener("click", () => {
      const [column, way, body] = [heading.cellIndex, turned(heading), table.tBodies[0]];
      const rows = [...body.rows].sort((a, b) => way * compare(valueOf(a.cells[column]), valueOf(b.cells[column])));
      body.append(...rows);
    }));
  });

  // ---- the drill-down ---------------------------------------------------------------------------------------
  const packed = find("data");
  if (!packed) return;
  const NAMES = {
    correct: ["right reason", "ok"], incorrect: ["spurious", "spurious"],
    skippedlabelmismatch: ["label wrong", ""],
    callfail: ["judge failed", "fail"], parsefail: ["unreadable", "fail"],
  };
  const PAGE = innerWidth <= 860 ? 8 : 20;
  const [RUN, ITEM, PREDICTION, STATE, AGREEMENT, RATIONALE, GROUNDS, FINISHED, EXTRA] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [BENCHMARK, ID, ORDER, SUBSET, LABEL, PROMPT, A, B, GOLD] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  let all, byItem, shown = [], page = 0, chosen = null, sort = { by: null, way: 1 };

  const state = (verdict) => NAMES[verdict[STATE].toLowerCase().replaceAll("_", "")] || [verdict[STATE] ? verdict[STATE].toLowerCase().replaceAll("_", " ") : "unknown", ""];
  const chip = (verdict) => make("span", "chip " + state(verdict)[1], state(verdict)[0]);
  const item = (verdict) => all.items[verdict[ITEM]];
  const run = (verdict) => all.head.runs[verdict[RUN]];
  const textAt = (place) => (place === null || place === undefined ? "" : all.texts[place]);

  const unpack = async () => {
    const letters = atob(packed.textContent.trim());
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    packed.remove();
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  };

  const choices = (select, first, values) => {
    const option = (value, text) => { const one = make("option", "", text); one.value = value; return one; };
    select.replaceChildren(option("", first), ...values.map((value) => (Array.isArray(value) ? option(...value) : option(value, value))));
  };
  const distinct = (values) => [...new Set(values)];

  const words = (verdict) => {
    const one = item(verdict);
    const texts = [one[A], one[B], one[GOLD], verdict[RATIONALE], verdict[GROUNDS], ...one[PROMPT].map((turn) => turn[1])];
    return one[ID] + "\n" + texts.map(textAt).join("\n");
  };

  const beside = (verdict) => {
    const name = find("f-beside").value;
    if (!name) return undefined;
    return (byItem.get(verdict[ITEM]) || []).find((other) => other !== verdict && run(other).name === name);
  };

  const filter = () => {
    const wanted = Object.fromEntries(["branch", "benchmark", "state", "subset"].map((name) => [name, find("f-" + name).value]));
    const text = find("f-text").value.toLowerCase();
    const differ = find("f-differ").checked && find("f-beside").value;
    shown = all.verdicts.filter((verdict) => {
      const one = item(verdict);
      if (wanted.branch && run(verdict).name !== wanted.branch) return false;
      if (wanted.benchmark && one[BENCHMARK] !== wanted.benchmark) return false;
      if (wanted.state && state(verdict)[0] !== wanted.state) return false;
      if (wanted.subset && one[SUBSET] !== wanted.subset) return false;
      if (differ) { const other = beside(verdict); if (!other || other[STATE] === verdict[STATE]) return false; }
      return !text || words(verdict).toLowerCase().includes(text);
    });
    const keys = { id: (one) => item(one)[ID], branch: (one) => run(one).name, state: (one) => state(one)[0] };
    if (sort.by) shown.sort((a, b) => sort.way * compare(keys[sort.by](a), keys[sort.by](b)));
    page = 0;
    draw();
  };

  const draw = () => {
    const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    const rows = shown.slice(page * PAGE, (page + 1) * PAGE).map((verdict) => {
      const [row, button] = [make("tr"), make("button", "", item(verdict)[ID])];
      button.type = "button";
      row.setAttribute("aria-selected", String(verdict === chosen));
      const first = make("td");
      first.append(button);
      const third = make("td");
      third.append(chip(verdict));
      const benchmark = find("f-benchmark").options.length > 2 && !find("f-benchmark").value ? " / " + item(verdict)[BENCHMARK] : "";
      row.append(first, make("td", "", run(verdict).name + benchmark), third);
      row.addEventListener("click", () => choose(verdict, true));
      return row;
    });
    const none = make("tr");
    const told = make("td", "empty", "Nothing matches these filters.");
    told.colSpan = 3;
    none.append(told);
    find("list").tBodies[0].replaceChildren(...(rows.length ? rows : [none]));
    find("count").textContent = shown.length.toLocaleString("en") + " of " + all.verdicts.length.toLocaleString("en") + " judgments";
    find("page").textContent = shown.length ? page + 1 + " / " + (last + 1) : "";
    find("before").disabled = page === 0;
    find("after").disabled = page >= last;
  };

  const block = (heading, text, className) => {
    const box = make("div");
    const title = make("h4", "", heading);
    box.append(title, text ? make("div", "text " + (className || ""), text) : make("p", "gone", "nothing"));
    return box;
  };

  // Lists of texts, as key points are, one a line; anything else as it was written.
  const plain = (value) => (Array.isArray(value) && value.every((one) => typeof one !== "object") ? value.map((one) => "• " + one).join("\n") : JSON.stringify(value, null, 1));

  const judgment = (verdict) => {
    const box = make("div", "judged");
    const title = make("h4", "", run(verdict).name);
    title.append(chip(verdict));
    if (verdict[PREDICTION]) title.append(make("span", "chip", "says " + verdict[PREDICTION]));
    if (verdict[AGREEMENT] !== null) title.append(make("span", "chip", "agreement " + Number(verdict[AGREEMENT].toFixed(3))));
    if (verdict[FINISHED] === false) title.append(make("span", "chip fail", "cut short"));
    box.append(title, block("Rationale", textAt(verdict[RATIONALE])));
    box.append(verdict[STATE] && !/skip/i.test(verdict[STATE]) ? block("Meta-judge", textAt(verdict[GROUNDS])) : make("p", "gone", "The meta-judge is asked only where the label is right."));
    if (verdict[EXTRA]) {
      const list = make("dl", "extra");
      for (const [name, place, value] of verdict[EXTRA]) list.append(make("dt", "", name.replaceAll("_", " ")), make("dd", "", place === null ? plain(value) : textAt(place)));
      box.append(list);
    }
    const digests = make("details", "digests");
    const list = make("ul");
    for (const [name, digest] of Object.entries(run(verdict).digests)) { const line = make("li"); line.append(make("code", "", run(verdict).step + "." + name), " ", make("code", "digest", digest)); list.append(line); }
    digests.append(make("summary", "", "Artifacts"), list);
    box.append(digests);
    return box;
  };

  const choose = (verdict, focus) => {
    chosen = verdict;
    const one = item(verdict);
    const detail = find("detail");
    const facts = [one[BENCHMARK], one[SUBSET], one[ORDER] && one[ORDER] + " order", one[LABEL] && "gold: " + one[LABEL]].filter(Boolean);
    const turns = one[PROMPT].map(([role, place]) => block(one[PROMPT].length > 1 || role !== "user" ? "Prompt, " + role : "Prompt", textAt(place)));
    const pair = make("div", "pair");
    pair.append(block("Answer A" + (one[LABEL] === "A" ? " – better" : ""), textAt(one[A]), one[LABEL] === "A" ? "picked" : ""), block("Answer B" + (one[LABEL] === "B" ? " – better" : ""), textAt(one[B]), one[LABEL] === "B" ? "picked" : ""));
    const judged = make("div", "pair");
    judged.append(judgment(verdict));
    const name = find("f-beside").value;
    const other = beside(verdict);
    if (other) judged.append(judgment(other));
    else if (name && name !== run(verdict).name) judged.append(make("p", "gone", name + " did not judge this very item."));
    detail.replaceChildren(make("h3", "", one[ID]), make("p", "meta", facts.join(" · ")), ...turns, pair, block("Gold judgment", textAt(one[GOLD]), "gold"), judged);
    history.replaceState(null, "", "#judgment=" + all.verdicts.indexOf(verdict));
    draw();
    if (focus) { detail.focus({ preventScroll: true }); if (innerWidth <= 860) detail.scrollIntoView(); }
  };

  const move = (by) => {
    if (!shown.length) return;
    const place = shown.indexOf(chosen);
    const next = Math.min(Math.max(place + by, 0), shown.length - 1);
    page = Math.floor(next / PAGE);
    choose(shown[next], false);
  };

  const start = () => {
    byItem = new Map();
    for (const verdict of all.verdicts) byItem.set(verdict[ITEM], [...(byItem.get(verdict[ITEM]) || []), verdict]);
    const runs = distinct(all.head.runs.map((one) => one.name));
    choices(find("f-branch"), "all", runs);
    choices(find("f-beside"), "nothing", runs);
    choices(find("f-benchmark"), "all", distinct(all.items.map((one) => one[BENCHMARK])));
    choices(find("f-subset"), "all", distinct(all.items.map((one) => one[SUBSET])).filter(Boolean).sort());
    const counts = new Map();
    for (const verdict of all.verdicts) counts.set(state(verdict)[0], (counts.get(state(verdict)[0]) || 0) + 1);
    choices(find("f-state"), "all", [...counts].sort().map(([name, count]) => [name, name + " (" + count.toLocaleString("en") + ")"]));
    let waiting;
    find("filters").addEventListener("input", (event) => {
      clearTimeout(waiting);
      if (event.target.id === "f-text") waiting = setTimeout(filter, 150);
      else filter();
      if (event.target.id === "f-beside" && chosen) choose(chosen, false);
    });
    find("filters").addEventListener("submit", (event) => event.preventDefault());
    find("before").addEventListener("click", () => { page -= 1; draw(); });
    find("after").addEventListener("click", () => { page += 1; draw(); });
    find("list").tHead.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => {
      sort = { by: button.dataset.by, way: turned(button.closest("th")) };
      filter();
    }));
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      if (event.key === "j") move(1);
      else if (event.key === "k") move(-1);
      else if (event.key === "/") { event.preventDefault(); find("f-text").focus(); }
    });
    filter();
    const asked = /^#judgment=(\d+)$/.exec(location.hash);
    const first = asked && all.verdicts[Number(asked[1])];
    if (first) choose(first, false);
  };

  unpack().then((document) => { all = document; start(); root.dataset.ready = ""; }).catch((error) => {
    find("count").textContent = "The judgments cannot be read: " + error.message;
    throw error;
  });
})();
