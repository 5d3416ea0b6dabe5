// The filters: only those that the gallery can answer are shown.

import { byId, grouped, make } from "./dom.js";

const form = byId("filters");
const field = (name) => form.elements.namedItem(name);
const part = (name) => form.querySelector(`[data-filter=${name}]`);

/** Offer what a gallery can be filtered by. */
export function offerFilters(gallery) {
  const category = field("category");
  const chosen = category.value;
  const options = gallery.categories.map(({ name, videos }) => {
    const option = make("option", `${name} (${grouped(videos)})`);
    option.value = name;
    return option;
  });
  category.replaceChildren(category.options[0], ...options);
  category.value = chosen;
  part("category").hidden = !gallery.categories.length;
  part("duration").hidden = !gallery.has_durations;
  part("speech").hidden = !gallery.has_speech;
}

/** Show these filters as set. `usable` says whether what is searched with can be filtered. */
export function showFilters(filters, usable) {
  for (const name of ["category", "min_seconds", "max_seconds", "has_speech"]) {
    const value = filters[name] ?? "";
    const control = field(name);
    if (name === "category" && value && ![...control.options].some((option) => option.value === value)) {
      control.append(make("option", value)); // an address may name one that the gallery does not have
    }
    control.value = value;
  }
  byId("clear-filters").hidden = !Object.keys(filters).length;
  form.hidden = !usable || [...form.querySelectorAll("[data-filter]")].every((one) => one.hidden);
}

/** Return the filters as they are set, null where they contradict one another: the form says so. */
export function filtersNow() {
  const shortest = field("min_seconds");
  const longest = field("max_seconds");
  const crossed = shortest.value && longest.value && Number(shortest.value) > Number(longest.value);
  longest.setCustomValidity(crossed ? "The longest duration is below the shortest." : "");
  if (!form.reportValidity()) return null;
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
}

/** Hear of every change; `clear()` of the wish to have none. */
export function watchFilters(changed, clear) {
  form.addEventListener("change", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("clear-filters").addEventListener("click", clear);
}
