// Brings the parts of the page together: what is looked for, the grid, the detail view, the keys that work everywhere.

import { Detail } from "./detail.js";
import { Grid } from "./grid.js";
import { count, json, printable, size } from "./server.js";

const byId = (id) => document.getElementById(id);
const [search, label] = [byId("name"), byId("label")];
const PAUSE = 150; // ms that typing rests before a search

let latest = new AbortController();
let shown = null; // the query of what is shown, as JSON

const failed = (error) => {
  const gone = error instanceof TypeError; // that is what fetch throws when nobody answers
  byId("trouble").textContent = gone ? "No answer. Is `batchcodec view` still running?" : printable(error.message);
  byId("trouble").hidden = false;
};

const grid = new Grid(byId("grid"), {
  open: (position) => detail.open(position),
  moved: ({ first, last, total }) => {
    const [from, to] = shown === "{}" ? [`#${count(first)}`, `#${count(last)}`] : [count(first + 1), count(last + 1)];
    byId("range").textContent = total ? `${from} to ${to} of ${count(total)}` : "none";
  },
  failed,
  asked: () => {
    byId("trouble").hidden = true;
  },
});
const detail = new Detail(grid);
const nothing = document.createElement("p");
nothing.className = "nothing";

function query() {
  const text = search.value.trim();
  const chosen = label.selectedOptions[0];
  return {
    ...(text && !/^#\d*$/.test(text) && { name: text }),
    ...(chosen?.dataset.label !== undefined && { label: chosen.dataset.label }),
    ...(chosen?.dataset.unlabelled && { unlabelled: 1 }),
  };
}

/** Look for what is in the fields, and show it. */
async function look() {
  const wanted = query();
  if (JSON.stringify(wanted) === shown) return;
  latest.abort();
  const { signal } = (latest = new AbortController());
  try {
    const { total } = await json("items", { ...wanted, count: 0 }, signal);
    if (signal.aborted) return;
    shown = JSON.stringify(wanted);
    byId("trouble").hidden = true;
    grid.show(wanted, total);
    nothing.remove();
    if (total) return;
    const pattern = /[*?]/.test(wanted.name ?? "") ? " A pattern stands for the whole name, with its folders: *cat* finds a part." : "";
    nothing.textContent = `No image is found.${pattern}`;
    grid.window.append(nothing);
  } catch (error) {
    if (!signal.aborted) failed(error);
  }
}

/** Go to an item by its number. */
async function jump(number) {
  search.value = "";
  label.value = "";
  await look();
  grid.select(number);
  grid.root.focus();
}

let typing;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(look, PAUSE);
});
byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(typing);
  const number = search.value.trim().match(/^#(\d+)$/);
  if (number) return jump(Number(number[1]));
  await look();
  grid.root.focus();
  if (grid.total) grid.select(0);
});
label.addEventListener("change", look);
byId("size").addEventListener("change", (event) => grid.resize(Number(event.target.value)));
document.addEventListener("keydown", (event) => {
  if (detail.dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && document.activeElement !== search) {
    event.preventDefault();
    search.select();
    search.focus();
  } else if (document.activeElement === document.body && /^(Arrow|Page|Home|End)/.test(event.key)) {
    grid.root.focus();
    grid.pressed(event);
  } else if (event.key === "Escape" && document.activeElement === search) {
    event.preventDefault();
    if (search.value) {
      search.value = "";
      look();
    } else grid.root.focus();
  }
});

function option(text, data) {
  const made = document.createElement("option");
  made.textContent = text;
  made.value = JSON.stringify(data);
  Object.assign(made.dataset, data);
  return made;
}

async function labels() {
  const found = await json("labels");
  label.append(...found.labels.map(([name, n]) => option(`${printable(name)} (${count(n)})`, { label: name })));
  if (found.n_unlabelled && found.n_labels) label.append(option(`no label (${count(found.n_unlabelled)})`, { unlabelled: "1" }));
  if (found.n_labels > found.labels.length) {
    const more = option(`and ${count(found.n_labels - found.labels.length)} rarer labels`, {});
    more.disabled = true;
    label.append(more);
  }
  label.hidden = !found.n_labels;
}

async function start() {
  const about = await json("archive");
  const name = printable(about.name);
  document.title = `${name} - batchcodec`;
  byId("archive").textContent = name;
  byId("about").textContent = `${count(about.n_items)} images, ${size(about.n_bytes)}`;
  detail.against = about.against !== null;
  await look();
  await labels();
}

start().catch(failed);
