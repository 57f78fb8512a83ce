// Sends the form without a reload, shows what others post, and shows times in the reader's own zone. The page works
// without it.
// Text from people goes in as text, never as HTML.
"use strict";

const AWAY = "The board is unavailable right now. Your message is kept here, and will be posted once it is back.";
const EMPTY = "No messages yet.";
// Cards on the page. Above it the oldest are removed; the link to older messages leads to them.
const MAX_CARDS = 200;
// Milliseconds between two reads where the browser or the board has no stream.
const POLL = 10000;
const form = document.getElementById("new-message");
const list = document.getElementById("messages");
const problem = document.getElementById("problem");
const hint = document.getElementById("hint");
const text = document.getElementById("text");
const button = form?.querySelector("button");
const DRAFT = `draft ${location.pathname}`;
// Links gain other parameters on their way, which change nothing.
const isNewest = !new URLSearchParams(location.search).has("before");
// The hint counts down once less than this part of the limit is left.
const NEAR_LIMIT = 0.1;

function localTime(time) {
  const text = time.dateTime || time.textContent;
  time.dateTime = time.title = text;
  const moment = new Date(text.replace(" ", "T"));
  time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

// A time-ordered UUID (RFC 9562, section 5.7). crypto.randomUUID is missing on pages that came over plain http.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = Date.now();
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(now / 2 ** (40 - 8 * i)) % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// Characters as the server counts them: line ends are one, blanks around the text do not count.
function count(value) {
  return Array.from(value.replace(/\r\n/g, "\n").trim()).length;
}

function tooLong(length) {
  return `${length} characters; the limit is ${form.dataset.max}`;
}

function typed() {
  problem.textContent = "";
  text.removeAttribute("aria-invalid");
  const max = Number(form.dataset.max);
  const length = count(text.value);
  const left = max - length;
  hint.textContent = left > max * NEAR_LIMIT ? `At most ${max} characters` : left < 0 ? tooLong(length) : `${left} left`;
  store(text.value);
}

// A draft survives a reload and a closed tab, where the browser allows it.
function store(draft) {
  try {
    draft ? localStorage.setItem(DRAFT, draft) : localStorage.removeItem(DRAFT);
  } catch {}
}

function restore() {
  try {
    if (!text.value) text.value = localStorage.getItem(DRAFT) ?? "";
  } catch {}
  if (text.value) typed();
}

// Text as the server shows it (src/page/text.rs): no more than one blank line, and links to the web.
function fill(element, message) {
  const isBlank = (line) => /^[ \t]*$/.test(line);
  const lines = message.split("\n");
  const shown = lines.filter((line, index) => index === 0 || !isBlank(line) || !isBlank(lines[index - 1])).join("\n");
  shown.split(/(https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}])/i).forEach((piece, index) => {
    if (index % 2 === 0) return element.append(piece);
    const link = document.createElement("a");
    link.href = piece;
    link.rel = "nofollow ugc noopener";
    link.textContent = piece;
    element.append(link);
  });
}

function timeOf(moment) {
  const time = document.createElement("time");
  time.textContent = moment.replace("T", " ");
  localTime(time);
  return time;
}

// The same elements as in templates/message.html.
function cardOf(message) {
  const card = document.createElement("li");
  card.id = `m${message.id}`;
  const body = document.createElement("p");
  body.dir = "auto";
  fill(body, message.message);
  card.append(body);
  if (message.created_at) card.append(timeOf(message.created_at));
  if (message.edited_at) {
    const edited = document.createElement("small");
    edited.append("edited ", timeOf(message.edited_at));
    card.append(" ", edited);
  }
  return card;
}

// Shows a message in its place, or its new text.
function show(message) {
  const card = cardOf(message);
  const known = document.getElementById(card.id);
  if (known) {
    card.className = known.className;
    if (!card.className) card.removeAttribute("class");
    if (!card.isEqualNode(known)) known.replaceWith(card);
    return;
  }
  card.className = "new";
  setTimeout(() => card.removeAttribute("class"), 3000);
  const older = Array.from(list.children).find((other) => Number(other.id.slice(1)) < message.id);
  list.insertBefore(card, older ?? null);
  tidy();
}

function remove(id) {
  document.getElementById(`m${id}`)?.remove();
  tidy();
}

