// The page shows what /status says, and asks again every two seconds. It writes text
// only (textContent), so nothing that the daemon reports can become markup.

const interval = 2000;
const $ = (id) => document.getElementById(id);
const cards = new Map();
const named = (kind) => kind.replaceAll("_", " ");
const states = {
  running: ["Running", "good"], standing_by: ["Standing by", "idle"], acquiring: ["Acquiring", "warn"],
  paused: ["Paused", "warn"], waiting: ["Waiting", "bad"], stopped: ["Stopped", "bad"], repairing: ["Repairing", "warn"],
};
let answered = null; // when /status last answered, by this browser's clock

function set(node, text, tone) {
  if (node.textContent !== text) node.textContent = text;
  if (tone === undefined) return;
  if (tone) node.dataset.tone = tone; else delete node.dataset.tone;
}

function number(n) {
  return n.toLocaleString("en", { maximumFractionDigits: n < 10 && n % 1 ? 1 : 0 });
}

function counted(n, one) {
  return `${number(n)} ${one}${n === 1 ? "" : "s"}`;
}

// span is a time in the two largest units that say something.
function span(seconds) {
  if (seconds === undefined || seconds === null) return "–";
  if (seconds < 10) return `${seconds < 0.05 ? 0 : seconds.toFixed(1)} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = units.findIndex(([, size]) => seconds >= size);
  const [name, size] = units[at];
  const next = units[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return `${Math.floor(seconds / size)} ${name}` + (rest ? ` ${rest} ${next[0]}` : "");
}

function ago(stamp, now) {
  return stamp ? `${span(Math.max(0, (now - new Date(stamp)) / 1000))} ago` : "–";
}

// brief is a span that may be far below a second.
const brief = (seconds) => (seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : span(seconds));

// above and below give a figure its tone, by the daemon's limits.
let limits = {};
const above = (v, l) => (v === undefined || !l ? "" : v >= l.bad ? "bad" : v >= l.warn ? "warn" : "");
const below = (v, l) => (v === undefined || !l ? "" : v <= l.bad ? "bad" : v <= l.warn ? "warn" : "");
const lagTone = (v) => above(v, limits.lag);
const ageTone = (v) => above(v, limits.positionAge);
const oplogTone = (v) => below(v, limits.oplogLeft);

const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const known = (streams, key) => streams.map((s) => s[key]).filter((v) => v !== undefined);
const highest = (list) => (list.length ? Math.max(...list) : undefined);

// draw makes a line of points, and leaves out those that are null.
function draw(svg, points, least) {
  const width = 600, height = 100;
  const top = Math.max(least, ...points.map((v) => v ?? 0)) * 1.08;
  const x = (i) => (points.length > 1 ? (i / (points.length - 1)) * width : width).toFixed(1);
  const y = (v) => (height - (v / top) * (height - 4) - 1).toFixed(1);
  let line = "", area = "", begun = -1;
  points.forEach((v, i) => {
    if (v !== null && begun < 0) { begun = i; line += `M${x(i)} ${y(v)}`; area += `M${x(i)} ${height}L${x(i)} ${y(v)}`; return; }
    if (v !== null) { line += `L${x(i)} ${y(v)}`; area += `L${x(i)} ${y(v)}`; }
    if (begun >= 0 && (v === null || i === points.length - 1)) area += `L${x(v === null ? i - 1 : i)} ${height}Z`;
    if (v === null) begun = -1;
  });
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", area);
}

function fillCharts(f, s) {
  const h = s.hour, time = span(Math.round(h.seconds / 60) * 60 || h.seconds);
  const peak = highest(h.rates) ?? 0, slowest = highest(h.lags.filter((v) => v !== null));
  set(f.rate, number(h.perSecond));
  set(f.peak, peak ? `peak ${number(peak)}` : "");
  draw(f.rates, h.rates, 1);
  f.rates.setAttribute("aria-label", `Events a second of stream ${s.stream} in the last ${time}: ${number(h.perSecond)} now, at most ${number(peak)}.`);
  const atMost = s.seenAgeSeconds !== undefined; // a stand-by knows only what was stored
  set(f.lag, (atMost && s.lagSeconds ? "≤ " : "") + span(s.lagSeconds), atMost ? "" : lagTone(s.lagSeconds));
  set(f.lagPeak, slowest ? `at most ${span(slowest)}` : "");
  draw(f.lags, h.lags, 5);
  f.lags.dataset.tone = atMost ? "" : lagTone(s.lagSeconds);
  f.lags.setAttribute("aria-label", `Lag of stream ${s.stream} in the last ${time}: ${span(s.lagSeconds)} now, at most ${span(slowest)}.`);
  set(f.axis, h.rates.length > 1 ? `${time} ago` : "");
  const p = h.endToEndSeconds;
  set(f.latencyOf, p ? `(last ${time})` : "");
  set(f.latency, !s.here ? "measured by the owner" : p ? `half within ${brief(p.p50)}, 95 % ${brief(p.p95)}, 99 % ${brief(p.p99)}` : "no events yet");
}

function makeCard(name) {
  const card = $("card").content.cloneNode(true).firstElementChild;
  const fields = {};
  for (const node of card.querySelectorAll("[data-f]")) fields[node.dataset.f] = node;
  set(fields.stream, name);
  fields.stream.id = `stream-${cards.size}`;
  card.setAttribute("aria-labelledby", fields.stream.id);
  fields.region.setAttribute("aria-label", `Counts of stream ${name}`);
  $("cards").append(card);
  return { card, fields, rows: new Map() };
}

function fillKinds(entry, s) {
  const since = s.countedSince ? `since ${new Date(s.countedSince).toLocaleDateString(undefined, { dateStyle: "medium" })}, by every process` : "since this process began";
  set(entry.fields.caption, `Events of stream ${s.stream} ${since}`);
  set(entry.fields.counted, `Counted ${since}`);
  for (const kind of Object.keys(s.events)) {
    let cells = entry.rows.get(kind);
    if (!cells) {
      const row = entry.fields.kinds.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = named(kind);
      row.append(head);
      cells = [0, 1, 2, 3].map(() => row.insertCell());
      entry.rows.set(kind, cells);
    }
    ["create", "update", "delete"].forEach((action, i) => {
      const found = s.actions.find((a) => a.kind === kind && a.action === action);
      set(cells[i], found ? number(found.events) : "–");
      cells[i].className = found && found.events ? "" : "none";
    });
    const dead = s.deadLetters[kind] ?? 0;
    set(cells[3], number(dead));
    cells[3].className = dead ? "dead" : "none";
  }
}

function fillCard(entry, s, now) {
  const f = entry.fields;
  const [label, tone] = s.trouble?.server ? [`Waiting for ${s.trouble.server}`, "bad"] : states[s.state] ?? [s.state, "idle"];
  set(f.state, label, tone);
  set(f.owner, s.here ? `carried here by ${s.owner ?? "this process"}` : s.owner ? `carried by ${s.owner}` : "owner not known");
  fillCharts(f, s);
  set(f.age, span(s.positionAgeSeconds), s.seenAgeSeconds === undefined ? ageTone(s.positionAgeSeconds) : "");
  f.seenRow.hidden = s.seenAgeSeconds === undefined;
  set(f.seen, `${span(s.seenAgeSeconds)} ago`);
  const oplogKnown = s.oplogLeftSeconds !== undefined;
  set(f.oplog, s.oplogWhole ? "not full yet" : !oplogKnown && s.here ? "not known" : span(s.oplogLeftSeconds), oplogTone(s.oplogLeftSeconds));
  f.oplog.title = s.oplogWhole ? "The oplog still holds everything since the replica set began."
    : !oplogKnown && s.here ? "Needs the right find on local.oplog.rs; a sharded cluster does not tell it." : "";
  // Figures of a server that no longer answers are of the time that it did.
  set(f.asked, s.sampleAgeSeconds === undefined ? "–" : `${span(s.sampleAgeSeconds)} ago`, above(s.sampleAgeSeconds, { warn: 20, bad: 60 }));
  set(f.commit, s.here ? ago(s.lastCommit, now) : "–");
  set(f.since, span((now - new Date(s.since)) / 1000));
  const causes = Object.entries(s.reopenings).map(([cause, n]) => `${n} × ${cause}`);
  set(f.reopened, causes.length ? causes.join(", ") : "never");
  fillKinds(entry, s);
  f.repair.hidden = !s.repair;
  if (s.repair) {
    const r = s.repair;
    set(f.repairSince, new Date(r.since).toLocaleString());
    f.repairBar.max = Math.max(1, r.total);
    f.repairBar.value = r.scanned;
    f.repairBar.hidden = !r.total;
    set(f.repairText, `${r.total ? `${r.collection}: ${number(r.scanned)} of about ${number(r.total)} documents, ` : ""}${counted(r.events, "event")}, `
      + `${counted(r.deadLetters, "dead letter")}${r.secondsLeft ? `, ${span(r.secondsLeft)} left` : ""}${r.waitsFor ? `; waits for ${r.waitsFor}` : ""}`);
  }
  // An error that has been got over is history, not news.
  const t = s.trouble ?? (s.lastError && { tone: "idle", title: "Last error", text: s.lastError });
  f.error.hidden = !t;
  if (t) {
    f.error.dataset.tone = t.tone;
    set(f.errorTitle, t.title);
    set(f.errorAt, t.seconds ? `for ${span(t.seconds)}` : !s.trouble ? `${ago(s.lastErrorAt, now)}, got over` : t.text && t.text === s.lastError ? ago(s.lastErrorAt, now) : "");
    set(f.errorText, t.text ?? "");
    f.errorText.hidden = !t.text;
    set(f.advice, t.advice ?? "");
  }
}

function fillVerdict(v) {
  $("verdict").dataset.tone = v.tone;
  set($("verdict-text"), v.text);
  $("verdict-advice").hidden = !v.advice;
  set($("verdict-advice"), v.advice ?? "");
  const further = v.further ?? [], list = $("verdict-further");
  list.hidden = !further.length;
  if (list.textContent !== further.join("")) {
    list.replaceChildren(...further.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

function fillControls(status) {
  $("controls").hidden = $("ask").hidden = !status.controls;
  $("locked").hidden = status.controls;
  if (!status.controls) {
    if (!$("lists").hidden) hideLists("", "");
    return;
  }
  const which = $("which");
  const names = status.streams.map((s) => s.stream);
  if ([...which.options].map((o) => o.value).join("\n") !== names.join("\n")) {
    which.replaceChildren(...names.map((n) => new Option(n, n)));
  }
  if (status.logLevel && document.activeElement !== $("level") && !$("level").dataset.touched) $("level").value = status.logLevel;
}

function show(status) {
  const now = new Date(status.time);
  limits = status.limits;
  fillVerdict(status.verdict);
  set($("name"), status.name);
  set($("instance"), status.instance);
  set($("version"), status.version);
  document.title = `${status.ready ? "" : "⚠ "}${status.name} · fhir-cdc`;
  const paused = status.streams.some((s) => s.state === "paused");
  const running = status.streams.some((s) => s.state === "running");
  const word = !status.ready ? (status.streams.length ? "Not ready" : "Starting") : paused ? "Paused" : running ? "Ready" : "Standing by";
  set($("health"), word, !status.ready ? (status.streams.length ? "bad" : "warn") : paused ? "warn" : running ? "good" : "idle");
  $("health").title = status.readyz;

  const streams = status.streams;
  set($("sum-rate"), number(streams.reduce((sum, s) => sum + s.hour.perSecond, 0)));
  set($("sum-rate-note"), `${number(streams.reduce((sum, s) => sum + total(s.events), 0))} in all`);
  const lag = known(streams.filter((s) => s.seenAgeSeconds === undefined), "lagSeconds"), oplog = known(streams, "oplogLeftSeconds");
  const worst = (list, pick) => (list.length ? pick(...list) : undefined);
  set($("sum-lag"), span(worst(lag, Math.max)), lagTone(worst(lag, Math.max)));
  // Of several streams the slowest counts: their events are not in one distribution.
  const slowest = streams.map((s) => s.hour.endToEndSeconds).filter(Boolean).sort((a, b) => b.p95 - a.p95)[0];
  set($("sum-latency"), slowest ? brief(slowest.p95) : "–");
  set($("sum-latency-note"), slowest ? "95 % of the last hour" : "no events yet");
  const whole = !oplog.length && streams.some((s) => s.oplogWhole);
  set($("sum-oplog-note"), whole ? "nothing forgotten so far" : "before changes are lost");
  set($("sum-oplog"), whole ? "not full yet" : span(worst(oplog, Math.min)), oplogTone(worst(oplog, Math.min)));
  const dead = streams.reduce((sum, s) => sum + total(s.deadLetters), 0);
  const newly = streams.reduce((sum, s) => sum + s.hour.deadLetters, 0);
  set($("sum-dead"), number(dead), newly ? "bad" : "");
  set($("sum-dead-note"), newly ? `${number(newly)} in the last hour` : dead ? "none in the last hour" : "in all");

  $("empty").hidden = streams.length > 0;
  if (!streams.length) set($("empty"), `No streams yet: ${status.readyz.replace("starting: ", "")}.`);
  for (const s of streams) {
    if (!cards.has(s.stream)) cards.set(s.stream, makeCard(s.stream));
    fillCard(cards.get(s.stream), s, now);
  }
  for (const [name, entry] of cards) {
    if (!streams.some((s) => s.stream === name)) { entry.card.remove(); cards.delete(name); }
  }
  fillControls(status);
  set($("updated"), `Updated ${new Date().toLocaleTimeString()}.`);
}

async function refresh() {
  try {
    const response = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(String(response.status));
    show(await response.json());
    answered = Date.now();
    $("away").hidden = true;
  } catch {
    $("away").hidden = false;
    set($("away"), answered ? `No answer from the daemon for ${span((Date.now() - answered) / 1000)}; what is shown is from then.` : "No answer from the daemon.");
    set($("health"), "No answer", "bad");
  }
}

async function control(what) {
  const answer = $("answer");
  const body = what === "log-level" ? { level: $("level").value } : { stream: $("which").value };
  set(answer, "Asking …", "");
  try {
    const response = await fetch(`control/${what}`, {
      method: "POST", body: JSON.stringify(body), signal: AbortSignal.timeout(20000),
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${$("token").value}` },
    });
    const said = await response.json();
    set(answer, said.message ?? said.error ?? String(response.status), response.ok ? "good" : "bad");
  } catch {
    set(answer, "No answer from the daemon.", "bad");
  }
  delete $("level").dataset.touched;
  refresh();
}

