// The gateways and their cameras: those in trouble first, as few on the page as can be read.
import { h, put, refresh, arrange } from './dom.js';
import { field, select } from './dialogs.js';
import { pendingChanged } from './commands.js';
import { cameraSign, GatewayRow, inTrouble, isWell, stateOf } from './gateway.js';
import { t, word } from './i18n.js';
import { sign } from './marks.js';
import { fetchFleet, fetchFleetSoon, fleet, fleetChanged } from './plant.js';
import { session } from './session.js';
import { debounced } from './signal.js';
import { stream } from './stream.js';

const PAGE = 25;
const FEW = 6;

const byName = (a, b) => a.site.localeCompare(b.site) || a.gateway.localeCompare(b.gateway, undefined, { numeric: true });
const ORDERS = {
  trouble: (a, b) => Number(Boolean(inTrouble(b))) - Number(Boolean(inTrouble(a))) || Number(a.online) - Number(b.online) || byName(a, b),
  name: byName,
  temperature: (a, b) => (b.system?.temperature_c ?? -300) - (a.system?.temperature_c ?? -300) || byName(a, b),
  load: (a, b) => (b.system ? b.system.load[0] / b.system.cores : -1) - (a.system ? a.system.load[0] / a.system.cores : -1) || byName(a, b),
  queue: (a, b) => (b.outbox?.queued ?? 0) - (a.outbox?.queued ?? 0) || byName(a, b),
  seen: (a, b) => b.seen_at.localeCompare(a.seen_at) || byName(a, b),
};

const kept = { q: '', trouble: false, order: 'trouble', page: 0 };

function summary() {
  const states = new Map();
  for (const gateway of fleet.gateways) {
    for (const camera of gateway.cameras) {
      const state = stateOf(gateway, camera);
      states.set(state, (states.get(state) ?? 0) + 1);
    }
  }
  const online = fleet.gateways.filter((gateway) => gateway.online).length;
  const figure = (kind, count, words, hook) => h('div', { class: `figure${kind === 'bad' && count ? ' figure-bad' : ''}`, 'data-test': hook },
    sign(kind), h('strong', null, String(count)), h('span', null, words));
  return h('div', { class: 'summary' },
    figure('good', online, () => t('gateways.online', { n: online }), 'fleet-online'),
    figure('bad', fleet.gateways.length - online, () => t('gateways.offline', { n: fleet.gateways.length - online }), 'fleet-offline'),
    h('span', { class: 'divider' }),
    [...states].sort(([a], [b]) => Number(isWell({ state: b })) - Number(isWell({ state: a })) || a.localeCompare(b))
      .map(([state, n]) => figure(cameraSign(state), n, () => t('cameras.are', { n, state: word('camera', state) }), `cameras-${state}`)));
}

export function fleetView() {
  const rows = new Map();
  const figures = h('div');
  const body = h('div', { class: 'gateways' });
  const empty = h('div', { class: 'empty' });
  const pages = h('div', { class: 'pages', hidden: true });
  const change = (how) => {
    Object.assign(kept, { page: 0 }, how);
    show();
  };
  const typed = debounced((event) => change({ q: event.target.value.trim().toLowerCase() }), 200);
  const search = h('input', { type: 'search', value: kept.q, 'data-test': 'fleet-search', placeholder: () => t('fleet.search'), 'aria-label': () => t('fleet.search'), oninput: typed });
  const trouble = h('button', {
    type: 'button', class: 'switch', 'data-test': 'fleet-trouble', 'aria-pressed': () => kept.trouble, onclick: () => change({ trouble: !kept.trouble }),
  }, () => t('fleet.trouble'));
  const order = select(Object.keys(ORDERS).map((name) => [name, () => t(`order.${name}`)]), {
    value: kept.order, 'data-test': 'fleet-order', onchange: (event) => change({ order: event.target.value }),
  });
  const tools = h('div', { class: 'toolbar fleet-tools' }, figures, h('form', { class: 'filters', role: 'search', onsubmit: (event) => event.preventDefault() },
    search, trouble, field(() => t('order'), order)));
  const node = h('div', { class: 'scroll' }, h('h1', { class: 'sr-only' }, () => t('nav.fleet')), tools, body, empty, pages);

  const mentions = ({ site, gateway, cameras, reason, bundle }) => [`${site}/${gateway}`, reason, bundle?.name, bundle?.version, ...cameras.map(({ camera }) => camera)]
    .some((words) => words?.toLowerCase().includes(kept.q));

  function show() {
    if (!fleet.known) {
      put(empty, h('p', { class: 'placeholder' }, () => t('loading')));
      return;
    }
    const all = fleet.gateways.filter((gateway) => (!kept.trouble || inTrouble(gateway)) && (!kept.q || mentions(gateway))).sort(ORDERS[kept.order]);
    const last = Math.max(0, Math.ceil(all.length / PAGE) - 1);
    kept.page = Math.min(kept.page, last);
    const shown = all.slice(kept.page * PAGE, (kept.page + 1) * PAGE);
    const keys = new Set();
    for (const gateway of shown) {
      const key = JSON.stringify([gateway.site, gateway.gateway]);
      keys.add(key);
      if (rows.has(key)) rows.get(key).update(gateway);
      else rows.set(key, new GatewayRow(gateway, fleet.gateways.length <= FEW));
    }
    for (const key of [...rows.keys()]) if (!keys.has(key)) rows.delete(key);
    arrange(body, shown.map((gateway) => rows.get(JSON.stringify([gateway.site, gateway.gateway])).node));
    put(figures, summary());
    refresh(tools);
    put(empty, shown.length ? null : h('div', { class: 'calm' },
      h('p', { class: 'calm-words' }, () => t(fleet.gateways.length ? (kept.trouble && !kept.q ? 'fleet.well' : 'fleet.none') : 'none.gateways')),
      fleet.gateways.length ? null : h('p', null, () => t('none.gateways.do')),
      fleet.gateways.length ? null : h('pre', null, `[mqtt]\nurl = "${session.broker.url || 'mqtt://…'}"`)));
    pages.hidden = last === 0;
    const turn = (by, words, able) => h('button', { type: 'button', disabled: !able, 'data-test': by > 0 ? 'page-next' : 'page-previous', onclick: () => {
      kept.page += by;
      show();
      node.scrollTop = 0;
    } }, () => t(words));
    put(pages, turn(-1, 'previous', kept.page > 0), h('span', null, () => t('page', { page: kept.page + 1, of: last + 1, n: all.length })), turn(1, 'next', kept.page < last));
  }

  const tick = setInterval(() => refresh(body), 10000);
  const offs = [
    () => clearInterval(tick), fleetChanged.on(show), stream.fleet.on(fetchFleetSoon), pendingChanged.on(() => refresh(body)),
  ];
  return {
    node,
    show() {
      show();
      fetchFleet();
    },
    close: () => offs.forEach((off) => off()),
    keys: { '/': () => search.focus() },
  };
}
