// SPDX-License-Identifier: Apache-2.0
// The page: what is asked for when, and what the reader's hands do.

import * as data from "/data.js";
import { Detail } from "/detail.js";
import { count, duration, element, shortDuration, timeOfDay } from "/format.js";
import { HeatMap } from "/heatmap.js";
import { Sites } from "/sites.js";
import { Table } from "/table.js";
import { GUTTER, Overview, SLOWNESS, Timeline } from "/timeline.js";
import { TimeWindow } from "/window.js";

const OVERVIEW_EVERY = 2000;	// ms, while it grows
const TABLE_EVERY = 500;	// ms, while pictures move

const find = (id) => document.getElementById(id);
const timeWindow = new TimeWindow();
const timeline = new Timeline(find("timeline"), timeWindow);
const overview = new Overview(find("overview"), timeWindow, timeline);
const heatmap = new HeatMap(find("heatmap"), timeWindow, timeline);
const detail = new Detail(find("detail"));
const table = new Table(find("scroller"), find("rows"), find("rows-note"), showRecord);
const sites = new Sites(find("sites"), (site) => addToFilter(`insn==${site.address}`));

let known = { version: 0, origin_ms: 0, over: false };	// the server's state
let filter = "";
let drawDue = false;

/** Draws once in the next frame, however often it is asked for. */
function draw() {
	if (drawDue)
		return;
	drawDue = true;
	requestAnimationFrame(() => {
		drawDue = false;
		timeline.draw();	// first: the others are as wide
		overview.draw();
		heatmap.draw();
		showWindow();
	});
}

function showWindow() {
	const { from, to, span } = timeWindow;
	find("window-text").textContent = timeWindow.range.to ?
		`${timeOfDay(known.origin_ms, from)} to ${timeOfDay(known.origin_ms, to)} (${duration(span)})` : "";
	const live = !timeWindow.paused && timeWindow.mode !== "fixed";
	find("live").setAttribute("aria-pressed", String(live && !known.over));
	find("live").textContent = known.over ? "Ended" : live ? "Live" : "Go live";
	find("live").disabled = known.over;
}

/** Runs one at a time, and once more when it was asked for meanwhile; not more often than every `pause` ms. */
function inTurn(work, pause) {
	let running = false;
	let again = false;
	return async function turn() {
		again = true;
		if (running)
			return;
		running = true;
		while (again) {
			again = false;
			try {
				await work();
			} catch (error) {
				showTrouble(error);
			}
			await new Promise((done) => setTimeout(done, pause));
		}
		running = false;
	};
}

function totalText(tile) {
	if (tile.unknown)
		return `filtering: ${count(tile.unknown)} to go`;
	if (timeWindow.to <= timeWindow.range.from)
		return "no longer kept";
	return `${count(tile.count)} request${tile.count === 1 ? "" : "s"}`;
}

const refreshView = inTurn(async () => {
	const wanted = Math.max(50, Math.min(1000, Math.floor(timeline.plotWidth / 2)));
	const tile = await data.view({ ...timeWindow.columns(wanted), filter });
	timeline.tile = tile;
	heatmap.tile = tile;
	showTrouble(null);
	sites.show(tile.sites);
	find("total").textContent = totalText(tile);
	document.documentElement.dataset.state = tile.unknown ? "filtering" : "ready";
	draw();
	if (tile.unknown)
		refreshView();
}, 30);

const refreshOverview = inTurn(async () => {
	const { from, to } = timeWindow.range;
	const columns = 300;
	const width = Math.max(1, Math.ceil((to - from) / columns));
	const tile = await data.view({ from, to: from + width * columns, columns });
	tile.total = new Float64Array(columns);
	for (const lane of tile.rings)
		lane.columns.forEach((value, column) => { tile.total[column] += value; });
	overview.tile = tile;
	draw();
}, OVERVIEW_EVERY);

const refreshTable = inTurn(() => table.load({ from: timeWindow.from, to: timeWindow.to, filter }), TABLE_EVERY);

function refresh() {
	draw();
	refreshView();
	refreshTable();
}

/** Asks what is new, for as long as something can be. */
async function follow() {
	while (true) {
		try {
			known = await data.state(known.version);
		} catch (error) {
			if (error instanceof data.Refusal) {
				showTrouble(error);
				return;
			}
			find("alive").textContent = "utsusu watch has ended";
			document.documentElement.dataset.state = "gone";
			return;
		}
		const moved = timeWindow.extend(known.from, known.to);
		find("lost").textContent = known.lost ? `${count(known.lost)} lost` : "none lost";
		find("lost").classList.toggle("bad", known.lost > 0);
		find("alive").textContent = known.over ? known.end_text : `${count(known.end)} seen`;
		showMode();
		refreshOverview();
		if (moved)
			refresh();
		else
			draw();
	}
}

