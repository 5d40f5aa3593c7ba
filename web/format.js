// SPDX-License-Identifier: Apache-2.0
// Numbers and times as text, in the same words as the other views.

const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "us"]];

/** "950 ns", "12.3 us", "4.56 ms", "1.20 s" */
export function duration(ns) {
	for (const [size, name] of UNITS) {
		if (ns >= size) {
			const value = ns / size;
			return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${name}`;
		}
	}
	return `${Math.round(ns)} ns`;
}

/** The same without digits that say nothing: "1 ms", "2.5 s", for axes. */
export function shortDuration(ns) {
	for (const [size, name] of UNITS) {
		if (ns >= size)
			return `${Number((ns / size).toPrecision(4))} ${name}`;
	}
	return `${Math.round(ns)} ns`;
}

/** A mark on an axis of time whose marks are `step` apart: "0", "2.5 s", "5.0012 s" */
export function axisTime(ns, step) {
	if (ns < 1 || step >= 1e9)
		return ns < 1 ? "0" : `${Math.round(ns / 1e9)} s`;
	return `${(ns / 1e9).toFixed(Math.ceil(9 - Math.log10(step)))} s`;
}

/** Seconds since the first record: "3.214567" */
export function moment(ns) {
	return (ns / 1e9).toFixed(6);
}

/** "1,234,567" */
export function count(value) {
	return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** "850", "12.3 k", "1.20 M" */
export function short(value) {
	for (const [size, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
		if (value >= size)
			return `${(value / size).toPrecision(3)} ${name}`;
	}
	return value < 10 && value % 1 ? value.toFixed(1) : String(Math.round(value));
}

/** The host's time of day, by the reader's clock settings: "14:03:07.123" */
export function timeOfDay(originMs, ns) {
	const date = new Date(originMs + ns / 1e6);
	const two = (number, digits = 2) => String(number).padStart(digits, "0");
	return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}` +
		`.${two(date.getMilliseconds(), 3)}`;
}

/** An element with a class and a text: all that comes from outside is text, never markup. */
export function element(name, className, text) {
	const made = document.createElement(name);
	if (className)
		made.className = className;
	if (text !== undefined)
		made.textContent = text;
	return made;
}
