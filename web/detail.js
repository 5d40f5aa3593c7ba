// SPDX-License-Identifier: Apache-2.0
// All about one request.

import { duration, element, moment } from "/format.js";

const LINES = 7;	// of code

const VERDICTS = {
	"on": "the request came from it",
	"before": "the request came from it: the only one before RIP that fits",
	"paired": "the request came from it: the second half of its access",
	"stepped": "the request came from it: single-stepped",
	"ambiguous": "several instructions fit: this is where RIP stood",
	"unknown": "no instruction here fits: this is where RIP stood",
	"not-judged": "not judged: this is where RIP stood",
};

export class Detail {
	constructor(place) {
		this.place = place;
		this.note("Click a line of the table, or a request in the picture when it is zoomed in.");
	}

	note(text) {
		this.place.replaceChildren(element("p", "quiet", text));
	}

	show(record) {
		const parts = [this.#facts(record)];
		if (record.code?.length)
			parts.push(this.#code(record));
		if (record.registers?.length)
			parts.push(element("h3", "", "Registers at the exit"), this.#registers(record.registers));
		if (record.frame)
			parts.push(element("h3", "", "First bytes of the frame"), this.#bytes(record.frame));
		parts.push(this.#copyButton(record.json));
		this.place.replaceChildren(...parts);
	}

	/** The object that --json would have printed. */
	#copyButton(json) {
		const button = element("button", "copy", "Copy as JSON");
		button.type = "button";
		button.addEventListener("click", async () => {
			try {
				await navigator.clipboard.writeText(JSON.stringify(json));
				button.textContent = "Copied";
			} catch {
				button.textContent = "The browser does not allow it";
			}
		});
		return button;
	}

	#facts(record) {
		const [, begin, ring, device, request, address, data, latency, status] = record.row;
		const list = element("dl", "facts");
		const facts = [
			["device", device], ["request", request], ["at", address], ["data", data],
			["latency", duration(latency)], ["answer", status], ["by", ring],
			["time", `${moment(begin)} s`], ["UTC", record.time],
		];
		for (const [name, value] of facts)
			list.append(element("dt", "", name), element("dd", status !== "ok" && name === "answer" ? "bad" : "", value));
		return list;
	}

	#code(record) {
		const box = element("div", "listing");
		if (record.symbol)
			box.append(element("p", "symbol", record.symbol));
		const table = element("table");
		for (const [address, bytes, text, what] of record.code.slice(0, LINES)) {
			const row = element("tr", what);
			row.append(element("td", "", address.slice(2)), element("td", "bytes", bytes),
				element("td", "", what === "before" ? "(before it)" : text || "(cut off)"));
			table.append(row);
		}
		box.append(table, element("p", "quiet", VERDICTS[record.verdict] ?? record.verdict));
		return box;
	}

	#registers(registers) {
		const grid = element("dl", "registers");
		for (const [name, value] of registers) {
			const pair = element("div");
			pair.append(element("dt", "", name), element("dd", "", value.slice(2)));
			grid.append(pair);
		}
		return grid;
	}

	#bytes(frame) {
		const bytes = frame.split(" ");
		const lines = [];
		for (let at = 0; at < bytes.length; at += 16)
			lines.push(`${at.toString(16).padStart(4, "0")}  ${bytes.slice(at, at + 16).join(" ")}`);
		return element("pre", "", lines.join("\n"));
	}
}