/** How it is watched; other watchers may change that. */
function showMode() {
	const mode = `mode ${known.mode}${known.expelled ? ", too slow to be lossless" : ""}`;
	const unseen = known.unseen.length ? `not seen: ${known.unseen.join("; ")}` : "";
	if (find("mode").textContent === mode && find("unseen").textContent === unseen)
		return;
	find("mode").textContent = mode;
	find("unseen").textContent = unseen;
	find("unseen").title = unseen;
	find("help-unseen").replaceChildren(...known.unseen.map((text) => element("li", "", text)));
}

/** An error below the filter: with its column, when it has one. */
function showTrouble(error) {
	const place = find("filter-error");
	place.hidden = !error;
	find("filter").toggleAttribute("aria-invalid", Boolean(error));
	if (!error)
		return;
	const pointer = error.column ? `${" ".repeat(error.column - 1)}^\n` : "";
	place.textContent = pointer + error.message;
	if (error.status === 403)
		document.documentElement.dataset.state = "refused";
}

function setFilter(text) {
	filter = text.trim() ? text : "";
	find("filter").value = text;
	find("filter-clear").disabled = !filter;
	refresh();
}

function addToFilter(condition) {
	setFilter(filter && !filter.includes(condition) ? `(${filter}) && ${condition}` : condition);
}

async function showRecord(id) {
	try {
		const record = await data.record(id);
		detail.show(record);
		timeline.selected = { begin: record.row[1], duration: record.row[7] };
		draw();
	} catch (error) {
		detail.note(error.message);
	}
}

/* Hands: a drag over a canvas is told as it goes, {from: point, to: point}, and when it ends. */
function onDrag(canvas, { move, end, click }) {
	canvas.addEventListener("pointerdown", (down) => {
		if (down.button !== 0)
			return;
		const from = pointOf(canvas, down);
		let last = from;
		let moved = false;
		canvas.setPointerCapture(down.pointerId);
		const onMove = (event) => {
			const to = pointOf(canvas, event);
			moved ||= Math.abs(to.x - from.x) + Math.abs(to.y - from.y) > 3;
			if (moved)
				move({ from, to, last, shift: down.shiftKey });
			last = to;
		};
		const onUp = (event) => {
			canvas.removeEventListener("pointermove", onMove);
			canvas.removeEventListener("pointerup", onUp);
			canvas.removeEventListener("pointercancel", onUp);
			if (moved)
				end?.({ from, to: pointOf(canvas, event), shift: down.shiftKey });
			else if (event.type === "pointerup")
				click?.(from);
		};
		canvas.addEventListener("pointermove", onMove);
		canvas.addEventListener("pointerup", onUp);
		canvas.addEventListener("pointercancel", onUp);
	});
}

function pointOf(canvas, event) {
	const box = canvas.getBoundingClientRect();
	return { x: event.clientX - box.left, y: event.clientY - box.top };
}

const inOrder = (a, b) => [Math.min(a, b), Math.max(a, b)];

function setUpTimeline() {
	onDrag(timeline.canvas, {
		move({ from, to, last, shift }) {
			if (shift) {
				const [first, second] = inOrder(timeline.ns(from.x), timeline.ns(to.x));
				timeline.marked = { from: first, to: second };
				draw();
			} else {
				timeWindow.pan((last.x - to.x) / timeline.plotWidth * timeWindow.span);
			}
		},
		end({ from, to, shift }) {
			timeline.marked = null;
			if (shift)
				timeWindow.set(...inOrder(timeline.ns(from.x), timeline.ns(to.x)));
		},
		click(point) {
			const what = timeline.at(point.x, point.y);
			if (what?.span)
				table.select(what.span[0]);
			else if (what)
				timeWindow.zoom(0.5, what.ns);
		},
	});
	for (const picture of [timeline, heatmap]) {
		picture.canvas.addEventListener("wheel", (event) => {
			if (event.ctrlKey || pointOf(picture.canvas, event).x < GUTTER)
				return;
			event.preventDefault();
			const at = picture.ns(pointOf(picture.canvas, event).x);
			if (Math.abs(event.deltaX) > Math.abs(event.deltaY))
				timeWindow.pan(event.deltaX / picture.plotWidth * timeWindow.span);
			else
				timeWindow.zoom(1.0015 ** event.deltaY, at);
		}, { passive: false });
	}
}

function setUpOverview() {
	const mark = ({ from, to }) => timeWindow.set(...inOrder(overview.ns(from.x), overview.ns(to.x)));
	onDrag(overview.canvas, {
		move: mark,
		click(point) {
			const at = overview.ns(point.x);
			timeWindow.set(at - timeWindow.span / 2, at + timeWindow.span / 2);
		},
	});
}

