// The page shows what /status says, and asks again every two seconds. It writes text
// only (textContent), so nothing that the daemon reports can become markup.

const interval = 2000;
const $ = (id) => document.getElementById(id);
const cards = new Map();
const kinds = { change: "Change", export: "Bulk export", accessed_everything: "$everything", resource_change: "Compact" };
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

// above and below give a figure its tone.
const above = (v, warn, bad) => (v === undefined ? "" : v >= bad ? "bad" : v >= warn ? "warn" : "");
const below = (v, warn, bad) => (v === undefined ? "" : v <= bad ? "bad" : v <= warn ? "warn" : "");
const lagTone = (v) => above(v, 30, 60);
const ageTone = (v) => above(v, 120, 300);
const oplogTone = (v) => below(v, 6 * 3600, 1800);

const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const known = (streams, key) => streams.map((s) => s[key]).filter((v) => v !== undefined);

// flowing tells whether a stream can carry anything: what it last did says nothing of one that cannot.
const flowing = (s) => (s.state === "running" || s.state === "repairing") && !awaited(s);

// awaited is the server that a stream waits for, and for how long.
function awaited(s) {
  const kafka = s.commitPendingSeconds || s.unjoinedSeconds;
  if (kafka) return ["Kafka", kafka];
  return s.readPendingSeconds ? ["MongoDB", s.readPendingSeconds] : undefined;
}

function rateOf(s) {
  if (!flowing(s)) return 0;
  const points = s.rate.eventsPerSecond.slice(-3);
  return points.length ? points.reduce((a, b) => a + b, 0) / points.length : 0;
}

function draw(svg, points, name, rate) {
  const slots = 150, width = 600, height = 120;
  const top = Math.max(1, ...points) * 1.1;
  const first = slots - points.length;
  const at = points.map((v, i) => [((first + i) / (slots - 1)) * width, height - (v / top) * (height - 4) - 1]);
  const line = at.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", at.length ? `${line}L${width} ${height}L${at[0][0].toFixed(1)} ${height}Z` : "");
  svg.setAttribute("aria-label", `Events a second of stream ${name} in the last five minutes: ${number(rate)} now, at most ${number(Math.max(0, ...points))}.`);
}

function makeCard(name) {
  const card = $("card").content.cloneNode(true).firstElementChild;
  const fields = {};
  for (const node of card.querySelectorAll("[data-f]")) fields[node.dataset.f] = node;
  set(fields.stream, name);
  fields.stream.id = `stream-${cards.size}`;
  card.setAttribute("aria-labelledby", fields.stream.id);
  fields.region.setAttribute("aria-label", `Counts of stream ${name}`);
  set(fields.caption, `Events of stream ${name} since this process began`);
  $("cards").append(card);
  return { card, fields, rows: new Map() };
}

