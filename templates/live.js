// The newest page follows the board while it is visible. A hidden page closes its stream, because browsers allow only a
// few connections to one host.

// Milliseconds between two reads where the browser or the board has no stream: the first time, and at most.
const FIRST_POLL = 1000;
const POLL = 10000;
let delay = FIRST_POLL;
let events = null;
let poll = null;
// Reads of the list that were asked for since the one under way began, and that one.
let reads = 0;
// The ids of the events during a read. They are newer than its answer.
let touched = new Set();

function follow() {
  if (!isNewest || events || poll || document.hidden) return;
  if (!window.EventSource) return later();
  events = new EventSource(url("events"));
  const on = (name, act) => events.addEventListener(name, act);
  const change = (act) => (event) => {
    const message = JSON.parse(event.data);
    touched.add(message.id);
    act(message);
  };
  on("open", () => {
    delay = FIRST_POLL;
    refresh();
  });
  on("message", change(show));
  on("edit", change((message) => (byId(`m${message.id}`) || held.has(message.id)) && show(message)));
  on("delete", change((message) => remove(message.id)));
  on("reset", refresh);
  on("error", () => {
    // The browser connects again by itself, but not after a refusal.
    if (events?.readyState !== EventSource.CLOSED) return;
    events = null;
    later();
  });
}

// Reads once after a while, and tries to follow again. Pages that lost their streams together come back one by one.
function later() {
  clearTimeout(poll);
  const own = setTimeout(async () => {
    await refresh();
    // Meanwhile the page was hidden, or the read failed.
    if (poll !== own) return;
    poll = null;
    follow();
  }, delay * (1 + Math.random()));
  poll = own;
  delay = Math.min(2 * delay, POLL);
}

function unfollow() {
  events?.close();
  clearTimeout(poll);
  events = poll = null;
}

// Shows what was posted, edited or deleted while there was no stream. One read at a time: it ends with another one when
// that was asked for meanwhile.
async function refresh() {
  if (!isNewest || ++reads > 1) return;
  let isRead;
  try {
    do {
      reads = 1;
      isRead = await readList();
    } while (reads > 1);
  } finally {
    reads = 0;
    if (!isRead && events) later();
  }
}

// Resolves to whether the board answered.
async function readList() {
  touched = new Set();
  // Before the request: what arrives meanwhile may be newer than the answer.
  const shown = [...held.keys(), ...Array.from(list.children, idOf)];
  const read = async (path) => {
    const response = await request(path);
    return response?.ok ? response.json().catch(() => null) : null;
  };
  let answer = await read("messages");
  const oldestOf = ({ messages, next }) => (next ? messages.at(-1).id : 0);
  // More arrived than one answer holds: as many as the page keeps leave no gap.
  const end = answer && oldestOf(answer);
  if (!shown.includes(end) && shown.some((id) => id < end)) answer = await read(`messages?limit=${MAX_CARDS}`);
  if (!answer) return;
  const ids = answer.messages.map((message) => message.id);
  const oldest = oldestOf(answer);
  shown.filter((id) => id >= oldest && !ids.includes(id)).forEach(remove);
  answer.messages.filter((message) => !touched.has(message.id)).forEach(show);
  if (!answer.next) olderLink()?.replaceWith(create("span", {}, "No older messages"));
  else if (list.lastElementChild) linkOlder();
  return true;
}

if (isNewest) {
  follow();
  document.onvisibilitychange = () => (document.hidden ? unfollow() : (showTimes(), follow()));
  window.onpagehide = unfollow;
  window.onpageshow = follow;
}
