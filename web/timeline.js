// SPDX-License-Identifier: Apache-2.0
// Lines of requests by time, one for each vCPU or worker and one for each device; and the overview above them.

import { axisTime, duration, short, shortDuration } from "/format.js";

export const GUTTER = 118;	// on the left: names
const MARGIN = 134;	// on the right: rates
const LANE = 19;
const TITLE = 17;
const AXIS = 20;
const FULL = 0.6;		// of a lane's height: one request
const FAILED = 20;		// one in so many requests failed: worth a colour

/** Slowness in steps that each have a colour: the upper end in ns. */
export const SLOWNESS = [
	[10e3, "up to 10 us"], [100e3, "to 100 us"], [1e6, "to 1 ms"], [10e6, "to 10 ms"],
	[Infinity, "longer"],
];

/** The colours of the style sheet, which follow the reader's choice of light or dark. */
export function palette() {
	const style = getComputedStyle(document.documentElement);
	const colour = (name) => style.getPropertyValue(name).trim();
	return {
		text: colour("--text"), quiet: colour("--quiet"), line: colour("--line"),
		accent: colour("--accent"), surface: colour("--surface"), bad: colour("--bad"),
		slow: SLOWNESS.map((_, index) => colour(`--slow-${index}`)),
		heat: [colour("--heat-low"), colour("--heat-high")],
		font: `12px ${colour("--font")}`,
	};
}

/** A canvas's context with as many pixels as the screen has; clean. */
export function prepare(canvas, height) {
	const ratio = window.devicePixelRatio || 1;
	const width = canvas.clientWidth;
	const w = Math.round(width * ratio);
	const h = Math.round(height * ratio);
	if (canvas.width !== w || canvas.height !== h) {
		canvas.width = w;
		canvas.height = h;
		canvas.style.height = `${height}px`;
	}
	const context = canvas.getContext("2d");
	context.setTransform(ratio, 0, 0, ratio, 0, 0);
	context.clearRect(0, 0, width, height);
	return { context, width, height };
}

/** Places between `from` and `to` where an axis has a mark: 1, 2 or 5 times a power of ten apart. */
export function ticks(from, to, most) {
	const rough = (to - from) / most;
	const power = 10 ** Math.floor(Math.log10(rough));
	const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
	const found = [];
	for (let at = Math.ceil(from / step) * step; at < to; at += step)
		found.push(at);
	return { step, found };
}

export class Timeline {
	constructor(canvas, timeWindow) {
		this.canvas = canvas;
		this.window = timeWindow;
		this.tile = null;
		this.marked = null;	// {from, to}: being brushed
		this.selected = null;	// {begin, duration}
		this.lanes = [];
	}

	get plotWidth() {
		return Math.max(50, this.canvas.clientWidth - GUTTER - MARGIN);
	}

	x(ns) {
		return GUTTER + (ns - this.window.from) / this.window.span * this.plotWidth;
	}

	ns(x) {
		return this.window.from + (x - GUTTER) / this.plotWidth * this.window.span;
	}

	draw() {
		const lanes = this.tile ? this.#layOut() : [];
		const height = AXIS + (lanes.length ? lanes.at(-1).y + LANE : LANE) + 2;
		const { context } = prepare(this.canvas, height);
		const colours = palette();
		context.font = colours.font;
		this.#drawAxis(context, colours, height);
		context.save();
		context.beginPath();
		context.rect(GUTTER, 0, this.plotWidth, height);
		context.clip();
		for (const lane of lanes) {
			if (lane.of)
				this.#drawLane(context, colours, lane);
		}
		this.#drawMarks(context, colours, height);
		context.restore();
		for (const lane of lanes)
			this.#drawTexts(context, colours, lane);
		this.lanes = lanes;
	}

