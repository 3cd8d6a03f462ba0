// The start: what wants attention, most urgent first, as it happens, with one alarm in full beside it.
import { get, query } from './api.js';
import { act, buttons } from './actions.js';
import { pendingChanged, settle } from './commands.js';
import { Detail } from './detail.js';
import { h, put, refresh } from './dom.js';
import { chips, filterBar, fromQuery, matches, toQuery } from './filters.js';
import { t } from './i18n.js';
import { AlarmList } from './list.js';
import { sign } from './marks.js';
import { failed, placeholder } from './notices.js';
import { countsAre, fleet, fleetChanged, countsChanged, hear } from './plant.js';
import { address, go, rewrite } from './router.js';
import { session } from './session.js';
import { throttled } from './signal.js';
import { stream } from './stream.js';

const PAGE = 100;
const AT_ONCE = 500;

const remembered = fromQuery(new URLSearchParams());

const endless = (filter) => filter.view === 'over' || filter.view === 'all';

function nothing(filter) {
  const narrowed = Object.entries(filter).some(([name, value]) => value && name !== 'view');
  if (narrowed || (filter.view && filter.view !== 'open')) return h('div', { class: 'calm' }, h('p', { class: 'calm-words' }, () => t('none.matching')));
  if (fleet.known && !fleet.gateways.length) {
    return h('div', { class: 'calm' }, h('p', { class: 'calm-words' }, () => t('none.gateways')),
      h('p', null, () => t('none.gateways.do')), h('pre', null, `[mqtt]\nurl = "${session.broker.url || 'mqtt://…'}"`));
  }
  const cameras = fleet.gateways.reduce((sum, gateway) => sum + gateway.cameras.length, 0);
  return h('div', { class: 'calm', 'data-test': 'calm' }, sign('good'),
    h('p', { class: 'calm-words' }, () => t('none.open')),
    h('p', null, () => t('none.watched', {
      gateways: t('gateways.count', { n: fleet.gateways.length }), cameras: t('cameras.count', { n: cameras }),
    })));
}

