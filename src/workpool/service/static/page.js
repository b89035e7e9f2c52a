// The page: what the service's stream of events says, as it comes.

import { permit, wire } from "./control.js";
import { by, say } from "./elements.js";
import { chosen, look, openChosen, turn } from "./pool.js";
import { showHead, showPools } from "./pools.js";

const AGAIN = 3000; // milliseconds until the service is asked again

function listen() {
  const events = new EventSource("api/events");
  const again = (text) => {
    say(by("connection"), text);
    by("connection").className = "bad";
    events.close();
    setTimeout(listen, AGAIN);
  };
  events.onmessage = (event) => {
    say(by("connection"), "Live");
    by("connection").className = "";
    const said = JSON.parse(event.data);
    permit(said.control);
    showPools(said);
    look();
  };
  events.addEventListener("end", () => again("The service has stopped. Trying again…"));
  events.onerror = () => again("The service does not answer. Trying again…");
}

showHead();
wire(chosen, look);
window.addEventListener("hashchange", turn);
openChosen();
listen();
