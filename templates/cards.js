// A message as a card: the same elements as src/page makes of templates/message.html.

// A message of more lines is folded, and a line of more characters counts as several.
const FOLD_LINES = 15;
const LINE_CHARS = 80;
const MINUTE = 60000;

function showTime(time) {
  const moment = new Date(time.dateTime);
  const minutes = Math.floor((Date.now() - moment) / MINUTE);
  time.title = moment.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  time.textContent =
    minutes < 1 ? "just now"
    : minutes < 60 ? `${minutes} min ago`
    : minutes < 1440 ? `${Math.floor(minutes / 60)} h ago`
    : moment.toLocaleDateString([], { dateStyle: "medium" });
}

function showTimes(element = document) {
  element.querySelectorAll("time").forEach(showTime);
}

function timeOf(moment) {
  const time = create("time", { dateTime: moment.slice(0, 19) + "Z" });
  showTime(time);
  return time;
}

// Text as the server shows it (src/page/text.rs): no more than one blank line, and links to the web. Returns its lines.
function fill(element, message) {
  const isBlank = (line) => /^[ \t\r]*$/.test(line);
  const lines = message.split("\n");
  const shown = lines.filter((line, index) => !index || !isBlank(line) || !isBlank(lines[index - 1]));
  // Browsers read other line ends of HTML so.
  const pieces = shown.join("\n").replace(/\r\n?/g, "\n").split(/(https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}])/i);
  const link = (href) => create("a", { href, rel: "nofollow ugc noopener" }, href);
  element.replaceChildren(...pieces.map((piece, index) => (index % 2 ? link(piece) : piece)));
  element.normalize();
  return shown.reduce((sum, line) => sum + Math.max(1, Math.ceil([...line].length / LINE_CHARS)), 0);
}

function cardOf(message) {
  const body = create("p", { dir: "auto" });
  const isLong = fill(body, message.message) > FOLD_LINES;
  const when = message.created_at ? timeOf(message.created_at) : "Permalink";
  const link = create("a", { href: `${home}messages/${message.id}` }, when);
  const card = create("li", { id: `m${message.id}` }, body, link);
  if (isLong && isList) body.before(create("details", {}, create("summary", {}, "Show all")));
  if (message.edited_at) card.append(" ", create("small", {}, "edited ", timeOf(message.edited_at)));
  // Moderators have buttons on each card.
  window.equip?.(card);
  return card;
}

showTimes();
setInterval(() => document.hidden || showTimes(), MINUTE);
