// The chat's page: one WebSocket, opened again with growing pauses when it is lost.
//
// What others have written becomes text (textContent), never markup. Messages have rising numbers;
// after a break the server is asked for those after the last one.
"use strict";

const PAUSE_MS = 500, PAUSE_MAX_MS = 30000, SHOWN_MAX = 500;

const $ = id => document.getElementById(id);
const title = document.title;
let socket, timer, pause = PAUSE_MS, last = 0, me = "", unread = 0, atEnd = true;

function element(tag, properties, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}

function status(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
  $("send").disabled = state !== "on";
}

function hue(name) {
  let sum = 0;
  for (const c of name) sum = (sum * 31 + c.codePointAt(0)) % 360;
  return sum;
}

// ---- what comes ----

// Who is at the end stays there; who reads further up stays where that is.
function follow() {
  if (atEnd) $("log").scrollTop = $("log").scrollHeight;
}

function show(item) {
  const log = $("log");
  log.append(item);
  while (log.childElementCount > SHOWN_MAX) log.firstElementChild.remove();
  if (item.classList.contains("mine")) atEnd = true;
  follow();
}

function said(name, text, time) {
  const date = new Date(time * 1000);
  const who = element("bdi", { className: "name", textContent: name });
  const when = element("time", {
    dateTime: date.toISOString(), title: date.toLocaleString(),
    textContent: date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
  });
  const item = element("li", { className: name === me ? "say mine" : "say" },
    element("div", { className: "head" }, who, when),
    element("p", { dir: "auto", textContent: text }));
  item.style.setProperty("--hue", hue(name));
  return item;
}

function event(...parts) {
  return element("li", { className: "event" }, ...parts);
}

function here(names) {
  $("here").textContent = names.length + " here: " + names.join(", ");
  $("here").hidden = false;
}

const kinds = {
  you(name) {
    me = name;
    pause = PAUSE_MS;
    status("on", "Connected as " + name);
  },
  say(name, text, time) {
    show(said(name, text, time));
    if (document.hidden) document.title = `(${++unread}) ${title}`;
  },
  join(name, text) {
    here(text.split("\n"));
    show(event(element("bdi", { textContent: name }), " has come in"));
  },
  leave(name, text) {
    here(text.split("\n").filter(Boolean));
    show(event(element("bdi", { textContent: name }), " has left"));
  },
};

function receive({ data }) {
  const [id, time, kind, name, ...text] = data.split("\n");
  last = Math.max(last, Number(id));
  if (Object.hasOwn(kinds, kind)) kinds[kind](name, text.join("\n"), Number(time));
}

// ---- the connection ----

function connect() {
  clearTimeout(timer);
  status("wait", "Connecting …");
  const url = new URL("chat", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = new URLSearchParams({ name: sessionStorage.name, since: last });
  socket = new WebSocket(url);
  socket.onmessage = receive;
  socket.onclose = lost;
}

// A random part of the pause, so that not all pages come back in the same moment.
function lost() {
  const wait = pause * (0.5 + Math.random() / 2);
  pause = Math.min(pause * 2, PAUSE_MAX_MS);
  status("bad", `Connection lost, next try in ${Math.ceil(wait / 1000)} s`);
  $("here").hidden = true;
  timer = setTimeout(connect, wait);
}

function enter() {
  $("join").hidden = true;
  $("say").hidden = $("leave").hidden = false;
  $("text").focus();
  connect();
}

function leave() {
  clearTimeout(timer);
  if (socket) {
    socket.onclose = socket.onmessage = null;
    socket.close(1000);
    socket = null;
  }
  delete sessionStorage.name;
  last = 0;
  $("log").replaceChildren();
  $("say").hidden = $("leave").hidden = $("here").hidden = true;
  $("join").hidden = false;
  $("name").focus();
  status("off", "Not connected");
}

// ---- what the user does ----

$("join").addEventListener("submit", e => {
  e.preventDefault();
  const name = $("name").value.trim();
  if (!name) return;
  sessionStorage.name = name;
  enter();
});

$("say").addEventListener("submit", e => {
  e.preventDefault();
  const text = $("text").value;
  if (!text.trim() || !socket || socket.readyState !== WebSocket.OPEN) return;
  socket.send(text);
  $("text").value = "";
  $("text").focus();
});

$("text").addEventListener("keydown", e => {
  if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
  e.preventDefault();
  $("say").requestSubmit();
});

$("log").addEventListener("scroll", () => {
  const log = $("log");
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
new ResizeObserver(follow).observe($("log"));

$("leave").addEventListener("click", leave);
addEventListener("online", () => { if (socket && socket.readyState === WebSocket.CLOSED) connect(); });
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  document.title = title;
});

if (sessionStorage.name) enter();
else leave();
