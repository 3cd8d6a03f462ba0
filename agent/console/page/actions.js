// What an operator can do to alarms; each goes to the alarms' gateways, at most 100 alarms a command.
import { at, get, post } from './api.js';
import { h, put, unique } from './dom.js';
import { pendingOf, send } from './commands.js';
import { confirm, field, form, select } from './dialogs.js';
import { t, word } from './i18n.js';
import { SEVERITIES } from './marks.js';
import { attempt, toast } from './notices.js';
import { fleet } from './plant.js';
import { isEngineer } from './session.js';

const MOST = 100;
const TEACH_MOST = 5;
const WEEK_MIN = 7 * 24 * 60;
const CLASS = '[A-Za-z0-9._\\-]+(/[A-Za-z0-9._\\-]+)*';

function parcels(alarms) {
  const byGateway = new Map();
  for (const alarm of alarms) {
    const key = JSON.stringify([alarm.site, alarm.gateway]);
    byGateway.set(key, [...(byGateway.get(key) ?? []), alarm]);
  }
  return [...byGateway.values()].flatMap((all) => {
    const parts = [];
    for (let i = 0; i < all.length; i += MOST) parts.push(all.slice(i, i + MOST));
    return parts;
  });
}

async function each(alarms, command, payload = {}) {
  for (const part of parcels(alarms)) {
    await send(part[0].site, part[0].gateway, command, { ...payload, alarms: part.map(({ alarm }) => alarm) });
  }
}

const canAcknowledge = (alarm) => !alarm.acknowledged && alarm.state !== 'normal'
  && !pendingOf(alarm).some(({ command }) => command === 'ack');
const canShelve = ({ state }) => state === 'unacknowledged' || state === 'acknowledged';
const isShelved = ({ state }) => state === 'shelved';
// Only the console itself can end an alarm whose gateway is not there to do so.
const isOnline = (alarm) => fleet.gateways.some(({ site, gateway, online }) => online && site === alarm.site && gateway === alarm.gateway);
const canClose = (alarm) => isEngineer() && fleet.known && alarm.state !== 'normal' && !isOnline(alarm);

// Why these alarms cannot be taught as one thing, or null.
function whyNotTeach(alarms) {
  if (!alarms.length) return 'why.none';
  if (alarms.some(({ kind }) => kind !== 'anomaly')) return 'why.kind';
  if (alarms.length > TEACH_MOST) return 'why.many';
  if (parcels(alarms).length > 1) return 'why.gateways';
  return null;
}

// Why the action cannot be done to these alarms, as a key, or null.
const whyNot = {
  ack: (alarms) => (alarms.some(canAcknowledge) ? null : 'why.acknowledged'),
  shelve: (alarms) => (alarms.some(canShelve) ? null : 'why.active'),
  unshelve: (alarms) => (alarms.some(isShelved) ? null : 'why.shelved'),
  comment: (alarms) => (alarms.length ? null : 'why.none'),
  close: (alarms) => (alarms.some(canClose) ? null : 'why.close'),
  teach: whyNotTeach,
  fine: whyNotTeach,
};

const many = (key, alarms) => () => (alarms.length === 1
  ? t(key, { what: alarms[0].class })
  : t(key, { what: t('alarms.count', { n: alarms.length }) }));

const say = (label = 'comment.optional', required = false) => h('textarea', { rows: 2, required, maxlength: 1000, 'data-test': 'comment-text', 'aria-label': () => t(label) });
const said = (control) => (control.value.trim() ? { comment: control.value.trim() } : {});

function shelve(all) {
  const alarms = all.filter(canShelve);
  const minutes = h('input', { type: 'number', min: 1, max: WEEK_MIN, step: 1, value: '15', required: true, 'data-test': 'shelve-minutes' });
  const preset = (value) => h('button', {
    type: 'button', class: 'preset', 'data-test': `shelve-${value}`, onclick: () => { minutes.value = value; minutes.focus(); },
  }, () => (value < 60 ? t('shelve.min', { v: value }) : t('shelve.h', { v: value / 60 })));
  const comment = say();
  form(many('shelve.title', alarms), [
    h('div', { class: 'presets' }, [15, 60, 480].map(preset)),
    field(() => t('shelve.minutes'), minutes, () => t('shelve.hint')),
    field(() => t('comment.optional'), comment),
  ], () => each(alarms, 'shelve', { minutes: Number(minutes.value), ...said(comment) }), {
    action: () => t('action.shelve'), hook: 'shelve-submit', note: () => t('shelve.note'),
  });
  minutes.focus();
  minutes.select();
}

