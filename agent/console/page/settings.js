// What each may set for themselves; for engineers also who may come in, by password or by token.
import { at, get, post, remove } from './api.js';
import { confirm, field, select } from './dialogs.js';
import { h, put, refresh } from './dom.js';
import { dateTime } from './format.js';
import { lang, languages, t, word } from './i18n.js';
import { attempt, toast } from './notices.js';
import { prefs } from './prefs.js';
import { isEngineer, session } from './session.js';
import * as sound from './sound.js';

const ROLES = ['operator', 'engineer'];

const roles = (hook) => select(ROLES.map((name) => [name, () => word('role', name)]), { 'data-test': hook });

// A form that stays: cleared when it was done, and says why where it was not.
function standing(fields, action, hook, submit) {
  const error = h('p', { class: 'form-error', role: 'alert', hidden: true });
  const button = h('button', { class: 'primary', 'data-test': hook }, action);
  const node = h('form', {
    class: 'stack', onsubmit: async (event) => {
      event.preventDefault();
      error.hidden = true;
      button.disabled = true;
      try {
        await submit();
        node.reset();
      } catch (problem) {
        put(error, problem.message);
        error.hidden = false;
      } finally {
        button.disabled = false;
      }
    },
  }, fields, error, h('div', { class: 'form-actions' }, button));
  return node;
}

function password() {
  const secret = (hook, name) => h('input', { type: 'password', required: true, autocomplete: name, 'data-test': hook });
  const [old, fresh, again] = [secret('password-old', 'current-password'), secret('password-new', 'new-password'), secret('password-again', 'new-password')];
  const user = h('input', { type: 'text', autocomplete: 'username', value: session.user, hidden: true, readonly: true, 'aria-hidden': 'true' });
  const form = standing([user, field(() => t('password.old'), old), field(() => t('password.new'), fresh), field(() => t('password.again'), again)],
    () => t('password.change'), 'password-submit', async () => {
      if (fresh.value !== again.value) throw new Error(t('password.differ'));
      await post('/me/password', { old: old.value, new: fresh.value });
      toast(() => t('password.changed'), 'done');
    });
  return h('section', { class: 'panel' }, h('h2', null, () => t('password')), form);
}

function look() {
  const choice = (label, options, value, hook, set) => field(label, select(options, { value, 'data-test': hook, onchange: (event) => set(event.target.value) }));
  return h('section', { class: 'panel' }, h('h2', null, () => t('settings.here')), h('p', { class: 'note' }, () => t('settings.here.note')),
    choice(() => t('settings.language'), Object.entries(languages), lang(), 'setting-lang', (value) => prefs.set('lang', value)),
    choice(() => t('settings.theme'), ['auto', 'dark', 'light'].map((name) => [name, () => t(`theme.${name}`)]), prefs.get('theme', 'auto'), 'setting-theme', (value) => prefs.set('theme', value)),
    h('button', { type: 'button', class: 'switch', 'data-test': 'setting-sound', 'aria-pressed': sound.isOn, onclick: sound.toggle }, () => t('sound.critical')));
}

// A list of people or tokens, with a form for a new one.
function register({ title, note, path, key, columns, add, hook, protect = () => false }) {
  const rows = h('div');
  const load = () => attempt(async () => {
    const all = (await get(path))[key];
    put(rows, all.length ? h('div', { class: 'wide-table' }, h('table', { class: 'grid' },
      h('thead', null, h('tr', null, [...columns, ''].map((name) => h('th', { scope: 'col' }, name && (() => t(`register.${name}`)))))),
      h('tbody', null, all.map((entry) => h('tr', { 'data-test': `${hook}-row`, 'data-id': entry.name },
        h('th', { scope: 'row' }, entry.name), h('td', null, () => word('role', entry.role)), h('td', null, () => dateTime(entry.created_at)),
        h('td', null, h('button', {
          type: 'button', class: 'quiet', 'data-test': `${hook}-delete`, disabled: protect(entry),
          onclick: () => confirm(() => t('register.delete.title', { what: entry.name }), () => t(`${hook}.delete.note`), () => t('delete'), async () => {
            await remove(`${path}${at(entry.name)}`);
            load();
          }, true),
        }, () => t('delete')))))))) : h('p', { class: 'placeholder' }, () => t('register.none')));
  });
  load();
  return h('section', { class: 'panel' }, h('h2', null, title), h('p', { class: 'note' }, note), rows, add(load));
}

function users() {
  return register({
    title: () => t('users'), note: () => t('users.note'), path: '/users', key: 'users', hook: 'user', columns: ['name', 'role', 'created'],
    protect: ({ name }) => name === session.user,
    add(load) {
      const name = h('input', { type: 'text', required: true, maxlength: 64, autocomplete: 'off', spellcheck: 'false', 'data-test': 'user-name' });
      const secret = h('input', { type: 'password', required: true, autocomplete: 'new-password', 'data-test': 'user-password' });
      const role = roles('user-role');
      return standing([h('div', { class: 'field-row' }, field(() => t('register.name'), name), field(() => t('register.role'), role), field(() => t('login.password'), secret))],
        () => t('users.add'), 'user-add', async () => {
          await post('/users', { name: name.value.trim(), role: role.value, password: secret.value });
          load();
        });
    },
  });
}

function tokens() {
  const shown = h('div', { class: 'token', hidden: true, role: 'status' });
  return register({
    title: () => t('tokens'), note: () => t('tokens.note'), path: '/tokens', key: 'tokens', hook: 'token', columns: ['name', 'role', 'created'],
    add(load) {
      const name = h('input', { type: 'text', required: true, maxlength: 64, autocomplete: 'off', spellcheck: 'false', 'data-test': 'token-name' });
      const role = roles('token-role');
      const form = standing([h('div', { class: 'field-row' }, field(() => t('register.name'), name), field(() => t('register.role'), role))], () => t('tokens.add'), 'token-add', async () => {
        const { token } = await post('/tokens', { name: name.value.trim(), role: role.value });
        const value = h('input', { type: 'text', readonly: true, value: token, 'aria-label': () => t('tokens.new'), 'data-test': 'token-value', onfocus: (event) => event.target.select() });
        put(shown, h('p', null, () => t('tokens.once')), h('div', { class: 'field-row' }, value, h('button', {
          type: 'button', 'data-test': 'token-copy', onclick: () => attempt(async () => {
            value.select();
            if (!navigator.clipboard) throw new Error(t('copy.by.hand'));
            await navigator.clipboard.writeText(token);
            toast(() => t('copied'), 'done');
          }),
        }, () => t('copy'))));
        shown.hidden = false;
        load();
      });
      return h('div', null, shown, form);
    },
  });
}

export function settings() {
  const node = h('div', { class: 'scroll padded' }, h('h1', { class: 'sr-only' }, () => t('nav.settings')),
    h('div', { class: 'columns' }, look(), password()),
    isEngineer() && h('div', { class: 'columns' }, users(), tokens()),
    h('p', { class: 'kind version' }, () => t('version', { version: session.version, broker: session.broker.url || '–' })));
  const show = () => {
    node.querySelector('[data-test=setting-lang]').value = lang();
    node.querySelector('[data-test=setting-theme]').value = prefs.get('theme', 'auto');
    refresh(node);
  };
  const off = prefs.on(show);
  return { node, show, close: off };
}
