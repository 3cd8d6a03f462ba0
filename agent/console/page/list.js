// The table of alarms: one row each, changed in place; the table keeps the focus, so that no change of order loses it.
import { arrange, h, put, refresh, svg, unique } from './dom.js';
import { pendingOf } from './commands.js';
import { age, dateTime, percent, until } from './format.js';
import { t, word } from './i18n.js';
import { isUnacknowledged, mark, rank } from './marks.js';
import { thumbnail } from './picture.js';

const urgency = (a, b) => rank(a.severity) - rank(b.severity)
  || Number(isUnacknowledged(b)) - Number(isUnacknowledged(a)) || latest(a, b);
const latest = (a, b) => b.raised_at.localeCompare(a.raised_at) || a.alarm.localeCompare(b.alarm);

export const spinner = () => svg('svg', { class: 'spinner', viewBox: '0 0 16 16', width: 14, height: 14, 'aria-hidden': 'true' },
  svg('circle', { cx: 8, cy: 8, r: 6 }));

// What waits for the gateway, in words.
export const pendingMark = (alarm, brief = false) => h('span', { class: 'pending', 'data-test': 'pending', hidden: () => !pendingOf(alarm()).length },
  spinner(), h('span', null, () => {
    const waiting = pendingOf(alarm()).map(({ command }) => word('command', command)).join(', ');
    return brief ? waiting : t('pending', { commands: waiting });
  }));

export class AlarmList {
  #rows = new Map();
  #checked = new Set();
  #current = null;
  #anchor = null;
  #body = h('tbody', { role: 'rowgroup' });
  #on;

