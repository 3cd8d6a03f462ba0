// The report of a shift, to read and to print: how much, of what, where, how fast, and what is still open.
import { get, query } from './api.js';
import { cameras, pareto, stacked } from './charts.js';
import { field, select } from './dialogs.js';
import { h, put } from './dom.js';
import { clock, dateTime, duration, hour, localInput, number, percent } from './format.js';
import { t, word } from './i18n.js';
import { rank, severity, SEVERITIES } from './marks.js';
import { placeholder } from './notices.js';
import { thumbnail } from './picture.js';
import { fleet } from './plant.js';
import { session } from './session.js';

const HOUR = 3600000;
const MOST = 300;
const PAGE = 100;

// The last shift of eight hours that is over, and the one under way: from 6, 14 or 22 o'clock.
function shift(before) {
  const start = new Date();
  start.setMinutes(0, 0, 0);
  while (![6, 14, 22].includes(start.getHours())) start.setTime(start.getTime() - HOUR);
  const from = new Date(start.getTime() - before * 8 * HOUR);
  return [from, before ? new Date(from.getTime() + 8 * HOUR) : new Date()];
}

const SPANS = { last8: () => [new Date(Date.now() - 8 * HOUR), new Date()], shift: () => shift(0), before: () => shift(1), day: () => [new Date(Date.now() - 24 * HOUR), new Date()] };

async function severe(bounds) {
  const all = [];
  let before = null;
  do {
    const answer = await get(`/alarms${query({ ...bounds, view: 'all', severity: 'critical,major', limit: PAGE, before })}`);
    all.push(...answer.alarms);
    before = answer.next;
  } while (before && all.length < MOST);
  return { all: all.sort((a, b) => rank(a.severity) - rank(b.severity) || a.raised_at.localeCompare(b.raised_at)), cut: before !== null };
}

const figure = (words, value, hook) => h('div', { class: 'figure', 'data-test': hook }, h('strong', null, value), h('span', null, words));

function severities(stats) {
  const sums = Object.fromEntries(SEVERITIES.map((name) => [name, stats.series.reduce((sum, { counts }) => sum + (counts[name] ?? 0), 0)]));
  return h('div', { class: 'summary' },
    SEVERITIES.map((name) => h('div', { class: 'figure', 'data-test': `report-${name}` }, severity(name), h('strong', null, () => number(sums[name])))),
    h('span', { class: 'divider' }),
    figure(() => t('report.total'), () => number(stats.total), 'report-total'),
    figure(() => t('report.open'), () => number(stats.open), 'report-open'),
    figure(() => t('report.ack.p50'), () => (stats.acknowledge_s ? duration(stats.acknowledge_s.p50) : '–'), 'report-p50'),
    figure(() => t('report.ack.p95'), () => (stats.acknowledge_s ? duration(stats.acknowledge_s.p95) : '–'), 'report-p95'));
}

function table(alarms, cut) {
  if (!alarms.length) return h('p', { class: 'placeholder' }, () => t('report.none'));
  const columns = ['severity', 'picture', 'class', 'where', 'raised', 'cleared', 'state', 'comment'];
  return [h('table', { class: 'grid report-table' },
    h('thead', null, h('tr', null, columns.map((key) => h('th', { scope: 'col' }, () => t(`column.${key}`))))),
    h('tbody', null, alarms.map((alarm) => h('tr', { 'data-test': 'report-row' },
      h('td', null, severity(alarm.severity)), h('td', null, thumbnail({ ...alarm }, 96, 60)),
      h('td', null, h('strong', null, alarm.class), h('span', { class: 'kind' }, () => (alarm.kind === 'camera' ? word('kind', alarm.kind) : `${word('kind', alarm.kind)} · ${percent(alarm.score)}`))),
      h('td', null, alarm.camera, h('span', { class: 'kind' }, `${alarm.site} / ${alarm.gateway}`)),
      h('td', null, () => dateTime(alarm.raised_at)), h('td', null, () => (alarm.cleared_at ? clock(alarm.cleared_at) : '–')),
      h('td', null, () => word('state', alarm.state), alarm.by && h('span', { class: 'kind' }, alarm.by)),
      h('td', { class: 'c-comment' }, alarm.comment ?? alarm.reason ?? ''))))),
  cut && h('p', { class: 'note' }, () => t('report.cut', { n: MOST }))];
}

