// Sends the form without a reload, and shows times in the reader's own zone. The page works without it.
// Text from people goes in as text, never as HTML.
"use strict";

const NOT_SENT =
  "Not sent: the board is unavailable right now. Your text is still here. Press Send again in a moment; it will be posted only once.";
const form = document.getElementById("new-message");
const list = document.getElementById("messages");
const problem = document.getElementById("problem");

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

function show(message) {
  if (!list || document.getElementById(`m${message.id}`)) return;
  const item = document.createElement("li");
  item.id = `m${message.id}`;
  const text = document.createElement("p");
  text.dir = "auto";
  text.textContent = message.message;
  item.append(text);
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

async function submit(event) {
  event.preventDefault();
  const button = form.querySelector("button");
  const text = form.elements.new_message;
  const key = form.elements.key;
  if (button.disabled) return;
  button.disabled = true;
  problem.textContent = "";
  try {
    const response = await send(text.value, key.value);
    const answer = await response?.json().catch(() => null);
    if (response?.ok && answer) {
      // On a page of older messages the new one has no place.
      if (location.search) location.assign(new URL("./", form.action));
      show(answer);
      form.reset();
      text.value = "";
      key.value = newKey();
    } else {
      problem.textContent = !response || response.status === 503 ? NOT_SENT : answer?.detail ?? NOT_SENT;
      if (answer?.code === "key_reused") key.value = newKey();
    }
  } finally {
    button.disabled = false;
    text.focus();
  }
}

document.querySelectorAll("time").forEach(localTime);
if (form && list) form.addEventListener("submit", submit);
