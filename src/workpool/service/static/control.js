// Steering a pool: pause, resume, resize, drain. Only where the service has a token, and only for who knows it.

import { by, say } from "./elements.js";

let token = null; // in memory only
let available = false; // whether the service has a token

export function showControl(stats, paused) {
  const runs = stats.state === "running";
  by("pause").disabled = paused || !runs;
  by("resume").disabled = !paused;
  by("resize").disabled = by("drain").disabled = !runs;
  const wanted = by("workers-wanted");
  if (wanted.value === "" && document.activeElement !== wanted) wanted.value = stats.workers;
  by("control").hidden = !available;
}

export function permit(control) {
  available = control;
}

// `chosen` says the name of the pool, `done` is called after each attempt.
export function wire(chosen, done) {
  const steer = async (action, said, body) => {
    say(by("said"), await asked(chosen(), action, said, body));
    done();
  };
  by("pause").onclick = () => steer("pause", "Paused.");
  by("resume").onclick = () => steer("resume", "Resumed.");
  by("resize-form").onsubmit = (event) => {
    event.preventDefault();
    const workers = Number(by("workers-wanted").value);
    steer("resize", `Resized to ${workers}.`, JSON.stringify({ workers }));
  };
  by("drain").onclick = async () => {
    if (await agreed("confirm")) await steer("drain", "Draining.");
  };
}

// What came of it, in a sentence.
async function asked(name, action, said, body) {
  if (token === null && !(await getToken())) return "";
  say(by("said"), "…");
  try {
    const answer = await fetch(`api/pools/${encodeURIComponent(name)}/${action}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${bytes(token)}` },
      body,
    });
    if (answer.ok) return said;
    if (answer.status === 401) token = null;
    return `Refused: ${(await answer.json()).detail}.`;
  } catch {
    return "The service did not answer.";
  }
}

// A header's text is of bytes: a token beyond ASCII goes as its UTF-8.
const bytes = (text) => new TextEncoder().encode(text).reduce((all, byte) => all + String.fromCharCode(byte), "");

async function getToken() {
  const given = await agreed("asks");
  if (given) token = by("token").value;
  by("token").value = "";
  return given;
}

// Whether the form of the dialog was sent, and neither cancelled nor closed.
function agreed(id) {
  return new Promise((resolve) => {
    const dialog = by(id);
    const done = (yes) => {
      dialog.onclose = null;
      dialog.close();
      resolve(yes);
    };
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      done(true);
    };
    dialog.querySelector("[data-cancel]").onclick = dialog.onclose = () => done(false);
    dialog.showModal();
  });
}
