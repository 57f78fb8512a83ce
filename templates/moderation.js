// Editing and deleting, for readers who have the password. It stays in this tab.

// Milliseconds in which a change can be undone.
const UNDO = 5000;
// What sends each change that can still be undone.
const pending = new Set();
let asking = null;

function action(label, onclick, more) {
  return create("button", { type: "button", className: "plain", onclick, ...more }, label);
}

function setToken(value) {
  token = value;
  keep(TOKEN, value);
  moderate.textContent = token ? "Stop moderating" : "Moderate";
  list.querySelectorAll(".tools").forEach((tools) => tools.remove());
  [...list.children].forEach(equip);
}

// Gives a card its buttons.
function equip(card) {
  if (!token) return;
  const tool = (name, act) => action(name, () => act(card), { ariaLabel: `${name} message ${idOf(card)}` });
  card.append(create("span", { className: "tools" }, tool("Edit", edit), tool("Delete", discard)));
}

// Asks for the password. Resolves to whether there is one.
function ask(words = "") {
  asking ??= new Promise((resolve) => {
    const field = create("input", { id: "password", type: "password", autocomplete: "off", required: true });
    const cancel = action("Cancel", () => dialog.close());
    const buttons = create("div", { className: "row" }, cancel, create("button", { value: "given" }, "Moderate"));
    const label = create("label", { htmlFor: "password" }, "Moderator's password");
    const alert = create("p", { role: "alert" }, words);
    const dialog = create("dialog", { ariaLabel: "Moderate" }, create("form", { method: "dialog" }, label, field, alert, buttons));
    dialog.addEventListener("close", () => {
      asking = null;
      dialog.remove();
      if (dialog.returnValue) setToken(field.value.trim());
      resolve(token);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

// Sends a change. A page that is left still sends it.
async function change(method, card, body) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  // Headers hold no other characters, and neither do passwords.
  const response = /^[!-~]+$/.test(token)
    ? await request(`messages/${idOf(card)}`, { method, body, keepalive: true }, headers)
    : { status: 401 };
  if (response?.status !== 401) return response;
  if (token) setToken("");
  return (await ask("That is not the moderator's password.")) ? change(method, card, body) : response;
}

async function reason(response) {
  if (!response || response.status >= 500) return "The board is unavailable right now. Try again in a moment.";
  if (response.status === 429) return `Too many changes. Try again in ${response.headers.get("Retry-After")} s.`;
  if (response.status === 404) return "This message is deleted.";
  if (response.status === 400) return (await response.json()).detail;
  return "Only moderators can change messages.";
}

function complainAt(place, words) {
  place.querySelector("[role=alert]")?.remove();
  place.append(create("p", { role: "alert" }, words));
}

// Acts after some seconds, when the page is left, or not at all. The act resolves to what then changes the card.
function postpone(card, words, act, undo) {
  card.querySelector(":scope > [role=alert]")?.remove();
  const end = async (next) => {
    clearTimeout(timer);
    pending.delete(go);
    const hasFocus = button === document.activeElement;
    button.remove();
    // Until the board has answered, the note keeps others from changing the card.
    const show = await next();
    note.remove();
    const near = card.nextElementSibling ?? card.previousElementSibling;
    show?.();
    if (!hasFocus || document.activeElement !== document.body) return;
    (byId(card.id) ?? near)?.querySelector(".tools button")?.focus({ preventScroll: true });
  };
  const go = () => end(act);
  const timer = setTimeout(go, UNDO);
  const undoNow = async () => {
    await end(undo);
    refresh();
  };
  // Screen readers say the label, because the button gets the focus.
  const button = action("Undo", undoNow, { ariaLabel: `${words} Undo` });
  const note = create("div", { className: "note row" }, words, button);
  pending.add(go);
  card.append(note);
  button.focus();
}

function discard(card) {
  card.classList.add("gone");
  const back = () => card.classList.remove("gone");
  postpone(card, "Deleted.", async () => {
    const response = await change("DELETE", card);
    if (response?.ok || response?.status === 404) return () => (isList ? remove(idOf(card)) : location.assign(root));
    const words = await reason(response);
    return () => {
      back();
      complainAt(card, words);
    };
  }, back);
}

async function edit(card) {
  const response = await request(`messages/${idOf(card)}`);
  const answer = response?.ok ? await response.json() : await reason(response);
  // It may have changed meanwhile.
  const now = byId(card.id) ?? card;
  if (isBusy(now)) return;
  response?.ok ? openEditor(now, answer.message) : complainAt(now, answer);
}

function openEditor(card, value, words) {
  const body = card.querySelector("p");
  const field = create("textarea", { value, rows: 2, required: true, ariaLabel: `Text of message ${idOf(card)}` });
  const close = () => {
    editor.remove();
    card.querySelector(".tools button")?.focus();
  };
  const cancel = () => {
    close();
    refresh();
  };
  const buttons = create("div", { className: "row" }, action("Cancel", cancel), create("button", {}, "Save"));
  const editor = create("form", {
    onsubmit(event) {
      event.preventDefault();
      const before = [...body.childNodes];
      const restore = () => body.replaceChildren(...before);
      close();
      fill(body, field.value);
      postpone(card, "Saved.", () => save(card, field.value, restore), restore);
    },
  }, field, buttons);
  card.querySelector(":scope > form, :scope > [role=alert]")?.remove();
  card.append(editor);
  if (words) complainAt(editor, words);
  // A change that failed later must not interrupt what the moderator does now.
  if (!words || document.activeElement === document.body) field.focus();
}

async function save(card, message, restore) {
  const response = await change("PUT", card, JSON.stringify({ message }));
  const answer = response?.ok ? await response.json() : await reason(response);
  if (response?.ok) return () => update(card, answer);
  return () => {
    restore();
    openEditor(card, message, answer);
  };
}

setToken(token ?? "");
if (!token) ask();
moderate.addEventListener("click", () => {
  pending.forEach((go) => go());
  token ? setToken("") : ask();
});
addEventListener("pagehide", () => pending.forEach((go) => go()));
