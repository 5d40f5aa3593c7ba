// SPDX-License-Identifier: Apache-2.0
// What the server tells. The form of each answer is described in src/view/web/answer.h.

const KEY = "utsusu-key";

/** The key comes once, behind the address's #, and stays in this window. */
export function takeKey() {
	const given = location.hash.slice(1);
	if (/^[0-9a-f]{32}$/.test(given)) {
		sessionStorage.setItem(KEY, given);
		history.replaceState(null, "", "/");
	}
}

/** What the server refused: a message, and for a filter the column. */
export class Refusal extends Error {
	constructor(status, message, column) {
		super(message);
		this.status = status;
		this.column = column;
	}
}

async function ask(path, args) {
	const query = new URLSearchParams();
	for (const [name, value] of Object.entries(args ?? {})) {
		if (value !== undefined)
			query.set(name, String(value));
	}
	const response = await fetch(`/data/${path}?${query}`, {
		headers: { "X-Utsusu-Key": sessionStorage.getItem(KEY) ?? "" },
	});
	if (response.ok)
		return response;
	const text = await response.text();
	let told = { error: text.trim(), column: 0 };
	if (response.headers.get("Content-Type") === "application/json")
		told = JSON.parse(text);
	throw new Refusal(response.status, told.error, told.column);
}

export async function about() {
	return (await ask("about")).json();
}

/** Comes when there is something new since `seen`, or after some seconds. */
export async function state(seen) {
	return (await ask("state", { seen })).json();
}

export async function rows(args) {
	return (await ask("rows", args)).json();
}

export async function record(id) {
	return (await ask("record", { id })).json();
}

/** A picture's numbers, each lane with `columns` and `means`, and `heat` by bin from `low` on. */
export async function view(args) {
	const bytes = await (await ask("view", args)).arrayBuffer();
	const size = new DataView(bytes).getUint32(0, true);
	const tile = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, size)));
	let at = 4 + size;
	const lanes = [...tile.rings, ...tile.devices];
	for (const lane of lanes) {
		lane.columns = new Uint32Array(bytes, at, tile.columns);
		at += 4 * tile.columns;
	}
	tile.heat = [];
	for (let bin = tile.low; bin <= tile.high; bin++) {
		tile.heat.push(new Uint32Array(bytes, at, tile.columns));
		at += 4 * tile.columns;
	}
	for (const lane of lanes) {
		lane.means = new Uint8Array(bytes, at, tile.columns);
		at += tile.columns;
	}
	return tile;
}

/** The least latency of a bin in ns, and the place of a latency among the bins: four for each power of two. */
export function binNs(bin) {
	return 2 ** Math.floor(bin / 4) * (1 + (bin % 4) / 4);
}

export function binOf(ns) {
	const power = Math.floor(Math.log2(Math.max(ns, 1)));
	return 4 * power + 4 * (ns / 2 ** power - 1);
}