function fillKinds(entry, s) {
  for (const kind of Object.keys(s.events).sort((a, b) => Object.keys(kinds).indexOf(a) - Object.keys(kinds).indexOf(b))) {
    let cells = entry.rows.get(kind);
    if (!cells) {
      const row = entry.fields.kinds.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = kinds[kind] ?? kind;
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
  const [server, pending] = awaited(s) ?? [];
  const [label, tone] = server ? [`Waiting for ${server}`, "bad"] : states[s.state] ?? [s.state, "idle"];
  set(f.state, label, tone);
  set(f.owner, s.here ? `carried here by ${s.owner ?? "this process"}` : s.owner ? `carried by ${s.owner}` : "owner not known");
  const rate = rateOf(s);
  set(f.rate, number(rate));
  const peak = Math.max(0, ...s.rate.eventsPerSecond);
  set(f.peak, peak ? `peak ${number(peak)}` : "");
  draw(f.svg, s.rate.eventsPerSecond, s.stream, rate);
  set(f.lag, span(s.lagSeconds), lagTone(s.lagSeconds));
  set(f.age, span(s.positionAgeSeconds), ageTone(s.positionAgeSeconds));
  const oplogKnown = s.oplogLeftSeconds !== undefined;
  set(f.oplog, s.oplogWhole ? "not full yet" : !oplogKnown && s.here ? "not known" : span(s.oplogLeftSeconds), oplogTone(s.oplogLeftSeconds));
  f.oplog.title = s.oplogWhole ? "The oplog still holds everything since the replica set began."
    : !oplogKnown && s.here ? "Needs the right find on local.oplog.rs; a sharded cluster does not tell it." : "";
  // Figures of a server that no longer answers are of the time that it did.
  set(f.asked, s.sampleAgeSeconds === undefined ? "–" : `${span(s.sampleAgeSeconds)} ago`, above(s.sampleAgeSeconds, 20, 60));
  set(f.commit, s.here ? ago(s.lastCommit, now) : "–");
  set(f.since, span((now - new Date(s.since)) / 1000));
  const causes = Object.entries(s.reopenings).map(([cause, n]) => `${n} ${cause}`);
  set(f.reopened, causes.length ? causes.join(", ") : "never");
  fillKinds(entry, s);
  f.repair.hidden = !s.repair;
  if (s.repair) {
    const r = s.repair;
    set(f.repairSince, new Date(r.since).toLocaleString());
    f.repairBar.max = Math.max(1, r.total);
    f.repairBar.value = r.scanned;
    set(f.repairText, `${r.collection}: ${number(r.scanned)} of about ${number(r.total)} documents, ${number(r.events)} events, `
      + `${number(r.deadLetters)} dead letters${r.secondsLeft ? `, ${span(r.secondsLeft)} left` : ""}${r.waitsFor ? `; waits for ${r.waitsFor}` : ""}`);
  }
  f.error.hidden = !s.lastError && !server;
  if (server === "Kafka") {
    f.error.dataset.tone = "bad";
    set(f.errorTitle, "Kafka does not answer");
    set(f.errorAt, `for ${span(pending)}`);
    // What the brokers have answered since then says more than that they have not taken it.
    const answered = s.commitPendingSeconds && s.lastErrorAt && new Date(s.now ?? Date.now()) - new Date(s.lastErrorAt) < pending * 1000;
    set(f.errorText, answered ? s.lastError : s.commitPendingSeconds ? "The brokers have not taken the last batch." : "The group of replicas cannot be reached, so nobody knows who carries the stream.");
    // What keeps the group away may have an advice of its own, such as a certificate's.
    const own = (answered || s.state === "waiting" && s.unjoinedSeconds) && s.advice;
    set(f.advice, own || "See that Kafka is up and that kafka.brokers, and the addresses that the brokers give in their advertised.listeners, can be reached from here. The stream goes on by itself, and nothing is lost while the oplog holds its position.");
  } else if (s.lastError) {
    // An error that has been got over is history, not news.
    const now = server || s.uncommittedSeconds || s.state === "waiting" || s.state === "stopped" || s.state === "acquiring";
    set(f.errorTitle, server ? `${server} does not answer` : "Last error");
    f.error.dataset.tone = now ? "bad" : "idle";
    set(f.errorAt, server ? `for ${span(pending)}` : ago(s.lastErrorAt, new Date(s.now ?? Date.now())) + (now ? "" : ", got over"));
    f.errorAt.dateTime = s.lastErrorAt;
    set(f.errorText, s.lastError);
    set(f.advice, now ? s.advice ?? "" : "");
  }
}

function fillControls(status) {
  $("controls").hidden = !status.controls;
  if (!status.controls) return;
  const which = $("which");
  const names = status.streams.map((s) => s.stream);
  if ([...which.options].map((o) => o.value).join("\n") !== names.join("\n")) {
    which.replaceChildren(...names.map((n) => new Option(n, n)));
  }
  if (status.logLevel && document.activeElement !== $("level") && !$("level").dataset.touched) $("level").value = status.logLevel;
}

function show(status) {
  const now = new Date(status.time);
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
  set($("sum-rate"), number(streams.reduce((sum, s) => sum + rateOf(s), 0)));
  set($("sum-rate-note"), `${number(streams.reduce((sum, s) => sum + total(s.events), 0))} since the start`);
  const lag = known(streams, "lagSeconds"), age = known(streams, "positionAgeSeconds"), oplog = known(streams, "oplogLeftSeconds");
  const worst = (list, pick) => (list.length ? pick(...list) : undefined);
  set($("sum-lag"), span(worst(lag, Math.max)), lagTone(worst(lag, Math.max)));
  set($("sum-age"), span(worst(age, Math.max)), ageTone(worst(age, Math.max)));
  const whole = !oplog.length && streams.some((s) => s.oplogWhole);
  set($("sum-oplog-note"), whole ? "nothing forgotten so far" : "before changes are lost");
  set($("sum-oplog"), whole ? "not full yet" : span(worst(oplog, Math.min)), oplogTone(worst(oplog, Math.min)));
  const dead = streams.reduce((sum, s) => sum + total(s.deadLetters), 0);
  set($("sum-dead"), number(dead), dead ? "bad" : "");

  $("empty").hidden = streams.length > 0;
  if (!streams.length) set($("empty"), `No streams yet: ${status.readyz.replace("starting: ", "")}.`);
  for (const s of streams) {
    if (!cards.has(s.stream)) cards.set(s.stream, makeCard(s.stream));
    fillCard(cards.get(s.stream), { ...s, now: status.time }, now);
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

// One question at a time, and none while nobody looks.
async function loop() {
  if (!document.hidden) await refresh();
  setTimeout(loop, interval);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
loop();
