// The keyboard: what each key does, never while somebody is typing, and the list of keys to look up.
import { dialog, isOpen } from './dialogs.js';
import { h } from './dom.js';
import { t } from './i18n.js';
import { current, go } from './router.js';
import { session } from './session.js';

const GO = { a: 'alarms', f: 'fleet', m: 'models', h: 'history', r: 'report', s: 'settings' };
const CHORD_MS = 1500;
const HELP = [
  ['help.list', [['j k ↓ ↑', 'key.move'], ['Enter', 'key.open'], ['x', 'key.check'], ['Esc', 'key.close'], ['/', 'key.search']]],
  ['help.act', [['a', 'action.ack'], ['s', 'action.shelve'], ['c', 'action.comment'], ['t', 'action.teach'], ['f', 'action.fine']]],
  ['help.go', [['g a', 'nav.alarms'], ['g h', 'nav.history'], ['g f', 'nav.fleet'], ['g m', 'nav.models'], ['g r', 'nav.report'], ['g s', 'nav.settings'], ['?', 'key.help']]],
];

export function help() {
  dialog(() => t('help'), () => h('div', { class: 'help' }, HELP.map(([title, keys]) => h('section', null,
    h('h3', null, () => t(title)),
    h('dl', null, keys.map(([names, words]) => h('div', null,
      h('dt', null, names.split(' ').map((name) => h('kbd', null, name))), h('dd', null, () => t(words)))))))), { hook: 'help', wide: true });
}

const typing = (node) => node.isContentEditable || node.matches('textarea, select, input:not([type=checkbox], [type=file])');
const pressing = (node) => node.matches('button, a, summary, input, [role=button]');

let chord = 0;

export function listen() {
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !session.user || isOpen()) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (typing(target)) {
      if (event.key === 'Escape') target.blur();
      return;
    }
    if ((event.key === 'Enter' || event.key === ' ') && pressing(target)) return;
    if (Date.now() - chord < CHORD_MS) {
      chord = 0;
      if (GO[event.key]) {
        event.preventDefault();
        go(`#/${GO[event.key]}`);
        return;
      }
    }
    if (event.key === 'g') {
      chord = Date.now();
      return;
    }
    const work = event.key === '?' ? help : current()?.keys?.[event.key];
    if (!work) return;
    event.preventDefault();
    work();
  });
}
