// The form: drafts, sending without a reload, and what went wrong, in words for people.

const AWAY = "The board is unavailable. Your message is kept here, and posted once it is back.";
const problem = byId("problem");
const text = byId("text");
const key = form?.elements.key;
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

// Characters as the server counts them: blanks around the text do not count. Line ends are one in a field.
function count() {
  return [...text.value.trim()].length;
}

function tooLong(length) {
  return `${length} characters; the limit is ${max}`;
}

function showLimit() {
  const length = count();
  const left = max - length;
  say(left > max * NEAR_LIMIT ? `At most ${max} characters` : left < 0 ? tooLong(length) : `${left} left`);
}

function typed() {
  complain("");
  text.ariaInvalid = null;
  showLimit();
  // A draft survives a reload and a closed tab.
  keep(DRAFT, text.value, true);
}

// Screen readers say the words, unless they only count down.
function complain(words, live = null) {
  problem.ariaLive = live;
  say(words, problem);
}

function fail(words, live) {
  say("");
  complain(words, live);
  text.ariaInvalid = "true";
}

// Counts down until the next message is allowed.
function wait(seconds, live) {
  const words = `Too many messages. Try again in ${seconds} s.`;
  fail(words, live);
  setTimeout(() => problem.textContent === words && (seconds > 1 ? wait(seconds - 1, "off") : typed()), 1000);
}

// Tries until the board answers. A lost answer may mean stored: the same key makes each attempt the same submit.
async function send(message) {
  keep(DRAFT_KEY, key.value, true);
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key.value };
  for (let attempt = 1; ; attempt++) {
    const response = await request("messages", { method: "POST", body: JSON.stringify({ message }) }, headers);
    // Proxies answer so in place of a board that is away.
    if (response && ![502, 503, 504].includes(response.status)) return response;
    const answer = await response?.json().catch(() => null);
    complain(answer?.detail?.startsWith("Posting") ? answer.detail : AWAY);
    await new Promise((resolve) => setTimeout(resolve, Math.min(500 * attempt, 5000)));
  }
}

async function submit(event) {
  event.preventDefault();
  if (button.disabled) return;
  const length = count();
  if (length > max) return fail(tooLong(length));
  if (length === 0) return fail("Write something first.");
  button.disabled = text.readOnly = true;
  button.textContent = "Sending…";
  complain("");
  try {
    let response = await send(text.value);
    if (response.status === 422) {
      // The key belongs to a text that was sent before this one.
      key.value = newKey();
      response = await send(text.value);
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) {
      text.value = "";
      key.value = newKey();
      keep(DRAFT_KEY, "", true);
      typed();
      // On a page of older messages the new one has no place.
      if (!isNewest) return location.assign(`./#m${answer.id}`);
      release();
      show(answer);
      say("Posted");
    } else if (response.status === 429) {
      wait(Number(response.headers.get("Retry-After")) || 1);
    } else {
      const words = "The board could not store the message. Your text is still here.";
      fail(response.status === 400 && answer ? answer.detail : words);
    }
  } finally {
    button.disabled = text.readOnly = false;
    button.textContent = "Send";
    if (document.activeElement.matches("body, #new-message *")) text.focus();
  }
}

if (form && list) {
  form.onsubmit = submit;
  text.oninput = typed;
  text.ariaKeyShortcuts = "n";
  text.value ||= recall(DRAFT) ?? "";
  key.value = recall(DRAFT_KEY) || key.value;
  if (text.value) typed();
}
