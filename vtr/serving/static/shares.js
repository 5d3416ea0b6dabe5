// What each expert adds to a score: the bar of a card, the legend over the results, the table of the player.

import { byId, make } from "./dom.js";

const KINDS = 12; // as many looks as page.css has
let names = [];

/** Set which experts there are; one keeps its colour for as long as the page is open. */
export function setExperts(experts) {
  names = [...new Set([...names, ...experts])];
  const legend = byId("legend");
  legend.replaceChildren(...names.map((name) => named("li", name)));
}

/** Return an element with an expert's colour and its name. */
function named(element, name) {
  const item = make(element, "", "expert");
  item.append(make("span", "", lookOf(name)), make("span", name));
  item.firstChild.setAttribute("aria-hidden", "true");
  return item;
}

function lookOf(name) {
  if (!names.includes(name)) setExperts([name]);
  return `look look-${names.indexOf(name) % KINDS}`;
}

function ordered(shares) {
  return Object.entries(shares ?? {}).sort(([, one], [, other]) => other - one);
}

/** Return what experts that spoke for a result add, together. */
export function gain(hit) {
  return ordered(hit.shares).reduce((sum, [, share]) => sum + Math.max(0, share), 0);
}

/** Return a share as it is written: +0.210, −0.034. */
export const signed = (share) => (share < 0 ? "−" : "+") + Math.abs(share).toFixed(3);

/** Fill a card's bar. `longest` is the largest gain of the results: bars compare. */
export function fillBar(weights, hit, longest) {
  const shares = ordered(hit.shares);
  const total = gain(hit);
  weights.hidden = !(total > 0);
  if (weights.hidden) return;
  const positive = shares.filter(([, share]) => share > 0);
  const bar = weights.querySelector(".bar");
  bar.replaceChildren(
    ...positive.map(([name, share]) => {
      const piece = make("span", "", lookOf(name));
      piece.style.flexGrow = String(share / total);
      return piece;
    }),
  );
  bar.style.width = `${(100 * total) / longest}%`;
  const all = shares.map(([name, share]) => `${name} ${signed(share)}`).join(", ");
  bar.setAttribute("aria-label", `Shares of the score: ${all}`);
  weights.title = `Shares of the score: ${all}`;
  const most = positive.slice(0, 2).map(([name, share]) => {
    const item = named("span", name);
    item.append(make("span", `${Math.round((100 * share) / total)} %`, "percent"));
    return item;
  });
  weights.querySelector(".most").replaceChildren(...most);
}

/** Fill the player's table: every expert, those that spoke against the result too. */
export function fillTable(table, hit) {
  const shares = ordered(hit.shares);
  const largest = Math.max(...shares.map(([, share]) => Math.abs(share)), Number.MIN_VALUE);
  table.hidden = !shares.length;
  table.tBodies[0].replaceChildren(
    ...shares.map(([name, share]) => {
      const row = make("tr");
      const bar = make("span", "", lookOf(name) + (share < 0 ? " against" : ""));
      bar.style.width = `${(100 * Math.abs(share)) / largest}%`;
      const cell = make("td", "", "wide");
      cell.append(bar);
      const head = make("th", name);
      head.scope = "row";
      row.append(head, cell, make("td", signed(share), "number"));
      return row;
    }),
  );
}
