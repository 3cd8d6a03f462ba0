// One alarm in full: its picture, its facts, what can be done, and what has happened to it.
import { at, get } from './api.js';
import { buttons } from './actions.js';
import { h, put, refresh } from './dom.js';
import { age, clock, dateTime, day, number, percent, until } from './format.js';
import { t, word } from './i18n.js';
import { pendingMark } from './list.js';
import { severity } from './marks.js';
import { placeholder } from './notices.js';
import { picture } from './picture.js';
import { throttled } from './signal.js';

function facts(alarm) {
  const now = alarm;
  const fact = (key, value, shown = () => true, kind = null) => h('div', { class: kind, hidden: () => !shown() }, h('dt', null, () => t(`fact.${key}`)), h('dd', null, value));
  const timed = (time) => () => (time() ? `${dateTime(time())} · ${t('ago', { time: age(time()) })}` : '–');
  return h('dl', { class: 'facts' },
    fact('where', () => `${now().site} / ${now().gateway} / ${now().camera}`),
    fact('kind', () => word('kind', now().kind)),
    fact('score', () => percent(now().score, 1), () => now().kind !== 'camera'),
    fact('count', () => number(now().count), () => now().count !== null && now().count !== undefined),
    fact('raised', timed(() => now().raised_at)),
    fact('captured', timed(() => now().frame?.captured_at), () => Boolean(now().frame?.captured_at)),
    fact('changed', timed(() => now().changed_at)),
    fact('cleared', timed(() => now().cleared_at), () => Boolean(now().cleared_at)),
    fact('until', () => `${dateTime(now().until)} · ${t('shelved.left', { time: until(now().until) })}`, () => Boolean(now().until)),
    fact('by', () => now().by, () => Boolean(now().by)),
    fact('reason', () => now().reason, () => Boolean(now().reason), 'long'),
    fact('model', () => (now().model ? `${now().model.name} ${now().model.version}` : '–')),
    fact('frame', () => `#${now().frame?.seq} · ${now().frame?.width} × ${now().frame?.height}`, () => Boolean(now().frame)),
    fact('id', h('code', null, () => now().alarm), undefined, 'long'));
}

function history(events) {
  return h('ol', { class: 'timeline', 'data-test': 'events' }, events.map((event) => h('li', { class: `event event-${event.transition}` },
    h('time', { datetime: event.at, title: () => dateTime(event.at) }, () => `${day(event.at)} ${clock(event.at)}`),
    h('div', null,
      h('strong', null, () => word('transition', event.transition)),
      event.by && h('span', { class: 'by' }, () => t('by', { who: event.by })),
      event.replayed && h('span', { class: 'kind' }, () => t('replayed')),
      event.comment && h('p', { class: 'comment' }, event.comment)))));
}

function failures(commands) {
  const failed = commands.filter(({ ok }) => ok === false);
  return failed.length ? h('ul', { class: 'refusals' }, failed.slice(-3).map((command) => h('li', null,
    () => t('command.refused', { command: word('command', command.command), time: dateTime(command.at), error: command.error ?? '–' })))) : null;
}

// `on`: {close(), step(by)}
export class Detail {
  #alarm = null;
  #wanted = null;
  #body = h('div', { class: 'detail-body' });
  #events = h('div', { class: 'detail-events' });
  #picture = h('div');
  #drawn = '';
  #fetchSoon;

  constructor(on) {
    const now = () => this.#alarm;
    this.alarm = now;
    this.#fetchSoon = throttled(() => this.#fetch(), 500);
    const step = (by, key, sign) => h('button', { type: 'button', class: 'icon', 'aria-label': () => t(key), title: () => t(key), onclick: () => on.step(by) }, sign);
    this.node = h('aside', { class: 'detail', 'data-test': 'detail', hidden: true, 'aria-label': () => t('detail'), tabindex: '-1' },
      h('header', null,
        h('button', { type: 'button', class: 'icon back', 'data-test': 'detail-close', 'aria-label': () => t('close'), title: () => t('close'), onclick: on.close }, '✕'),
        h('span', { class: 'spacer' }), step(-1, 'previous', '↑'), step(1, 'next', '↓')),
      this.#body);
  }

  // Shows the alarm `id`; `known`: what the list knows of it already.
  open(id, known) {
    this.node.hidden = false;
    if (this.#wanted === id) return;
    this.#wanted = id;
    this.#alarm = null;
    this.#drawn = '';
    put(this.#events);
    this.#body.scrollTop = 0;
    if (known) this.#show(known);
    else placeholder(this.#body, () => t('loading'));
    this.#fetch();
  }

  close() {
    this.node.hidden = true;
    this.#wanted = null;
    this.#alarm = null;
  }

  get id() { return this.#wanted; }

  async #fetch() {
    const id = this.#wanted;
    if (!id) return;
    try {
      const { alarm, events, commands } = await get(`/alarms${at(id)}`);
      if (this.#wanted !== id) return;
      this.#show(alarm);
      put(this.#events, failures(commands), h('h3', null, () => t('events')), history([...events].reverse()));
    } catch (error) {
      if (this.#wanted !== id) return;
      const words = error.status === 404 ? () => t('detail.unknown') : () => error.message;
      placeholder(this.#alarm ? this.#events : this.#body, words, 'error');
    }
  }

  #show(alarm) {
    const first = this.#alarm === null;
    this.#alarm = alarm;
    const now = this.alarm;
    if (first) {
      put(this.#body,
        h('div', { class: 'detail-head' },
          severity(() => now().severity),
          h('h2', null, () => now().class),
          h('p', { class: () => `detail-state state-${now().state}`, 'data-test': 'detail-state' }, () => word('state', now().state),
            h('span', { class: 'quiet-word', hidden: () => !now().acknowledged || now().state === 'acknowledged' || now().state === 'normal' }, () => t('acknowledged.too')))),
        h('p', { class: 'warning', hidden: () => !now().untrusted?.length, 'data-test': 'untrusted' },
          () => t('untrusted.faults', { faults: (now().untrusted ?? []).map((fault) => word('camera', fault)).join(', ') })),
        buttons(() => (this.#alarm ? [this.#alarm] : []), ['ack', 'shelve', 'unshelve', 'comment', 'teach', 'fine', 'close']),
        pendingMark(now), this.#picture, facts(now),
        h('p', { class: 'comment last', hidden: () => !now().comment }, () => (now().comment ? `“${now().comment}”` : '')),
        this.#events);
    }
    const drawn = JSON.stringify([alarm.image, alarm.box, alarm.heat, alarm.severity]);
    if (drawn !== this.#drawn) put(this.#picture, picture(alarm));
    this.#drawn = drawn;
    if (!first) refresh(this.#body);
  }

  // An alarm has changed, maybe this one.
  update(alarm) {
    if (alarm.alarm !== this.#wanted) return;
    this.#show({ ...alarm, heat: alarm.heat ?? this.#alarm?.heat ?? null });
    this.#fetchSoon();
  }

  again() {
    if (this.#wanted) this.#fetchSoon();
  }

  refresh() {
    if (this.#alarm) refresh(this.#body);
  }

}
