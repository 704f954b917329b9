"use strict";
// Shows /api/v1/status. All text is set as text, never as markup.
let token = "";

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function stateClass(state) {
  return state === "running" ? "ok" : state === "stopped" ? "bad" : "wait";
}

function linkTable(links) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const [name, kind] of [["from"], ["topic"], ["state"], ["lag, records", "number"], ["lag, seconds", "number"], ["reason"]])
    head.append(element("th", name, kind));
  const body = table.createTBody();
  for (const link of links) {
    const row = body.insertRow();
    row.append(
      element("td", link.from), element("td", link.topic), element("td", link.state, stateClass(link.state)),
      element("td", link.lag_records === null ? "unknown" : link.lag_records, "number"),
      element("td", link.lag_seconds === null ? "unknown" : link.lag_seconds.toFixed(1), "number"),
      element("td", link.reason || "", "reason"));
  }
  return table;
}

function regionSection(name, region) {
  const section = element("section");
  const word = !region.reachable ? "unreachable" : region.ready ? "ready" : "not ready";
  const title = element("h2", name + " ");
  title.append(element("span", word, region.ready ? "ok" : "bad"));
  section.append(title);
  for (const reason of region.reasons || []) section.append(element("div", reason, "reason"));
  const instances = (region.instances || []).map(i => i.instance + (i.stale ? " (silent)" : i.ready ? "" : " (not ready)"));
  if (instances.length) section.append(element("div", "bridge: " + instances.join(", "), "reason"));
  for (const paused of region.paused || []) section.append(element("div", "paused: " + paused, "wait"));
  section.append(region.links.length ? linkTable(region.links) : element("div", "No links known.", "reason"));
  return section;
}

async function refresh() {
  const summary = document.getElementById("summary");
  try {
    const answer = await fetch("/api/v1/status", token ? { headers: { authorization: "Bearer " + token } } : {});
    document.getElementById("token-form").hidden = answer.status !== 401;
    if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed" : "HTTP " + answer.status);
    const status = await answer.json();
    const regions = Object.entries(status.regions);
    document.getElementById("regions").replaceChildren(...regions.map(([name, region]) => regionSection(name, region)));
    const ready = regions.filter(([, region]) => region.ready).length;
    summary.textContent = ready + " of " + regions.length + " regions ready, " + new Date().toLocaleTimeString();
  } catch (error) {
    summary.textContent = "No status: " + error.message;
  }
}

document.getElementById("token-form").addEventListener("submit", event => {
  event.preventDefault();
  token = document.getElementById("token").value;
  refresh();
});
refresh();
setInterval(refresh, 2000);