	/** Titles and lanes from top to bottom. */
	#layOut() {
		const lanes = [];
		let y = 0;
		for (const [title, key] of [["by vCPU and worker", "rings"], ["by device", "devices"]]) {
			if (this.tile[key].length) {
				lanes.push({ title, y });
				y += TITLE;
			}
			for (const of of this.tile[key]) {
				lanes.push({ of, y, ring: key === "rings" });
				y += LANE;
			}
		}
		return lanes;
	}

	#drawAxis(context, colours, height) {
		const { from, to } = this.window;
		context.strokeStyle = colours.line;
		context.fillStyle = colours.quiet;
		context.lineWidth = 1;
		context.textAlign = "center";
		const { step, found } = ticks(from, to, this.plotWidth / 90);
		for (const at of found) {
			const x = Math.round(this.x(at)) + 0.5;
			context.beginPath();
			context.moveTo(x, AXIS - 4);
			context.lineTo(x, height);
			context.stroke();
			context.fillText(axisTime(at, step), x, 12);
		}
	}

	#drawLane(context, colours, lane) {
		const base = AXIS + lane.y + LANE - 1;
		context.fillStyle = colours.line;
		context.fillRect(GUTTER, base, this.plotWidth, 1);
		if (this.tile.spans.length)
			this.#drawSpans(context, colours, lane, base);
		else
			this.#drawColumns(context, colours, lane.of, base);
	}

	/** Bars: as high as there are requests, of the lane's most; in the colour of what they take on average. */
	#drawColumns(context, colours, of, base) {
		const { from, to, columns } = this.tile;
		const step = (to - from) / columns;
		const scale = (LANE - 4) / of.columns.reduce((most, count) => Math.max(most, count), 1);
		const first = Math.max(0, Math.floor((this.window.from - from) / step));
		const last = Math.min(columns, Math.ceil((this.window.to - from) / step));
		for (let column = first; column < last; column++) {
			const count = of.columns[column];
			if (!count)
				continue;
			const x = Math.round(this.x(from + column * step));
			const end = Math.round(this.x(from + (column + 1) * step));
			const height = Math.max(2, count * scale);
			context.fillStyle = colours.slow[slownessOf(of.means[column])];
			context.fillRect(x, base - height, Math.max(1, end - x), height);
		}
	}

	#drawSpans(context, colours, lane, base) {
		const height = Math.round((LANE - 4) * FULL);
		for (const [, begin, length, ring, device, bin, failed] of this.tile.spans) {
			if ((lane.ring ? ring : device) !== lane.of.index)
				continue;
			const x = this.x(begin);
			context.fillStyle = failed ? colours.bad : colours.slow[slownessOf(bin)];
			context.fillRect(x, base - height, Math.max(1.5, this.x(begin + length) - x), height);
		}
	}

	#drawMarks(context, colours, height) {
		if (this.marked) {
			context.globalAlpha = 0.18;
			context.fillStyle = colours.accent;
			const x = this.x(this.marked.from);
			context.fillRect(x, 0, this.x(this.marked.to) - x, height);
			context.globalAlpha = 1;
		}
		if (this.selected) {
			context.fillStyle = colours.accent;
			context.fillRect(Math.round(this.x(this.selected.begin)), AXIS - 4, 1, height);
		}
	}

	#drawTexts(context, colours, lane) {
		const y = AXIS + lane.y;
		context.textAlign = "left";
		if (lane.title) {
			context.fillStyle = colours.quiet;
			context.fillText(lane.title, 0, y + 12);
			context.textAlign = "right";
			context.fillText("rate", this.canvas.clientWidth - 68, y + 12);
			context.fillText("99 % in", this.canvas.clientWidth - 2, y + 12);
			return;
		}
		const seconds = (this.tile.to - this.tile.from) / 1e9;
		context.fillStyle = colours.text;
		context.fillText(lane.of.name, 8, y + 14, GUTTER - 14);
		context.fillStyle = lane.of.failed > lane.of.count / FAILED ? colours.bad : colours.quiet;
		context.textAlign = "right";
		const right = this.canvas.clientWidth;
		context.fillText(`${short(lane.of.count / seconds)}/s`, right - 68, y + 14);
		context.fillText(duration(lane.of.p99), right - 2, y + 14);
	}

	/** The lane at a place of the canvas, and the request there when each is drawn by itself. */
	at(x, y) {
		const lane = this.lanes.find((one) => one.of && y >= AXIS + one.y && y < AXIS + one.y + LANE);
		if (!lane || x < GUTTER || x > GUTTER + this.plotWidth)
			return null;
		return { lane, ns: this.ns(x), span: this.#nearest(lane, x) };
	}

	#nearest(lane, x) {
		let best = null;
		let distance = 5;
		for (const span of this.tile.spans) {
			if ((lane.ring ? span[3] : span[4]) !== lane.of.index)
				continue;
			const away = Math.max(this.x(span[1]) - x, x - this.x(span[1] + span[2]), 0);
			if (away < distance)
				[best, distance] = [span, away];
		}
		return best;
	}
}

/** The step of slowness that a latency's bin belongs to. */
function slownessOf(bin) {
	const ns = 2 ** Math.floor(bin / 4) * (1 + (bin % 4) / 4);
	return SLOWNESS.findIndex(([end]) => ns < end);
}

function inside(value, least, most) {
	return Math.min(Math.max(value, least), most);
}

/** All that is kept, with the window marked in it. */
export class Overview {
	/** `timeline`: the picture below, which is as wide. */
	constructor(canvas, timeWindow, timeline) {
		this.canvas = canvas;
		this.window = timeWindow;
		this.timeline = timeline;
		this.tile = null;
	}

	get plotWidth() {
		return this.timeline.plotWidth;
	}

	x(ns) {
		const { from, to } = this.window.range;
		return GUTTER + inside((ns - from) / Math.max(to - from, 1), 0, 1) * this.plotWidth;
	}

	ns(x) {
		const { from, to } = this.window.range;
		const part = inside((x - GUTTER) / this.plotWidth, 0, 1);
		return from + part * (to - from);
	}

	draw() {
		const { context, width, height } = prepare(this.canvas, 30);
		const colours = palette();
		context.font = colours.font;
		context.fillStyle = colours.quiet;
		context.fillText("all that is kept", 0, 19);
		context.textAlign = "right";
		context.fillText(shortDuration(this.window.range.to - this.window.range.from), width - 2, 19);
		context.fillStyle = colours.line;
		context.fillRect(GUTTER, height - 1, this.plotWidth, 1);
		if (this.tile)
			this.#drawColumns(context, colours, height);
		this.#drawWindow(context, colours, height);
	}

	#drawColumns(context, colours, height) {
		const { from, to, columns, total } = this.tile;
		const most = Math.max(1, ...total);
		const step = (to - from) / columns;
		context.fillStyle = colours.slow[0];
		for (let column = 0; column < columns; column++) {
			if (!total[column])
				continue;
			const x = Math.round(this.x(from + column * step));
			const end = Math.round(this.x(from + (column + 1) * step));
			const high = Math.max(1, total[column] / most * (height - 4));
			context.fillRect(x, height - high, Math.max(1, end - x), high);
		}
	}

	#drawWindow(context, colours, height) {
		const x = this.x(this.window.from);
		const width = Math.max(2, this.x(this.window.to) - x);
		context.globalAlpha = 0.14;
		context.fillStyle = colours.accent;
		context.fillRect(x, 0, width, height);
		context.globalAlpha = 1;
		context.strokeStyle = colours.accent;
		context.strokeRect(x + 0.5, 0.5, Math.max(1, width - 1), height - 1);
	}
}