export function alarms() {
  const filter = remembered;
  let next = null;
  let round = 0;
  const empty = h('div', { class: 'empty' });
  const list = new AlarmList({ open: (id) => show(id), changed: () => changed() }, { byTime: () => endless(filter) });
  const detail = new Detail({ close: () => close(), step: (by) => step(by) });
  const bar = filterBar(filter, (change) => narrow(change), { severities: false });
  const counters = chips(filter, (change) => narrow(change));
  const bulk = h('div', { class: 'bulk', role: 'group', 'aria-label': () => t('bulk'), hidden: true, 'data-test': 'bulk' },
    h('strong', null, () => t('bulk.chosen', { n: list.checked.length })),
    buttons(() => list.checked, ['ack', 'shelve', 'unshelve', 'comment', 'teach', 'fine', 'close']),
    h('button', { type: 'button', class: 'quiet', onclick: () => list.checkAll(false) }, () => t('bulk.none')));
  const more = h('button', { type: 'button', class: 'more', hidden: true, onclick: () => fetchMore() }, () => t('more'));
  const panes = h('div', { class: 'panes' }, h('section', { class: 'list-pane', 'aria-label': () => t('nav.alarms') }, bulk, list.node, empty, more), detail.node);
  const node = h('div', { class: 'alarms-view' }, h('h1', { class: 'sr-only' }, () => t('nav.alarms')), h('div', { class: 'toolbar' }, counters, bar.node), panes);

  function changed() {
    bulk.hidden = list.checked.length === 0;
    refresh(bulk);
    list.node.hidden = list.size === 0;
    put(empty, list.size === 0 && next === null && round > 0 ? nothing(filter) : null);
  }

  function narrow(change) {
    Object.assign(filter, change);
    rewrite(address('alarms', detail.id, toQuery(filter)));
    bar.show();
    refresh(counters);
    load();
  }

  const page = async (before, limit = PAGE) => get(`/alarms${query({ ...filter, limit, before })}`);

  // Everything that is asked for, up to AT_ONCE; what comes meanwhile over the stream is in the answer or comes again.
  async function load() {
    const mine = (round += 1);
    const began = Date.now();
    try {
      let answer = await page(null);
      const all = answer.alarms;
      if (mine !== round) return;
      // The first are to be seen at once; the rest comes in one go.
      if (answer.next && !endless(filter)) {
        list.set(all);
        answer = await page(answer.next, AT_ONCE - all.length);
        all.push(...answer.alarms);
      }
      if (mine !== round) return;
      next = answer.next;
      more.hidden = next === null;
      hear(all);
      settle(began);
      countsAre(answer.counts);
      list.set(all);
      list.select(detail.id ?? list.current, mine === 1);
    } catch (error) {
      if (mine !== round) return;
      if (list.size) failed(error);
      else if (error.status !== 401) placeholder(empty, () => error.message, 'error');
    }
  }

  async function fetchMore() {
    try {
      const answer = await page(next);
      next = answer.next;
      more.hidden = next === null;
      hear(answer.alarms);
      for (const alarm of answer.alarms) list.update(alarm);
    } catch (error) {
      failed(error);
    }
  }

  const show = (id) => {
    const move = detail.id ? rewrite : go;
    open(id);
    move(address('alarms', id, toQuery(filter)));
  };

  function open(id) {
    detail.open(id, list.get(id));
    panes.classList.add('with-detail');
    list.select(id);
    if (matchMedia('(max-width: 760px)').matches) detail.node.focus();
  }

  function close() {
    detail.close();
    panes.classList.remove('with-detail');
    rewrite(address('alarms', null, toQuery(filter)));
    list.node.focus({ preventScroll: true });
  }

  function step(by) {
    const id = list.neighbour(by);
    if (!id) return;
    if (detail.id) show(id);
    else list.select(id);
  }

  const chosen = () => {
    if (list.checked.length) return list.checked;
    const alarm = detail.alarm() ?? list.get(list.current);
    return alarm ? [alarm] : [];
  };
  const doing = (name) => () => act(name, chosen());

  const loadSoon = throttled(load, 1000);
  const tick = setInterval(() => {
    list.refresh();
    detail.refresh();
  }, 10000);
  const offs = [
    () => clearInterval(tick),
    stream.alarm.on((alarm) => {
      if (matches(alarm, filter)) list.update(alarm);
      else list.drop(alarm.alarm);
      detail.update(alarm);
    }),
    stream.command.on((command) => command.payload?.alarms?.includes(detail.id) && detail.again()),
    stream.reset.on(() => {
      loadSoon();
      detail.again();
    }),
    pendingChanged.on(() => {
      list.refresh();
      detail.refresh();
    }),
    countsChanged.on(() => refresh(counters)),
    fleetChanged.on(() => {
      bar.offered();
      changed();
    }),
  ];

  return {
    node,
    show(route) {
      const asked = route.query.size ? fromQuery(route.query) : filter;
      const different = Object.keys(asked).some((name) => asked[name] !== filter[name]);
      Object.assign(filter, asked);
      if (different) {
        bar.show();
        refresh(counters);
      }
      if (round === 0 || different) load();
      if (route.id) open(route.id);
      else if (detail.id) close();
    },
    close: () => offs.forEach((off) => off()),
    keys: {
      j: () => step(1),
      ArrowDown: () => step(1),
      k: () => step(-1),
      ArrowUp: () => step(-1),
      Enter: () => list.current && show(list.current),
      x: () => list.current && list.check(list.current),
      ' ': () => list.current && list.check(list.current),
      a: doing('ack'),
      s: doing('shelve'),
      c: doing('comment'),
      t: doing('teach'),
      f: doing('fine'),
      '/': () => bar.text.focus(),
      Escape: () => (detail.id ? close() : list.checkAll(false)),
    },
  };
}
