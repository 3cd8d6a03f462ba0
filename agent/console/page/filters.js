// Which alarms are asked for: the fields, their form in the address, and whether an alarm that comes belongs to them.
import { get } from './api.js';
import { h, put, refresh, unique } from './dom.js';
import { field, select } from './dialogs.js';
import { t, word } from './i18n.js';
import { isActive, isOpen, isUnacknowledged, KINDS, mark, SEVERITIES } from './marks.js';
import { counts } from './plant.js';
import * as plant from './plant.js';
import { debounced } from './signal.js';

export const VIEWS = ['open', 'active', 'unacknowledged', 'shelved', 'quiet', 'over', 'all'];
const NAMES = ['view', 'severity', 'kind', 'site', 'gateway', 'camera', 'class', 'q', 'from', 'to'];

export const fromQuery = (search) => Object.fromEntries(NAMES.map((name) => [name, search.get(name) ?? '']));
export const toQuery = (filter) => new URLSearchParams(NAMES.filter((name) => filter[name]).map((name) => [name, filter[name]]));

const IN_VIEW = {
  open: isOpen,
  active: isActive,
  unacknowledged: isUnacknowledged,
  shelved: ({ state }) => state === 'shelved',
  quiet: ({ state }) => state === 'suppressed_by_design' || state === 'out_of_service',
  over: ({ state }) => state === 'normal',
  all: () => true,
};

// `*` stands for anything, `?` for one character.
export function globMatches(glob, text) {
  let [g, i, star, back] = [0, 0, -1, 0];
  while (i < text.length) {
    if (glob[g] === '*') [star, back, g] = [g, i, g + 1];
    else if (g < glob.length && (glob[g] === '?' || glob[g] === text[i])) [g, i] = [g + 1, i + 1];
    else if (star >= 0) [g, back, i] = [star + 1, back + 1, back + 1];
    else return false;
  }
  while (glob[g] === '*') g += 1;
  return g === glob.length;
}

const listed = (list, name) => !list || list.split(',').includes(name);

function mentions(alarm, words) {
  const all = [alarm.alarm, alarm.class, alarm.site, alarm.gateway, alarm.camera, alarm.reason, alarm.comment, alarm.by];
  return all.some((text) => text && text.toLowerCase().includes(words.toLowerCase()));
}

export function matches(alarm, filter) {
  return (IN_VIEW[filter.view || 'open'] ?? isOpen)(alarm)
    && listed(filter.severity, alarm.severity)
    && listed(filter.kind, alarm.kind)
    && (!filter.site || filter.site === alarm.site)
    && (!filter.gateway || filter.gateway === alarm.gateway)
    && (!filter.camera || filter.camera === alarm.camera)
    && (!filter.class || globMatches(filter.class, alarm.class))
    && (!filter.q || mentions(alarm, filter.q))
    && (!filter.from || new Date(alarm.raised_at) >= new Date(filter.from))
    && (!filter.to || new Date(alarm.raised_at) < new Date(filter.to));
}

const narrowed = (filter) => ['kind', 'site', 'gateway', 'camera', 'class', 'q', 'severity'].filter((name) => filter[name]).length;

// The counters, each of which switches its severity on and off.
export function chips(filter, change) {
  const toggle = (name) => {
    const chosen = new Set(filter.severity.split(',').filter(Boolean));
    if (!chosen.delete(name)) chosen.add(name);
    change({ severity: SEVERITIES.filter((severity) => chosen.has(severity)).join(',') });
  };
  const chip = (name) => h('button', {
    type: 'button', class: () => `chip chip-${name}${counts[name] ? '' : ' chip-none'}`, 'data-test': `count-${name}`,
    'aria-pressed': () => filter.severity.split(',').includes(name), onclick: () => toggle(name),
  }, mark(name), h('span', { class: 'chip-count' }, () => String(counts[name] ?? 0)), h('span', { class: 'chip-word' }, () => word('severity', name)));
  const shortcut = (view) => h('button', {
    type: 'button', class: () => `chip chip-view${counts[view] ? '' : ' chip-none'}`, 'data-test': `count-${view}`,
    'aria-pressed': () => filter.view === view, onclick: () => change({ view: filter.view === view ? '' : view }),
  }, h('span', { class: 'chip-count' }, () => String(counts[view] ?? 0)), h('span', { class: 'chip-word' }, () => t(`view.${view}`)), h('span', { class: 'chip-short', 'aria-hidden': 'true' }, () => t(`view.${view}.short`)));
  return h('div', { class: 'chips', role: 'group', 'aria-label': () => t('filter.severities') },
    SEVERITIES.map(chip), shortcut('unacknowledged'), shortcut('shelved'));
}

