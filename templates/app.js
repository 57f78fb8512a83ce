// What all parts of the script share. The server joins the parts into one file, in the order of src/page.rs. The page
// works without it.
// Text from people goes in as text, never as HTML.
"use strict";

const form = byId("new-message");
const list = byId("messages");
const root = document.querySelector("h1 a");
// Only the page of one message lies in a folder.
const home = root.getAttribute("href");
const isList = home === "./";
// Links gain other parameters on their way, which change nothing.
const isNewest = form && list && !/[?&](before|after)=/.test(location.search);
// The only place for words that a screen reader says when it has time.
const hint = byId("hint");
// Milliseconds for one answer.
const ANSWER = 10000;

function byId(id) {
  return document.getElementById(id);
}

function create(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function url(path) {
  return new URL(path, root.href);
}

// Resolves to nothing when the board cannot be reached, or does not answer in time.
function request(path, options, headers) {
  const all = { signal: AbortSignal.timeout(ANSWER), ...options, headers: { Accept: "application/json", ...headers } };
  return fetch(url(path), all).catch(() => null);
}

// What this tab keeps comes before what all tabs share. Browsers may forbid storage.
function recall(name) {
  try {
    return sessionStorage[name] ?? localStorage[name];
  } catch {}
}

// A tab empties what all share only where that is its own.
function keep(name, value, isShared) {
  try {
    const isOwn = localStorage[name] === sessionStorage[name];
    sessionStorage[name] = value;
    if (isShared && (value || isOwn)) localStorage[name] = value;
  } catch {}
}

// Screen readers would read the same words again.
function say(words, place = hint) {
  if (place.textContent !== words) place.textContent = words;
}

document.onkeydown = (event) => {
  // In a dialog the keys do what the browser does with them.
  if (event.isComposing || event.target.closest("dialog")) return;
  const isCommand = event.ctrlKey || event.metaKey;
  if (event.key === "Enter" && isCommand) event.target.form?.requestSubmit();
  if (event.key !== "n" || isCommand || event.altKey || !form) return;
  if (event.target.closest("input, textarea")) return;
  // Otherwise the field gets the letter.
  event.preventDefault();
  text.focus();
};

// Moderators load the script for it, when they ask for it or did so in this tab.
const moderate = byId("moderate");
const TOKEN = `moderator ${root.href}`;
let token = recall(TOKEN);

function loadModeration() {
  moderate.onclick = null;
  document.head.append(create("script", { src: url("assets/{{moderation}}"), onerror: offerModeration }));
}

function offerModeration() {
  moderate.onclick = loadModeration;
}

if (moderate && list) {
  moderate.hidden = false;
  token ? loadModeration() : offerModeration();
}
