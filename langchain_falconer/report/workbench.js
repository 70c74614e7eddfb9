// The workbench of a report: search, filters, comparisons and corrections over the rows that the page holds.
// Texts are data: they reach the page through textContent alone, and no name of an element or attribute comes from them.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 10;
  const MAX_VALUES = 50;
  const PLAIN = 400;
  const EDGE = 160;

  // --- small helpers

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    return fill(node, node.append, children);
  }

  // Put children into a node; what is missing is left out.
  function fill(node, put, children) {
    put.apply(node, children.flat().filter((child) => child || child === 0));
    return node;
  }

  const replace = (node, ...children) => fill(node, node.replaceChildren, children);

  const count = (n) => n.toLocaleString("en-US");
  const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
  const percent = (share) => (share === 1 || share === 0 ? `${100 * share}%` : `${(100 * share).toFixed(1)}%`);

  function names(value) {
    return Array.isArray(value) ? value : [String(value)];
  }

  function inWords(value) {
    return Array.isArray(value) ? value.join(", ") || "none" : String(value);
  }

  // --- the plan

  const steps = data.steps;
  const topSteps = steps.filter((step) => !step.of);
  const isLabel = (step) => step.op === "get_label";
  const options = (step) => (step.labels ? step.labels.map((one) => (typeof one === "string" ? one : one.name)) : null);

  function holds(condition, labels, spans) {
    if (!condition) return true;
    if (condition.all) return condition.all.every((one) => holds(one, labels, spans));
    if (condition.any) return condition.any.some((one) => holds(one, labels, spans));
    if (condition.not) return !holds(condition.not, labels, spans);
    if (condition.exists) return (spans[condition.step] || []).length > 0;
    if (!(condition.step in labels)) return false;
    const value = labels[condition.step];
    return (condition.in || [condition.equals]).some((one) => (Array.isArray(value) ? value.includes(one) : value === one));
  }

  // --- rows and held-out texts, both as items with labels and spans

  function lowestScore(row) {
    const scores = Object.values(row.labels || {}).map((label) => label.score);
    for (const found of Object.values(row.spans || {})) scores.push(...found.map((span) => span.score));
    return Math.min(1, ...scores.filter((score) => typeof score === "number"));
  }

  const rows = data.rows.map((row, i) => ({
    ...row, labels: row.labels || {}, spans: row.spans || {}, kind: "row", name: String(row.id),
    isUniform: i < data.uniform, certainty: lowestScore(row), searched: `${row.id}\n${row.text}`.toLowerCase(),
  }));
  const heldOut = data.comparisons.map((one, i) => ({
    kind: "held-out", name: `held-out text ${i + 1}`, text: one.text, labels: one.annotator.labels,
    spans: one.annotator.spans, proxy: one.proxy, why: one.why, isUniform: true,
  }));
  const heldOutByText = new Map(heldOut.map((item) => [item.text, item]));
  const rowByText = new Map([...rows].reverse().map((row) => [row.text, row]));

  // The answer to a step in a form that can be compared; undefined where there is none.
  function answer(answers, step) {
    if (isLabel(step)) {
      const label = answers.labels[step.id];
      return label && JSON.stringify(Array.isArray(label.value) ? [...label.value].sort() : label.value);
    }
    const spans = answers.spans[step.id];
    return spans && JSON.stringify(spans.map((span) => [span.start, span.end]).sort((a, b) => a[0] - b[0]));
  }

  const differing = (item) =>
    topSteps.filter((step) => answer(item, step) !== undefined && answer(item, step) !== answer(item.proxy, step));
  const disagreements = heldOut.filter((item) => differing(item).length);

  // --- corrections: a person's answers by text and step

  const corrections = new Map();
  const undoable = [];
  let unsaved = 0;

  function corrected(item) {
    const correction = corrections.get(item.text);
    const labels = Object.fromEntries(Object.entries(item.labels).map(([step, label]) => [step, label.value]));
    const spans = Object.fromEntries(
      Object.entries(item.spans).map(([step, found]) => [step, found.map((span) => [span.start, span.end])]),
    );
    for (const [name, value] of Object.entries(correction ? correction.answers : {})) {
      (isLabel(steps.find((step) => step.id === name)) ? labels : spans)[name] = value;
    }
    return { labels, spans };
  }

  // A condition on answers about spans is not followed here: it holds where it held.
  const aboutSpans = new Set(steps.filter((step) => step.of).map((step) => `"step":"${step.id}"`));
  const followed = new Map(topSteps.map((step) => [step, ![...aboutSpans].some((atom) => JSON.stringify(step.where || null).includes(atom))]));

  function applies(item, step) {
    if (!followed.get(step)) return step.id in item.labels || step.id in item.spans;
    const { labels, spans } = corrected(item);
    return holds(step.where, labels, spans);
  }

  function put(item, given, isUniform) {
    const before = corrections.get(item.text);
    undoable.push({ text: item.text, before });
    const answers = { ...(before ? before.answers : {}), ...given };
    corrections.set(item.text, { text: item.text, answers, isUniform: before ? before.isUniform && isUniform : isUniform });
    for (const step of topSteps) {
      if (step.id in answers && !applies(item, step)) delete answers[step.id];
    }
    unsaved += 1;
    return item.text;
  }

  function undo() {
    const last = undoable.pop();
    if (!last) return null;
    if (last.before) corrections.set(last.text, last.before);
    else corrections.delete(last.text);
    unsaved += 1;
    return last.text;
  }

  // A correction in the format of annotation files: null stands for a span step that was not looked at.
  function exported(correction) {
    const labels = {}, spans = {};
    for (const step of topSteps) {
      if (!(step.id in correction.answers)) continue;
      (isLabel(step) ? labels : spans)[step.id] = correction.answers[step.id];
    }
    const row = { text: correction.text };
    if (Object.keys(labels).length) row.labels = labels;
    if (Object.keys(spans).length) {
      row.spans = {};
      for (const step of topSteps) if (!isLabel(step)) row.spans[step.id] = step.id in spans ? spans[step.id] : null;
    }
    if (correction.isUniform && heldOutByText.has(correction.text)) row.uniform = true;
    return row;
  }

  function download() {
    const lines = [...corrections.values()].map((one) => JSON.stringify(exported(one)) + "\n");
    const url = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    el("a", { href: url, download: `corrections-${data.run.slice(0, 12)}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    unsaved = 0;
    say(`${plural(corrections.size, "corrected text")} written; pass the file to falconer mine as --corrections`);
  }

  // --- the server of `falconer review`, where there is one

  async function post(path, body) {
    const reply = await fetch(path, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    const result = await reply.json();
    if (!reply.ok) throw new Error(result.error || `the server answered ${reply.status}`);
    return result;
  }

  let sending = Promise.resolve();

  function save(texts) {
    if (!data.served) return;
    const saved = texts.filter((text) => corrections.has(text)).map((text) => exported(corrections.get(text)));
    const removed = texts.filter((text) => !corrections.has(text));
    sending = sending.then(() => post("corrections", { rows: saved, removed })).then(
      (result) => { unsaved = 0; say(`${plural(result.texts, "corrected text")} in the annotation store`); },
      (error) => say(`not saved: ${error.message}`),
    );
  }

  async function retrain() {
    try {
      await sending;
      await post("retrain", {});
      await follow();
    } catch (error) {
      say(`not retrained: ${error.message}`);
    }
  }

  async function follow() {
    const status = await (await fetch("status")).json();
    if (status.state === "running") {
      say(`retraining: ${status.stage || "starting"}${status.total ? `, ${count(status.done)} of ${count(status.total)}` : ""}`);
      setTimeout(follow, 1000);
    } else if (status.state === "done") {
      say(status.message);
      refs.reload.hidden = false;
    } else {
      say(`not retrained: ${status.message}`);
    }
  }

  // --- texts with marks

  const MARKS = (spans) =>
    Object.entries(spans).flatMap(([step, found]) =>
      found.flatMap((span) => [
        { start: span.start, end: span.end, step, title: span.score < 1 ? `${step} ${span.score.toFixed(2)}` : step },
        ...MARKS(span.spans || {}),
      ]));

  function withHits(text, query) {
    if (!query) return [text];
    const parts = [], lower = text.toLowerCase();
    if (lower.length !== text.length) return [text];
    let at = 0;
    for (let hit = lower.indexOf(query); hit >= 0; hit = lower.indexOf(query, at)) {
      parts.push(text.slice(at, hit), el("b", { class: "hit" }, text.slice(hit, hit + query.length)));
      at = hit + query.length;
    }
    return [...parts, text.slice(at)];
  }

  function plain(text, query) {
    if (text.length <= PLAIN || (query && text.toLowerCase().includes(query))) return withHits(text, query);
    const left = text.length - 2 * EDGE;
    const more = el("button", { type: "button", class: "gap", onclick: () => more.replaceWith(text.slice(EDGE, -EDGE)) },
      ` … ${count(left)} characters … `);
    return [text.slice(0, EDGE), more, text.slice(-EDGE)];
  }

  // Offsets are code points. However marks nest or overlap, each piece of text stands in all marks that cover it.
  function marked(text, marks, query = "", isWhole = false) {
    const chars = Array.from(text);
    const ordered = marks.filter((mark) => mark.end <= chars.length).sort((a, b) => a.start - b.start || b.end - a.end);
    const cuts = [...new Set([0, chars.length, ...ordered.flatMap((mark) => [mark.start, mark.end])])].sort((a, b) => a - b);
    const box = el("div", { class: "text", dir: "auto" });
    for (let i = 0; i + 1 < cuts.length; i++) {
      const [start, end] = [cuts[i], cuts[i + 1]];
      const piece = chars.slice(start, end).join("");
      let place = box;
      for (const mark of ordered.filter((one) => one.start <= start && end <= one.end)) {
        const inner = el("mark", {
          class: `s${data.colours[mark.step] ?? 7}${mark.isCurrent ? " current" : ""}`, title: mark.title,
          "data-step": mark.end === end ? mark.step : null,
        });
        place.append(inner);
        place = inner;
      }
      if (isWhole) place.append(el("span", { "data-start": start }, piece));
      else place.append(...(place === box ? plain(piece, query) : withHits(piece, query)));
    }
    return box;
  }

  function chips(item, marksDifferent = []) {
    const list = el("ul", { class: "chips", "aria-label": "Answers" });
    for (const step of topSteps) {
      const label = item.labels[step.id], spans = item.spans[step.id];
      if (!label && !spans) continue;
      const by = (item.decided_by || {})[step.id];
      list.append(el("li", { class: `chip${isLabel(step) ? "" : ` s${data.colours[step.id]}`}${marksDifferent.includes(step) ? " differs" : ""}` },
        `${step.id}: `, el("strong", {}, el("bdi", {}, label ? inWords(label.value) : plural(spans.length, "span"))),
        label && label.score < 1 && ` ${label.score.toFixed(2)}`, by && el("small", {}, ` by ${by}`)));
    }
    return list;
  }

  function relations(spans) {
    return Object.values(spans).flat().flatMap((span) => {
      const found = Object.entries(span.labels || {}).map(([step, label]) => `${step}: ${inWords(label.value)}`);
      for (const [step, inner] of Object.entries(span.spans || {})) {
        found.push(`${step}: ${inner.map((one) => one.text).join(", ") || "none"}`);
      }
      const here = found.length ? [el("div", { class: "note" }, el("bdi", {}, span.text), " → ", el("bdi", {}, found.join("; ")))] : [];
      return [...here, ...relations(span.spans || {})];
    });
  }

  // --- facets: what rows can be filtered by

  const BINS = [[0, 0.5], [0.5, 0.7], [0.7, 0.9], [0.9, 1.01]];
  const facets = new Map();

  function addFacet(key, label, values) {
    const kept = values.filter((one) => one.n).sort((a, b) => b.n - a.n).slice(0, MAX_VALUES);
    facets.set(key, { label, values: new Map(kept.map((one) => [one.value, one])) });
  }

  function counted(lists) {
    const counts = new Map();
    for (const list of lists) for (const value of new Set(list)) counts.set(value, (counts.get(value) || 0) + 1);
    return counts;
  }

  const facetTests = {
    match: (row, value) => (value === "uncertain" ? Boolean(row.uncertain) : Boolean(row.match) === (value === "yes")),
    score: (row, value) => { const [low, high] = value.split("–").map(Number); return row.certainty >= low && row.certainty < high; },
    by: (row, value) => Object.values(row.decided_by || {}).includes(value),
    corrected: (row, value) => corrections.has(row.text) === (value === "yes"),
  };

  function test(key, row, value) {
    if (facetTests[key]) return facetTests[key](row, value);
    const [kind, ...rest] = key.split(":"), name = rest.join(":");
    if (kind === "metadata") return (row.metadata || {})[name] === value;
    if (kind === "bin") {
      const [low, high] = value.split("–").map(Number);
      const scores = [row.labels[name], ...(row.spans[name] || [])].filter(Boolean).map((one) => one.score);
      return scores.some((score) => score >= low && (score < high || high === 1));
    }
    if (kind === "span") {
      const spans = row.spans[name];
      if (value === "\u0000some") return Boolean(spans && spans.length);
      if (value === "\u0000none") return Boolean(spans && !spans.length);
      return Boolean(spans && spans.some((span) => span.text === value));
    }
    return Boolean(row.labels[name] && names(row.labels[name].value).includes(value));
  }

  function makeFacets() {
    const tally = (key, values) => values.map((value) => ({ value, label: value, n: rows.filter((row) => test(key, row, value)).length }));
    addFacet("match", "match", tally("match", ["yes", "no", "uncertain"]));
    for (const step of topSteps) {
      if (isLabel(step)) {
        const counts = counted(rows.map((row) => (row.labels[step.id] ? names(row.labels[step.id].value) : [])));
        addFacet(`label:${step.id}`, step.id, [...counts].map(([value, n]) => ({ value, label: value, n })));
      } else {
        const counts = counted(rows.map((row) => (row.spans[step.id] || []).map((span) => span.text)));
        const texts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 30).map(([value, n]) => ({ value, label: value, n }));
        const some = tally(`span:${step.id}`, ["\u0000some", "\u0000none"]);
        some[0].label = "found"; some[1].label = "none";
        addFacet(`span:${step.id}`, step.id, [...some, ...texts]);
      }
    }
    addFacet("score", "lowest score", tally("score", BINS.map(([low, high]) => `${low}–${high}`)).map(
      (one) => ({ ...one, label: one.label.replace("1.01", "1") })));
    const deciders = counted(rows.map((row) => Object.values(row.decided_by || {})));
    addFacet("by", "decided by", [...deciders].map(([value, n]) => ({ value, label: value, n })));
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row.metadata || {})))];
    for (const column of columns) {
      const counts = counted(rows.map((row) => (row.metadata && column in row.metadata ? [row.metadata[column]] : [])));
      if (counts.size > 1 && counts.size <= MAX_VALUES) {
        addFacet(`metadata:${column}`, column, [...counts].map(([value, n]) => ({ value, label: value, n })));
      }
    }
    facets.set("corrected", { label: "corrected", values: new Map([["yes", { label: "yes" }], ["no", { label: "no" }]]) });
  }

  // --- state and page

  const view = { query: "", filters: [], sort: "doubt", page: 0, tab: "rows", target: null };
  const refs = {};
  const app = document.getElementById("app");

  const SORTS = {
    doubt: ["least certain first", (a, b) => a.certainty - b.certainty || a.n - b.n],
    certain: ["most certain first", (a, b) => b.certainty - a.certainty || a.n - b.n],
    corpus: ["in the order of the corpus", (a, b) => a.n - b.n],
    long: ["longest first", (a, b) => b.text.length - a.text.length || a.n - b.n],
  };

  function filtered() {
    const query = view.query.trim().toLowerCase();
    const groups = new Map();
    for (const { key, value } of view.filters) groups.set(key, [...(groups.get(key) || []), value]);
    return rows
      .filter((row) => (!query || row.searched.includes(query))
        && [...groups].every(([key, values]) => values.some((value) => test(key, row, value))))
      .sort(SORTS[view.sort][1]);
  }

  function filterBy(key, value, label) {
    if (!view.filters.some((one) => one.key === key && one.value === value)) view.filters.push({ key, value, label });
    Object.assign(view, { page: 0, target: null });
    openTab("rows");
  }

  function say(message) {
    refs.status.textContent = message;
  }

  function rowCard(row) {
    const correction = corrections.get(row.text);
    const card = el("article", { class: `row${view.target === row ? " target" : ""}`, tabindex: "-1", "aria-label": `row ${row.name}` },
      el("div", { class: "id" }, el("a", { href: `#row=${encodeURIComponent(row.name)}` }, el("bdi", {}, row.name)),
        ` · ${row.match ? "match" : "no match"}${row.uncertain ? " · uncertain" : ""} · lowest score ${row.certainty.toFixed(2)}`,
        correction && el("strong", {}, " · corrected"),
        !row.chars && el("button", { type: "button", class: "small", onclick: () => startCorrecting("one", row) }, "Correct")),
      marked(row.text, MARKS(row.spans), view.query.trim().toLowerCase()),
      row.chars && el("p", { class: "note" }, `The first ${count(Array.from(row.text).length)} of ${count(row.chars)} characters.`),
      chips(row), ...relations(row.spans),
      row.metadata && el("p", { class: "note metadata" }, Object.entries(row.metadata).flatMap(([name, value], i) => [i > 0 && " · ", el("bdi", {}, `${name}: ${value}`)])));
    return card;
  }

  function renderRows() {
    const found = filtered(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    view.page = Math.min(view.page, pages - 1);
    const shown = found.slice(view.page * PAGE, (view.page + 1) * PAGE);
    const sample = data.total > rows.length ? `, a sample of ${count(data.total)}` : "";
    refs.counted.textContent = `${count(found.length)} of ${plural(rows.length, "row")} in this file${sample}`;
    replace(refs.active, ...view.filters.map((one) => el("li", {}, el("button", {
      type: "button", class: "chip", "aria-label": `remove the filter ${one.label}`,
      onclick: () => { view.filters = view.filters.filter((other) => other !== one); view.page = 0; renderRows(); },
    }, el("bdi", {}, one.label), " ✕"))));
    replace(refs.list, ...shown.map(rowCard), ...(shown.length ? [] : [el("p", {}, "No row fits; remove a filter.")]));
    const move = (by) => () => { view.page += by; renderRows(); refs.counted.scrollIntoView({ block: "nearest" }); };
    replace(refs.pager, 
      el("button", { type: "button", disabled: view.page === 0, onclick: move(-1) }, "Previous"),
      el("span", {}, `page ${count(view.page + 1)} of ${count(pages)}`),
      el("button", { type: "button", disabled: view.page + 1 >= pages, onclick: move(1) }, "Next"));
    renderBulk(found);
  }

  function filterMenu() {
    const menu = el("select", {
      id: "add-filter", onchange: () => {
        const chosen = menu.selectedOptions[0];
        if (chosen && chosen.dataset.key) filterBy(chosen.dataset.key, chosen.dataset.value, chosen.dataset.label);
        menu.selectedIndex = 0;
      },
    }, el("option", {}, "add a filter…"));
    for (const [key, facet] of facets) {
      const group = el("optgroup", { label: facet.label });
      for (const [value, one] of facet.values) {
        group.append(el("option", { "data-key": key, "data-value": value, "data-label": `${facet.label}: ${one.label}` },
          one.n === undefined ? one.label : `${one.label} (${count(one.n)})`));
      }
      if (facet.values.size) menu.append(group);
    }
    return menu;
  }

  function rowsPanel() {
    const sort = el("select", { id: "sort", onchange: () => { view.sort = sort.value; view.page = 0; renderRows(); } },
      Object.entries(SORTS).map(([key, [label]]) => el("option", { value: key }, label)));
    refs.search = el("input", {
      id: "search", type: "search", autocomplete: "off", oninput: () => { view.query = refs.search.value; view.page = 0; renderRows(); },
    });
    refs.counted = el("p", { class: "note counted", role: "status" });
    refs.active = el("ul", { class: "chips", "aria-label": "Active filters" });
    refs.list = el("div", { class: "list" });
    refs.pager = el("div", { class: "pager" });
    refs.bulk = el("details", { class: "bulk" });
    return [
      el("div", { class: "controls" },
        el("label", { for: "search" }, "Search", refs.search), el("label", { for: "add-filter" }, "Filter", filterMenu()),
        el("label", { for: "sort" }, "Sort", sort)),
      refs.active, refs.counted, refs.bulk, refs.list, refs.pager];
  }

  function renderBulk(found) {
    const open = refs.bulk.open;
    const rest = found.filter((row) => !row.chars && !corrections.has(row.text));
    const accept = el("button", {
      type: "button", disabled: !rest.length, onclick: () => {
        for (const row of rest) {
          const { labels, spans } = corrected(row);
          put(row, { ...labels, ...spans }, false);
        }
        save(rest.map((row) => row.text));
        say(`${plural(rest.length, "row")} accepted as they are`);
        renderRows();
        renderAccuracy();
      },
    }, `Accept all ${count(rest.length)} as they are`);
    replace(refs.bulk, el("summary", {}, "Accept what is filtered"),
      el("p", { class: "note" }, "The answers of all filtered rows that you have not corrected become yours. Such rows were picked: they teach the proxy, and measure nothing."),
      accept);
    refs.bulk.open = open;
  }

  // --- comparisons

  function side(title, item, answers, differs) {
    const shown = { labels: {}, spans: {}, decided_by: {} };
    for (const step of topSteps) {
      if (answer(item, step) === undefined) continue;
      const part = isLabel(step) ? "labels" : "spans";
      if (step.id in answers[part]) shown[part][step.id] = answers[part][step.id];
    }
    return el("div", {}, el("h3", {}, title), marked(item.text, MARKS(shown.spans)), chips(shown, differs));
  }

  function comparisonsPanel() {
    const list = el("div", { class: "list" }), pager = el("div", { class: "pager" });
    let page = 0;
    const draw = () => {
      const pages = Math.max(1, Math.ceil(disagreements.length / PAGE));
      replace(list, ...disagreements.slice(page * PAGE, (page + 1) * PAGE).map((item) => {
        const differs = differing(item);
        return el("article", { class: "row", "aria-label": item.name },
          el("div", { class: "id" }, `${item.name} · differs in ${differs.map((step) => step.id).join(", ")}`,
            corrections.has(item.text) && el("strong", {}, " · corrected"),
            el("button", { type: "button", class: "small", onclick: () => startCorrecting("one", item) }, "Decide")),
          el("div", { class: "sides" }, side(data.annotator, item, item, differs), side("proxy", item, item.proxy, differs)),
          (item.why || []).map((reason) => el("p", { class: "note" }, reason)));
      }));
      const move = (by) => () => { page += by; draw(); };
      replace(pager, el("button", { type: "button", disabled: page === 0, onclick: move(-1) }, "Previous"),
        el("span", {}, `page ${count(page + 1)} of ${count(pages)}`),
        el("button", { type: "button", disabled: page + 1 >= pages, onclick: move(1) }, "Next"));
    };
    refs.drawComparisons = draw;
    const note = heldOut.length
      ? `${count(disagreements.length)} of ${plural(heldOut.length, "held-out text")} on which ${data.annotator} and a proxy that did not learn from them differ.`
      : "This run holds no comparisons: it was made by an earlier release, or its annotations were not held out.";
    return [el("p", { class: "note" }, note), list, disagreements.length > PAGE ? pager : null];
  }

  // --- quotes without a place

  function unplacedPanel() {
    return [
      el("p", { class: "note" }, `Quotes of ${data.annotator} that do not stand in their text letter by letter: they are no spans.`),
      el("div", { class: "list" }, data.unplaced.map((one, i) => el("article", { class: "row", "aria-label": `quote ${i + 1}` },
        el("div", { class: "id" }, `${one.step} · ${one.reason}`),
        el("p", { dir: "auto" }, el("q", {}, one.quote)),
        el("details", {}, el("summary", {}, "The text"), marked(one.text, []))))),
    ];
  }

  // --- correcting, one decision a screen

  const work = { source: null, items: [], at: 0, skipped: new Set(), step: null, spans: [], current: 0, chosen: [], typed: "" };

  const SOURCES = {
    heldOut: ["held-out texts in random order: measures annotator and proxy", () => heldOut, true],
    disagreements: ["held-out texts on which annotator and proxy differ", () => disagreements, false],
    uniform: ["rows in random order: measures the result", () => rows.filter((row) => row.isUniform && !row.chars), true],
    doubt: ["rows, least certain first", () => [...rows].filter((row) => !row.chars).sort(SORTS.doubt[1]), false],
    filtered: ["the filtered rows", () => filtered().filter((row) => !row.chars), false],
  };

  const isOpen = (item, step) =>
    !(step.id in ((corrections.get(item.text) || {}).answers || {})) && !work.skipped.has(`${step.id} ${item.text}`) && applies(item, step);

  function startCorrecting(source, item) {
    work.source = source;
    work.items = source === "one" ? [item] : SOURCES[source][1]();
    work.isUniform = source !== "one" && SOURCES[source][2];
    work.at = 0;
    work.skipped = new Set();
    if (source === "one" && corrections.has(item.text)) {
      undoable.push({ text: item.text, before: corrections.get(item.text) });
      corrections.delete(item.text);
    }
    openTab("correct");
    next();
  }

  function next() {
    for (; work.at < work.items.length; work.at++) {
      const item = work.items[work.at], step = topSteps.find((one) => isOpen(item, one));
      if (step) {
        const { labels, spans } = corrected(item);
        Object.assign(work, { step, spans: (spans[step.id] || []).map((span) => [...span]), current: 0, typed: "" });
        work.chosen = Array.isArray(labels[step.id]) ? [...labels[step.id]] : [];
        return renderDecision();
      }
    }
    work.step = null;
    return renderDecision();
  }

  function decide(value) {
    const item = work.items[work.at];
    save([put(item, { [work.step.id]: value }, work.isUniform)]);
    renderAccuracy();
    next();
  }

  function skip() {
    if (!work.step) return;
    work.skipped.add(`${work.step.id} ${work.items[work.at].text}`);
    next();
  }

  function takeBack() {
    const text = undo();
    if (text === null) return say("nothing to undo");
    save([text]);
    const at = work.items.findIndex((item) => item.text === text);
    if (at >= 0) work.at = at;
    renderAccuracy();
    return next();
  }

  function choices(step) {
    const all = options(step);
    if (all === null) return [["y", true, "yes"], ["n", false, "no"]];
    const typed = work.typed.toLowerCase();
    const shown = all.length > 10 ? all.filter((name) => name.toLowerCase().includes(typed)) : all;
    return shown.map((name, i) => [all.length > 10 ? "" : String((i + 1) % 10), name, name]);
  }

  function choose(value) {
    if (!work.step.multi_label) return decide(value);
    work.chosen = work.chosen.includes(value) ? work.chosen.filter((one) => one !== value) : [...work.chosen, value];
    return renderDecision();
  }

  const confirmed = () => (isLabel(work.step) ? work.chosen : work.spans.map((span) => [...span]).sort((a, b) => a[0] - b[0]));

  function labelControls(step) {
    const many = (options(step) || []).length > 10;
    const list = el("div", { class: "choices", role: "group", "aria-label": "Answers" });
    const draw = () => replace(list, ...choices(step).slice(0, 60).map(([key, value, name]) => el("button", {
      type: "button", onclick: () => choose(value), "aria-pressed": step.multi_label ? String(work.chosen.includes(value)) : null,
    }, key && el("kbd", {}, key), key && " ", name)));
    draw();
    if (!many) return [list];
    const input = el("input", {
      id: "label", type: "text", autocomplete: "off", oninput: () => { work.typed = input.value; draw(); },
      onkeydown: (event) => {
        if (event.key === "Enter") {
          event.preventDefault();
          const first = choices(step)[0];
          if (work.typed && first) { work.typed = ""; choose(first[1]); } else if (step.multi_label && !work.typed) decide(confirmed());
        } else if (!input.value && event.key === " ") { event.preventDefault(); skip(); }
        else if (!input.value && event.key === "Backspace") { event.preventDefault(); takeBack(); }
        event.stopPropagation();
      },
    });
    refs.typing = input;
    return [el("label", { for: "label" }, "Type a label, Enter takes the first", input), list];
  }

  function addSpan() {
    const item = work.items[work.at], chars = Array.from(item.text), selected = selection();
    let place = selected;
    if (!place) {
      const after = work.spans.length ? work.spans[work.current][1] : 0;
      const free = (at) => !work.spans.some(([start, end]) => start <= at && at < end);
      const isWord = (at) => /[\p{L}\p{N}]/u.test(chars[at]) && free(at);
      const starts = [...chars.keys()].filter((at) => isWord(at) && (at === 0 || !isWord(at - 1)));
      const start = starts.find((at) => at >= after) ?? starts[0];
      if (start === undefined) return;
      let end = start;
      while (end < chars.length && isWord(end)) end++;
      place = [start, end];
    }
    if (work.spans.some(([start, end]) => start < place[1] && place[0] < end)) return say("spans of one step never overlap");
    work.spans.push(place);
    work.current = work.spans.length - 1;
    renderDecision();
  }

  // The selected characters of the text that is being corrected, as code points.
  function selection() {
    const range = getSelection().rangeCount ? getSelection().getRangeAt(0) : null;
    if (!range || range.collapsed) return null;
    const offset = (node, at) => {
      const holder = node.parentElement && node.parentElement.closest("[data-start]");
      return node.nodeType === 3 && holder && refs.decision.contains(holder)
        ? Number(holder.dataset.start) + Array.from(node.data.slice(0, at)).length : null;
    };
    const start = offset(range.startContainer, range.startOffset), end = offset(range.endContainer, range.endOffset);
    return start === null || end === null || start >= end ? null : [start, end];
  }

  function moveEdge(edge, by) {
    const span = work.spans[work.current];
    if (!span) return;
    const length = Array.from(work.items[work.at].text).length, moved = [...span];
    moved[edge] += by;
    const others = work.spans.filter((one) => one !== span);
    if (moved[0] < 0 || moved[1] > length || moved[0] >= moved[1]) return;
    if (others.some(([start, end]) => start < moved[1] && moved[0] < end)) return;
    work.spans[work.current] = moved;
    renderDecision();
  }

  function removeSpan() {
    work.spans.splice(work.current, 1);
    work.current = Math.max(0, Math.min(work.current, work.spans.length - 1));
    renderDecision();
  }

  function spanControls() {
    const button = (key, name, action) => el("button", { type: "button", onclick: action }, el("kbd", {}, key), ` ${name}`);
    return [el("div", { class: "choices", role: "group", "aria-label": "Spans" },
      work.spans.length > 0 && button("y", work.spans.length > 1 ? `these ${count(work.spans.length)} are right` : "this is right", () => decide(confirmed())),
      button("n", "there is none", () => decide([])), button("a", "add", addSpan),
      work.spans.length > 0 && button("d", "remove", removeSpan),
      work.spans.length > 1 && button("↓", "next span", () => { work.current = (work.current + 1) % work.spans.length; renderDecision(); })),
    el("p", { class: "note" }, "← → move the end of the marked span, with Shift its beginning; select text and press a to add it.")];
  }

  function renderDecision() {
    const box = refs.decision, step = work.step;
    if (!step) {
      const done = work.items.length ? "Nothing is left in this queue." : "Choose what to look at.";
      replace(box, el("p", {}, done));
      box.focus();
      return;
    }
    const item = work.items[work.at], label = item.labels[step.id];
    const marks = isLabel(step) ? [] : work.spans.map(([start, end], i) => ({
      start, end, step: step.id, isCurrent: i === work.current, title: i === work.current ? `${step.id}, current` : step.id,
    }));
    const given = label ? `${item.kind === "row" ? (item.decided_by || {})[step.id] || "the run" : data.annotator} says ${inWords(label.value)}` : "";
    refs.typing = null;
    const controls = isLabel(step) ? labelControls(step) : spanControls();
    replace(box, 
      el("p", { class: "note" }, `${item.name} · text ${count(work.at + 1)} of ${count(work.items.length)} · ${step.id}${step.condition ? ` (asked if ${step.condition})` : ""}`),
      el("h3", {}, step.instruction), marked(item.text, marks, "", true), ...controls,
      step.multi_label && el("button", { type: "button", onclick: () => decide(confirmed()) }, el("kbd", {}, "Enter"), " these are right"),
      given && el("details", {}, el("summary", {}, "What was answered"), el("p", { class: "note" }, given)));
    if (refs.typing) refs.typing.focus({ preventScroll: true });
    else box.focus({ preventScroll: true });
  }

  function onKey(event) {
    if (view.tab !== "correct" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) return;
    if (event.target.closest("button, summary, a") && ["Enter", " "].includes(event.key)) return;
    if (run(event)) event.preventDefault();
  }

  // Return whether the key meant something.
  function run(event) {
    const key = event.key, step = work.step;
    if (key === "u") return takeBack(), true;
    if (key === "r" && data.served) return retrain(), true;
    if (!step) return false;
    if (key === " ") return skip(), true;
    if (isLabel(step)) {
      if (step.multi_label && key === "Enter") return decide(confirmed()), true;
      const found = choices(step).find(([shown], i) => shown === key || (options(step) === null && String(i + 1) === key));
      return found && found[0] ? (choose(found[1]), true) : false;
    }
    const edges = { ArrowLeft: -1, ArrowRight: 1 };
    if (key in edges) return moveEdge(event.shiftKey ? 0 : 1, edges[key]), true;
    if (key === "ArrowDown" || key === "ArrowUp") {
      const n = work.spans.length;
      if (n) work.current = (work.current + (key === "ArrowDown" ? 1 : n - 1)) % n;
      return renderDecision(), true;
    }
    if (key === "y" || key === "Enter") return decide(confirmed()), true;
    if (key === "n") return decide([]), true;
    if (key === "a") return addSpan(), true;
    if (key === "d" || key === "Delete" || key === "Backspace") return work.spans.length && removeSpan(), true;
    return false;
  }

  function correctPanel() {
    const source = el("select", { id: "source", onchange: () => source.value && startCorrecting(source.value) },
      el("option", { value: "" }, "choose…"),
      Object.entries(SOURCES).filter(([key]) => heldOut.length || !["heldOut", "disagreements"].includes(key))
        .map(([key, [label]]) => el("option", { value: key }, label)));
    refs.source = source;
    refs.decision = el("div", { class: "decision", tabindex: "-1", role: "group", "aria-label": "Decision" });
    refs.accuracy = el("div", { class: "accuracy" });
    refs.reload = el("button", { type: "button", hidden: true, onclick: () => location.reload() }, "Show the new result");
    return [
      el("div", { class: "controls" }, el("label", { for: "source" }, "What to look at", source)),
      refs.decision,
      steps.length > topSteps.length && el("p", { class: "note" },
        `Answers about spans (${steps.filter((step) => step.of).map((step) => step.id).join(", ")}) are not asked for here.`),
      el("div", { class: "choices" },
        el("button", { type: "button", onclick: skip }, el("kbd", {}, "space"), " skip"),
        el("button", { type: "button", onclick: takeBack }, el("kbd", {}, "u"), " undo"),
        data.served && el("button", { type: "button", onclick: retrain }, el("kbd", {}, "r"), " retrain"),
        refs.reload,
        el("button", { type: "button", id: "download", onclick: download }, "Download corrections")),
      refs.accuracy];
  }

  // --- accuracy by a person's answers, with exact intervals

  function logGamma(x) {
    const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.001208650973866179, -0.000005395239384953];
    const t = x + 5.5 - (x + 0.5) * Math.log(x + 5.5);
    return -t + Math.log((2.5066282746310005 * c.reduce((sum, one, i) => sum + one / (x + 1 + i), 1.000000000190015)) / x);
  }

  // The regularised incomplete beta function, by its continued fraction (Lentz).
  function beta(x, a, b) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
    const tiny = 1e-30;
    let f = 1, c = 1, d = 0;
    for (let i = 0; i <= 300; i++) {
      const m = i >> 1;
      const numerator = i === 0 ? 1 : i % 2 ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)) : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / (Math.abs(1 + numerator * d) < tiny ? tiny : 1 + numerator * d);
      c = Math.abs(1 + numerator / c) < tiny ? tiny : 1 + numerator / c;
      f *= c * d;
      if (Math.abs(1 - c * d) < 1e-10) break;
    }
    return front * (f - 1);
  }

  function quantile(p, a, b) {
    let low = 0, high = 1;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (beta(middle, a, b) < p) low = middle; else high = middle;
    }
    return (low + high) / 2;
  }

  // Clopper and Pearson's 95% interval.
  const exactInterval = (k, n) => [k === 0 ? 0 : quantile(0.025, k, n - k + 1), k === n ? 1 : quantile(0.975, k + 1, n - k)];

  const SIDES = [
    [data.annotator, (text) => heldOutByText.get(text)],
    ["proxy, held-out", (text) => { const item = heldOutByText.get(text); return item && item.proxy; }],
    // The proxy that runs has learned from the held-out texts, so that they do not measure its result.
    ["result", (text) => (heldOutByText.has(text) ? undefined : rowByText.get(text))],
  ];

  function score(step, find) {
    const all = [];
    for (const correction of corrections.values()) {
      const answers = find(correction.text);
      if (!answers || !(step.id in correction.answers)) continue;
      const given = correction.answers[step.id];
      const right = isLabel(step) ? answer({ labels: { [step.id]: { value: given } } }, step)
        : answer({ spans: { [step.id]: given.map(([start, end]) => ({ start, end })) } }, step);
      all.push({ isRight: right === answer(answers, step), isUniform: correction.isUniform });
    }
    const uniform = all.filter((one) => one.isUniform);
    const counting = uniform.length ? uniform : all;
    return { n: counting.length, k: counting.filter((one) => one.isRight).length, isUniform: uniform.length > 0 };
  }

  function renderAccuracy() {
    const table = el("tbody");
    let picked = false;
    for (const step of topSteps) {
      for (const [name, find] of SIDES) {
        const { n, k, isUniform } = score(step, find);
        if (!n) continue;
        picked = picked || !isUniform;
        const [low, high] = exactInterval(k, n);
        table.append(el("tr", {}, el("th", { scope: "row" }, step.id), el("td", {}, name), el("td", { class: "n" }, `${count(k)} of ${count(n)}`),
          el("td", { class: "n" }, percent(k / n)), el("td", { class: "n" }, isUniform ? `${percent(low)} to ${percent(high)}` : "picked")));
      }
    }
    replace(refs.accuracy, el("p", { class: "note" }, `${plural(corrections.size, "text")} corrected.`));
    if (!table.children.length) return;
    refs.accuracy.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Accuracy by your answers" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Step", "Who", "Right", "Share", "95% interval"].map((one, i) => el("th", { scope: "col", class: i > 1 ? "n" : null }, one)))), table)));
    if (picked) refs.accuracy.append(el("p", { class: "note" }, "Texts that were picked, not drawn uniformly, say nothing about the others: they have no interval."));
  }

  // --- tabs

  const TABS = {
    rows: ["Rows", rowsPanel], differences: ["Disagreements", comparisonsPanel],
    ...(data.unplaced.length ? { unplaced: ["Unplaced quotes", unplacedPanel] } : {}),
    correct: ["Correct", correctPanel],
  };

  function openTab(name) {
    view.tab = name;
    for (const key of Object.keys(TABS)) {
      refs.tabs[key].setAttribute("aria-selected", String(key === name));
      refs.tabs[key].tabIndex = key === name ? 0 : -1;
      refs.panels[key].hidden = key !== name;
    }
    if (name === "rows") renderRows();
    if (name === "differences") refs.drawComparisons();
    if (name === "correct") { renderAccuracy(); if (!work.source) renderDecision(); }
  }

  function build() {
    refs.tabs = {};
    refs.panels = {};
    const bar = el("div", { role: "tablist", class: "tabs", "aria-label": "Workbench" });
    const panels = [];
    for (const [key, [label, fill]] of Object.entries(TABS)) {
      const n = { rows: rows.length, differences: disagreements.length, unplaced: data.unplaced.length }[key];
      refs.tabs[key] = el("button", {
        type: "button", role: "tab", id: `tab-${key}`, "aria-controls": `panel-${key}`, onclick: () => openTab(key),
      }, label, n !== undefined && ` (${count(n)})`);
      refs.panels[key] = el("div", { role: "tabpanel", id: `panel-${key}`, "aria-labelledby": `tab-${key}`, hidden: true });
      refs.panels[key].append(...fill().filter(Boolean));
      bar.append(refs.tabs[key]);
      panels.push(refs.panels[key]);
    }
    bar.addEventListener("keydown", (event) => {
      const keys = Object.keys(TABS), by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const name = keys[(keys.indexOf(view.tab) + by + keys.length) % keys.length];
      openTab(name);
      refs.tabs[name].focus();
      event.stopPropagation();
    });
    refs.status = el("p", { class: "note", role: "status" });
    replace(app, bar, refs.status, ...panels);
  }

  function openLink() {
    if (!location.hash.startsWith("#row=")) return;
    const name = decodeURIComponent(location.hash.slice(5)), row = rows.find((one) => one.name === name);
    openTab("rows");
    if (!row) {
      say(`row ${name} is not among the rows that this file holds; it is in ${document.getElementById("app").dataset.output}`);
      return;
    }
    Object.assign(view, { query: "", filters: [], target: row });
    refs.search.value = "";
    view.page = Math.floor(filtered().indexOf(row) / PAGE);
    renderRows();
    const card = refs.list.querySelector(".target");
    card.scrollIntoView({ block: "center" });
    card.focus({ preventScroll: true });
  }

  // Counts of the page become buttons that filter the rows.
  function linkCounts() {
    for (const node of document.querySelectorAll("[data-filter]")) {
      const { filter, value } = node.dataset;
      const target = node.querySelector("th") || node;
      const name = target.textContent;
      const shown = `${filter.split(":").slice(1).join(":")}: ${name}`;
      target.replaceChildren(el("button", {
        type: "button", class: "link", title: "show such rows",
        onclick: () => { filterBy(filter, value, shown); app.scrollIntoView(); },
      }, el("bdi", {}, name)));
    }
    for (const node of document.querySelectorAll("[data-bin]")) {
      node.addEventListener("click", () => {
        filterBy(`bin:${node.dataset.step}`, node.dataset.bin, `${node.dataset.step} score ${node.dataset.bin}`);
        app.scrollIntoView();
      });
    }
  }

  for (const one of data.corrections || []) {
    const answers = { ...(one.labels || {}) };
    for (const [step, found] of Object.entries(one.spans || {})) if (found) answers[step] = found;
    corrections.set(one.text, { text: one.text, answers, isUniform: Boolean(one.uniform) });
  }
  makeFacets();
  build();
  linkCounts();
  app.hidden = false;
  document.getElementById("printed").hidden = true;
  openTab(data.served && heldOut.length ? "correct" : "rows");
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", openLink);
  addEventListener("beforeunload", (event) => { if (unsaved && corrections.size) event.preventDefault(); });
  openLink();
})();