export function report() {
  let round = 0;
  let shown = {};
  const body = h('div', { class: 'report-body' });
  const from = h('input', { type: 'datetime-local', step: 1, 'data-test': 'report-from' });
  const to = h('input', { type: 'datetime-local', step: 1, 'data-test': 'report-to' });
  const span = select([...Object.keys(SPANS), 'custom'].map((name) => [name, () => t(`span.${name}`)]), {
    'data-test': 'report-span', onchange: () => choose(),
  });
  const own = () => {
    span.value = 'custom';
    load();
  };
  from.addEventListener('change', own);
  to.addEventListener('change', own);
  const print = h('button', { type: 'button', class: 'primary', 'data-test': 'report-print', onclick: () => {
    put(printed, () => t('report.printed', { who: session.user, time: dateTime(new Date().toISOString()) }));
    window.print();
  } }, () => t('report.print'));
  const printed = h('p', { class: 'printed' });
  const head = h('header', { class: 'report-head' },
    h('h1', null, () => t('report.title')),
    h('p', { class: 'report-time', 'data-test': 'report-time' }, () => (shown.from ? `${dateTime(shown.from)} – ${dateTime(shown.to)}` : '')),
    h('p', null, () => t('report.sites', { sites: [...new Set(fleet.gateways.map(({ site }) => site))].join(', ') || '–' })), printed);
  const node = h('div', { class: 'scroll padded report' },
    h('form', { class: 'toolbar filters no-print', onsubmit: (event) => event.preventDefault() },
      field(() => t('range'), span), field(() => t('range.from'), from), field(() => t('range.to'), to), h('span', { class: 'spacer' }), print),
    h('div', { class: 'sheet' }, head, body));

  function choose() {
    if (span.value in SPANS) {
      const [start, end] = SPANS[span.value]();
      from.value = localInput(start);
      to.value = localInput(end);
    }
    load();
  }

  async function load() {
    if (!from.value || !to.value) return;
    const mine = (round += 1);
    const bounds = { from: new Date(from.value).toISOString(), to: new Date(to.value).toISOString() };
    try {
      const [stats, worst] = await Promise.all([get(`/stats${query({ ...bounds, view: 'all', bucket: 'hour' })}`), severe(bounds)]);
      if (mine !== round) return;
      shown = bounds;
      put(printed, () => t('report.printed', { who: session.user, time: dateTime(new Date().toISOString()) }));
      put(head.querySelector('.report-time'), () => `${dateTime(shown.from)} – ${dateTime(shown.to)}`);
      put(body, severities(stats),
        h('div', { class: 'charts' },
          stacked(() => t('chart.per.hour'), stats.series, { hook: 'report-time-chart', x: () => t('chart.time'), when: hour, whenFull: dateTime }),
          pareto(() => t('chart.classes'), stats.classes, { hook: 'report-classes', most: 10 }),
          cameras(() => t('chart.cameras'), stats.cameras, { hook: 'report-cameras' })),
        h('h2', null, () => t('report.worst', { n: worst.all.length })), table(worst.all, worst.cut));
    } catch (error) {
      if (mine === round && error.status !== 401) placeholder(body, () => error.message, 'error');
    }
  }

  return {
    node,
    show(route) {
      if (route.query.get('from') && route.query.get('to')) {
        span.value = 'custom';
        from.value = localInput(new Date(route.query.get('from')));
        to.value = localInput(new Date(route.query.get('to')));
      }
      choose();
    },
    keys: { p: () => print.click() },
  };
}
