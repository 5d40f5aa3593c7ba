// SPDX-License-Identifier: Apache-2.0
// Requests as lines, the newest first; more come as one scrolls down. Filtered by the server.

import * as data from "/data.js";
import { duration, element, moment } from "/format.js";

const PAGE = 100;
const LINES_MAX = 3000;
const TRIES = 400;	// answers without an end of the search, while a filter is new

export class Table {
	#asked = 0;		// what is asked for now: older answers are dropped
	#cursor = undefined;
	#done = true;
	#loading = false;

	/** `choose`: called with a line's id and row when it is chosen. */
	constructor(scroller, body, note, choose) {
		this.scroller = scroller;
		this.body = body;
		this.noteLine = note;
		this.choose = choose;
		this.selected = null;
		this.query = { from: 0, to: 1, filter: "" };
		scroller.addEventListener("scroll", () => this.#moreWhenNeeded());
		scroller.addEventListener("keydown", (event) => this.#key(event));
		body.addEventListener("click", (event) => this.#click(event));
	}

	/** Shows the requests that began in [from, to). */
	async load(query) {
		this.query = query;
		const asked = ++this.#asked;
		this.#loading = true;
		try {
			const found = await this.#fetch(asked, undefined, true);
			if (!found)
				return;
			this.body.replaceChildren(...found.map((row) => this.#line(row)));
			this.scroller.scrollTop = 0;
			this.#say();
		} finally {
			if (asked === this.#asked)
				this.#loading = false;
		}
		this.#moreWhenNeeded();
	}

	/** A page of lines from the cursor on; null when something else was asked for meanwhile. */
	async #fetch(asked, cursor, patient) {
		const found = [];
		for (let tries = 0; tries < TRIES && found.length < PAGE; tries++) {
			const { from, to, filter } = this.query;
			const answer = await data.rows({
				from: Math.max(0, Math.floor(from)), to: Math.ceil(to), filter, cursor, older: 1,
				limit: PAGE - found.length,
			});
			if (asked !== this.#asked)
				return null;
			found.push(...answer.rows);
			cursor = answer.cursor;
			this.#cursor = cursor;
			this.#done = answer.done;
			if (answer.done || (!patient && found.length))
				break;
		}
		return found;
	}

	async #moreWhenNeeded() {
		const { scrollTop, scrollHeight, clientHeight } = this.scroller;
		if (this.#loading || this.#done || this.body.children.length >= LINES_MAX ||
		    scrollTop + 2 * clientHeight < scrollHeight)
			return;
		const asked = this.#asked;
		this.#loading = true;
		try {
			const found = await this.#fetch(asked, this.#cursor, false);
			if (found) {
				this.body.append(...found.map((row) => this.#line(row)));
				this.#say();
			}
		} finally {
			if (asked === this.#asked)
				this.#loading = false;
		}
	}

	#say() {
		const lines = this.body.children.length;
		let text = "";
		if (!lines)
			text = "No request here matches.";
		else if (lines >= LINES_MAX)
			text = "There is more: choose a shorter stretch of time, or filter.";
		this.noteLine.textContent = text;
	}

	#line(row) {
		const [id, begin, ring, device, request, address, value, latency, status, code, where] = row;
		const line = element("tr", status === "ok" ? "" : "failed");
		line.dataset.id = id;
		line.append(
			element("td", "number", moment(begin)), element("td", "", ring), element("td", "name", device),
			element("td", "quiet", request), element("td", "", address),
			element("td", "number", value), element("td", "number", duration(latency)),
			element("td", status === "ok" ? "quiet" : "bad", status), element("td", "code", code),
			element("td", "code quiet", where));
		if (id === this.selected)
			line.setAttribute("aria-selected", "true");
		return line;
	}

	#click(event) {
		const line = event.target.closest("tr");
		if (line)
			this.select(Number(line.dataset.id));
	}

	select(id) {
		this.selected = id;
		for (const line of this.body.children) {
			if (Number(line.dataset.id) === id)
				line.setAttribute("aria-selected", "true");
			else
				line.removeAttribute("aria-selected");
		}
		this.choose(id);
	}

	#key(event) {
		const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
		if (!step)
			return;
		event.preventDefault();
		event.stopPropagation();
		const lines = [...this.body.children];
		if (!lines.length)
			return;
		const at = lines.findIndex((line) => line.hasAttribute("aria-selected"));
		const next = lines[Math.min(Math.max(at + step, 0), lines.length - 1)];
		next.scrollIntoView({ block: "nearest" });
		this.select(Number(next.dataset.id));
	}
}
