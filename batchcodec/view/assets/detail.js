// One item at its full size: zoom, facts, and the original beside it with their difference.

import { count, json, printable, size } from "./server.js";

const byId = (id) => document.getElementById(id);

export class Detail {
  /** `grid` gives the items; with `against` there are originals. */
  constructor(grid) {
    this.gain = document.createElement("select");
    this.gain.setAttribute("aria-label", "Amplification of the difference");
    this.gain.append(...[1, 2, 4, 8, 16, 32, 64, 256].map((n) => new Option(`\u00d7 ${n}`, n, n === 8, n === 8)));
    this.gain.addEventListener("change", () => this.differ());
    Object.assign(this, { grid, dialog: byId("detail"), position: 0, item: null, info: null, zoom: 0, against: false, turn: 0 });
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("next").addEventListener("click", () => this.step(1));
    byId("close").addEventListener("click", () => this.dialog.close());
    byId("smaller").addEventListener("click", () => this.scale(0.5));
    byId("larger").addEventListener("click", () => this.scale(2));
    byId("zoom").addEventListener("click", () => this.fit());
    this.dialog.addEventListener("keydown", (event) => this.pressed(event));
    this.dialog.addEventListener("close", () => {
      this.turn += 1;
      byId("pictures").replaceChildren();
      grid.root.focus();
    });
    new ResizeObserver(() => this.zoomed()).observe(byId("pictures"));
  }

  async open(position) {
    const turn = (this.turn += 1);
    this.position = position;
    if (!this.dialog.open) this.dialog.showModal();
    this.zoom = 0;
    byId("previous").disabled = position <= 0;
    byId("next").disabled = position >= this.grid.total - 1;
    this.info = null;
    byId("pictures").replaceChildren();
    byId("fields").replaceChildren();
    byId("quality").hidden = true;
    try {
      this.item = await this.grid.item(position);
      if (turn !== this.turn) return;
      byId("detail-name").textContent = printable(this.item.name);
      const kinds = this.against ? ["decoded", "original", "difference"] : ["decoded"];
      this.figures = Object.fromEntries(kinds.map((kind) => [kind, this.figure(kind)]));
      byId("pictures").append(...kinds.map((kind) => this.figures[kind].element));
      const info = await json("item", { index: this.item.index });
      if (turn !== this.turn) return;
      this.info = info;
      this.tell();
      this.zoomed();
      if (this.against) {
        const quality = await json("quality", { index: this.item.index }).catch(() => null); // the pictures tell why
        if (turn === this.turn && quality) this.judge(quality);
      }
    } catch (error) {
      if (turn === this.turn) this.judge({ reason: error.message });
    }
  }

  step(by) {
    const position = this.position + by;
    if (position < 0 || position >= this.grid.total) return;
    this.grid.select(position);
    this.open(position);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.localName === "select") return;
    const actions = {
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
      "+": () => this.scale(2), "=": () => this.scale(2), "-": () => this.scale(0.5), 0: () => this.fit(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  // ---- pictures

  figure(kind) {
    const element = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const stage = document.createElement("div");
    caption.textContent = kind;
    stage.className = "stage";
    stage.tabIndex = -1;
    if (kind === "difference") caption.append(this.gain);
    element.append(caption, stage);
    const image = new Image();
    image.alt = kind;
    image.draggable = false;
    image.onload = () => this.zoomed();
    image.onerror = () => this.excuse(kind, stage);
    image.src = this.address(kind);
    stage.append(image);
    stage.addEventListener("scroll", () => this.follow(stage));
    return { element, stage, image };
  }

  address(kind) {
    const gain = kind === "difference" ? { gain: this.gain.value } : {};
    return `picture?${new URLSearchParams({ index: this.item.index, kind, ...gain })}`;
  }

  /** Say why there is no picture. */
  async excuse(kind, stage) {
    let told = kind === "difference" ? "there is none to show" : "it cannot be shown";
    try {
      if (kind !== "difference") await json("picture", { index: this.item.index, kind });
    } catch (error) {
      told = error.message;
    }
    const text = document.createElement("p");
    text.textContent = printable(told);
    stage.replaceChildren(text);
  }

  differ() {
    if (this.figures?.difference) this.figures.difference.image.src = this.address("difference");
  }

  /** The other pictures show the same part. */
  follow(stage) {
    for (const { stage: other } of Object.values(this.figures)) {
      if (other !== stage) other.scrollTo(stage.scrollLeft, stage.scrollTop);
    }
  }

  fitting() {
    const { stage } = this.figures.decoded;
    const scale = Math.min((stage.clientWidth - 16) / this.info.width, (stage.clientHeight - 16) / this.info.height);
    return scale >= 1 ? Math.floor(scale) : Math.max(scale, 0.001);
  }

  scale(factor) {
    if (!this.info) return;
    const now = this.zoom || this.fitting();
    this.zoom = Math.max(1 / 16, Math.min(64, 2 ** Math.round(Math.log2(now * factor))));
    this.zoomed();
  }

  fit() {
    this.zoom = 0;
    this.zoomed();
  }

  zoomed() {
    if (!this.info || !this.dialog.open) return;
    const zoom = this.zoom || this.fitting();
    for (const { image } of Object.values(this.figures)) {
      image.style.width = `${this.info.width * zoom}px`;
      image.style.height = `${this.info.height * zoom}px`;
      image.classList.toggle("pixels", zoom >= 1);
    }
    byId("zoom").textContent = this.zoom ? `${count(Math.round(zoom * 10000) / 100)} %` : "fit";
  }

  // ---- facts

  tell() {
    const { info } = this;
    const window = info.window && `${count(info.window[0])} is shown as black, ${count(info.window[1])} as white`;
    const rows = [
      ["number", `#${count(info.index)}`],
      ["name", info.name],
      ["label", info.label],
      ["image", info.image],
      ["range", window],
      ["shown", info.reduced ? "smaller than it is" : null],
      ["bytes", `${info.n_bytes.toLocaleString("en", { maximumFractionDigits: 1 })} (share of the group); pixels ${size(info.raw_bytes)}`],
      ["group", `${count(info.group)}: ${count(info.group_items)} images, ${size(info.group_bytes)}`],
      ["codec", info.codec],
      ["exact", info.exact ? "yes" : "no: another machine may round in another way"],
      ...info.notes.map((note) => ["note", note]),
      ...info.attributes.map(([key, text, length]) => [
        key, text.length < length ? `${text}... (${count(length)} characters)` : text,
      ]),
    ];
    const fields = rows.filter(([, text]) => text !== null && text !== undefined).flatMap(([key, text]) => {
      const [term, description] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = printable(key);
      description.textContent = printable(text);
      return [term, description];
    });
    byId("fields").replaceChildren(...fields);
  }

  judge({ quality, reason }) {
    const text = byId("quality");
    text.hidden = false;
    if (!quality) text.textContent = printable(reason);
    else if (quality.equal) text.textContent = "Equal to the original";
    else text.textContent = `PSNR ${quality.psnr.toFixed(2)} dB, largest error ${count(quality.max_error)} steps`;
  }
}