function tidy() {
  document.getElementById("empty").textContent = list.children.length ? "" : EMPTY;
  if (list.children.length <= MAX_CARDS) return;
  while (list.children.length > MAX_CARDS) list.lastElementChild.remove();
  const nav = document.querySelector("nav");
  let older = nav.querySelector("[rel=next]");
  if (!older) {
    older = document.createElement("a");
    older.rel = "next";
    older.textContent = "Older";
    nav.append(older);
  }
  older.href = new URL(`./?before=${list.lastElementChild.id.slice(1)}`, form.action);
}

// Tries until the board answers. A lost answer may mean stored: the same key makes each attempt the same submit.
async function send(message, key) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key },
    body: JSON.stringify({ message }),
  };
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(new URL("messages", form.action), request).catch(() => null);
    if (response && response.status !== 503) return response;
    if (attempt === 2) problem.textContent = AWAY;
    await new Promise((resolve) => setTimeout(resolve, Math.min(500 * attempt, 5000)));
  }
}

function fail(words) {
  problem.textContent = words;
  text.setAttribute("aria-invalid", "true");
}

// Counts down until the next message is allowed.
function wait(seconds) {
  fail(`Too many messages. Try again in ${seconds} s.`);
  const shown = problem.textContent;
  setTimeout(() => problem.textContent === shown && (seconds > 1 ? wait(seconds - 1) : typed()), 1000);
}

async function submit(event) {
  event.preventDefault();
  const key = form.elements.key;
  if (button.disabled) return;
  const length = count(text.value);
  if (length > Number(form.dataset.max)) return fail(tooLong(length));
  if (length === 0) return fail("Write something first.");
  button.disabled = text.readOnly = true;
  button.textContent = "Sending…";
  problem.textContent = "";
  try {
    const response = await send(text.value, key.value);
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) {
      text.value = "";
      key.value = newKey();
      typed();
      // On a page of older messages the new one has no place.
      if (!isNewest) return location.assign(new URL(`./#m${answer.id}`, form.action));
      show(answer);
      hint.textContent = "Posted";
    } else if (response.status === 429) {
      wait(Number(response.headers.get("Retry-After")) || 1);
    } else {
      fail(answer?.detail ?? "The board could not store the message. Your text is still here.");
      if (answer?.code === "key_reused") key.value = newKey();
    }
  } finally {
    button.disabled = text.readOnly = false;
    button.textContent = "Send";
    text.focus();
  }
}

// The newest page follows the board while it is visible. A hidden page closes its stream, because browsers allow only a
// few connections to one host.
let events = null;
let poll = null;

function follow() {
  if (!isNewest || events || poll || document.hidden) return;
  if (!window.EventSource) return later();
  events = new EventSource(new URL("events", form.action));
  events.addEventListener("open", refresh);
  events.addEventListener("message", (event) => show(JSON.parse(event.data)));
  events.addEventListener("edit", (event) => show(JSON.parse(event.data)));
  events.addEventListener("delete", (event) => remove(JSON.parse(event.data).id));
  events.addEventListener("reset", refresh);
  events.addEventListener("error", () => {
    // The browser connects again by itself, but not after a refusal.
    if (events?.readyState !== EventSource.CLOSED) return;
    events = null;
    later();
  });
}

// Reads once after a while, and tries to follow again.
function later() {
  poll = setTimeout(async () => {
    await refresh();
    poll = null;
    follow();
  }, POLL);
}

function unfollow() {
  events?.close();
  clearTimeout(poll);
  events = poll = null;
}

// Shows what was posted, edited or deleted while there was no stream.
async function refresh() {
  // Before the request: what arrives meanwhile may be newer than the answer.
  const shown = Array.from(list.children, (card) => Number(card.id.slice(1)));
  const response = await fetch(new URL("messages", form.action), { headers: { Accept: "application/json" } }).catch(() => null);
  const answer = response?.ok ? await response.json().catch(() => null) : null;
  if (!answer) return;
  const ids = answer.messages.map((message) => message.id);
  const oldest = answer.next ? Math.min(...ids) : 0;
  shown.filter((id) => id >= oldest && !ids.includes(id)).forEach(remove);
  answer.messages.forEach(show);
}

document.querySelectorAll("time").forEach(localTime);
if (form && list) {
  form.addEventListener("submit", submit);
  text.addEventListener("input", typed);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  restore();
  follow();
  document.addEventListener("visibilitychange", () => (document.hidden ? unfollow() : follow()));
  addEventListener("pagehide", unfollow);
  addEventListener("pageshow", follow);
}
