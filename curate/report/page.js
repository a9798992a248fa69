/* Zoom, hover and the dialog of a window, on drawings and tables that stand without it. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const [NAME, FIRST, END, FIRST_BATCH, END_BATCH, TOKENS] = [0, 1, 2, 3, 4, 5];
  const tasks = new Map(data.tasks.map((task) => [task.name, task]));
  const series = new Map(data.series.map((one) => [one.task, one]));
  const find = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  /* Numbers in the page's own words. */
  const missing = "–";
  const count = (value) => value.toLocaleString("en-US");
  const decimal = (value, signed = false) => {
    if (value === null || value === undefined) return missing;
    const shown = value.toFixed(2);
    if (Number(shown) === 0) return "0.00";
    return (signed && value > 0 ? `+${shown}` : shown).replace("-", "−");
  };
  const interval = (lo, hi) =>
    lo === null || hi === null ? missing : `[${decimal(lo)}, ${decimal(hi)}]`;
  const probability = (value) =>
    value === null ? missing : value < 0.001 ? "< 0.001" : value.toFixed(3);
  const short = (value) => {
    for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
    }
    return `${Number(value.toPrecision(3))}`;
  };

  /* The axis: charts share the steps that are shown. */
  const lines = find(".timeline").map((node) => {
    const [lo, hi, start, end] = node.dataset.x.split(" ").map(Number);
    const panels = find("[data-y]", node).map((panel) => {
      const [top, bottom] = panel.dataset.y.split(" ").map(Number);
      return { task: panel.dataset.task, top, bottom };
    });
    const axis = node.querySelector(".xaxis");
    return { node, lo, hi, start, end, panels, axis, svg: node.ownerSVGElement };
  });
  if (!lines.length) return;
  const whole = [lines[0].lo, lines[0].hi];
  const least = Math.max(1, Math.min(...data.windows.map((w) => w[END] - w[FIRST])));
  let view = [...whole];

  const place = (line, step) =>
    line.start + ((step - view[0]) / (view[1] - view[0])) * (line.end - line.start);
  const stepAt = (line, x) =>
    view[0] + ((x - line.start) / (line.end - line.start)) * (view[1] - view[0]);

  const ticks = (about) => {
    const rough = (view[1] - view[0]) / about;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].find((f) => f * power >= rough * 0.999) * power);
    const found = [];
    for (let at = Math.ceil(view[0] / step) * step; at <= view[1]; at += step) found.push(at);
    return found;
  };
  const tokensAt = (step) => {
    const [steps, tokens] = data.tokens;
    const next = steps.findIndex((known) => known >= step);
    if (next < 0 || (next === 0 && steps[0] !== step)) return null;
    if (steps[next] === step) return tokens[next];
    const share = (step - steps[next - 1]) / (steps[next] - steps[next - 1]);
    return tokens[next - 1] + share * (tokens[next] - tokens[next - 1]);
  };

  /* Only numbers are written as markup here. */
  const drawAxis = (line) => {
    const bottom = Number(line.axis.dataset.bottom);
    const parts = ticks(Number(line.axis.dataset.ticks)).map((tick) => {
      const x = place(line, tick).toFixed(1);
      const tokens = tokensAt(tick);
      const words = tokens === null ? "" : short(tokens);
      return (
        `<line x1="${x}" x2="${x}" y1="${bottom}" y2="${bottom + 4}" class="axis"></line>` +
        `<text x="${x}" y="${bottom + 16}" class="tick middle">${count(tick)}</text>` +
        `<text x="${x}" y="${bottom + 31}" class="tick2 middle">${words}</text>`
      );
    });
    const [a, b] = [line.start, line.end];
    line.axis.innerHTML =
      parts.join("") + `<line x1="${a}" x2="${b}" y1="${bottom}" y2="${bottom}" class="axis"></line>`;
  };
  const show = (lo, hi) => {
    const width = Math.min(Math.max(hi - lo, least), whole[1] - whole[0]);
    const from = Math.min(Math.max(lo, whole[0]), whole[1] - width);
    view = [from, from + width];
    const scale = (whole[1] - whole[0]) / width;
    for (const line of lines) {
      const move = place(line, line.lo) - scale * line.start;
      line.node.style.setProperty("--zoom", scale);
      for (const part of find(".zoom", line.node)) {
        part.setAttribute("transform", `matrix(${scale} 0 0 1 ${move} 0)`);
      }
      drawAxis(line);
    }
    byId("from").value = Math.round(view[0]);
    byId("to").value = Math.round(view[1]);
    const inside = data.windows.filter((w) => w[END] > view[0] && w[FIRST] < view[1]).length;
    byId("zoomed").textContent = `${count(inside)} of ${count(data.windows.length)} windows`;
  };

  /* Where the pointer is: a chart, a window, a panel. */
  const under = (event) => {
    const svg = event.target.closest?.("svg.chart");
    const line = svg && lines.find((one) => one.svg === svg);
    if (!line) return null;
    const point = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = point.matrixTransform(svg.getScreenCTM().inverse());
    if (x < line.start || x > line.end) return null;
    const step = stepAt(line, x);
    const index = data.windows.findIndex((w) => step >= w[FIRST] && step < w[END]);
    const panel = line.panels.find((one) => y >= one.top && y <= one.bottom);
    return { line, x, step, index, panel };
  };
  const cursor = document.createElementNS(lines[0].svg.namespaceURI, "rect");
  cursor.setAttribute("class", "cursor");
  const mark = (line, a, b) => {
    const last = line.panels[line.panels.length - 1];
    const left = Math.max(line.start, Math.min(a, b));
    cursor.setAttribute("x", left);
    cursor.setAttribute("width", Math.max(0, Math.min(line.end, Math.max(a, b)) - left));
    cursor.setAttribute("y", 0);
    cursor.setAttribute("height", Number(line.axis.dataset.bottom) || last.bottom);
    line.node.append(cursor);
  };

  const tip = byId("tip");
  const describe = (index, name) => {
    const window = data.windows[index];
    const said = [window[NAME]];
    const task = tasks.get(name);
    if (task && task.labels[index] !== "-") {
      const hop = task.hops.includes(index) ? ", hop" : "";
      said.push(`${name}: ${data.words[task.labels[index]]}${hop}`);
      said.push(
        `delta ${decimal(task.delta[index], true)}, strength ` +
          `${decimal(task.strength[index], true)} ${interval(task.lo[index], task.hi[index])}`,
      );
      said.push(`q ${probability(task.q[index])}`);
    } else if (name) {
      said.push(name);
    }
    const one = series.get(name);
    const at = one ? one.steps.indexOf(window[END]) : -1;
    if (at >= 0) {
      const range = interval(one.lo[at], one.hi[at]);
      said.push(`then ${one.measure} ${decimal(one.mean[at])} ${range}, hard ${decimal(one.hard[at])}`);
    }
    if (data.loss.length) said.push(`loss ${decimal(data.loss[index])}`);
    return said;
  };
  const hover = (event, found) => {
    const paragraphs = describe(found.index, found.panel?.task).map((words) => {
      const line = document.createElement("p");
      line.textContent = words;
      return line;
    });
    paragraphs[0].className = "strong";
    tip.replaceChildren(...paragraphs);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 16 + width > innerWidth ? event.clientX - 12 - width : event.clientX + 16;
    const top = Math.min(event.clientY + 14, innerHeight - height - 8);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, top)}px`;
  };
  const leave = () => {
    tip.hidden = true;
    cursor.remove();
  };

  let drag = null;
  let dragged = false;
  document.addEventListener("pointermove", (event) => {
    if (drag) {
      const point = new DOMPoint(event.clientX, event.clientY);
      const { x } = point.matrixTransform(drag.line.svg.getScreenCTM().inverse());
      dragged ||= Math.abs(x - drag.x) > 5;
      if (dragged) {
        drag.to = x;
        tip.hidden = true;
        mark(drag.line, drag.x, x);
      }
      return;
    }
    const found = under(event);
    if (!found || found.index < 0) return leave();
    const window = data.windows[found.index];
    mark(found.line, place(found.line, window[FIRST]), place(found.line, window[END]));
    hover(event, found);
  });
  document.addEventListener("pointerdown", (event) => {
    const found = event.button === 0 && event.pointerType !== "touch" ? under(event) : null;
    drag = found && { line: found.line, x: found.x, to: found.x };
    dragged = false;
  });
  document.addEventListener("pointerup", () => {
    if (drag && dragged) {
      const [a, b] = [stepAt(drag.line, drag.x), stepAt(drag.line, drag.to)];
      show(Math.min(a, b), Math.max(a, b));
      leave();
    }
    drag = null;
  });
  document.addEventListener("dragstart", (event) => {
    if (drag) event.preventDefault();
  });
  document.addEventListener(
    "click",
    (event) => {
      if (dragged) {
        event.preventDefault();
        dragged = false;
        return;
      }
      const found = under(event);
      const named = /^#w(\d+)$/.exec(event.target.closest?.("a")?.getAttribute("href"))?.[1];
      const index = Number(named ?? found?.index ?? -1);
      if (!data.windows[index]) return;
      event.preventDefault();
      open(index);
    },
    true,
  );
  document.addEventListener("dblclick", (event) => {
    if (under(event)) show(...whole);
  });

  for (const button of find("[data-zoom]")) {
    button.addEventListener("click", () => {
      const [middle, half] = [(view[0] + view[1]) / 2, (view[1] - view[0]) / 2];
      const factor = { in: 0.5, out: 2, whole: Infinity }[button.dataset.zoom];
      if (factor === Infinity) show(...whole);
      else show(middle - factor * half, middle + factor * half);
    });
  }
  for (const input of [byId("from"), byId("to")]) {
    [input.min, input.max] = whole;
    input.addEventListener("change", () => {
      const [lo, hi] = [Number(byId("from").value), Number(byId("to").value)];
      if (lo < hi) show(lo, hi);
    });
  }

  /* The dialog of a window: what it held, and its labels on all tasks. */
  const dialog = byId("window");
  let shown = 0;
  const element = (name, words, kind) => {
    const made = document.createElement(name);
    made.textContent = words;
    if (kind) made.className = kind;
    return made;
  };
  const table = (title, columns, rows) => {
    const made = document.createElement("table");
    const caption = document.createElement("caption");
    caption.append(element("span", title));
    const head = document.createElement("tr");
    head.append(...columns.map((name, i) => element("th", name, i && "n")));
    const body = rows.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((words, i) => element(i ? "td" : "th", words, i && "n")));
      return row;
    });
    made.append(caption, head, ...body);
    const box = element("div", "", "scroll");
    box.append(made);
    return box;
  };
  const sourcesOf = (index) => {
    const row = data.sources.instances[index];
    const read = row.reduce((sum, part) => sum + part, 0);
    const all = data.sources.names.map((_, i) =>
      data.sources.instances.reduce((sum, each) => sum + each[i], 0),
    );
    const total = all.reduce((sum, part) => sum + part, 0);
    const share = (part, of) => (of ? `${((100 * part) / of).toFixed(1)} %` : missing);
    return data.sources.names
      .map((name, i) => [row[i], [name, count(row[i]), share(row[i], read), share(all[i], total)]])
      .sort((a, b) => b[0] - a[0])
      .map((pair) => pair[1]);
  };
  const labelsOf = (index) =>
    data.tasks
      .filter((task) => task.labels[index] !== "-")
      .map((task) => [
        task.name,
        data.words[task.labels[index]] + (task.hops.includes(index) ? ", hop" : ""),
        decimal(task.delta[index], true),
        decimal(task.strength[index], true),
        interval(task.lo[index], task.hi[index]),
        probability(task.q[index]),
      ]);
  const open = (index) => {
    shown = index;
    const window = data.windows[index];
    const facts = [
      ["Steps", `${count(window[FIRST])} to ${count(window[END])}`],
      ["Batches", `${count(window[FIRST_BATCH])} to ${count(window[END_BATCH])}, the last not read`],
      ["Tokens", count(window[TOKENS])],
    ];
    if (data.loss.length) facts.push(["Training loss", decimal(data.loss[index])]);
    byId("window-name").textContent = window[NAME];
    const pairs = facts.flatMap(([term, words]) => [element("dt", term), element("dd", words)]);
    const command = byId(`w${index}`).querySelector(".command");
    if (command) {
      const told = document.createElement("dd");
      told.append(command.cloneNode(true));
      pairs.push(element("dt", "What it held"), told);
    }
    byId("window-facts").replaceChildren(...pairs);
    const labels = table(
      "Labels", ["Task", "Label", "Delta", "Strength", "Interval", "q"], labelsOf(index));
    const held = data.sources
      ? [table("What it held", ["Source", "Instances", "Share", "Of all windows"], sourcesOf(index))]
      : [];
    byId("window-tables").replaceChildren(labels, ...held);
    leave();
    history.replaceState(null, "", `#w${index}`);
    if (!dialog.open) dialog.showModal();
  };
  const follow = () => {
    const index = Number(/^#w(\d+)$/.exec(location.hash)?.[1] ?? -1);
    if (data.windows[index]) open(index);
  };
  for (const button of find("[data-go]")) {
    button.addEventListener("click", () => {
      const next = shown + Number(button.dataset.go);
      if (data.windows[next]) open(next);
    });
  }
  dialog.addEventListener("close", () => history.replaceState(null, "", location.href.split("#")[0]));
  addEventListener("hashchange", follow);

  /* This script's tooltip takes the place of the browser's own. */
  for (const line of lines) find(".zoom title", line.node).forEach((title) => title.remove());
  find(".tools[hidden]").forEach((tools) => (tools.hidden = false));
  show(...whole);
  follow();
})();
