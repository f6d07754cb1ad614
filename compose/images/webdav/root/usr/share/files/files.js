// Files in a browser, over the same WebDAV that other clients speak. Nothing is built from text as HTML: names are text.

const $ = (id) => document.getElementById(id);
const DAV = "DAV:";
let user = "";

/** The folder that the address names: names below the user's own. */
const here = () =>
  location.hash
    .slice(1)
    .split("/")
    .filter((name) => name !== "")
    .map(decodeURIComponent);

const url = (names, folder) =>
  `/dav/${[user, ...names].map(encodeURIComponent).join("/")}${folder ? "/" : ""}`;

const hash = (names) => `#/${names.map(encodeURIComponent).join("/")}`;

function tell(text, failed = false) {
  $("status").textContent = text;
  $("status").classList.toggle("failed", failed);
}

const WHY = {
  401: "Your password is not taken any more: load the page again.",
  403: "That is not allowed.",
  404: "It is not there any more.",
  405: "Something of that name is there already.",
  409: "The folder is not there any more.",
  412: "Something of that name is there already.",
  423: "Another program has it open.",
  507: "There is no space left.",
};

async function ask(method, target, headers = {}, body = undefined) {
  const answer = await fetch(target, { method, headers, body });
  if (!answer.ok) throw new Error(WHY[answer.status] ?? `The server answered ${answer.status}.`);
  return answer;
}

/** Runs one action, says how it ended, and shows the folder as it is then. */
async function act(words, what) {
  tell(`${words} …`);
  try {
    await what();
    await show();
    tell(`${words}: done`);
  } catch (error) {
    tell(`${words}: ${error.message}`, true);
  }
}

/** Asks for a text, or without one only whether. */
function question(words, value) {
  const dialog = $("ask");
  $("question").textContent = words;
  $("answer").hidden = value === undefined;
  $("answer").value = value ?? "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "yes" ? $("answer").value || value === undefined : null),
      { once: true },
    );
  });
}

/** A name that can be one: anything but what is a path. */
async function name(words, value) {
  const given = await question(words, value);
  if (given === null || given === true) return null;
  const text = String(given).trim();
  if (text === "" || text === "." || text === ".." || text.includes("/")) {
    tell("A name is some text without a slash.", true);
    return null;
  }
  return text;
}

const property = (response, tag) => response.getElementsByTagNameNS(DAV, tag)[0]?.textContent ?? "";

async function list(names) {
  const body = `<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>`;
  const answer = await ask("PROPFIND", url(names, true), { Depth: "1", "Content-Type": "application/xml" }, body);
  const xml = new DOMParser().parseFromString(await answer.text(), "application/xml");
  const own = new URL(url(names, true), location.href).pathname;
  return [...xml.getElementsByTagNameNS(DAV, "response")]
    .map((response) => {
      const path = new URL(property(response, "href"), location.href).pathname;
      return {
        path,
        name: decodeURIComponent(path.replace(/\/$/, "").split("/").pop()),
        folder: response.getElementsByTagNameNS(DAV, "collection").length > 0,
        size: Number(property(response, "getcontentlength")),
        changed: new Date(property(response, "getlastmodified")),
      };
    })
    .filter((entry) => decodeURIComponent(entry.path) !== decodeURIComponent(own))
    .sort((a, b) => Number(b.folder) - Number(a.folder) || a.name.localeCompare(b.name));
}

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1000;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function row(names, entry) {
  const at = [...names, entry.name];
  const button = (words, what) =>
    element("button", { type: "button", textContent: words, ariaLabel: `${words} ${entry.name}`, onclick: what });
  const link = entry.folder
    ? element("a", { href: hash(at), textContent: `${entry.name}/` })
    : element("a", { href: url(at, false), download: entry.name, textContent: entry.name });
  const rename = async () => {
    const next = await name(`New name of ${entry.name}`, entry.name);
    if (next === null || next === entry.name) return;
    const target = new URL(url([...names, next], entry.folder), location.href).href;
    await act(`Renaming ${entry.name}`, () => ask("MOVE", url(at, entry.folder), { Destination: target, Overwrite: "F" }));
  };
  const remove = async () => {
    const all = entry.folder ? " and all that is in it" : "";
    if ((await question(`Delete ${entry.name}${all} for good?`)) === null) return;
    await act(`Deleting ${entry.name}`, () => ask("DELETE", url(at, entry.folder)));
  };
  return element(
    "tr",
    {},
    element("td", {}, link),
    element("td", { textContent: entry.folder ? "" : size(entry.size) }),
    element("td", { textContent: entry.changed.toLocaleString() }),
    element("td", {}, button("Rename", rename), " ", button("Delete", remove)),
  );
}

async function show() {
  const names = here();
  const entries = await list(names);
  const crumbs = [[user, []], ...names.map((part, n) => [part, names.slice(0, n + 1)])];
  $("path").replaceChildren(
    ...crumbs.map(([words, to]) => element("li", {}, element("a", { href: hash(to), textContent: words }))),
  );
  const empty = element("tr", {}, element("td", { colSpan: 4, textContent: "Nothing is here yet." }));
  $("entries").replaceChildren(...(entries.length ? entries.map((entry) => row(names, entry)) : [empty]));
}

/** One file after the other, each with how far it is; what is there is not overwritten unasked. */
async function upload(files) {
  const names = here();
  const there = new Set((await list(names)).map((entry) => entry.name));
  for (const file of files) {
    if (there.has(file.name) && (await question(`Replace ${file.name}?`)) === null) continue;
    await act(`Uploading ${file.name}`, () => send(url([...names, file.name], false), file));
  }
}

const send = (target, file) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", target);
    request.upload.onprogress = (event) => tell(`Uploading ${file.name}: ${size(event.loaded)} of ${size(file.size)}`);
    request.onload = () =>
      request.status < 300 ? resolve() : reject(new Error(WHY[request.status] ?? `The server answered ${request.status}.`));
    request.onerror = () => reject(new Error("The connection broke."));
    request.send(file);
  });

$("upload").onclick = () => $("chosen").click();
$("chosen").onchange = async () => {
  await upload([...$("chosen").files]);
  $("chosen").value = "";
};
$("folder").onclick = async () => {
  const given = await name("Name of the new folder", "");
  if (given !== null) await act(`Making ${given}`, () => ask("MKCOL", url([...here(), given], true)));
};
const main = document.querySelector("main");
for (const kind of ["dragover", "dragleave", "drop"]) {
  main.addEventListener(kind, (event) => {
    event.preventDefault();
    main.classList.toggle("over", kind === "dragover");
    if (kind === "drop") upload([...event.dataTransfer.files]);
  });
}
const refresh = () => show().then(() => tell(""), (error) => tell(error.message, true));
addEventListener("hashchange", refresh);

user = (await fetch("/index.html", { method: "HEAD" })).headers.get("X-User") ?? "";
$("who").textContent = user;
refresh();