function setUpHeatMap() {
	const partOf = ({ from, to }) => {
		const [first, second] = inOrder(heatmap.ns(from.x), heatmap.ns(to.x));
		const [low, high] = inOrder(heatmap.bin(from.y), heatmap.bin(to.y));
		return { from: first, to: second, low: Math.max(0, Math.floor(low)), high: Math.ceil(high) };
	};
	onDrag(heatmap.canvas, {
		move(drag) {
			heatmap.marked = partOf(drag);
			draw();
		},
		end(drag) {
			const { from, to, low, high } = partOf(drag);
			heatmap.marked = null;
			timeWindow.set(from, to);
			addToFilter(`latency>=${Math.floor(data.binNs(low))}ns && latency<${Math.ceil(data.binNs(high))}ns`);
		},
	});
}

/** A word about what the pointer is on. */
function setUpTips() {
	const tip = find("tip");
	const show = (event, text) => {
		tip.hidden = !text;
		tip.textContent = text;
		tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - 320)}px`;
		tip.style.top = `${event.clientY + 16}px`;
	};
	timeline.canvas.addEventListener("pointermove", (event) => {
		const point = pointOf(timeline.canvas, event);
		const what = timeline.tile && timeline.at(point.x, point.y);
		if (!what)
			return show(event, "");
		const { name, p50, p99 } = what.lane.of;
		show(event, `${name}, ${timeOfDay(known.origin_ms, what.ns)}: ` + (what.span ?
			duration(what.span[2]) : `half within ${duration(p50)}, 99 % within ${duration(p99)}`));
	});
	heatmap.canvas.addEventListener("pointermove", (event) => {
		const point = pointOf(heatmap.canvas, event);
		const what = heatmap.at(point.x, point.y);
		show(event, what?.count ?
			`${count(what.count)} requests of ${shortDuration(what.low)} to ${shortDuration(what.high)}` : "");
	});
	for (const canvas of [timeline.canvas, heatmap.canvas])
		canvas.addEventListener("pointerleave", (event) => show(event, ""));
}

function toggleLive() {
	if (timeWindow.paused || timeWindow.mode === "fixed")
		timeWindow.follow();
	else
		timeWindow.pause();
}

const KEYS = {
	" ": toggleLive,
	"+": () => timeWindow.zoom(0.5),
	"=": () => timeWindow.zoom(0.5),
	"-": () => timeWindow.zoom(2),
	"0": () => timeWindow.showAll(),
	ArrowLeft: () => timeWindow.pan(-timeWindow.span / 5),
	ArrowRight: () => timeWindow.pan(timeWindow.span / 5),
	"/": () => find("filter").focus(),
	"?": () => find("help").showModal(),
};

function setUpControls() {
	document.addEventListener("keydown", (event) => {
		const typing = event.target.closest("input, dialog");
		const pressing = event.key === " " && event.target.closest("button");
		if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key])
			return;
		event.preventDefault();
		KEYS[event.key]();
	});
	find("live").addEventListener("click", toggleLive);
	find("zoom-in").addEventListener("click", () => timeWindow.zoom(0.5));
	find("zoom-out").addEventListener("click", () => timeWindow.zoom(2));
	find("zoom-all").addEventListener("click", () => timeWindow.showAll());
	find("help-open").addEventListener("click", () => find("help").showModal());
	find("filter-form").addEventListener("submit", (event) => {
		event.preventDefault();
		setFilter(find("filter").value);
	});
	find("filter-clear").addEventListener("click", () => setFilter(""));
	find("filter").addEventListener("keydown", (event) => {
		if (event.key === "Escape")
			find("filter").blur();
	});
	timeWindow.onChange(refresh);
	new ResizeObserver(draw).observe(find("lanes"));
	window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function showAbout(about) {
	document.title = `${about.title} - utsusu watch`;
	find("vm").textContent = about.title;
	const words = about.words.flatMap(([name, help]) => [element("dt", "", name), element("dd", "", help)]);
	find("help-words").replaceChildren(...words);
	find("legend").replaceChildren(...SLOWNESS.map(([, name], index) => {
		const item = element("li", "", name);
		item.prepend(element("span", `swatch slow-${index}`));
		return item;
	}));
	if (about.origin === "live")
		timeWindow.mode = "follow";
}

async function start() {
	data.takeKey();
	setUpControls();
	setUpTimeline();
	setUpOverview();
	setUpHeatMap();
	setUpTips();
	try {
		const about = await data.about();
		showAbout(about);
		filter = about.filter;
		find("filter").value = filter;
		find("filter-clear").disabled = !filter;
	} catch (error) {
		showTrouble(error);
		return;
	}
	await follow();
}

start();
