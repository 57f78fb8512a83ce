// Sends the form without a reload, shows what others post, and shows times in the reader's own zone. The page works
// without it.
// Text from people goes in as text, never as HTML.
"use strict";

const NOT_SENT =
  "Not sent: the board is unavailable right now. Your text is still here. Press Send again in a moment; it will be posted only once.";
const form = document.getElementById("new-message");
const list = document.getElementById("messages");
const problem = document.getElementById("problem");
const hint = document.getElementById("hint");
const text = document.getElementById("text");
const button = form?.querySelector("button");
const DRAFT = `draft ${location.pathname}`;
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

function tooLong(by) {
  return `Too long by ${by} ${by === 1 ? "character" : "characters"}`;
}

function typed() {
  problem.textContent = "";
  text.removeAttribute("aria-invalid");
  const max = Number(form.dataset.max);
  const left = max - count(text.value);
  hint.textContent = left > max * NEAR_LIMIT ? `At most ${max} characters` : left < 0 ? tooLong(-left) : `${left} left`;
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

// Text as the page shows it: no more than one blank line, and links to the web.
function fill(element, message) {
  const pieces = message.replace(/\n(?:[ \t]*\n){2,}/g, "\n\n").split(/(https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}])/i);
  pieces.forEach((piece, index) => {
    if (index % 2 === 0) return element.append(piece);
    const link = document.createElement("a");
    link.href = piece;
    link.rel = "nofollow ugc noopener";
    link.textContent = piece;
    element.append(link);
  });
}

function show(message) {
  if (!list || document.getElementById(`m${message.id}`)) return;
  const item = document.createElement("li");
  item.id = `m${message.id}`;
  const body = document.createElement("p");
  body.dir = "auto";
  fill(body, message.message);
  item.append(body);
  item.className = "new";
  setTimeout(() => (item.className = ""), 3000);
  if (message.created_at) {
    const time = document.createElement("time");
    time.textContent = message.created_at.replace("T", " ");
    localTime(time);
    item.append(time);
  }
  const older = Array.from(list.children).find((other) => Number(other.id.slice(1)) < message.id);
  list.insertBefore(item, older ?? null);
  document.getElementById("empty").textContent = "";
}

// A lost answer may mean stored: the same key makes the second attempt the same submit.
async function send(message, key) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key },
    body: JSON.stringify({ message }),
  };
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(new URL("messages", form.action), request).catch(() => null);
    if (attempt === 3 || (response && response.status !== 503)) return response;
    await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
  }
}

function fail(words) {
  problem.textContent = words;
  text.setAttribute("aria-invalid", "true");
}

async function submit(event) {
  event.preventDefault();
  const key = form.elements.key;
  if (button.disabled) return;
  const left = Number(form.dataset.max) - count(text.value);
  if (left < 0) return fail(tooLong(-left));
  if (count(text.value) === 0) return fail("Write something first.");
  button.disabled = text.readOnly = true;
  button.textContent = "Sending…";
  problem.textContent = "";
  try {
    const response = await send(text.value, key.value);
    const answer = await response?.json().catch(() => null);
    if (response?.ok && answer) {
      text.value = "";
      store("");
      // On a page of older messages the new one has no place.
      if (location.search) location.assign(new URL(`./#m${answer.id}`, form.action));
      show(answer);
      key.value = newKey();
      typed();
      hint.textContent = "Posted";
    } else {
      fail(!response || response.status === 503 ? NOT_SENT : answer?.detail ?? NOT_SENT);
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

function follow() {
  if (!list || location.search || events || document.hidden) return;
  events = new EventSource(new URL("events", form.action));
  events.addEventListener("open", refresh);
  events.addEventListener("message", (event) => show(JSON.parse(event.data)));
  events.addEventListener("edit", (event) => change(JSON.parse(event.data)));
  events.addEventListener("delete", (event) => document.getElementById(`m${JSON.parse(event.data).id}`)?.remove());
  events.addEventListener("reset", refresh);
  events.addEventListener("error", () => {
    // The browser connects again by itself, but not after a refusal.
    if (events?.readyState !== EventSource.CLOSED) return;
    events = null;
    setTimeout(() => refresh().then(follow), 10000);
  });
}

function unfollow() {
  events?.close();
  events = null;
}

// Shows what was posted, edited or deleted while there was no stream.
async function refresh() {
  const response = await fetch(new URL("messages", form.action), { headers: { Accept: "application/json" } }).catch(() => null);
  const answer = response?.ok ? await response.json() : null;
  if (!answer) return;
  const known = new Map(answer.messages.map((message) => [`m${message.id}`, message]));
  const oldest = answer.next ? Math.min(...answer.messages.map((message) => message.id)) : 0;
  for (const item of Array.from(list.children)) {
    if (Number(item.id.slice(1)) >= oldest && !known.has(item.id)) item.remove();
  }
  known.forEach((message) => (document.getElementById(`m${message.id}`) ? change(message) : show(message)));
}

function change(message) {
  const body = document.querySelector(`#m${message.id} p`);
  if (!body) return;
  body.replaceChildren();
  fill(body, message.message);
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