function comment(alarms) {
  const control = say('action.comment', true);
  form(many('comment.title', alarms), [field(() => t('action.comment'), control)], () => each(alarms, 'comment', said(control)), {
    action: () => t('action.comment'), hook: 'comment-submit',
  });
  control.focus();
}

function teach(alarms, harmless) {
  const names = h('datalist', { id: unique('classes') });
  const start = harmless ? `fine/${alarms[0].camera.replace(/[^A-Za-z0-9._-]+/g, '-')}` : '';
  const name = h('input', {
    type: 'text', list: names.id, required: true, pattern: CLASS, maxlength: 64, autocomplete: 'off', spellcheck: 'false',
    value: start, 'data-test': 'teach-class',
  });
  const severity = select(SEVERITIES.map((each) => [each, () => word('severity', each)]), { value: 'major', 'data-test': 'teach-severity' });
  form(() => t(harmless ? 'fine.title' : 'teach.title'), [
    field(() => t('teach.class'), name, () => t('teach.hint')),
    harmless ? null : field(() => t('filter.severity'), severity),
    names,
  ], async () => {
    const [{ site, gateway }] = alarms;
    await send(site, gateway, 'teach', {
      class: name.value.trim(), alarms: alarms.map(({ alarm }) => alarm), ...(harmless ? { harmless: true } : { severity: severity.value }),
    });
  }, {
    action: () => (harmless ? t('action.fine') : word('command', 'teach')), hook: 'teach-submit',
    note: () => t(harmless ? 'fine.note' : 'teach.note', { n: alarms.length }),
  });
  name.focus();
  attempt(async () => {
    const { classes } = await get('/classes');
    put(names, classes.filter((each) => each.startsWith('fine/') === harmless && each !== 'unknown').map((value) => h('option', { value })));
  });
}

const close = (alarms) => confirm(many('close.title', alarms), () => t('close.note'), () => t('action.close'), async () => {
  for (const { alarm } of alarms.filter(canClose)) await post(`${at('alarms', alarm)}/close`);
});

const DO = {
  close,
  ack: (alarms) => each(alarms.filter(canAcknowledge), 'ack'),
  shelve,
  unshelve: (alarms) => each(alarms.filter(isShelved), 'unshelve'),
  comment,
  teach: (alarms) => teach(alarms, false),
  fine: (alarms) => teach(alarms, true),
};

const CONFIRM_FROM = 20;

// Does the action, or says why it cannot be done.
export function act(name, alarms) {
  const why = alarms.length ? whyNot[name](alarms) : 'why.none';
  if (why) {
    toast(() => t(why));
    return undefined;
  }
  if (name === 'ack' && alarms.length >= CONFIRM_FROM) {
    return confirm(many('ack.title', alarms), () => t('ack.note'), () => t('action.ack'), () => DO.ack(alarms));
  }
  return attempt(() => DO[name](alarms));
}

const KEY = { ack: 'a', shelve: 's', comment: 'c', teach: 't' };

// The buttons, for the alarms that `alarms()` gives when they are pressed or shown anew.
export function buttons(alarms, names) {
  const button = (name) => {
    const why = () => whyNot[name](alarms());
    return h('button', {
      type: 'button', class: name === 'ack' ? 'primary' : null, 'data-test': `action-${name}`, 'aria-keyshortcuts': KEY[name] ?? null,
      'aria-disabled': () => why() !== null, title: () => (why() ? t(why()) : t(`action.${name}.title`)),
      hidden: () => ((name === 'unshelve' || name === 'close') && why() !== null) || (name === 'shelve' && alarms().length > 0 && alarms().every(isShelved)),
      onclick: () => act(name, alarms()),
    }, () => t(`action.${name}`));
  };
  const why = () => (names.includes('teach') ? whyNotTeach(alarms()) : null);
  return h('div', { class: 'actions' }, h('div', { class: 'buttons' }, names.map(button)),
    h('p', { class: 'why', hidden: () => !why() }, () => (why() ? t(why()) : '')));
}