  // `on`: {open(id), changed()}
  constructor(on, { byTime = () => false, selectable = true } = {}) {
    this.#on = on;
    this.byTime = byTime;
    const column = (key) => h('th', { role: 'columnheader', scope: 'col', class: `c-${key}` }, () => t(`column.${key}`));
    this.node = h('table', {
      class: `alarms${selectable ? '' : ' plain'}`, role: 'grid', tabindex: '0', 'aria-multiselectable': String(selectable), 'aria-label': () => t('nav.alarms'), 'data-test': 'alarm-list',
    }, h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' },
      h('th', { role: 'columnheader', scope: 'col', class: 'c-check' }, h('span', { class: 'sr-only' }, () => t('column.check'))),
      ['severity', 'class', 'where', 'state', 'score', 'age', 'picture'].map(column))), this.#body);
  }

  #make(alarm) {
    const row = { alarm, picture: null };
    const now = () => row.alarm;
    const id = alarm.alarm;
    row.check = h('input', { type: 'checkbox', tabindex: '-1', 'aria-label': () => t('column.check') });
    row.check.addEventListener('click', (event) => {
      event.stopPropagation();
      this.check(id, event.shiftKey);
    });
    row.thumb = h('td', { role: 'gridcell', class: 'c-picture' });
    const cell = (name, ...children) => h('td', { role: 'gridcell', class: `c-${name}` }, children);
    row.node = h('tr', {
      id: unique('row'), role: 'row', 'data-test': 'alarm-row', 'data-id': id, 'data-state': () => now().state, 'data-kind': () => now().kind,
      class: () => `row-${now().severity}${isUnacknowledged(now()) ? ' unacknowledged' : ''}${this.#checked.has(id) ? ' checked' : ''}`,
      'aria-selected': () => this.#checked.has(id) || this.#current === id,
      'aria-current': () => (this.#current === id ? 'true' : null),
      onclick: (event) => (event.shiftKey ? this.check(id, true) : this.#on.open(id)),
    },
    h('td', { role: 'gridcell', class: 'c-check', onclick: (event) => event.stopPropagation() }, h('label', null, row.check)),
    cell('severity', mark(() => now().severity), h('span', null, () => word('severity', now().severity))),
    cell('class', h('span', { class: 'name' }, () => now().class), h('span', { class: 'kind' }, () => word('kind', now().kind)),
      h('span', { class: 'untrusted', hidden: () => !now().untrusted?.length, title: () => t('untrusted') }, () => t('untrusted.short'))),
    cell('where', h('span', { class: 'name' }, () => now().camera), h('span', { class: 'kind' }, () => `${now().site} / ${now().gateway}`)),
    cell('state', h('span', { class: 'state-word' }, () => word('state', now().state)),
      h('span', { class: 'kind', hidden: () => now().state !== 'shelved' || !now().until }, () => t('shelved.left', { time: until(now().until) })),
      pendingMark(now, true)),
    cell('score', () => (now().kind === 'camera' ? '' : percent(now().score))),
    h('td', { role: 'gridcell', class: 'c-age', title: () => dateTime(now().raised_at) }, () => age(now().raised_at)),
    row.thumb);
    this.#picture(row);
    return row;
  }

  #picture(row) {
    const key = `${row.alarm.image} ${row.alarm.box}`;
    if (row.picture === key) return;
    row.picture = key;
    put(row.thumb, thumbnail(row.alarm, 64, 40));
  }

  set(alarms) {
    const ids = new Set(alarms.map(({ alarm }) => alarm));
    for (const id of [...this.#rows.keys()]) if (!ids.has(id)) this.#drop(id);
    for (const alarm of alarms) this.#take(alarm);
    this.#order();
  }

  #take(alarm) {
    const row = this.#rows.get(alarm.alarm);
    if (!row) {
      this.#rows.set(alarm.alarm, this.#make(alarm));
      return;
    }
    row.alarm = alarm;
    this.#picture(row);
    refresh(row.node);
  }

  #drop(id) {
    this.#rows.delete(id);
    this.#checked.delete(id);
  }

  update(alarm) {
    this.#take(alarm);
    this.#order();
  }

  drop(id) {
    if (!this.#rows.has(id)) return;
    this.#drop(id);
    this.#order();
  }

  #order() {
    const rows = [...this.#rows.values()].sort((a, b) => (this.byTime() ? latest : urgency)(a.alarm, b.alarm));
    arrange(this.#body, rows.map(({ node }) => node));
    this.node.setAttribute('aria-rowcount', String(rows.length + 1));
    this.#on.changed();
  }

  get size() { return this.#rows.size; }

  get current() { return this.#current; }

  has(id) { return this.#rows.has(id); }

  get(id) { return this.#rows.get(id)?.alarm ?? null; }

  get checked() { return [...this.#checked].map((id) => this.get(id)); }

  #ids() { return [...this.#body.children].map((node) => node.dataset.id); }

  select(id, scroll = true) {
    const before = this.#rows.get(this.#current);
    this.#current = id;
    const row = this.#rows.get(id);
    if (before) refresh(before.node);
    if (!row) {
      this.node.removeAttribute('aria-activedescendant');
      return;
    }
    refresh(row.node);
    this.node.setAttribute('aria-activedescendant', row.node.id);
    if (scroll) row.node.scrollIntoView({ block: 'nearest' });
  }

  // The row that is `by` rows from the current one.
  neighbour(by) {
    const ids = this.#ids();
    const at = ids.indexOf(this.#current);
    return ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : Math.min(ids.length - 1, Math.max(0, at + by))] ?? null;
  }

  check(id, range = false) {
    const ids = this.#ids();
    const from = range && this.#anchor ? ids.indexOf(this.#anchor) : -1;
    if (from >= 0) {
      const to = ids.indexOf(id);
      for (const each of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) this.#checked.add(each);
    } else if (!this.#checked.delete(id)) this.#checked.add(id);
    this.#anchor = id;
    this.#showChecks();
  }

  checkAll(on) {
    this.#checked = new Set(on ? this.#ids() : []);
    this.#showChecks();
  }

  #showChecks() {
    for (const [id, row] of this.#rows) {
      row.check.checked = this.#checked.has(id);
      refresh(row.node);
    }
    this.#on.changed();
  }

  refresh() { refresh(this.node); }
}
