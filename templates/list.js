// The list: what is new goes to its place, or waits while one reads further down.

const EMPTY = "No messages yet. Write the first one.";
// Cards on the page. Above it the oldest are removed; the link to older messages leads to them.
const MAX_CARDS = 200;
// Messages that wait, by id.
const held = new Map();
const bar = create("button", { id: "bar", hidden: true });

function idOf(card) {
  return Number(card.id.slice(1));
}

function isReading() {
  return list.getBoundingClientRect().top < 0;
}

// Shows a message in its place, or its new text.
function show(message) {
  const known = byId(`m${message.id}`);
  if (known) return update(known, message);
  const last = list.lastElementChild;
  if (!last || idOf(last) > message.id || !isReading()) return insert(message);
  held.set(message.id, message);
  if (held.size > MAX_CARDS) held.delete(Math.min(...held.keys()));
  announceHeld();
}

// A moderator edits it, or may still undo a change.
function isBusy(card) {
  return card.querySelector("form, .note");
}

function update(known, message) {
  if (isBusy(known)) return;
  const card = cardOf(message);
  if (known.className) card.className = known.className;
  if (known.querySelector("[open]")) card.querySelector("details")?.toggleAttribute("open");
  showTimes(known);
  if (!card.isEqualNode(known)) known.replaceWith(card);
}

function insert(message) {
  const card = cardOf(message);
  const older = [...list.children].find((other) => idOf(other) < message.id);
  if (older || !list.children.length) {
    card.className = "new";
    setTimeout(() => byId(card.id)?.classList.remove("new"), 3000);
  }
  list.insertBefore(card, older ?? null);
  unhold(message.id);
  tidy();
}

function remove(id) {
  const card = byId(`m${id}`);
  // Keeps what a moderator types, and what is being saved.
  if (card?.querySelector("form, :not(.gone) > .note")) return;
  card?.remove();
  unhold(id);
  tidy();
}

function unhold(id) {
  if (held.delete(id)) announceHeld();
}

function announceHeld() {
  const words = `${held.size} new message${held.size === 1 ? "" : "s"}`;
  bar.hidden = !held.size;
  bar.textContent = words;
  if (held.size) say(words);
}

function release() {
  const messages = [...held.values()];
  held.clear();
  messages.forEach(insert);
  announceHeld();
  showLimit();
}

function tidy() {
  const isEmpty = !list.children.length;
  if (isNewest) byId("empty").textContent = isEmpty && !olderLink() ? EMPTY : "";
  if (isEmpty && olderLink()) refresh();
  while (list.children.length > MAX_CARDS && !isBusy(list.lastElementChild)) {
    list.lastElementChild.remove();
    linkOlder();
  }
}

function olderLink() {
  return document.querySelector("[rel=next]");
}

// Leads to what is older than the last card.
function linkOlder() {
  let older = olderLink();
  if (!older) {
    older = create("a", { rel: "next" }, "Older");
    document.querySelector("nav")?.remove();
    list.parentNode.append(create("nav", { ariaLabel: "Pages" }, older));
  }
  older.href = `./?before=${idOf(list.lastElementChild)}`;
}

if (isNewest) {
  list.before(bar);
  bar.onclick = () => {
    release();
    list.scrollIntoView();
    list.querySelector("a").focus({ preventScroll: true });
  };
  document.onscroll = () => held.size && !isReading() && release();
}
