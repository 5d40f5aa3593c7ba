// SPDX-License-Identifier: Apache-2.0
// The stretch of time that the page shows, in ns since the first record.

const SPAN_MIN = 1000;
const SPAN_LIVE = 10e9;

export class TimeWindow {
	#listeners = [];

	constructor() {
		this.range = { from: 0, to: 0 };	// what is kept
		this.from = 0;
		this.to = SPAN_LIVE;
		this.mode = "all";			// "all", "follow" the newest, "fixed"
		this.paused = false;
	}

	get span() {
		return this.to - this.from;
	}

	onChange(listener) {
		this.#listeners.push(listener);
	}

	#changed() {
		for (const listener of this.#listeners)
			listener();
	}

	/** There is more now. True when that moved the window. */
	extend(from, to) {
		const span = this.span;
		this.range = { from, to: Math.max(to, from + SPAN_MIN) };
		if (this.mode === "fixed")
			return false;
		if (this.mode === "all") {
			this.from = from;
			this.to = this.range.to;
		} else {
			this.#showNewest(span);
		}
		this.#changed();
		return true;
	}

	/** The newest on the right; what is younger than `span` grows from the left. */
	#showNewest(span) {
		this.from = Math.max(this.range.from, this.range.to - span);
		this.to = this.from + span;
	}

	/** Shows [from, to), as far as there is something. */
	set(from, to) {
		const whole = this.range.to - this.range.from;
		const span = Math.min(Math.max(to - from, SPAN_MIN), whole);
		const middle = (from + to) / 2;
		this.from = Math.min(Math.max(middle - span / 2, this.range.from), this.range.to - span);
		this.to = this.from + span;
		this.mode = span >= whole && !this.paused ? "all" : "fixed";
		this.#changed();
	}

	/** `at`: what stays where it is. */
	zoom(factor, at = (this.from + this.to) / 2) {
		const span = Math.max(this.span * factor, SPAN_MIN);
		const part = (at - this.from) / this.span;
		this.set(at - part * span, at + (1 - part) * span);
	}

	pan(ns) {
		const to = Math.min(this.to + ns, this.range.to);
		const from = Math.max(to - this.span, this.range.from);
		this.set(from, from + this.span);
	}

	showAll() {
		this.set(this.range.from, this.range.to);
	}

	pause() {
		this.paused = true;
		this.mode = "fixed";
		this.#changed();
	}

	/** Follows the newest again. */
	follow(span = this.span) {
		this.paused = false;
		this.mode = "follow";
		this.#showNewest(span);
		this.#changed();
	}

	/** Columns of whole numbers of ns, the same ones while the window moves: pictures do not flicker. */
	columns(wanted) {
		const width = Math.max(1, Math.ceil(this.span / wanted));
		const from = Math.max(0, Math.floor(this.from / width) * width);
		const n = Math.max(1, Math.ceil((this.to - from) / width) + 1);
		return { from, to: from + n * width, columns: n };
	}
}
