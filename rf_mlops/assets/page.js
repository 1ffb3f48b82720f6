// What a page does without its kernel: send a file and show what comes back, copy a shared link, notice that
// the kernel is gone, and say goodbye when the tab is closed.
"use strict";

const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
const presence = `/page/${config.kernelId}`;

const make = (name, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
};

// ---- a file ------------------------------------------------------------------------------------

const PREVIEW = 10; // rows

const kindOf = (file) => (file.name.toLowerCase().endsWith(".parquet") ? "application/vnd.apache.parquet" : "text/csv");

// The first rows of a CSV text: fields may be quoted, and hold commas, quotes and line breaks.
function parseCsv(text, rows) {
  const out = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length && out.length <= rows + 1; i++) {
    const c = text[i], row = out.at(-1);
    if (quoted) {
      if (c === '"' && text[i + 1] === '"') { row[row.length - 1] += '"'; i++; }
      else if (c === '"') quoted = false;
      else row[row.length - 1] += c;
    } else if (c === '"') quoted = true;
    else if (c === ",") row.push("");
    else if (c === "\n") out.push([""]);
    else if (c !== "\r") row[row.length - 1] += c;
  }
  return out.slice(0, rows + 1).filter((row) => row.length > 1 || row[0] !== "");
}

const OURS = [/^prediction_*$/, /^error_*$/, /^probability_/];
const rank = (name) => { const found = OURS.findIndex((one) => one.test(name)); return found < 0 ? OURS.length : found; };
const isOurs = (name) => rank(name) < OURS.length;
const shorten = (name, text) => (name.startsWith("probability_") && text !== "" ? Number(text).toFixed(3) : text);

// Our columns first: on a phone the others are to be scrolled to.
function preview(table) {
  const order = table[0].map((_, i) => i).sort((a, b) => rank(table[0][a]) - rank(table[0][b]));
  const [header, ...rows] = table.map((row) => order.map((i) => row[i] ?? ""));
  const cell = (tag, text, name) => make(tag, { textContent: text, className: (isOurs(name) ? "rf-ours" : "") + (rank(name) === 1 ? " rf-why" : "") });
  const head = make("thead", {}, make("tr", {}, ...header.map((name) => cell("th", name, name))));
  const line = (row) => make("tr", {}, ...row.map((text, i) => cell("td", shorten(header[i], text), header[i])));
  return make("div", { className: "rf-scroll", tabIndex: 0 }, make("table", {}, head, make("tbody", {}, ...rows.map(line))));
}

function problem(document_) {
  const todo = document_.todo && document_.todo[0].toUpperCase() + document_.todo.slice(1);
  const said = [document_.detail ?? "The file could not be read", todo].filter(Boolean).join(". ");
  const more = [["Expected", document_.expected], ["Got", document_.got]].filter(([, text]) => text);
  return [
    make("p", { className: "rf-wrong", textContent: `${said}.` }),
    ...more.map(([name, text]) => make("p", { className: "rf-hint", textContent: `${name}: ${text}` })),
  ];
}

function send(file, zone) {
  return new Promise((resolve) => {
    const result = zone.querySelector(".rf-result");
    const bar = make("progress", { max: 1, value: 0, ariaLabel: "sending the file" });
    const said = make("p", { textContent: `Sending ${file.name} …` });
    result.replaceChildren(said, bar);
    const request = new XMLHttpRequest();
    const query = `?join=true&on_error=quarantine${zone.dataset.proba ? "&proba=true" : ""}`;
    request.open("POST", zone.dataset.path + query);
    request.setRequestHeader("Content-Type", kindOf(file));
    request.setRequestHeader("Accept", "text/csv");
    request.responseType = "blob";
    request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
    request.upload.onload = () => { said.textContent = `Predicting ${file.name} …`; bar.removeAttribute("value"); };
    request.onloadend = () => resolve(request);
    request.send(file);
  });
}

