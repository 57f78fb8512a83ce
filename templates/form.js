// The form: drafts, sending without a reload, and what went wrong, in words for people.

const AWAY = "The board is unavailable right now. Your message is kept here, and will be posted once it is back.";
const problem = byId("problem");
const text = byId("text");
const button = form?.querySelector("button");
const max = Number(form?.dataset.max);
const DRAFT = `draft ${location.pathname}`;
// The key of a draft that was sent, perhaps without an answer.
const DRAFT_KEY = `key ${DRAFT}`;
// The hint counts down once less than this part of the limit is left.
const NEAR_LIMIT = 0.1;

// A time-ordered UUID (RFC 9562, section 5.7). crypto.randomUUID is missing on pages that came over plain http.
function newKey() {
  const hex = (value, digits) => value.toString(16).padStart(digits, "0");
  const now = hex(Date.now(), 12);
  const random = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => hex(byte, 2)).join("");
  return `${now.slice(0, 8)}-${now.slice(8)}-7${random.slice(0, 3)}-8${random.slice(3, 6)}-${random.slice(6)}`;
}

// Characters as the server counts them: line ends are one, blanks around the text do not count.
function count(value) {
  return [...value.replace(/\r\n/g, "\n").trim()].length;
}

function tooLong(length) {
  return `${length} characters; the limit is ${max}`;
}

function showLimit() {
  const length = count(text.value);
  const left = max - length;
  say(left > max * NEAR_LIMIT ? `At most ${max} characters` : left < 0 ? tooLong(length) : `${left} left`);
}

function typed() {
  problem.textContent = "";
  text.removeAttribute("aria-invalid");
  showLimit();
  // A draft survives a reload and a closed tab.
  keep("localStorage", DRAFT, text.value);
}

function fail(words) {
  say("");
  problem.textContent = words;
  text.setAttribute("aria-invalid", "true");
}

// Counts down until the next message is allowed.
function wait(seconds) {
  const words = `Too many messages. Try again in ${seconds} s.`;
  fail(words);
  setTimeout(() => problem.textContent === words && (seconds > 1 ? wait(seconds - 1) : typed()), 1000);
}

// Tries until the board answers. A lost answer may mean stored: the same key makes each attempt the same submit.
async function send(message, key) {
  const options = { method: "POST", body: JSON.stringify({ message }) };
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  for (let attempt = 1; ; attempt++) {
    const response = await request("messages", options, headers);
    if (response && response.status !== 503) return response;
    if (attempt === 2) problem.textContent = AWAY;
    await new Promise((resolve) => setTimeout(resolve, Math.min(500 * attempt, 5000)));
  }
}

async function submit(event) {
  event.preventDefault();
  const key = form.elements.key;
  if (button.disabled) return;
  const length = count(text.value);
  if (length > max) return fail(tooLong(length));
  if (length === 0) return fail("Write something first.");
  button.disabled = text.readOnly = true;
  button.textContent = "Sending…";
  problem.textContent = "";
  keep("localStorage", DRAFT_KEY, key.value);
  try {
    let response = await send(text.value, key.value);
    // The key belongs to a text that was sent before this one.
    if (response.status === 422) response = await send(text.value, (key.value = newKey()));
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) {
      text.value = "";
      key.value = newKey();
      keep("localStorage", DRAFT_KEY);
      typed();
      // On a page of older messages the new one has no place.
      if (!isNewest) return location.assign(url(`./#m${answer.id}`));
      release();
      show(answer);
      say("Posted");
    } else if (response.status === 429) {
      wait(Number(response.headers.get("Retry-After")) || 1);
    } else {
      const words = "The board could not store the message. Your text is still here.";
      fail(answer?.code === "invalid_message" ? answer.detail : words);
    }
  } finally {
    button.disabled = text.readOnly = false;
    button.textContent = "Send";
    text.focus();
  }
}

if (form && list) {
  form.addEventListener("submit", submit);
  text.addEventListener("input", typed);
  text.setAttribute("aria-keyshortcuts", "n");
  text.value ||= recall("localStorage", DRAFT) ?? "";
  form.elements.key.value = recall("localStorage", DRAFT_KEY) ?? form.elements.key.value;
  if (text.value) typed();
}
