"use strict";
const grid = document.getElementById("grid");
const cards = [...grid.children];
const shown = () => document.querySelector("input[name=status]:checked").value;
function filter() {
  const status = shown();
  for (const card of cards) card.hidden = status !== "all" && card.dataset.status !== status;
  document.getElementById("empty").hidden = cards.some(card => !card.hidden);
}
function sort() {
  const by = document.getElementById("sort").value;
  const value = card => by === "order" ? -Number(card.dataset.order) : card.dataset[by] === undefined ? -Infinity : Number(card.dataset[by]);
  grid.append(...[...cards].sort((a, b) => value(b) - value(a) || a.dataset.order - b.dataset.order));
}
document.querySelectorAll("input[name=status]").forEach(input => input.addEventListener("change", filter));
document.getElementById("sort").addEventListener("change", sort);
document.getElementById("heat").addEventListener("input", event => grid.style.setProperty("--heat", event.target.value));
document.getElementById("lit").addEventListener("change", event => grid.classList.toggle("bare", !event.target.checked));
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
filter();
sort();