function suggestions(names) {
  const list = h('datalist', { id: unique('names') });
  return [list, () => put(list, names().slice(0, 500).map((name) => h('option', { value: name })))];
}

// The fields, that of the severity only where no `chips` do for it; `filter` is changed by `change` only, and shown anew by `refresh`.
export function filterBar(filter, change, { otherwise = 'open', severities = true } = {}) {
  const set = (name) => (event) => change({ [name]: event.target.value.trim() });
  const typed = debounced((event) => change({ q: event.target.value.trim() }), 250);
  const text = h('input', {
    type: 'search', 'data-test': 'filter-text', placeholder: () => t('filter.text.hint'), 'aria-label': () => t('filter.text'),
    'aria-keyshortcuts': '/', oninput: typed,
  });
  text.value = filter.q;
  let classes = [];
  const [cameraList, cameraNames] = suggestions(plant.cameras);
  const [classList, classNames] = suggestions(() => classes);
  const chosen = (name, words, options) => {
    const control = select([['', words], ...options], { 'data-test': `filter-${name}`, 'aria-label': () => t(`filter.${name}`), onchange: set(name) });
    return [control, () => { control.value = filter[name]; }];
  };
  const [severity, showSeverity] = chosen('severity', () => t('filter.all'), SEVERITIES.map((name) => [name, () => word('severity', name)]));
  const [kind, showKind] = chosen('kind', () => t('filter.all'), KINDS.map((name) => [name, () => word('kind', name)]));
  const view = select(VIEWS.map((name) => [name, () => t(`view.${name}`)]), {
    'data-test': 'filter-view', value: filter.view || otherwise, 'aria-label': () => t('filter.view'),
    onchange: (event) => change({ view: event.target.value === otherwise ? '' : event.target.value }),
  });
  const site = h('select', { 'data-test': 'filter-site', onchange: set('site') });
  const entry = (name, list, fetch) => h('input', {
    type: 'text', list: list.id, 'data-test': `filter-${name}`, autocomplete: 'off', spellcheck: 'false',
    placeholder: () => t(`filter.${name}.hint`), onfocus: fetch, onchange: set(name),
  });
  const camera = entry('camera', cameraList, cameraNames);
  const className = entry('class', classList, async () => {
    classes = await get('/classes').then((answer) => answer.classes, () => []);
    classNames();
  });
  const fields = h('div', { class: 'filter-fields', id: unique('fields') },
    field(() => t('filter.view'), view), severities && field(() => t('filter.severity'), severity), field(() => t('filter.kind'), kind),
    field(() => t('filter.site'), site), field(() => t('filter.camera'), camera), field(() => t('filter.class'), className),
    h('button', {
      type: 'button', class: 'quiet', 'data-test': 'filter-clear', hidden: () => !narrowed(filter) && !filter.view,
      onclick: () => change(Object.fromEntries(NAMES.filter((name) => name !== 'from' && name !== 'to').map((name) => [name, '']))),
    }, () => t('filter.clear')));
  const more = h('button', {
    type: 'button', class: 'filter-more', 'aria-expanded': false, 'aria-controls': fields.id, 'data-test': 'filter-more',
    onclick: () => {
      const shown = node.classList.toggle('filters-shown');
      more.setAttribute('aria-expanded', String(shown));
    },
  }, () => t('filter.more'), h('span', { class: 'badge', hidden: () => !narrowed(filter) }, () => String(narrowed(filter))));
  const node = h('form', { class: 'filters', role: 'search', onsubmit: (event) => event.preventDefault() },
    text, more, fields, cameraList, classList);
  const offered = () => {
    const sites = plant.sites();
    if (filter.site && !sites.includes(filter.site)) sites.push(filter.site);
    put(site, h('option', { value: '' }, () => t('filter.all')), sites.map((name) => h('option', { value: name }, name)));
    site.value = filter.site;
  };
  const show = () => {
    if (document.activeElement !== text) text.value = filter.q;
    view.value = filter.view || otherwise;
    if (document.activeElement !== camera) camera.value = filter.camera;
    if (document.activeElement !== className) className.value = filter.class;
    showSeverity();
    showKind();
    offered();
    refresh(node);
  };
  show();
  return { node, show, offered, text };
}
