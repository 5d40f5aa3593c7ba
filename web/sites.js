// SPDX-License-Identifier: Apache-2.0
// The instructions that spend the most time in requests.

import { count, duration, element } from "/format.js";

export class Sites {
	#shown = "";

	/** `choose`: called with the site that was clicked. */
	constructor(list, choose) {
		this.list = list;
		this.choose = choose;
	}

	show(sites) {
		const text = JSON.stringify(sites);
		if (text === this.#shown || this.list.matches(":focus-within"))
			return;
		this.#shown = text;
		const most = sites.length ? sites[0].ns : 1;
		this.list.replaceChildren(...sites.map((site) => this.#item(site, most)));
		if (!sites.length)
			this.list.append(element("li", "quiet", "None of these requests has an instruction."));
	}

	#item(site, most) {
		const item = element("li");
		const button = element("button", site.sure ? "site" : "site unsure");
		button.type = "button";
		button.disabled = !site.address;
		button.title = site.address ? `${site.address} - click to filter for it` : "";
		const bar = element("span", "bar");
		bar.style.width = `${Math.max(1, 100 * site.ns / Math.max(most, 1))}%`;
		const code = element("span", "code", site.text || "not known");
		const where = element("span", "where", site.symbol || site.address);
		const device = element("span", "device", site.device);
		const numbers = element("span", "figures",
			`${count(site.count)} x ${duration(site.ns / site.count)}`);
		button.append(bar, code, device, where, numbers);
		button.addEventListener("click", () => this.choose(site));
		item.append(button);
		return item;
	}
}
