// The "try it" forms: a form's fields become a request to this very server, and its answer is shown beneath.
"use strict";

function request(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const input of form.querySelectorAll("[data-in]")) {
    const value = input.value;
    if (input.dataset.in === "path") path = path.replace("{" + input.name + "}", () => encodeURIComponent(value));
    else if (value === "") continue;
    else if (input.dataset.in === "header") headers[input.name] = value;
    else if (input.dataset.list) value.split(",").forEach((part) => query.append(input.name, part.trim()));
    else query.append(input.name, value);
  }
  const body = form.querySelector("textarea");
  if (body) headers["Content-Type"] = "application/json";
  const search = query.toString();
  const options = { method: form.dataset.method, headers };
  if (body) options.body = body.value;
  return [path + (search ? `?${search}` : ""), options];
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curl(path, options) {
  const parts = ["curl", "-X", options.method, quoted(location.origin + path)];
  for (const [name, value] of Object.entries(options.headers)) parts.push("-H", quoted(`${name}: ${value}`));
  if (options.body) parts.push("-d", quoted(options.body.replace(/\s*\n\s*/g, " ")));
  return parts.join(" ");
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function send(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  const output = form.querySelector(".output");
  const status = output.querySelector(".status");
  const [path, options] = request(form);
  button.disabled = true;
  output.hidden = false;
  output.querySelector(".curl").textContent = curl(path, options);
  const start = performance.now();
  try {
    const answer = await fetch(path, options);
    const text = await answer.text();
    const time = (performance.now() - start).toFixed(1);
    status.textContent = `${answer.status} ${answer.statusText} in ${time} ms`;
    status.className = `status ${answer.ok ? "good" : "bad"}`;
    output.querySelector(".answer").textContent = pretty(text);
  } catch (error) {
    status.textContent = `No answer: ${error.message}. Is the gateway running?`;
    status.className = "status bad";
    output.querySelector(".answer").textContent = "";
  } finally {
    button.disabled = false;
  }
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
}

document.addEventListener("submit", send);
window.addEventListener("hashchange", openTarget);
openTarget();
