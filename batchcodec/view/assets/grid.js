// A grid of any number of pictures. Only what is seen is in the document and asked of the server.
//
// Browsers cut heights at some tens of millions of pixels, so the space that is scrolled is at most TALLEST high. In a grid that
// is higher, the scroll bar stands for a part of the whole, and wheel and keys move `top`, the true place, by true pixels. The
// cells are in a window that sticks to the view, placed relative to `top`.

import { count, json, printable, thumbnails } from "./server.js";

const TALLEST = 15_000_000;
const PAGE = 64; // items of a request
const KEPT = 48; // pages that are kept
const GAP = 6;
const BESIDES = { width: 8, height: 8 + 16 }; // of a cell, around its frame: padding and caption
const LETTER = 6.2; // px, about, of a caption
const PAUSE = 60; // ms that scrolling rests before anything is asked for

/** Text without its middle, where it is too long: names differ at their ends. */
function shortened(text, most) {
  const letters = [...text];
  if (letters.length <= most) return text;
  const end = Math.max(1, Math.floor((most - 1) * 0.7));
  return `${letters.slice(0, Math.max(1, Math.floor(most - 1 - end))).join("")}\u2026${letters.slice(-end).join("")}`;
}

export class Grid {
  /** Callbacks: open(position), moved({first, last, total}), failed(message), asked() after an answer. */
  constructor(root, callbacks) {
    Object.assign(this, { root, callbacks, query: {}, total: 0, side: 112, top: 0, expected: 0, selected: -1, columns: 1, row: 1 });
    this.cells = new Map(); // position to element
    this.pages = new Map(); // number to {items, pictures, abort}, the oldest first
    this.space = document.createElement("div");
    this.window = document.createElement("div");
    this.window.className = "window";
    this.window.setAttribute("role", "presentation");
    this.space.append(this.window);
    root.append(this.space);
    root.addEventListener("scroll", () => this.scrolled());
    root.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    root.addEventListener("keydown", (event) => this.pressed(event));
    this.window.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) {
        this.select(Number(cell.dataset.position));
        this.callbacks.open(this.selected);
      }
    });
    new ResizeObserver(() => this.layout()).observe(root);
  }

  /** Show what a query finds: `total` items. */
  show(query, total) {
    this.forget();
    Object.assign(this, { query, total, top: 0, selected: -1 });
    this.layout();
    this.go(0);
  }

  resize(side) {
    this.forget();
    this.side = side;
    this.layout();
  }

  forget() {
    for (const number of [...this.pages.keys()]) this.drop(number);
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
  }

  drop(number) {
    const page = this.pages.get(number);
    this.pages.delete(number);
    page.abort.abort();
    for (const { url } of page.pictures ?? []) if (url) URL.revokeObjectURL(url);
  }

  // ---- places

  layout() {
    const seen = this.columns * Math.floor(this.top / this.row); // stays in view
    const { clientWidth: width, clientHeight: height } = this.root;
    const wanted = this.side + BESIDES.width + GAP;
    this.columns = Math.max(1, Math.floor((width - GAP) / wanted));
    this.column = Math.max(1, (width - GAP) / this.columns);
    this.row = this.side + BESIDES.height + GAP;
    this.view = height;
    this.height = Math.ceil(this.total / this.columns) * this.row + GAP;
    const tall = Math.min(this.height, TALLEST);
    this.ratio = this.height > TALLEST ? (this.height - height) / (tall - height) : 1;
    this.space.style.height = `${tall}px`;
    this.window.style.height = `${height}px`;
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
    this.go(Math.floor(seen / this.columns) * this.row);
  }

  /** Scroll to a place, in pixels from the beginning. */
  go(top) {
    this.top = Math.max(0, Math.min(top, this.height - this.view));
    this.root.scrollTop = this.top / this.ratio;
    this.expected = this.root.scrollTop;
    this.draw();
  }

  scrolled() {
    if (Math.abs(this.root.scrollTop - this.expected) < 1) return; // it was `go`
    this.expected = this.root.scrollTop;
    this.top = this.expected * this.ratio;
    this.draw();
  }

  wheeled(event) {
    if (this.ratio === 1 || event.ctrlKey) return; // the browser's own scrolling is smoother
    event.preventDefault();
    this.go(this.top + event.deltaY * [1, 40, this.view][event.deltaMode]);
  }

  select(position) {
    this.selected = Math.max(0, Math.min(position, this.total - 1));
    const at = Math.floor(this.selected / this.columns) * this.row;
    if (at < this.top) this.go(at);
    else if (at + this.row + GAP > this.top + this.view) this.go(at + this.row + GAP - this.view);
    else this.draw();
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.total) return;
    const rows = Math.max(1, Math.floor(this.view / this.row));
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -rows * this.columns, PageDown: rows * this.columns, Home: -Infinity, End: Infinity,
    };
    if (event.key in steps) {
      const first = this.columns * Math.ceil(this.top / this.row);
      this.select(this.selected < 0 ? (event.key === "End" ? Infinity : first) : this.selected + steps[event.key]);
    } else if (event.key === "Enter" && this.selected >= 0) this.callbacks.open(this.selected);
    else return;
    event.preventDefault();
  }

  // ---- drawing

  draw() {
    const first = Math.max(0, Math.floor((this.top - GAP) / this.row)) * this.columns;
    const last = Math.min(this.total, Math.ceil((this.top + this.view) / this.row) * this.columns);
    for (const [position, cell] of this.cells) {
      if (position < first || position >= last) {
        cell.remove();
        this.cells.delete(position);
      }
    }
    for (let position = first; position < last; position += 1) {
      let cell = this.cells.get(position);
      if (!cell) {
        cell = this.made(position);
        this.cells.set(position, cell);
        this.window.append(cell);
        this.fill(position);
      }
      const x = GAP + (position % this.columns) * this.column;
      const y = GAP + Math.floor(position / this.columns) * this.row - this.top;
      cell.style.transform = `translate(${x}px, ${y}px)`;
      cell.classList.toggle("selected", position === this.selected);
      cell.setAttribute("aria-selected", position === this.selected);
    }
    if (this.cells.has(this.selected)) this.root.setAttribute("aria-activedescendant", `cell-${this.selected}`);
    else this.root.removeAttribute("aria-activedescendant");
    const full = Math.ceil((this.top - GAP) / this.row) * this.columns;
    this.callbacks.moved({ first: Math.max(0, Math.min(full, this.total - 1)), last: last - 1, total: this.total });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(first, last), PAUSE);
  }

  made(position) {
    const cell = document.createElement("div");
    cell.className = "cell";
    cell.id = `cell-${position}`;
    cell.dataset.position = position;
    cell.setAttribute("role", "option");
    cell.setAttribute("aria-posinset", position + 1);
    cell.setAttribute("aria-setsize", this.total);
    cell.style.width = `${this.column - GAP}px`;
    const frame = document.createElement("div");
    frame.className = "frame";
    frame.style.height = `${this.side}px`;
    const caption = document.createElement("div");
    caption.className = "caption";
    cell.append(frame, caption);
    return cell;
  }

  /** Put into a cell what is known of its item by now. */
  fill(position) {
    const cell = this.cells.get(position);
    const page = this.pages.get(Math.floor(position / PAGE));
    const item = page?.items?.[position % PAGE];
    if (!cell || !item) return;
    const [frame, caption] = cell.children;
    const name = printable(item.name);
    caption.textContent = shortened(name.slice(name.lastIndexOf("/") + 1) || name, (this.column - GAP - BESIDES.width) / LETTER);
    cell.title = `#${count(item.index)}  ${name}${item.label === null ? "" : `\n${printable(item.label)}`}`;
    cell.setAttribute("aria-label", `${name}, number ${item.index}`);
    const picture = page.pictures?.[position % PAGE];
    if (!picture || frame.firstChild) return;
    if (picture.error) {
      frame.classList.add("damaged");
      frame.textContent = "damaged";
      cell.title += `\n${printable(picture.error)}`;
      return;
    }
    const image = new Image();
    image.alt = "";
    image.draggable = false;
    image.onload = () => {
      const scale = Math.min(frame.clientWidth / image.naturalWidth, frame.clientHeight / image.naturalHeight);
      image.style.width = `${image.naturalWidth * scale}px`;
      image.classList.toggle("pixels", scale > 1);
    };
    image.src = picture.url;
    frame.append(image);
  }

  // ---- asking

  ask(first, last) {
    const wanted = new Set();
    for (let n = Math.floor(first / PAGE); n * PAGE < last; n += 1) wanted.add(n);
    for (const [number, page] of this.pages) {
      if (!wanted.has(number) && (!page.pictures || this.pages.size > KEPT)) this.drop(number);
    }
    for (const number of wanted) {
      const known = this.pages.get(number);
      if (known) {
        this.pages.delete(number); // now it is the newest
        this.pages.set(number, known);
      } else this.load(number);
    }
  }

  async load(number) {
    const page = { abort: new AbortController() };
    const { signal } = page.abort;
    this.pages.set(number, page);
    const refill = () => {
      for (let i = 0; i < PAGE; i += 1) this.fill(number * PAGE + i);
    };
    try {
      const found = await json("items", { ...this.query, from: number * PAGE, count: PAGE }, signal);
      page.items = found.items;
      refill();
      const widest = Math.max(this.side, this.column - GAP - BESIDES.width); // of a frame
      const side = Math.min(1024, 32 * Math.ceil((widest * Math.min(2, devicePixelRatio)) / 32));
      const pictures = await thumbnails(page.items.map((item) => item.index), side, signal);
      if (signal.aborted) {
        for (const { url } of pictures) if (url) URL.revokeObjectURL(url);
        return;
      }
      page.pictures = pictures;
      refill();
      this.callbacks.asked();
    } catch (error) {
      if (signal.aborted) return;
      this.pages.delete(number); // asked for again when it is scrolled to
      this.callbacks.failed(error);
    }
  }

  /** The item at a position of the result, asked for if it must be. */
  async item(position) {
    const known = this.pages.get(Math.floor(position / PAGE))?.items?.[position % PAGE];
    return known ?? (await json("items", { ...this.query, from: position, count: 1 })).items[0];
  }
}
