"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const PAGE = 50;
  const state = { test: 0, system: 0, key: "line", up: true, search: "", limit: PAGE, line: 0 };

  // Elements. Text becomes text nodes, so that nothing in a hypothesis is ever markup.
  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  const number = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : "none");
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
  const colour = (index) => `var(--s${index % 6})`;
  const dashes = ["", "7 4", "2 3", "9 3 2 3", "4 4", "1 3"];
  const shownName = (system) => system.name + (system.baseline ? " (baseline)" : "");
  const test = () => data.tests[state.test];

  // Scores
  function drawScores() {
    const systems = test().systems;
    const compared = systems.some((system) => system.comparisons.length);
    const heads = ["system", "metric", "score", "95 % interval"];
    if (compared) heads.push("beside baseline", "p, bootstrap", "p, randomization");
    heads.push("signature");
    const numeric = new Set(["score", "beside baseline", "p, bootstrap", "p, randomization"]);
    const rows = [html("tr", {}, ...heads.map((head) => html("th", numeric.has(head) ? { class: "number" } : {}, head)))];
    for (const system of systems) {
      for (const [metric, score] of Object.entries(system.scores)) {
        const found = system.comparisons.find((item) => item.metric === metric);
        const cells = [
          html("td", {}, shownName(system)), html("td", {}, metric), html("td", { class: "number" }, number(score.value)),
          html("td", {}, score.low === null ? "" : `${number(score.low)} to ${number(score.high)}`),
        ];
        if (compared) {
          const texts = found ? [signed(found.value - found.baseline), number(found.p_bootstrap, 4), number(found.p_randomization, 4)]
            : ["", "", ""];
          cells.push(...texts.map((text) => html("td", { class: "number" }, text)));
        }
        cells.push(html("td", { class: "signature" }, score.signature));
        rows.push(html("tr", {}, ...cells));
      }
    }
    byId("scores").replaceChildren(...rows);
    byId("gates").replaceChildren(...systems.flatMap((system) => system.gates.map((gate) =>
      html("li", { class: gate.passed ? "passed" : "missed" }, `${gate.passed ? "" : "Missed: "}${system.name}: ${gate.text}`))));
  }

  // Charts
  function ticks(low, high) {
    const rough = (high - low || 1) / 6, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Number(at.toPrecision(8)));
    return found;
  }

  // lines: [{name, points: [{x, y, low, high, title}]}]; labels under the places of x, if it is no number line.
  function chart(title, about, unit, lines, labels) {
    const width = 480, height = 260, left = 44, right = 12, top = 12, bottom = 46;
    const points = lines.flatMap((line) => line.points);
    const values = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
    const xs = points.map((point) => point.x);
    const least = (found) => found.reduce((one, other) => Math.min(one, other), Infinity);
    const most = (found) => found.reduce((one, other) => Math.max(one, other), -Infinity);
    const [x0, x1] = labels ? [-0.5, labels.length - 0.5] : [least(xs), most(xs)];
    let y0 = least(values), y1 = most(values);
    const margin = (y1 - y0) * 0.06 || 1;
    y0 = Math.max(y0 >= 0 ? 0 : -Infinity, y0 - margin); y1 += margin;
    const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
    const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
    const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
    for (const at of ticks(y0, y1)) {
      drawn.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: py(at), y2: py(at) }),
        svg("text", { x: left - 6, y: py(at) + 4, "text-anchor": "end" }, String(at)));
    }
    const marks = labels ? labels.map((label, x) => [x, label]) : ticks(x0, x1).map((x) => [x, x.toLocaleString("en")]);
    for (const [x, label] of marks) {
      drawn.append(svg("text", { x: px(x), y: height - bottom + 18, "text-anchor": "middle" }, label));
    }
    drawn.append(svg("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, unit));
    lines.forEach((line, index) => {
      const shift = labels ? (index - (lines.length - 1) / 2) * 7 : 0;
      const place = (point) => `${px(point.x) + shift},${py(point.y)}`;
      drawn.append(svg("polyline", { points: line.points.map(place).join(" "), fill: "none", stroke: colour(index),
        "stroke-width": 2, "stroke-dasharray": dashes[index % 6] }));
      for (const point of line.points) {
        const x = px(point.x) + shift;
        if (point.low !== undefined && point.low !== null) {
          drawn.append(svg("line", { x1: x, x2: x, y1: py(point.low), y2: py(point.high), stroke: colour(index), "stroke-width": 1.5 }));
        }
        drawn.append(svg("circle", { cx: x, cy: py(point.y), r: labels ? 4 : 2.5, fill: colour(index) },
          svg("title", {}, `${line.name}: ${point.title}`)));
      }
    });
    return html("figure", {}, html("h3", {}, title), legend(lines), drawn, html("figcaption", {}, about));
  }

  function legend(lines) {
    return html("div", { class: "legend" }, ...lines.map((line, index) => {
      const mark = html("i");
      mark.style.borderTopColor = colour(index);
      mark.style.borderTopStyle = ["solid", "dashed", "dotted"][index % 3];
      return html("span", {}, mark, line.name);
    }));
  }

  function drawCharts() {
    const systems = test().systems, figures = [];
    systems[0].breakdowns.forEach((breakdown, which) => {
      const labels = breakdown.groups.map((group) => group.label);
      for (const metric of Object.keys(breakdown.groups[0]?.scores ?? {})) {
        const lines = systems.map((system) => ({
          name: shownName(system),
          points: system.breakdowns[which].groups.map((group, x) => {
            const score = group.scores[metric];
            return { x, y: score.value, low: score.low, high: score.high,
              title: `${group.label}: ${number(score.value)} (${group.count.toLocaleString("en")} ${breakdown.counted})` };
          }),
        }));
        const counts = breakdown.groups.map((group) => group.count.toLocaleString("en")).join(", ");
        const name = metric === "bleu" ? "BLEU" : metric === "chrf" ? "chrF" : metric;
        figures.push(chart(`${name} ${breakdown.name}`, `${breakdown.about}; ${breakdown.counted}: ${counts}`,
          breakdown.unit, lines, labels));
      }
    });
    byId("charts").replaceChildren(...figures);
  }

  function drawCurve() {
    const validated = data.curve.filter((line) => line.scores);
    const trained = data.curve.filter((line) => typeof line.loss === "number");
    const series = (name, lines, value) => ({ name, points: lines
      .map((line) => ({ x: line.step, y: value(line), title: `step ${line.step.toLocaleString("en")}: ${number(value(line))}` }))
      .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y)) });
    const losses = [series("training", trained, (line) => line.loss),
      series("validation", validated, (line) => line.scores.loss)].filter((line) => line.points.length);
    const metrics = [...new Set(validated.flatMap((line) => Object.keys(line.scores)))]
      .filter((metric) => metric !== "loss" && metric !== "perplexity");
    const scores = metrics.map((metric) => series(metric, validated, (line) => line.scores[metric]));
    const figures = [];
    if (losses.length) figures.push(chart("Loss", "nats a piece; in training with dropout, and before the update that it led to", "updates", losses));
    if (scores.length) figures.push(chart("Validation", "scores of the validation set", "updates", scores));
    byId("curve").replaceChildren(...figures);
    byId("curve-section").hidden = !figures.length;
  }

  // Sentences
  const baseline = () => test().systems.find((system) => system.baseline);
  function columns() {
    const found = [["line", "Line", (row) => row + 1]];
    const system = test().systems[state.system], base = baseline();
    found.push(["chrf", "chrF", (row) => system.chrf[row]]);
    if (base && base !== system) found.push(["gain", "Beside baseline", (row) => system.chrf[row] - base.chrf[row]]);
    found.push(["words", "Words", (row) => test().references[0][row].split(/\s+/).filter(Boolean).length]);
    return found;
  }

  function rows() {
    const wanted = state.search.toLocaleLowerCase(), current = test();
    const texts = [...(current.sources ? [current.sources] : []), ...current.references,
      ...current.systems.map((system) => system.translations)];
    const chosen = current.references[0].map((_, row) => row)
      .filter((row) => !wanted || texts.some((text) => text[row].toLocaleLowerCase().includes(wanted)));
    const [, , value] = columns().find(([key]) => key === state.key) ?? columns()[0];
    return chosen.sort((a, b) => (state.up ? 1 : -1) * (value(a) - value(b)) || a - b);
  }

  function drawSentences() {
    const found = rows(), shown = found.slice(0, state.limit), heads = columns();
    const sort = ([key, label]) => {
      const order = key !== state.key ? "none" : state.up ? "ascending" : "descending";
      const mark = key !== state.key ? "" : state.up ? " \u25b2" : " \u25bc";
      const button = html("button", { type: "button", "data-key": key }, label + mark);
      button.addEventListener("click", () => {
        [state.up, state.key, state.limit] = [key === state.key ? !state.up : true, key, PAGE];
        drawSentences();
      });
      return html("th", { class: "number", "aria-sort": order, scope: "col" }, button);
    };
    const table = byId("sentences");
    table.tHead.replaceChildren(html("tr", {}, ...heads.map(sort), html("th", { scope: "col" }, "Translation")));
    table.tBodies[0].replaceChildren(...shown.map((row) => {
      const cells = heads.map(([key, , value]) =>
        html("td", { class: "number" }, key === "gain" ? signed(value(row)) : key === "chrf" ? number(value(row), 1) : String(value(row))));
      const line = html("tr", { tabindex: "0", "data-line": row + 1, "aria-selected": String(row === state.line) },
        ...cells, html("td", {}, test().systems[state.system].translations[row]));
      const choose = () => { state.line = row; mark(); drawDetail(); };
      line.addEventListener("click", choose);
      line.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
        const next = event.key === "ArrowDown" ? line.nextElementSibling : event.key === "ArrowUp" ? line.previousElementSibling : null;
        if (next) { event.preventDefault(); next.focus(); next.click(); }
      });
      return line;
    }));
    byId("more").hidden = shown.length === found.length;
    byId("shown").textContent = `${found.length.toLocaleString("en")} of ${test().references[0].length.toLocaleString("en")} sentences`;
  }

  function mark() {
    for (const line of byId("sentences").tBodies[0].rows) {
      line.setAttribute("aria-selected", String(Number(line.dataset.line) === state.line + 1));
    }
  }

  // Word by word: what `to` has and `from` lacks is inserted, the rest deleted (longest common subsequence).
  function difference(from, to) {
    const a = from.split(/\s+/).filter(Boolean), b = to.split(/\s+/).filter(Boolean);
    if (a.length * b.length > 1e6) return [to];
    const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
      }
    }
    const parts = [];
    for (let i = 0, j = 0; i < a.length || j < b.length;) {
      if (i < a.length && j < b.length && a[i] === b[j]) { parts.push(document.createTextNode(b[j])); i++; j++; }
      else if (i < a.length && (j === b.length || common[i + 1][j] >= common[i][j + 1])) parts.push(html("del", {}, a[i++]));
      else parts.push(html("ins", {}, b[j++]));
    }
    return parts.flatMap((part, index) => (index ? [" ", part] : [part]));
  }

  function drawDetail() {
    const current = test(), system = current.systems[state.system], row = state.line, base = baseline();
    const entries = [];
    if (current.sources) entries.push(["Source", [current.sources[row]]]);
    current.references.forEach((side, index) => entries.push([current.references.length > 1 ? `Reference ${index + 1}` : "Reference", [side[row]]]));
    entries.push([`${shownName(system)}, chrF ${number(system.chrf[row], 1)}`, [system.translations[row]]]);
    if (base && base !== system) {
      entries.push([`${shownName(base)}, chrF ${number(base.chrf[row], 1)}`, [base.translations[row]]]);
      entries.push(["From the baseline to this translation", difference(base.translations[row], system.translations[row])]);
    }
    entries.push(["From the reference to this translation", difference(current.references[0][row], system.translations[row])]);
    byId("detail").replaceChildren(
      html("h3", {}, `Line ${row + 1}`),
      html("dl", {}, ...entries.flatMap(([name, parts]) => [html("dt", {}, name), html("dd", {}, ...parts)])),
      ...(system.attention ? [attentionMap(system.attention[row])] : []));
  }

  function attentionMap(found) {
    if (found.source.length * found.target.length > 1e4) {
      return html("p", {}, `Attention of ${found.source.length} to ${found.target.length} pieces: too large to draw here.`);
    }
    const weights = Uint8Array.from(atob(found.weights), (char) => char.charCodeAt(0));
    const size = 22, width = found.source.length, longest = (pieces) => Math.max(...pieces.map((piece) => [...piece].length));
    const wide = (pieces) => pieces.some((piece) => /[\u1100-\uffdc]/.test(piece.replace(/\u2581/g, "")));
    const left = 16 + longest(found.target) * (wide(found.target) ? 14 : 8.5);
    const top = 16 + longest(found.source) * (wide(found.source) ? 14 : 8.5);
    const drawn = svg("svg", { width: left + width * size + 8, height: top + found.target.length * size + 8, role: "img",
      "aria-label": "Attention: a row for each target piece, a column for each source piece" });
    const said = html("p", { id: "weight" }, "Point at a square: where the model looked when it wrote a piece.");
    found.source.forEach((piece, column) => drawn.append(svg("text", {
      transform: `translate(${left + column * size + size / 2 + 4} ${top - 6}) rotate(-90)` }, piece)));
    found.target.forEach((piece, row) => {
      drawn.append(svg("text", { x: left - 6, y: top + row * size + size / 2 + 4, "text-anchor": "end" }, piece));
      for (let column = 0; column < width; column++) {
        const weight = weights[row * width + column] / 255;
        const text = `${piece} looks at ${found.source[column]}: ${weight.toFixed(2)}`;
        const square = svg("rect", { x: left + column * size, y: top + row * size, width: size, height: size, "data-weight": weight.toFixed(3) },
          svg("title", {}, text));
        square.style.fill = `rgba(var(--heat), ${Math.max(0.04, weight).toFixed(3)})`;
        square.addEventListener("pointerenter", () => { said.textContent = text; });
        drawn.append(square);
      }
    });
    return html("div", {}, html("h3", {}, "Attention"), html("div", { class: "map" }, drawn), said);
  }

  function drawSystems() {
    byId("system").replaceChildren(...test().systems.map((system, index) => html("option", { value: index }, shownName(system))));
    state.system = Math.max(0, test().systems.findIndex((system) => !system.baseline));
    byId("system").value = state.system;
  }

  function draw() {
    for (const [index, button] of [...byId("tests").children].entries()) {
      button.setAttribute("aria-current", String(index === state.test));
    }
    drawSystems(); drawScores(); drawCharts(); drawSentences(); drawDetail();
  }

  byId("version").textContent = data.s2s;
  const verdict = byId("verdict");
  verdict.textContent = data.judged ? (data.passed ? "All gates passed." : "A gate was missed.") : "No gates were set.";
  verdict.className = data.judged ? (data.passed ? "passed" : "missed") : "";
  byId("tests").replaceChildren(...data.tests.map((item, index) => {
    const button = html("button", { type: "button" }, `${item.name}, ${item.references[0].length.toLocaleString("en")} sentences`);
    button.addEventListener("click", () => { Object.assign(state, { test: index, line: 0, limit: PAGE }); draw(); });
    return button;
  }));
  byId("system").addEventListener("change", (event) => { state.system = Number(event.target.value); drawSentences(); drawDetail(); });
  byId("search").addEventListener("input", (event) => { Object.assign(state, { search: event.target.value, limit: PAGE }); drawSentences(); });
  byId("more").addEventListener("click", () => { state.limit += PAGE; drawSentences(); });
  draw();
  drawCurve();
})();
