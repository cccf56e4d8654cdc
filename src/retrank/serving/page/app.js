// The page: pick a user or click items, see the slate with scores, reasons and stage timings. Talks to the public API only.
"use strict";

const STAGES = ["hydrate", "retrieve", "filter", "score", "rerank", "explain", "record"];
const SOURCES = { sequence: "sequence", covisit: "co-visited", popular: "popular", similar: "item vectors" };
const DEGRADED = {
  unknown_user: "this user is not in the bundle",
  unknown_items: "some clicked items are not in the bundle, or nobody had touched them in training",
  catalogue_exhausted: "nothing else is left in the catalogue",
};
const state = { user: "", session: [], titles: new Map(), asked: 0 };
const at = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail || answer.statusText);
  return document;
}

const titleOf = (item) => item.attributes.title || item.item_id;
const priceOf = (item) => typeof item.attributes.price === "number" ? item.attributes.price.toFixed(2) : "";
const remember = (items) => items.forEach((item) => state.titles.set(item.item_id, titleOf(item)));
const nameOf = (itemId) => state.titles.get(itemId) || itemId;

function trailEntry(item) {
  return make("li", { title: titleOf(item) },
    make("span", { class: "cut" }, titleOf(item)), make("span", { class: "price" }, priceOf(item)));
}

// ---- who ------------------------------------------------------------------------------------------------------------

async function chooseUser(user) {
  state.user = user.trim();
  at("user").value = state.user;
  for (const chip of at("users").querySelectorAll("button")) {
    chip.setAttribute("aria-pressed", String(chip.dataset.user === state.user));
  }
  history.replaceState(null, "", state.user ? "#user=" + encodeURIComponent(state.user) : location.pathname);
  await showHistory();
  await recommend();
}

async function showHistory() {
  const known = state.user
    ? await call(`/v1/catalogue/history?limit=100&user_id=${encodeURIComponent(state.user)}`)
    : { num_events: 0, items: [] };
  remember(known.items);
  const live = known.num_live ? `, ${known.num_live} of them since the bundle was made` : "";
  at("history-count").textContent = known.num_events ? `${known.num_events} events${live}` : "none";
  at("history").replaceChildren(...known.items.map(trailEntry));
}

function clickItem(item) {
  remember([item]);
  state.session = [...state.session.slice(-199), item];
  showSession();
  recommend();
}

function showSession() {
  at("session-count").textContent = state.session.length ? `${state.session.length} clicked` : "";
  at("session").replaceChildren(...[...state.session].reverse().map(trailEntry));
  at("forget").hidden = state.session.length === 0;
}

async function search(text) {
  const found = (await call(`/v1/catalogue/items?limit=30&query=${encodeURIComponent(text)}`)).items;
  remember(found);
  const entries = found.map((item) => make("li", {},
    make("button", { type: "button", "data-item": item.item_id, onclick: () => clickItem(item) },
      make("span", { class: "cut" }, titleOf(item)), make("span", { class: "price" }, priceOf(item)))));
  at("found").replaceChildren(...(entries.length ? entries : [make("li", { class: "none" }, "No item has that name.")]));
}

// ---- slate ----------------------------------------------------------------------------------------------------------

function recommend() {
  const body = {
    session: { recent: state.session.map((item) => item.item_id) },
    k: Number(at("k").value),
    exclude_seen: at("seen").checked,
  };
  if (state.user) body.user_id = state.user;
  const whom = state.user ? `For user ${state.user}` : state.session.length ? "For this visitor" : "For anybody";
  return show(whom, () => call("/v1/recommend", body));
}

const similarTo = (item) =>
  show(`Like ${titleOf(item)}`, () => call("/v1/similar", { item_id: item.item_id, k: Number(at("k").value) }));

async function show(heading, ask) {
  const turn = ++state.asked;
  at("slate").setAttribute("aria-busy", "true");
  const started = performance.now();
  try {
    const slate = await ask();
    await learnNames(slate);
    if (turn !== state.asked) return; // a later click already asked again
    at("slate-title").textContent = heading;
    render(slate, performance.now() - started);
  } catch (problem) {
    if (turn === state.asked) say(problem.message, true);
  } finally {
    if (turn === state.asked) at("slate").setAttribute("aria-busy", "false");
  }
}

// A reason may name an item that this page has not met: clicked a moment ago, perhaps elsewhere.
async function learnNames(slate) {
  remember(slate.items);
  const named = slate.items.flatMap((item) => item.reasons.map((reason) => reason.item_id));
  const unknown = [...new Set(named)].filter((itemId) => itemId !== null && !state.titles.has(itemId)).slice(0, 20);
  await Promise.all(unknown.map(async (itemId) => {
    const { items } = await call(`/v1/catalogue/items?limit=200&query=${encodeURIComponent(itemId.slice(0, 100))}`);
    remember(items.filter((item) => item.item_id === itemId));
  }).map((asked) => asked.catch(() => undefined))); // without a name the id will do
}

