// What the page asks of the server, and how text from strangers is made fit to be shown.

async function ask(path, parameters, signal) {
  const response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal });
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error ?? `the server answered ${response.status}`);
  }
  return response;
}

export async function json(path, parameters = {}, signal) {
  return (await ask(path, parameters, signal)).json();
}

/** Small pictures of items: for each {url, error}. The urls are those of blobs, to be revoked by the caller. */
export async function thumbnails(items, side, signal) {
  const buffer = await (await ask("thumbnails", { items: items.join(","), side }, signal)).arrayBuffer();
  let offset = 4 + new DataView(buffer).getUint32(0, true);
  const heads = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, offset - 4)));
  return heads.map(({ bytes, error }) => {
    offset += bytes;
    const png = new Blob([buffer.slice(offset - bytes, offset)], { type: "image/png" });
    return { url: error ? "" : URL.createObjectURL(png), error };
  });
}

/** Control characters, direction marks and the like, written as escapes. */
export function printable(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

export function count(number) {
  return number.toLocaleString("en");
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes.toLocaleString("en", { maximumSignificantDigits: unit || bytes < 100 ? 3 : 12 })} ${units[unit]}`;
}
