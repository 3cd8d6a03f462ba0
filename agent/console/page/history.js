// What was: three charts of a stretch of time, the alarms themselves, and both to take away.
import { get, query, url } from './api.js';
import { cameras, pareto, stacked } from './charts.js';
import { Detail } from './detail.js';
import { field, select } from './dialogs.js';
import { h, put, refresh } from './dom.js';
import { filterBar, fromQuery, matches, toQuery } from './filters.js';
import { dateTime, day, hour, localInput, number } from './format.js';
import { t } from './i18n.js';
import { AlarmList } from './list.js';
import { attempt, placeholder } from './notices.js';
import { fleetChanged, hear } from './plant.js';
import { address, rewrite } from './router.js';
import { throttled } from './signal.js';
import { stream } from './stream.js';

const PAGE = 100;
const HOUR = 3600000;
const RANGES = { '8h': 8, '24h': 24, '7d': 168, '30d': 720 };

const dayLong = (time) => dateTime(time).replace(/,? \d\d:\d\d:\d\d$/, '');

export function history() {
  const filter = fromQuery(new URLSearchParams());
  let range = '24h';
  let next = null;
  let round = 0;
  let bounds = {};
  const charts = h('div', { class: 'charts' });
  const total = h('p', { class: 'total', 'data-test': 'history-total', role: 'status' });
  const gaps = h('details', { class: 'gaps', hidden: true, 'data-test': 'gaps' });
  const empty = h('div', { class: 'empty' });
  const list = new AlarmList({ open: (id) => open(id), changed: () => {} }, { byTime: () => true, selectable: false });
  const detail = new Detail({ close: () => close(), step: (by) => step(by) });
  const bar = filterBar(filter, (change) => narrow(change), { otherwise: 'all' });
  const more = h('button', { type: 'button', class: 'more', hidden: true, 'data-test': 'history-more', onclick: () => attempt(fetchMore) }, () => t('more'));
  const from = h('input', { type: 'datetime-local', step: 1, 'data-test': 'range-from', onchange: () => custom() });
  const to = h('input', { type: 'datetime-local', step: 1, 'data-test': 'range-to', onchange: () => custom() });
  const period = select([...Object.keys(RANGES), 'custom'].map((name) => [name, () => t(`range.${name}`)]), {
    'data-test': 'range', value: range, onchange: () => choose(period.value),
  });
  const customs = h('div', { class: 'customs', hidden: true }, field(() => t('range.from'), from), field(() => t('range.to'), to));
  const file = (format) => h('a', { class: 'button', download: '', 'data-test': `export-${format}`, href: () => url(`/alarms.${format}${query(asked())}`) }, () => t(`export.${format}`));
  const exports = h('div', { class: 'exports' }, file('csv'), file('json'));
  const panes = h('div', { class: 'panes' },
    h('section', { class: 'list-pane', 'aria-label': () => t('nav.history') }, charts, gaps, h('div', { class: 'list-head' }, total, exports), list.node, empty, more),
    detail.node);
  const node = h('div', { class: 'history-view' }, h('h1', { class: 'sr-only' }, () => t('nav.history')),
    h('div', { class: 'toolbar' }, h('div', { class: 'range' }, field(() => t('range'), period), customs), bar.node), panes);

  function asked() {
    return { ...filter, view: filter.view || 'all', from: bounds.from, to: bounds.to };
  }

  function setBounds() {
    if (range !== 'custom') bounds = { from: new Date(Date.now() - RANGES[range] * HOUR).toISOString(), to: '' };
    customs.hidden = range !== 'custom';
    period.value = range;
  }

  function choose(name) {
    range = name;
    if (range === 'custom') {
      const end = bounds.to ? new Date(bounds.to) : new Date();
      from.value = localInput(new Date(bounds.from));
      to.value = localInput(end);
      bounds = { from: bounds.from, to: end.toISOString() };
    }
    narrow({});
  }

  function custom() {
    if (!from.value || !to.value) return;
    bounds = { from: new Date(from.value).toISOString(), to: new Date(to.value).toISOString() };
    narrow({});
  }

  function narrow(change) {
    Object.assign(filter, change);
    setBounds();
    const search = toQuery({ ...filter, from: range === 'custom' ? bounds.from : '', to: range === 'custom' ? bounds.to : '' });
    if (range !== 'custom') search.set('range', range);
    rewrite(address('history', detail.id, search));
    bar.show();
    refresh(exports);
    load();
  }

  const bucket = () => ((new Date(bounds.to || Date.now()) - new Date(bounds.from)) / HOUR > 72 ? 'day' : 'hour');

  function draw(stats) {
    const daily = bucket() === 'day';
    const length = (daily ? 24 : 1) * HOUR;
    put(charts,
      stacked(() => t(daily ? 'chart.per.day' : 'chart.per.hour'), stats.series, {
        hook: 'chart-time', x: () => t('chart.time'), when: daily ? day : hour, whenFull: daily ? dayLong : dateTime,
        choose: ({ at }) => {
          bounds = { from: new Date(at).toISOString(), to: new Date(new Date(at).getTime() + length).toISOString() };
          choose('custom');
        },
      }),
      pareto(() => t('chart.classes'), stats.classes, { hook: 'chart-classes', choose: (point) => narrow({ class: point.class }) }),
      cameras(() => t('chart.cameras'), stats.cameras, {
        hook: 'chart-cameras', choose: ({ site, gateway, camera }) => narrow({ site, gateway, camera }),
      }));
    put(total, () => t('history.total', { n: number(stats.total) }));
  }

  async function load() {
    const mine = (round += 1);
    try {
      const [stats, answer, missing] = await Promise.all([
        get(`/stats${query({ ...asked(), bucket: bucket() })}`), get(`/alarms${query({ ...asked(), limit: PAGE })}`), get('/gaps'),
      ]);
      if (mine !== round) return;
      draw(stats);
      next = answer.next;
      more.hidden = next === null;
      hear(answer.alarms);
      list.set(answer.alarms);
      list.node.hidden = list.size === 0;
      put(empty, list.size ? null : h('p', { class: 'placeholder' }, () => t('none.matching')));
      showGaps(missing.gaps);
    } catch (error) {
      if (mine === round && error.status !== 401) placeholder(charts, () => error.message, 'error');
    }
  }

  function showGaps(all) {
    gaps.hidden = all.length === 0;
    const lost = all.reduce((sum, gap) => sum + gap.to - gap.from + 1, 0);
    put(gaps, h('summary', null, () => t('gaps', { n: number(lost) })), h('ul', null, all.slice(0, 50).map((gap) => h('li', null,
      () => t('gap', { where: `${gap.site}/${gap.gateway}`, from: gap.from, to: gap.to, time: dateTime(gap.noticed_at) })))));
  }

  async function fetchMore() {
    const answer = await get(`/alarms${query({ ...asked(), limit: PAGE, before: next })}`);
    next = answer.next;
    more.hidden = next === null;
    for (const alarm of answer.alarms) list.update(alarm);
  }

  function open(id) {
    detail.open(id, list.get(id));
    panes.classList.add('with-detail');
    list.select(id);
  }

  function close() {
    detail.close();
    panes.classList.remove('with-detail');
  }

  function step(by) {
    const id = list.neighbour(by);
    if (!id) return;
    if (detail.id) open(id);
    else list.select(id);
  }

  const loadSoon = throttled(load, 2000);
  const offs = [
    stream.alarm.on((alarm) => {
      if (list.has(alarm.alarm) && matches(alarm, { ...asked(), from: '', to: '' })) list.update(alarm);
      detail.update(alarm);
    }),
    stream.reset.on(loadSoon),
    fleetChanged.on(bar.offered),
  ];

  return {
    node,
    show(route) {
      const search = fromQuery(route.query);
      if (search.from || search.to) {
        range = 'custom';
        bounds = { from: search.from || new Date(Date.now() - 24 * HOUR).toISOString(), to: search.to || new Date().toISOString() };
        from.value = localInput(new Date(bounds.from));
        to.value = localInput(new Date(bounds.to));
      } else if (route.query.get('range') in RANGES) range = route.query.get('range');
      narrow(search);
      if (route.id) open(route.id);
    },
    close: () => offs.forEach((off) => off()),
    keys: {
      j: () => step(1),
      ArrowDown: () => step(1),
      k: () => step(-1),
      ArrowUp: () => step(-1),
      Enter: () => list.current && open(list.current),
      '/': () => bar.text.focus(),
      Escape: close,
    },
  };
}
