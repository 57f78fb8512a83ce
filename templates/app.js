// What all parts of the script share. The server joins the parts into one file, in the order of src/page.rs. The page
// works without it.
// Text from people goes in as text, never as HTML.
"use strict";

const form = byId("new-message");
const list = byId("messages");
const root = document.querySelector("h1 a");
// Only the page of one message lies in a folder.
const isList = root.getAttribute("href") === "./";
const query = new URLSearchParams(location.search);
// Links gain other parameters on their way, which change nothing.
const isNewest = form && list && !query.has("before") && !query.has("after");
// The only place for words that a screen reader says when it has time.
const hint = byId("hint");

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

// Resolves to nothing when the board cannot be reached.
function request(path, options, headers) {
  return fetch(url(path), { ...options, headers: { Accept: "application/json", ...headers } }).catch(() => null);
}

// Browsers may forbid storage.
function recall(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {}
}

function keep(storage, name, value) {
  try {
    value ? window[storage].setItem(name, value) : window[storage].removeItem(name);
  } catch {}
}

function say(words) {
  hint.textContent = words;
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const isCommand = event.ctrlKey || event.metaKey;
  if (event.key === "Enter" && isCommand) event.target.form?.requestSubmit();
  if (event.key !== "n" || isCommand || event.altKey || !form) return;
  if (event.target.closest("input, textarea, dialog")) return;
  // Otherwise the field gets the letter.
  event.preventDefault();
  text.focus();
});

// Moderators load the script for it, when they ask for it or did so in this tab.
const moderate = byId("moderate");
const TOKEN = `moderator ${root.href}`;
let token = recall("sessionStorage", TOKEN);

function loadModeration() {
  document.head.append(create("script", { src: url("assets/{{moderation}}") }));
}

if (moderate && list) {
  moderate.hidden = false;
  if (token) loadModeration();
  else moderate.addEventListener("click", loadModeration, { once: true });
}
