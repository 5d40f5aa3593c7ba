// SPDX-License-Identifier: Apache-2.0
// How long requests took, by time: the darker, the more.

import { binNs, binOf } from "/data.js";
import { shortDuration } from "/format.js";
import { GUTTER, palette, prepare } from "/timeline.js";

const HEIGHT = 132;
const PAD = 6;
const LEAST = binOf(1e3);	// the picture's least and most latency, whatever was measured
const MOST = binOf(1e6);

export class HeatMap {
	/** `timeline`: the picture above, whose times stand over the same ones here. */
	constructor(canvas, timeWindow, timeline) {
		this.canvas = canvas;
		this.window = timeWindow;
		this.timeline = timeline;
		this.tile = null;
		this.marked = null;	// {from, to, low, high}: ns, bins
		this.low = LEAST;
		this.high = MOST;
	}

	get plotWidth() {
		return this.timeline.plotWidth;
	}

	x(ns) {
		return GUTTER + (ns - this.window.from) / this.window.span * this.plotWidth;
	}

	ns(x) {
		return this.window.from + (x - GUTTER) / this.plotWidth * this.window.span;
	}

	y(bin) {
		return HEIGHT - PAD - (bin - this.low) / (this.high - this.low) * (HEIGHT - 2 * PAD);
	}

	bin(y) {
		return this.low + (HEIGHT - PAD - y) / (HEIGHT - 2 * PAD) * (this.high - this.low);
	}

	draw() {
		const { context } = prepare(this.canvas, HEIGHT);
		const colours = palette();
		context.font = colours.font;
		if (this.tile && this.tile.high >= this.tile.low) {
			this.low = Math.min(LEAST, this.tile.low);
			this.high = Math.max(MOST, this.tile.high + 1);
		}
		this.#drawAxis(context, colours);
		if (this.tile && this.tile.heat.length)
			this.#drawCells(context, colours);
		if (this.marked)
			this.#drawMarked(context, colours);
	}

	#drawAxis(context, colours) {
		context.fillStyle = colours.quiet;
		context.textAlign = "left";
		context.fillText("latency", 0, 14);
		context.textAlign = "right";
		for (let ns = 1; ns < 1e12; ns *= 10) {
			const bin = binOf(ns);
			if (bin < this.low || bin > this.high)
				continue;
			const y = Math.round(this.y(bin)) + 0.5;
			context.fillStyle = colours.quiet;
			context.fillText(shortDuration(ns), GUTTER - 8, Math.min(y + 4, HEIGHT - 2));
			context.fillStyle = colours.line;
			context.fillRect(GUTTER, y, this.plotWidth, 1);
		}
	}

	/** Cells as pixels of a small picture, which is then drawn as large as it has to be. */
	#drawCells(context, colours) {
		const { heat, low, columns, from, to } = this.tile;
		const small = new OffscreenCanvas(columns, heat.length);
		const picture = new ImageData(columns, heat.length);
		const [cold, hot] = colours.heat.map(parseColour);
		let most = 1;
		for (const line of heat) {
			for (const value of line)
				most = Math.max(most, value);
		}
		const scale = 1 / Math.log2(1 + most);
		for (let line = 0; line < heat.length; line++) {
			for (let column = 0; column < columns; column++) {
				const value = heat[line][column];
				if (!value)
					continue;
				const part = Math.log2(1 + value) * scale;
				const at = 4 * ((heat.length - 1 - line) * columns + column);
				for (let part3 = 0; part3 < 3; part3++)
					picture.data[at + part3] = cold[part3] + (hot[part3] - cold[part3]) * part;
				picture.data[at + 3] = 255;
			}
		}
		small.getContext("2d").putImageData(picture, 0, 0);
		context.save();
		context.beginPath();
		context.rect(GUTTER, 0, this.plotWidth, HEIGHT);
		context.clip();
		context.imageSmoothingEnabled = false;
		const x = this.x(from);
		const y = this.y(low + heat.length);
		context.drawImage(small, x, y, this.x(to) - x, this.y(low) - y);
		context.restore();
	}

	#drawMarked(context, colours) {
		const { from, to, low, high } = this.marked;
		context.globalAlpha = 0.18;
		context.fillStyle = colours.accent;
		context.fillRect(this.x(from), this.y(high), this.x(to) - this.x(from), this.y(low) - this.y(high));
		context.globalAlpha = 1;
		context.strokeStyle = colours.accent;
		context.strokeRect(this.x(from) + 0.5, this.y(high) + 0.5, this.x(to) - this.x(from), this.y(low) - this.y(high));
	}

	/** What a place stands for: time, latencies from and to in ns, and how many; null outside. */
	at(x, y) {
		if (!this.tile || x < GUTTER || x > GUTTER + this.plotWidth)
			return null;
		const ns = this.ns(x);
		const bin = Math.floor(this.bin(y));
		const { from, to, columns, low } = this.tile;
		const column = Math.floor((ns - from) / (to - from) * columns);
		return { ns, low: binNs(bin), high: binNs(bin + 1), count: this.tile.heat[bin - low]?.[column] ?? 0 };
	}
}

function parseColour(text) {
	return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}