async function show(request, file, result) {
  if (request.status !== 200) {
    let told = { detail: "The API does not answer", todo: "Try again in a moment" };
    try { told = JSON.parse(await request.response.text()); } catch { /* no document: the message above */ }
    return result.replaceChildren(...problem(told));
  }
  const rows = Number(request.getResponseHeader("X-Rows")), failed = Number(request.getResponseHeader("X-Rows-Failed"));
  const table = parseCsv(await request.response.slice(0, 65536).text(), PREVIEW);
  const said = `${rows.toLocaleString("en")} ${rows === 1 ? "row" : "rows"}, answered by version ${request.getResponseHeader("X-Model-Version")}.`;
  const bad = failed ? ` ${failed.toLocaleString("en")} could not be answered; the column “error” says why.` : "";
  const name = file.name.replace(/\.[^.]*$/, "") + "-predictions.csv";
  const link = make("a", { className: "rf-button", download: name, textContent: `Download ${name}` });
  link.href = URL.createObjectURL(request.response);
  const more = rows > PREVIEW ? [make("p", { className: "rf-hint", textContent: `The first ${PREVIEW} rows.` })] : [];
  const told = make("p", {}, said, make("span", { className: "rf-wrong", textContent: bad }));
  result.replaceChildren(told, ...(rows ? [preview(table)] : []), ...more, make("p", {}, link));
}

async function take(file, zone) {
  const result = zone.querySelector(".rf-result"), limit = Number(zone.dataset.limit);
  result.querySelectorAll("a[href^='blob:']").forEach((a) => URL.revokeObjectURL(a.href));
  if (file.size > limit * 2 ** 20)
    return result.replaceChildren(...problem({ detail: `${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB`, expected: `at most ${limit} MB`, todo: "Send it in parts" }));
  await show(await send(file, zone), file, result);
}

const zoneAt = (event) => (event.target instanceof Element ? event.target.closest(".rf-drop") : null);

document.addEventListener("change", (event) => {
  const zone = zoneAt(event);
  if (!zone || !event.target.files?.length) return;
  take(event.target.files[0], zone);
  event.target.value = ""; // the same file may be chosen again
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // a file dropped beside the zone must not replace the page
    const zone = zoneAt(event);
    document.querySelectorAll(".rf-zone").forEach((z) => z.classList.toggle("rf-over", !!zone && name !== "dragleave" && name !== "drop"));
    if (name !== "drop" || !zone) return;
    const files = [...event.dataTransfer.files];
    if (files.length === 1) take(files[0], zone);
    else zone.querySelector(".rf-result").replaceChildren(...problem({ detail: `These are ${files.length} files`, todo: "Drop one at a time" }));
  });

// ---- a shared link -----------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const link = event.target instanceof Element ? event.target.closest("a.rf-share") : null;
  if (!link || !navigator.clipboard) return;
  event.preventDefault();
  try {
    await navigator.clipboard.writeText(link.href);
    link.textContent = "copied";
  } catch {
    location.href = link.href;
  }
});

// What stands in the form stands in the address, so that loading the page anew brings it back.
new MutationObserver(() => {
  document.title = document.querySelector(".rf-page h1")?.textContent || document.title;
  const link = document.querySelector("a.rf-share");
  if (link && link.getAttribute("href") !== location.search) history.replaceState(null, "", link.getAttribute("href"));
  document.querySelectorAll(".rf-field .noUi-handle:not([aria-label])").forEach((handle) => {
    handle.ariaLabel = handle.closest(".widget-slider").querySelector(".widget-label").textContent;
  });
  document.querySelectorAll(".rf-positive input[type=text]").forEach((input) => { input.inputMode = "decimal"; });
}).observe(document.getElementById("rendered_cells"), { childList: true, subtree: true });

// ---- the kernel --------------------------------------------------------------------------------

let asleep = false;

function sleep(text) {
  if (asleep) return;
  asleep = true;
  clearInterval(looking);
  const again = make("button", { textContent: "Load it again", onclick: () => location.reload() });
  document.body.append(make("div", { className: "rf-asleep", role: "alert" }, text, again));
}

async function lookAfter() {
  try {
    const answer = await fetch(presence, { cache: "no-store" });
    if (answer.status === 410) sleep("This page has gone to sleep.");
    else document.querySelector(".rf-gone")?.remove();
  } catch {
    if (!document.querySelector(".rf-gone"))
      document.body.append(make("div", { className: "rf-asleep rf-gone", role: "alert", textContent: "The page's server does not answer. Trying again …" }));
  }
}

const looking = setInterval(lookAfter, 5000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) lookAfter(); });
window.addEventListener("pageshow", (event) => { if (event.persisted) lookAfter(); });
window.addEventListener("pagehide", () => navigator.sendBeacon(presence));