// The private part is asked for with the token, and again while it is shown.
const clock = (stamp) => new Date(stamp).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
const lists = [
  ["backfills", "Backfills not done", [
    ["Since", (b) => clock(b.since), "time"], ["State", (b) => b.state], ["Name", (b) => b.name], ["By", (b) => b.actor],
    ["Reads", (b) => b.progress?.collection || "–"], ...["documents", "events", "deadLetters"].map((count, i) => (
      [["Documents", "Events", "Dead letters"][i], (b) => (b.progress ? number(b.progress[count]) : "–")])),
  ]],
  ["events", "Events of this process", [
    ["Committed", (e) => clock(e.committed), "time"], ["Kind", (e) => named(e.kind)], ["Resource", (e) => e.resourceType],
    ["Action", (e) => e.action], ["Document", (e) => e.document || "–", "code"], ["Event", (e) => e.id, "code"],
    ["After", (e) => brief(Math.max(0, (new Date(e.committed) - new Date(e.changed)) / 1000))], ["Stream", (e) => e.stream],
  ]],
  ["deadLetters", "Dead letters", [
    ["Stored", (l) => clock(l.stored), "time"], ["Kind", (l) => named(l.kind)],
    ["Document", (l) => l.key, "code"], ["Reason", (l) => l.reason, "long"], ["Retried", (l) => (l.retried ? "yes" : "no")],
    ["Place", (l) => [l.place, ...(l.again ?? [])].join(", "), "code"], ["Stream", (l) => l.stream],
  ]],
  ["audit", "Audit", [
    ["Time", (a) => clock(a.time), "time"], ["Action", (a) => a.action], ["Stream", (a) => a.stream ?? "all"],
    ["Actor", (a) => a.actor, "code"], ["Details", (a) => Object.entries(a.details ?? {}).map(([name, v]) => `${name}=${typeof v === "string" ? v : JSON.stringify(v)}`).join(", "), "long"],
  ]],
  ["configuration", "Configuration", [["Key", (c) => c.key, "code"], ["Value", (c) => c.value, "long"], ["From", (c) => c.source, "code"]]],
];
let turn = 0; // the number of the last question or hiding