function say(text, bad) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function render(slate, roundTrip) {
  const missing = slate.degraded.reasons.map((reason) => DEGRADED[reason] || reason.replaceAll("_", " "));
  const base = `${slate.items.length} items in ${slate.took_ms.total.toFixed(1)} ms, ${roundTrip.toFixed(0)} ms with the network`;
  say(missing.length ? `${base}. Less to go on than asked for: ${missing.join("; ")}.` : base, missing.length > 0);
  renderTimings(slate.took_ms);
  const scores = slate.items.map((item) => item.score);
  const floor = Math.min(0, ...scores), span = Math.max(1e-9, Math.max(...scores) - floor);
  at("slate").replaceChildren(...slate.items.map((item) => card(item, (item.score - floor) / span)));
}

function renderTimings(took) {
  const stages = STAGES.filter((stage) => took[stage] !== undefined);
  const total = Math.max(took.total, 1e-6);
  const bars = stages.map((stage) => {
    const part = make("span", { class: "s" + STAGES.indexOf(stage), title: `${stage} ${took[stage].toFixed(2)} ms` });
    part.style.width = `${(100 * took[stage]) / total}%`;
    return part;
  });
  const legend = stages.map((stage) => make("li", {},
    make("i", { class: "s" + STAGES.indexOf(stage) }), `${stage} ${took[stage].toFixed(2)} ms`));
  at("timing").hidden = false;
  at("timing-bar").replaceChildren(...bars);
  at("timing-bar").setAttribute("aria-label", stages.map((stage) => `${stage} ${took[stage].toFixed(2)} ms`).join(", "));
  at("timing-legend").replaceChildren(...legend);
}

function card(item, share) {
  const filled = make("span");
  filled.style.width = `${Math.max(2, 100 * share)}%`;
  const price = priceOf(item);
  return make("li", { class: "card", "data-item": item.item_id },
    make("header", {},
      make("span", { class: "rank" }, String(item.rank)),
      make("h3", {}, titleOf(item)),
      make("span", { class: "price" }, price)),
    make("div", { class: "score" },
      make("div", { class: "bar", role: "img", "aria-label": `score ${item.score.toFixed(3)}` }, filled),
      make("span", {}, item.score.toFixed(3))),
    make("ul", { class: "why", "aria-label": "Why" }, ...reasons(item)),
    make("footer", {},
      ...item.sources.map((source) => make("span", { class: "tag" }, SOURCES[source] || source)),
      make("span", { class: "acts" },
        make("button", { class: "quiet", type: "button", onclick: () => similarTo(item) }, "Similar"),
        make("button", { class: "quiet", type: "button", "data-act": "click", onclick: () => clickItem(item) }, "Click"))));
}

function reasons(item) {
  if (item.reasons.length === 0) return [make("li", { class: "weak" }, "fits the history as a whole")];
  const words = { follows: "often follows", similar_to: "is similar to" };
  const byItem = Map.groupBy(item.reasons, (reason) => reason.item_id);
  return [...byItem].map(([itemId, found]) => {
    const strength = found.map((reason) => `${Math.round(100 * reason.weight)}%`).join(", ");
    if (itemId === null) return make("li", { class: "weak" }, `popular: ${strength} of the best seller`);
    const phrase = found.map((reason) => words[reason.code]).join(" and ");
    return make("li", { title: `strength ${strength}` }, `${phrase} `, make("b", {}, nameOf(itemId)));
  });
}

// ---- start ----------------------------------------------------------------------------------------------------------

async function showFacts() {
  const version = await call("/version");
  const facts = [["bundle", version.bundle.id], ["model", version.bundle.model], ["data", version.data],
    ...(version.ranker ? [["ranker", version.ranker.run]] : []),
    ["items", version.num_items.toLocaleString("en")], ["users", version.num_users.toLocaleString("en")]];
  at("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

async function showUsers() {
  const { users } = await call("/v1/catalogue/users?limit=8");
  const chip = (user, text, title) => make("li", {}, make("button", {
    type: "button", "data-user": user, "aria-pressed": "false", title, onclick: () => chooseUser(user) }, text));
  at("users").replaceChildren(chip("", "nobody", "no user and no history"),
    ...users.map((user) => chip(user.user_id, user.user_id, `${user.num_events} events`)));
  return users;
}

async function start() {
  at("user-form").addEventListener("submit", (event) => { event.preventDefault(); chooseUser(at("user").value); });
  at("forget").addEventListener("click", () => { state.session = []; showSession(); recommend(); });
  at("k").addEventListener("change", recommend);
  at("seen").addEventListener("change", recommend);
  let timer;
  at("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => search(at("search").value.trim()).catch((problem) => say(problem.message, true)), 150);
  });
  try {
    const [users] = await Promise.all([showUsers(), showFacts(), search("")]);
    const named = new URLSearchParams(location.hash.slice(1)).get("user");
    await chooseUser(named ?? users[0]?.user_id ?? "");
  } catch (problem) {
    say(problem.message, true);
  }
}

start();
