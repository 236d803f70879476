// Builds elements. Text goes in as text only: what a model or a person wrote is never parsed as HTML.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function button(label, onclick, properties = {}) {
  return make("button", { type: "button", textContent: label, onclick, ...properties });
}

const THUMB = "M7 10.5v9M7 19.5H4.5v-9H7l4-7c1.4 0 2.3 1 2.3 2.3V9h4.6c1.3 0 2.2 1.2 1.9 2.4l-1.5 6.4c-.2 1-1.1 1.7-2.1 1.7H7";

export function thumbIcon() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", THUMB);
  svg.append(path);
  return svg;
}

export function problemCard(problem, ...actions) {
  const card = make("div", { class: "problem", role: "alert" }, make("strong", { textContent: problem.title }));
  if (problem.detail) card.append(make("p", { class: "detail", textContent: problem.detail }));
  card.append(make("p", { textContent: problem.remedy }), make("div", { class: "problem-actions" }, ...actions));
  return card;
}