function cellOf(tag, text, style) {
  return Object.assign(document.createElement(tag), { textContent: text, className: style ?? "" });
}

function fillLists(said) {
  // What somebody has set is read before what is as it comes.
  said.configuration.sort((a, b) => (a.source === "default") - (b.source === "default"));
  for (const [name, title, all] of lists) {
    const columns = all.filter(([head]) => said.ids || head !== "Event");
    let list = $(`list-${name}`);
    if (!list) {
      list = $("list").content.cloneNode(true).firstElementChild;
      list.id = `list-${name}`;
      list.open = name !== "configuration";
      list.querySelector(".scroll").setAttribute("aria-label", title);
      $("lists").append(list);
    }
    list.querySelector("tr").replaceChildren(...columns.map(([head]) => Object.assign(cellOf("th", head), { scope: "col" })));
    const rows = said[name];
    list.hidden = name === "backfills" && !rows.length;
    set(list.querySelector("summary"), rows.length ? `${title} (${rows.length})` : `${title}: none`);
    list.querySelector(".scroll").hidden = !rows.length;
    list.querySelector("tbody").replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      if (row.source === "default") line.className = "none";
      line.append(...columns.map(([head, text, style]) => {
        const cell = cellOf("td", text(row), style);
        cell.dataset.head = head; // a phone has it before the value
        return cell;
      }));
      return line;
    }));
  }
}

function hideLists(text, tone) {
  turn++;
  $("lists").hidden = true;
  $("lists").replaceChildren();
  set($("show"), "Show");
  set($("told"), text, tone);
}

async function showLists() {
  const mine = ++turn;
  if ($("lists").hidden) set($("told"), "Asking …", "");
  try {
    const response = await fetch($("ids").checked ? "details?ids=shown" : "details", {
      cache: "no-store", signal: AbortSignal.timeout(20000), headers: { Authorization: `Bearer ${$("token").value}` },
    });
    const said = await response.json();
    if (mine !== turn) return;
    if (!response.ok) { hideLists(said.error ?? String(response.status), "bad"); return; }
    fillLists(said);
    $("lists").hidden = false;
    set($("show"), "Hide");
    set($("told"), said.unread ? `Dead letters, audit and backfills may lack something: ${said.unread}` : "The newest 50 of each. Events are asked for every 10 s; dead letters, audit and backfills every 30 s.", said.unread ? "bad" : "");
  } catch {
    if (mine !== turn) return;
    set($("told"), "No answer from the daemon.", "bad");
    if ($("lists").hidden) return;
  }
  const wait = () => setTimeout(() => { if (mine === turn) (document.hidden ? wait : showLists)(); }, 10000);
  wait();
}

const stored = localStorage.getItem("theme");
if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});
$("level").addEventListener("change", () => { $("level").dataset.touched = "yes"; });
$("control").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("[data-control]")) {
  button.addEventListener("click", () => control(button.dataset.control));
}

$("show").addEventListener("click", () => { if ($("lists").hidden) showLists(); else hideLists("", ""); });
$("ids").addEventListener("change", () => { if (!$("lists").hidden) showLists(); });
$("ask").addEventListener("submit", (event) => event.preventDefault());

// One question at a time, and none while nobody looks.
async function loop() {
  if (!document.hidden) await refresh();
  setTimeout(loop, interval);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
loop();
